"""Dynamical systems whose trajectories are generated, and their integration by diffrax."""

from __future__ import annotations

import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from genjax import checks


class System:
    """An autonomous differential equation dy/dt = f(y), and how its states are observed.

    Attributes:
      columns: name of each observed number, or of each channel of a field.
      mean: usual mean of each column, and
      scale: its usual standard deviation, by which codecs standardise; None for those of the
        training trajectories. Chaos amplifies rounding, so that the latter differ between machines.
      dysts: name of the same system in the package dysts; None if it is not there.
      solver: diffrax's method of integration, with a fixed step.
      substeps: steps of the integrator from one stored state to the next.
      warm_up: stored states that are dropped at the start of a trajectory.
    """

    columns: ClassVar[tuple[str, ...]]
    mean: ClassVar[tuple[float, ...] | None] = None
    scale: ClassVar[tuple[float, ...] | None] = None
    dysts: ClassVar[str | None] = None
    solver: ClassVar[Literal["Tsit5", "Euler"]] = "Tsit5"
    substeps: ClassVar[int] = 10
    warm_up: ClassVar[int] = 0

    def slope(self, y: jax.Array) -> jax.Array:
        """Return dy/dt of one state [...]."""
        raise NotImplementedError

    def draw_start(self, key: jax.Array) -> jax.Array:
        """Draw one initial state [...]."""
        raise NotImplementedError

    def observe(self, y: jax.Array) -> jax.Array:
        """Return the observation [..., C] of states [..., D]."""
        return y

    def recover(self, seen: jax.Array) -> jax.Array:
        """Return the states [..., D] of observations [..., C]."""
        return seen

    def energy(self, seen: jax.Array) -> jax.Array | None:
        """Return the conserved energy [...] of observations [..., C]; None if there is none."""
        return None


@checks.frozen
class Lorenz63(System):
    """The convection model of Lorenz (Journal of the Atmospheric Sciences 20, 1963).

    The default ``beta`` is that of dysts, whose exponents are compared with.

    Attributes:
      sigma: Prandtl number.
      rho: Rayleigh number over its critical value.
      beta: geometric factor.
    """

    columns: ClassVar[tuple[str, ...]] = ("x", "y", "z")
    mean: ClassVar[tuple[float, ...] | None] = (0.1, 0.1, 23.53)
    scale: ClassVar[tuple[float, ...] | None] = (7.92, 9.02, 8.63)
    dysts: ClassVar[str | None] = "Lorenz"
    substeps: ClassVar[int] = 10
    warm_up: ClassVar[int] = 200

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 2.667

    def slope(self, y: jax.Array) -> jax.Array:
        """Return dy/dt [3]."""
        a, b, c = y
        return jnp.stack([self.sigma * (b - a), a * (self.rho - c) - b, a * b - self.beta * c])

    def draw_start(self, key: jax.Array) -> jax.Array:
        """Draw a state [3] near the attractor."""
        return jnp.array([0.0, 0.0, 25.0]) + 5 * jax.random.normal(key, (3,))


@checks.frozen
class DoublePendulum(System):
    """Two point masses on rods, in angles from below and their momenta: Hamilton's equations.

    Observed are the sines and cosines of the angles (radians) and the momenta (kg m2/s). A
    trajectory starts at rest at random angles.

    Attributes:
      gravity: in m/s2.
      length: of each rod, in m.
      mass: of each bob, in kg.
      swing: largest starting angle, in radians.
    """

    columns: ClassVar[tuple[str, ...]] = ("sin_1", "cos_1", "sin_2", "cos_2", "p_1", "p_2")
    mean: ClassVar[tuple[float, ...] | None] = (0.0, 0.77, 0.0, 0.63, 0.0, 0.0)
    scale: ClassVar[tuple[float, ...] | None] = (0.56, 0.30, 0.64, 0.44, 3.95, 2.57)
    substeps: ClassVar[int] = 16

    gravity: float = 9.81
    length: float = 1.0
    mass: float = 1.0
    swing: float = 2.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "gravity", "length", "mass", "swing")

    def hamiltonian(self, y: jax.Array) -> jax.Array:
        """Return the energy [] in J of a state [4]; a pendulum that hangs still has -3 m g l."""
        a, b, p, q = y
        inertia = self.mass * self.length**2
        kinetic = (p**2 + 2 * q**2 - 2 * p * q * jnp.cos(a - b)) / (
            2 * inertia * (1 + jnp.sin(a - b) ** 2)
        )
        weight = self.mass * self.gravity * self.length
        return kinetic - weight * (2 * jnp.cos(a) + jnp.cos(b))

    def slope(self, y: jax.Array) -> jax.Array:
        """Return dy/dt [4]."""
        a, b, p, q = jax.grad(self.hamiltonian)(y)
        return jnp.stack([p, q, -a, -b])

    def draw_start(self, key: jax.Array) -> jax.Array:
        """Draw a state [4] at rest."""
        angles = self.swing * jax.random.uniform(key, (2,), minval=-1)
        return jnp.concatenate([angles, jnp.zeros(2)])

    def observe(self, y: jax.Array) -> jax.Array:
        a, b, p, q = jnp.moveaxis(y, -1, 0)
        return jnp.stack([jnp.sin(a), jnp.cos(a), jnp.sin(b), jnp.cos(b), p, q], -1)

    def recover(self, seen: jax.Array) -> jax.Array:
        s, c, t, d, p, q = jnp.moveaxis(seen, -1, 0)
        return jnp.stack([jnp.arctan2(s, c), jnp.arctan2(t, d), p, q], -1)

    def energy(self, seen: jax.Array) -> jax.Array | None:
        return jnp.vectorize(self.hamiltonian, signature="(n)->()")(self.recover(seen))


