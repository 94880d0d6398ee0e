"""Describe machines that are not there to the compiler, through the plugins of their platforms."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies

from genjax.errors import UserError
from genjax.plan.targets import Chip, Multiprocessors, Target

# The package that compiles for a platform, and the module by which it is found.
PACKAGES = {"tpu": ("libtpu", "libtpu"), "gpu": ("jax-cuda12-pjrt", "jax_plugins.xla_cuda12")}
EXTRA = "pip install 'genjax-train[plan]'"
PLUGINS = "GENJAX_PLAN_PLUGINS"  # of tests and benchmarks: a folder with both packages


def prepare_compilers() -> None:
    """Keep JAX on this machine's CPU, so that the plugins compile but look for no device.

    Call it before JAX is first used.
    """
    # Without these, libtpu asks the cloud's metadata server what machine this is.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # other plans may be made meanwhile
    jax.config.update("jax_platforms", "cpu")


def open_devices(target: Target) -> list[Any]:
    """Return the abstract devices of a machine, for which programs can be compiled.

    Raises:
      UserError: the plugin of its platform is not installed, or there is no such slice; the field
        is "on".
    """
    if target.platform == "cpu":
        here = jax.devices("cpu")
        if len(here) < target.shape[0]:
            cure = f"XLA_FLAGS=--xla_force_host_platform_device_count={target.shape[0]}"
            raise UserError(f"on {target.name} needs {target.shape[0]} devices: set {cure}", "on")
        return here[: target.shape[0]]
    package, module = PACKAGES[target.platform]
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UserError(f"on {target.name} needs the package {package}: {EXTRA}", "on")
    try:
        with _quiet():
            return list(_describe(target).devices)
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"on {target.name} cannot be planned for: {reason}", "on") from error


def _describe(target: Target) -> Any:
    if target.chip.gpu is None:
        chip, sizes = target.name.partition(":")[0], "x".join(map(str, target.shape))
        return topologies.get_topology_desc(topology_name=f"{chip}:{sizes}", platform="tpu")
    return topologies.get_topology_desc(
        topology_name="",
        platform="cuda",
        target_config=describe_gpu(target.chip, target.chip.gpu),
        topology=f"1x{target.shape[0]}x1",
    )


def describe_gpu(chip: Chip, gpu: Multiprocessors) -> str:
    """Return a GPU as the text of XLA's GpuTargetConfigProto."""
    major, minor = gpu.capability
    threads = 1024 if gpu.capability == (7, 5) else 1536 if gpu.capability == (8, 9) else 2048
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: {threads}
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared}
  shared_memory_per_block_optin: {gpu.shared - 1024}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: {gpu.count}
  fpus_per_core: {64 if gpu.capability in ((7, 0), (7, 5), (8, 0)) else 128}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(chip.bandwidth)}
  l2_cache_size: {gpu.cache}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {chip.memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{chip.kind}"
"""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what the plugins write to the standard error's descriptor to nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
