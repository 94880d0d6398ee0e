"""Eight CPU devices in one process, a persistent compilation cache, and silent rank promotion made an error."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Nearly all programs here are tiny: they run for less time than it takes to optimise them.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def optimised():
    """For programs that run for longer than it takes to optimise them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """Each compiled program maps memory of its own, and Linux grants a process 65,530 maps."""
    yield
    jax.clear_caches()


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"