@checks.frozen
class GrayScott(System):
    """Two reacting, diffusing substances on a periodic square (Gray & Scott, 1983; Pearson, Science
    261, 1993).

    du/dt = D_u lap u - u v^2 + F (1 - u) and dv/dt = D_v lap v + u v^2 - (F + k) v on a grid of
    spacing 1. With the defaults spots grow to stripes over some 1,000 units of time; an interval of
    20 takes steps of 1, as is usual for this model.

    Attributes:
      feed: F.
      kill: k.
      diffusion: of u; that of v is half as large.
      size: points along each side.
    """

    columns: ClassVar[tuple[str, ...]] = ("u", "v")
    mean: ClassVar[tuple[float, ...] | None] = (0.6642, 0.1368)
    scale: ClassVar[tuple[float, ...] | None] = (0.2539, 0.1297)
    solver: ClassVar[Literal["Tsit5", "Euler"]] = "Euler"
    substeps: ClassVar[int] = 20
    warm_up: ClassVar[int] = 4

    feed: float = 0.04
    kill: float = 0.06
    diffusion: float = 0.2
    size: int = 32

    def __post_init__(self) -> None:
        checks.above(self, 0, "feed", "kill", "diffusion")
        checks.between(self, 4, 1024, "size")

    def slope(self, y: jax.Array) -> jax.Array:
        """Return dy/dt [2, H, W]."""
        u, v = y
        reaction = u * v * v
        change = [-reaction + self.feed * (1 - u), reaction - (self.feed + self.kill) * v]
        second = _difference_twice(self.size)
        # As products of matrices, which are faster than shifts on a CPU.
        around = jnp.einsum("ij,cjk->cik", second, y) + jnp.einsum("cij,jk->cik", y, second)
        rates = jnp.array([self.diffusion, self.diffusion / 2])[:, None, None]
        return rates * around + jnp.stack(change)

    def draw_start(self, key: jax.Array) -> jax.Array:
        """Draw a field [2, H, W]: u = 1 with a dozen squares of v."""
        places, noise = jax.random.split(key)
        n, side = self.size, max(1, self.size // 10)
        corners = jax.random.randint(places, (12, 2), 0, n)
        inside = (jnp.arange(n)[None, None] - corners[..., None]) % n < side  # [12, 2, N]
        seeded = jnp.any(inside[:, 0, :, None] & inside[:, 1, None, :], 0)
        field = jnp.stack([jnp.where(seeded, 0.5, 1.0), jnp.where(seeded, 0.25, 0.0)])
        return field + 0.01 * jax.random.uniform(noise, field.shape)

    def observe(self, y: jax.Array) -> jax.Array:
        return jnp.moveaxis(y, -3, -1)  # [..., H, W, 2]

    def recover(self, seen: jax.Array) -> jax.Array:
        return jnp.moveaxis(seen, -1, -3)


def _difference_twice(n: int) -> jax.Array:
    """Return the periodic second difference as a matrix [n, n]."""
    one = jnp.eye(n)
    return jnp.roll(one, 1, 0) + jnp.roll(one, -1, 0) - 2 * one


def advance(system: System, y: jax.Array, interval: float) -> jax.Array:
    """Return one state [...] a time ``interval`` later, by diffrax with a fixed step."""
    import diffrax  # takes seconds, which a config that names a system need not wait for

    solver = {"Tsit5": diffrax.Tsit5, "Euler": diffrax.Euler}[system.solver]()
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: system.slope(y)),
        solver,
        0.0,
        interval,
        interval / system.substeps,
        y,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.ConstantStepSize(),
        max_steps=2 * system.substeps,
        adjoint=diffrax.ForwardMode(),
        throw=False,  # a trajectory that diverges ends in NaN
    )
    assert found.ys is not None
    return found.ys[0]


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def integrate(system: System, start: jax.Array, interval: float, length: int) -> jax.Array:
    """Integrate an equation, most by Tsitouras' method of order 5.

    Args:
      system: the equation.
      start: initial states [B, ...].
      interval: time from one stored state to the next.
      length: stored states, of which the first is the start.

    Returns:
      States [B, length, ...].
    """

    def step(y: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(lambda one: advance(system, one, interval))(y), y

    return jnp.moveaxis(jax.lax.scan(step, start, None, length)[1], 0, 1)
