"""Samples by the probability-flow ODE, with adaptive steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.samplers.diffusion.processes import Process, velocity
from genjax.samplers.diffusion.steps import Denoise, Sampler


@checks.frozen
class Adaptive(Sampler):
    """Dormand and Prince's method of order 5 with error control, on dx/dt from t = 1 to the
    process's ``t_min`` (arXiv 2011.13456, section 4.3), then one jump to the clean data.

    The jump misses the ODE's own end by about half (sigma / (alpha s))^2 of the data's standard
    deviation s: 1e-6 s for ``Straight``, where the velocity (x - x0) / t is undefined at t = 0. A
    batch takes its steps together, as many as its hardest example needs. All samples are NaN if
    that is more than ``max_steps``.

    Attributes:
      rtol: relative tolerance: the root mean square error of a step, over the entries of each
          example, is at most atol + rtol |x|.
      atol: absolute tolerance, see rtol.
      max_steps: limit on accepted and rejected steps together, of six evaluations each.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 1000

    def __post_init__(self) -> None:
        check_tolerance(self.rtol, self.atol)
        checks.between(self, 1, 1_000_000, "max_steps")

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        def ode(t: jax.Array, x: jax.Array) -> jax.Array:
            return velocity(process, denoise(x, t), x, t)

        x = solve(ode, x, 1.0, process.t_min, self.rtol, self.atol, self.max_steps)
        return denoise(x, jnp.asarray(process.t_min, x.dtype)).astype(x.dtype)


def solve(
    ode: Callable[[jax.Array, Any], Any],
    start: Any,
    t0: float,
    t1: float,
    rtol: float,
    atol: float,
    max_steps: int,
) -> Any:
    """Integrate d(arrays)/dt = ``ode(t, arrays)`` from ``start``, arrays [B, ...], at t0 to t1; NaN
    if the steps are too few.

    The tolerances hold for each example of each array; see ``Adaptive``.
    """
    import diffrax  # slow to import, and most samplers do not need it

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: ode(jnp.asarray(t), y)),
        diffrax.Dopri5(),
        t0,
        t1,
        None,
        start,
        stepsize_controller=diffrax.PIDController(rtol, atol, norm=_worst, pcoeff=0.1, icoeff=0.3),
        adjoint=diffrax.ForwardMode(),
        max_steps=max_steps,
        throw=False,
    )
    succeeded = solution.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda path: jnp.where(succeeded, path[0], jnp.nan), solution.ys)


def _worst(arrays: Any) -> jax.Array:
    """Return the largest root mean square [] of an example in any of the arrays [B, ...]."""
    each = [
        jnp.sqrt(jnp.square(a).reshape(len(a), -1).mean(-1)).max() for a in jax.tree.leaves(arrays)
    ]
    return jnp.stack(each).max()


def check_tolerance(rtol: float, atol: float) -> None:
    """Refuse negative tolerances, and two zeros."""
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
        raise UserError(
            f"rtol and atol must be at least 0 and not both 0, got {rtol} and {atol}", "rtol"
        )
