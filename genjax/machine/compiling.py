"""The options of the compiler: the one place where they are decided, by platform and by use.

docs/where_time_goes.md has what was tried.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

import jax

Use = Literal["once", "often", "split"]  # split: often, over several devices
Options = dict[str, str | int | bool]

# A program that runs once, such as the random draws of an initialisation, is not worth the time
# that optimising it takes. What runs often has XLA's own defaults where nothing else is measured to
# be faster.
OPTIONS: Mapping[tuple[str, Use], Options] = {
    ("cpu", "once"): {"xla_backend_optimization_level": 1},
    # Sums and gathers overlap with products; JAX's tips on the performance of GPUs advise it.
    ("gpu", "split"): {"xla_gpu_enable_latency_hiding_scheduler": True},
}


def choose_options(platform: str, use: Use = "often") -> Options | None:
    """Return the ``compiler_options`` of a program for ``jax.jit``; None for none."""
    wanted = OPTIONS.get((platform, use), {})
    return {name: value for name, value in wanted.items() if _is_known(name, value)} or None


@functools.cache
def _is_known(name: str, value: str | int | bool) -> bool:
    """Return whether this version of the compiler takes an option, by compiling with it."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
