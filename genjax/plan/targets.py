"""Know the machines that a plan can be made for: names, and what their data sheets say."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from genjax.errors import UserError, unknown_name

GIB = 2**30
GB = 10**9


@dataclass(frozen=True)
class Multiprocessors:
    """What the compiler for GPUs wants to know of one.

    Attributes:
      capability: compute capability, (major, minor).
      count: number of streaming multiprocessors.
      clock: GHz.
      cache: bytes of the second-level cache.
      shared: bytes of shared memory of each.
    """

    capability: tuple[int, int]
    count: int
    clock: float
    cache: int
    shared: int


@dataclass(frozen=True)
class Chip:
    """A device as JAX counts them, by its data sheet.

    Attributes:
      kind: name that JAX gives it.
      memory: bytes.
      flops: dense FLOP/s in bfloat16, or float16 where there is no bfloat16.
      flops32: FLOP/s of float32 matrix products at JAX's default precision.
      bandwidth: bytes/s of its memory.
      link: bytes/s that it sends to the others of its machine or slice.
      gpu: its multiprocessors; None for a TPU or CPU.
    """

    kind: str
    memory: int
    flops: float
    flops32: float
    bandwidth: float
    link: float
    gpu: Multiprocessors | None = None

    @property
    def platform(self) -> str:
        """The platform that programs for it are compiled for."""
        if self.gpu is not None:
            return "gpu"
        return "tpu" if self.kind.startswith("TPU") else "cpu"


HOPPER = Multiprocessors((9, 0), 132, 1.83, 50 * 2**20, 228 * 1024)
AMPERE = Multiprocessors((8, 0), 108, 1.41, 40 * 2**20, 164 * 1024)
ADA = Multiprocessors((8, 9), 58, 2.04, 48 * 2**20, 100 * 1024)
VOLTA = Multiprocessors((7, 0), 80, 1.53, 6 * 2**20, 96 * 1024)
TURING = Multiprocessors((7, 5), 40, 1.59, 4 * 2**20, 64 * 1024)

# Google's pages on the architecture of Cloud TPU (a TPU multiplies float32 in bfloat16 by default;
# v2 and v3 have two devices a chip; the link is that between chips), and NVIDIA's data sheets of
# the SXM forms (float32 products in TF32 where there is one; the link is NVLink, for L4 and T4
# PCIe).
CHIPS: Mapping[str, Chip] = {
    "v2": Chip("TPU v2", 8 * GIB, 22.5e12, 22.5e12, 350e9, 31e9),
    "v3": Chip("TPU v3", 16 * GIB, 61.5e12, 61.5e12, 450e9, 41e9),
    "v5e": Chip("TPU v5 lite", 16 * GIB, 197e12, 197e12, 819e9, 100e9),
    "v5p": Chip("TPU v5", 95 * GIB, 459e12, 459e12, 2765e9, 300e9),
    "v6e": Chip("TPU v6 lite", 32 * GIB, 918e12, 918e12, 1640e9, 224e9),
    "h200": Chip("NVIDIA H200", 141 * GB, 989e12, 494e12, 4800e9, 450e9, HOPPER),
    "h100": Chip("NVIDIA H100 80GB HBM3", 80 * GB, 989e12, 494e12, 3350e9, 450e9, HOPPER),
    "a100": Chip("NVIDIA A100-SXM4-80GB", 80 * GB, 312e12, 156e12, 2039e9, 300e9, AMPERE),
    "a100-40gb": Chip("NVIDIA A100-SXM4-40GB", 40 * GB, 312e12, 156e12, 1555e9, 300e9, AMPERE),
    "l4": Chip("NVIDIA L4", 24 * GB, 121e12, 60e12, 300e9, 32e9, ADA),
    "v100": Chip("Tesla V100-SXM2-16GB", 16 * GB, 125e12, 15.7e12, 900e9, 150e9, VOLTA),
    "t4": Chip("Tesla T4", 16 * GB, 65e12, 8.1e12, 320e9, 16e9, TURING),
}
MOST = 4096  # devices of a plan
# The share of a device's memory that JAX gives to programs: on a GPU by default three quarters, see
# XLA_PYTHON_CLIENT_MEM_FRACTION; a TPU's runtime keeps about 2 %.
USABLE = {"gpu": 0.75, "tpu": 0.98, "cpu": 1.0}
HOST = "cpu"  # this machine


@dataclass(frozen=True)
class Target:
    """A machine to plan for.

    Attributes:
      name: as it was given, such as "v5e:2x2", "h200" or "h200:8".
      chip: its devices.
      shape: numbers of chips along each axis of a TPU slice, or the number of GPUs.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def platform(self) -> str:
        """The platform that programs are compiled for."""
        return self.chip.platform

    @property
    def usable(self) -> int:
        """Bytes of each device that a program may take."""
        return int(self.chip.memory * USABLE[self.platform])


def find_target(name: str) -> Target:
    """Read the name of a machine: CHIP, CHIP:4x4 for a TPU slice, CHIP:8 for GPUs of one machine.

    Raises:
      UserError: there is no such chip, or its numbers do not fit; the field is "on".
    """
    word, colon, sizes = name.strip().lower().partition(":")
    if word not in CHIPS and word != HOST:
        raise UserError(f"on: {unknown_name('machine', name, (*CHIPS, HOST))}", "on")
    chip = measure_host() if word == HOST else CHIPS[word]
    if colon and not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", sizes):
        raise UserError(f"on must be like {_example(word)}, got {name!r}", "on")
    shape = tuple(map(int, sizes.split("x"))) if colon else (1,)
    if chip.platform != "tpu" and len(shape) > 1:
        raise UserError(f"on must be like {word}:8, got {name!r}", "on")
    if chip.platform == "tpu":
        axes = 3 if word == "v5p" else 2
        if colon and len(shape) != axes:
            raise UserError(f"on must be like {_example(word)}, got {name!r}", "on")
        shape = shape if colon else (1,) * axes
    if math.prod(shape) > MOST:
        raise UserError(f"on must have at most {MOST:,} devices, got {name!r}", "on")
    return Target(name.strip().lower(), chip, shape)


def measure_host(size: int = 1024, rounds: int = 5) -> Chip:
    """Measure this machine's CPU by the fastest product of two matrices.

    What its memory takes is left out, as the caches hold most of a small step.
    """
    import jax
    import jax.numpy as jnp

    matrix, product, fastest = jnp.ones((size, size)), jax.jit(jnp.dot), math.inf
    for _ in range(rounds + 1):  # the first one compiles
        begin = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        fastest = min(fastest, time.perf_counter() - begin)
    rate = 2 * size**3 / fastest
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Chip(HOST, memory, rate, rate, math.inf, math.inf)


def _example(word: str) -> str:
    if word == HOST or CHIPS[word].platform == "gpu":
        return f"{word} or {word}:8"
    return f"{word}:2x2x1" if word == "v5p" else f"{word}:2x2"
