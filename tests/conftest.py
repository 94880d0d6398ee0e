"""Set up JAX for the tests: eight CPU devices, quick compilation, a cache of compiled programs.

Most of the time of a test is compilation, and each process pays it for itself; so every program,
however small, is kept in ~/.cache/genjax/test_programs ($XDG_CACHE_HOME/genjax/test_programs) and
read from there the next time, by other processes, too.
"""

import gc
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Nearly all programs here run for less time than it takes to optimise them: kernels are emitted the
# older, quicker way, and in one piece.
QUICK = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",
)
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genjax" / "test_programs"
)
LONG = Path(__file__).with_name("long_tests.txt")
MEMORY, ROOM = (
    Path("/dev/shm"),
    4 * 2**30,
)  # files of tests lie in memory where there is room: it is quicker

# Runs of tests leave no word about the code that they may run in the home of who tests. Workers
# share what is trusted, as they share runs: one trains what another reads.
if "PYTEST_XDIST_WORKER" not in os.environ:
    STATE = tempfile.TemporaryDirectory(prefix="genjax_state_")
    os.environ["XDG_STATE_HOME"] = STATE.name
# In the environment, so that processes that tests start have them, too: each would otherwise read
# all the source again, and optimise programs that run for less time than that takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# An unknown flag ends the process, and XLA drops flags from one version to the next.
if "XLA_FLAGS" not in os.environ and version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = " ".join(QUICK)
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

import jax
import pytest

from tests.trained import TrainedRuns

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)
gc.set_threshold(200_000, 50, 50)  # tracing makes many small objects that live


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests that were found to take long: python -m benchmarks.test_times."""
    known = set(LONG.read_text(encoding="utf-8").splitlines())
    for item in items:
        if item.nodeid in known:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def optimised():
    """Optimise programs that run for longer than that takes."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """Forget programs after each module: each maps memory, and Linux grants a process 65,530
    maps.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"


@pytest.fixture(scope="session")
def trained(tmp_path_factory, worker_id):
    """Runs that several tests read: each is trained once a session, by whoever needs it first."""
    base = tmp_path_factory.getbasetemp()
    return TrainedRuns((base if worker_id == "master" else base.parent) / "trained")
