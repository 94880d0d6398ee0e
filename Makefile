# make env: the virtual environment of the lock   make demo: train the default config, end with flowers
# make test: quick tests, some 15 minutes on two cores with cold caches   make test-all: the long ones, too
# make test-slow: what takes hours, outside CI; it writes docs/checked.json
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 10

.PHONY: env demo lint test test-all test-slow clean

env: .venv/ready

# Newer versions of JAX need Python 3.12, so each side of it has a lock of its own.
.venv/ready: requirements.lock requirements-3.12.lock setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "genjax needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement \
	  $$($(BIN)/python -c 'import sys; print("requirements.lock" if sys.version_info < (3, 12) else "requirements-3.12.lock")')
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: env
	$(BIN)/python -m genjax train flow_flowers --run-dir runs/demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: env
	$(PYTEST) -m "not long and not slow"

test-all: env lint
	$(PYTEST) -m "not slow"

test-slow: env
	$(BIN)/python -m benchmarks.checked

# Compiled programs and generated data are kept in ~/.cache/genjax; nothing but time is lost without.
clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache "$${XDG_CACHE_HOME:-$$HOME/.cache}/genjax/test_programs"
