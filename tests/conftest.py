"""Eight CPU devices in one process, quick compilation, and silent rank promotion made an error."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tiny programs run for less time than it takes to optimise them; processes that a test starts inherit this.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def long_tests_run_optimised(request):
    if "long" not in request.keywords:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1")


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"
