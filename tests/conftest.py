"""Eight CPU devices in one process, a persistent compilation cache, and silent rank promotion made an error."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def compiled_quickly():
    """For tiny programs, which run for less time than it takes to optimise them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"
