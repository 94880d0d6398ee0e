"""Diffusion processes x_t = alpha(t) x0 + sigma(t) noise, and the targets a network may predict.

Times t are in [0, 1]: 0 is the data, 1 is noise. alpha never increases, sigma increases, and SNR =
alpha^2 / sigma^2 decreases.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from genjax import checks
from genjax.errors import UserError, unknown_name

Target = Literal["noise", "x0", "v", "velocity"]
Weighting = Literal["simple", "min_snr", "edm", "likelihood"]


class Process(Protocol):
    """Defines how data turn into noise. A subclass needs only ``alpha_sigma``: the rest has
    defaults.
    """

    @property
    def t_min(self) -> float:
        """The smallest time used in training and sampling; above 0 if sigma(0) = 0, to avoid
        division by 0.
        """
        return 0.0

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the scale of the data and the standard deviation of the noise at times t [...], in
        t's shape.
        """
        raise NotImplementedError

    def quantile(self, share: jax.Array) -> jax.Array:
        """Return the quantile [...], for shares [...] in [0, 1], of the training times; uniform by
        default.
        """
        return self.t_min + (1 - self.t_min) * share

    def draw_times(self, key: jax.Array, n: int, logsnr: jax.Array | None = None) -> jax.Array:
        """Draw stratified training times [n]: one in each n-th of their distribution (arXiv
        2107.00630, I.1).

        Args:
          logsnr: smallest and largest log-SNR [2] of a time; None for no limits.
        """
        share = _stratify(key, n)
        if logsnr is not None:
            first, last = self._shares(logsnr)
            share = first + (last - first) * share
        return self.quantile(share)

    def density(self, t: jax.Array) -> jax.Array:
        """Return the density of training times at t [...]: the mean of values / density over
        training times is the integral of the values over t.
        """
        return jnp.full_like(t, 1 / (1 - self.t_min))

    def clock(self, t: jax.Array) -> jax.Array:
        """Return the time t [...] as the network gets it, in [0, 1]."""
        return t

    def grid(self, n: int) -> jax.Array:
        """Return the falling times [n] at which samplers evaluate: from 1 in steps of 1/n, without
        the clean end.

        If 1/n is below ``t_min``, steps are shorter so that the last time is ``t_min``.
        """
        return jnp.linspace(1.0, max(1 / n, self.t_min), n)

    def _shares(self, logsnr: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Find by bisection the shares [] of training times before the largest and the smallest
        log-SNR.

        Limits that the process does not reach give exactly 0 and 1, and so change nothing.
        """

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = (low + high) / 2
            alpha, sigma = self.alpha_sigma(self.quantile(middle))
            before = jnp.square(alpha) > jnp.exp(logsnr) * jnp.square(sigma)
            return jnp.where(before, middle, low), jnp.where(before, high, middle)

        low, high = jax.lax.fori_loop(0, 24, halve, (jnp.zeros(2), jnp.ones(2)))
        return low[1], high[0]


@checks.frozen
class VPLinear(Process):
    """DDPM's process in continuous time: d log alpha^2 / dt = -beta(t) with a linear beta (arXiv
    2011.13456, eq. 33).

    Variance preserving: alpha^2 + sigma^2 = 1. Times are in [t_min, 1]; the default ``t_min`` is
    the first of DDPM's 1,000 timesteps, where sigma is 0.01.

    Attributes:
      beta_min: beta at t = 0.
      beta_max: beta at t = 1.
      t_min: smallest time.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        checks.above(self, 0, "beta_min")
        checks.ordered(self, "beta_min", "beta_max")
        _check_t_min(self.t_min)

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_alpha = -0.5 * t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))
        return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))


@checks.frozen
class VPCosine(Process):
    """A cosine process: log-SNR -2 log tan(pi t / 2) + shift (arXiv 2102.09672), within limits
    (arXiv 2301.11093).

    Variance preserving. The angle pi t / 2 covers the part of a quarter turn in which the log-SNR
    is within the limits, so that it reaches them at t = 0 and 1 and is never constant; sigma(0) =
    alpha(1) = 0.007 by default.

    Attributes:
      logsnr_max: upper limit; the lower one is -logsnr_max.
      shift: offset of the log-SNR; below 0, such as 2 log(64 / side), for large images (arXiv
          2301.11093).
    """

    logsnr_max: float = 10.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "logsnr_max")

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = jnp.arctan(jnp.exp(0.5 * jnp.asarray(self.shift - self.logsnr_max, t.dtype)))
        last = jnp.arctan(jnp.exp(0.5 * jnp.asarray(self.shift + self.logsnr_max, t.dtype)))
        angle = first + t * (last - first)
        ratio = jnp.tan(angle) * jnp.exp(0.5 * jnp.asarray(-self.shift, t.dtype))
        alpha = jax.lax.rsqrt(1 + jnp.square(ratio))
        return alpha, ratio * alpha


@checks.frozen
class EDM(Process):
    """A variance-exploding process, alpha = 1 (Karras et al., arXiv 2206.00364). Uniform t give the
    paper's sampling grid.

    Attributes:
      sigma_min: sigma at t = 0.
      sigma_max: sigma at t = 1.
      rho: exponent: sigma^(1 / rho) is linear in t.
      mean: mean of log sigma in training, which is normal, truncated at the log of sigma_min and
          sigma_max.
      std: standard deviation of log sigma in training.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        checks.above(self, 0, "sigma_min")
        checks.ordered(self, "sigma_min", "sigma_max", strictly=True)
        checks.above(self, 0, "rho", "std")

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.ones_like(t), self._root(t) ** self.rho

    def quantile(self, share: jax.Array) -> jax.Array:
        least, most = self._tails()
        log_sigma = self.mean + self.std * ndtri(least + (most - least) * share)
        low, high = self._root(jnp.zeros(())), self._root(jnp.ones(()))
        return jnp.clip((jnp.exp(log_sigma / self.rho) - low) / (high - low), 0, 1)

    def density(self, t: jax.Array) -> jax.Array:
        least, most = self._tails()
        root, rate = jax.jvp(self._root, (t,), (jnp.ones_like(t),))
        of_log_sigma = norm.pdf(self.rho * jnp.log(root), self.mean, self.std) / (most - least)
        return of_log_sigma * self.rho * rate / root

    def grid(self, n: int) -> jax.Array:
        return jnp.linspace(1.0, 0.0, n)

    def _root(self, t: jax.Array) -> jax.Array:
        """Return sigma^(1 / rho) [...]."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return low + t * (high - low)

    def _tails(self) -> tuple[jax.Array, jax.Array]:
        """Return the shares of the normal below sigma_min and sigma_max, each []."""
        ends = jnp.log(jnp.asarray([self.sigma_min, self.sigma_max]))
        least, most = ndtr((ends - self.mean) / self.std)
        return least, most


@checks.frozen
class Straight(Process):
    """x_t = (1 - t) x0 + t noise: rectified flow, flow matching (arXiv 2209.03003, 2210.02747).

    As alpha(1) = 0, x_1 and its noise say nothing about x0, so the noise cannot be the target.

    Attributes:
      t_min: smallest time.
    """

    t_min: float = 1e-3

    def __post_init__(self) -> None:
        _check_t_min(self.t_min)

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        return 1 - t, t


@checks.frozen
class Parametrization:
    """What a network predicts, and the conversions to x0 and back.

    Times are [B] with arrays [B, ...], or [] with arrays of any shape; results have the shape of
    the arrays.

    With s = data_std, n = sqrt(alpha^2 s^2 + sigma^2), a = alpha s / n and b = sigma / n the
    targets are
      noise: the unit noise (arXiv 2006.11239);
      x0: the data;
      v: a noise - b x0 / s (arXiv 2202.00512; with ``EDM`` it is minus that paper's F, arXiv
        2206.00364, table 1);
      velocity: dx_t / dt = alpha' x0 + sigma' noise (arXiv 2210.02747).

    Attributes:
      process: the process.
      target: target of the network, see above.
      data_std: standard deviation of the data, for v and for the weighting of EDM.
    """

    process: Process
    target: Target = "v"
    data_std: float = 1.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "data_std")
        if self.target == "noise" and isinstance(self.process, Straight):
            raise UserError(
                'target must not be "noise" with a Straight process, which is all noise at t = 1: '
                'choose "v", "velocity" or "x0"',
                "target",
            )

    def value(self, x0: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        """Return the target, of x0's shape."""
        match self.target:
            case "noise":
                return noise
            case "x0":
                return x0
            case "v":
                a, b, _ = self._rotation(_expand_dims(t, x0))
                return a * noise - b * x0 / self.data_std
            case "velocity":
                _, _, alpha_rate, sigma_rate = rates(self.process, _expand_dims(t, x0))
                return alpha_rate * x0 + sigma_rate * noise

    def x0(self, output: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        """Return the estimate of x0 that the network's ``output`` at x_t implies, of x's shape."""
        t = _expand_dims(t, x)
        match self.target:
            case "noise":
                alpha, sigma = self.process.alpha_sigma(t)
                return (x - sigma * output) / alpha
            case "x0":
                return output
            case "v":
                a, b, n = self._rotation(t)
                return self.data_std * (a * x / n - b * output)
            case "velocity":
                alpha, sigma, alpha_rate, sigma_rate = rates(self.process, t)
                return (sigma * output - sigma_rate * x) / (sigma * alpha_rate - sigma_rate * alpha)

    def x0_gain(self, t: jax.Array) -> jax.Array:
        """Return k, of t's shape: the squared error of x0 is k times that of the target."""
        alpha, sigma, alpha_rate, sigma_rate = rates(self.process, t)
        match self.target:
            case "noise":
                return jnp.square(sigma / alpha)
            case "x0":
                return jnp.ones_like(t)
            case "v":
                return jnp.square(self.data_std * self._rotation(t)[1])
            case "velocity":
                return jnp.square(sigma / (sigma * alpha_rate - sigma_rate * alpha))

    def weight(self, t: jax.Array, weighting: Weighting, gamma: float = 5.0) -> jax.Array:
        """Return the weight, of t's shape, of the target's squared error at times from
        ``process.draw_times``.

        "simple" is 1. The others weight the error of x0, whatever the target: "min_snr" by min(SNR,
        gamma) (arXiv 2303.09556); "edm" by n^2 / (sigma s)^2, which for alpha = 1 is (sigma^2 +
        s^2) / (sigma s)^2 (arXiv 2206.00364); "likelihood" by -1/2 dSNR/dt over the density of the
        times, so that the mean loss is the bound's diffusion term in nats (arXiv 2107.00630, eq.
        17).
        """
        alpha, sigma, alpha_rate, sigma_rate = rates(self.process, t)
        match weighting:
            case "simple":
                return jnp.ones_like(t)
            case "min_snr":
                on_x0 = jnp.minimum(jnp.square(alpha / sigma), gamma)
            case "edm":
                on_x0 = jnp.square(alpha / sigma) + 1 / self.data_std**2
            case "likelihood":
                on_x0 = (
                    alpha
                    * (alpha * sigma_rate - alpha_rate * sigma)
                    / sigma**3
                    / self.process.density(t)
                )
            case _:
                raise unknown_name("weighting", weighting, get_args(Weighting))
        return on_x0 * self.x0_gain(t)

    def _rotation(self, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return a, b and n, of t's shape."""
        alpha, sigma = self.process.alpha_sigma(t)
        n = jnp.sqrt(jnp.square(alpha * self.data_std) + jnp.square(sigma))
        return alpha * self.data_std / n, sigma / n, n


def rates(process: Process, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return alpha, sigma and their derivatives alpha' and sigma' at times t, each of t's shape."""
    (alpha, sigma), (alpha_rate, sigma_rate) = jax.jvp(
        process.alpha_sigma, (t,), (jnp.ones_like(t),)
    )
    return alpha, sigma, alpha_rate, sigma_rate


def diffuse(process: Process, x0: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """Mix data and unit noise [B, ...] to x_t [B, ...] at times [B] or []."""
    alpha, sigma = process.alpha_sigma(_expand_dims(t, x0))
    return alpha * x0 + sigma * noise


def compute_noise(process: Process, x0: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Return the unit noise of x_t [B, ...], given its data [B, ...]."""
    alpha, sigma = process.alpha_sigma(_expand_dims(t, x))
    return (x - alpha * x0) / sigma


def velocity(process: Process, x0: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Return dx_t / dt [B, ...], given x_t and its data; x0 = E[x0 | x_t] gives the
    probability-flow ODE.
    """
    alpha, sigma, alpha_rate, sigma_rate = rates(process, _expand_dims(t, x))
    return alpha_rate * x0 + sigma_rate * ((x - alpha * x0) / sigma)


def _stratify(key: jax.Array, n: int) -> jax.Array:
    """Return (i + u) / n for i < n and one u in [0, 1): [n]."""
    return (jnp.arange(n) + jax.random.uniform(key)) / n


def _expand_dims(t: jax.Array, x: jax.Array) -> jax.Array:
    """Append axes of length 1 to t [B] or [], so that it broadcasts with x [B, ...]."""
    t = jnp.asarray(t)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def _check_t_min(t_min: float) -> None:
    if not 0 < t_min < 1:
        raise UserError(f"t_min must be > 0 and < 1, got {t_min}", "t_min")
