# make env: the virtual environment of the lock   make demo: train the default config, end with a picture
# make test: at most 20 minutes on two cores      make test-all: the long ones, too
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.PHONY: env demo lint test test-all clean

env: .venv/ready

.venv/ready: requirements.lock setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "genjax needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: env
	$(BIN)/python -m genjax train vae_digits --run-dir runs/demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: env lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not long"

test-all: env lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

clean:
	rm -rf .venv .jax_cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache
