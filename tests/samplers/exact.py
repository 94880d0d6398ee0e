"""Data whose posterior means, paths and densities have closed forms."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from genjax.samplers.diffusion.processes import Process


@dataclass(frozen=True)
class Gaussian:
    """Independent normals of these means and standard deviations, [D] each."""

    mean: tuple[float, ...] = (1.0, -0.5, 0.3)
    std: tuple[float, ...] = (0.5, 1.0, 0.2)

    def denoise(self, process: Process):
        mean, variance = jnp.asarray(self.mean), jnp.square(jnp.asarray(self.std))

        def posterior_mean(x, t):
            alpha, sigma = process.alpha_sigma(t)
            gain = alpha * variance / (alpha**2 * variance + sigma**2)
            return mean[None] + gain[None] * (x - alpha * mean[None])

        return posterior_mean

    def flow(self, process: Process, x, end=None):
        """Where the probability-flow ODE takes x_1 [B, D] at the time ``end``, None for the clean
        data.

        It keeps the number of deviations from the mean.
        """
        mean, std = np.asarray(self.mean)[None], np.asarray(self.std)[None]

        def marginal(alpha, sigma):
            return alpha * mean, np.sqrt(alpha**2 * std**2 + sigma**2)

        def level(t):
            return (np.asarray(a, np.float64) for a in process.alpha_sigma(jnp.asarray(t)))

        first_mean, first_std = marginal(*level(1.0))
        last_mean, last_std = marginal(*level(end)) if end is not None else (mean, std)
        return last_mean + last_std * (np.asarray(x, np.float64) - first_mean) / first_std

    def moments(self, process: Process, grid, fresh):
        """Mean and variance [D] that a sampler draws from N(0, sigma(1)^2): every step is affine in
        x.

        ``fresh(a, s, a2, s2)`` gives the deviation of the noise that a step forgets and of what it
        draws.
        """
        levels = [[float(v) for v in process.alpha_sigma(t)] for t in grid] + [[1.0, 0.0]]
        mean, variance = np.asarray(self.mean), np.square(self.std)
        m, v = np.zeros_like(mean), np.full_like(mean, levels[0][1] ** 2)
        for (a, s), (a2, s2) in itertools.pairwise(levels):
            gain = a * variance / (a**2 * variance + s**2)
            forgotten, drawn = fresh(a, s, a2, s2)
            kept = np.sqrt(max(s2**2 - forgotten**2, 0))
            slope = a2 * gain + kept / s * (1 - a * gain)
            m = slope * m + (a2 - kept * a / s) * (1 - a * gain) * mean
            v = slope**2 * v + drawn**2
        return m, v


@dataclass(frozen=True)
class Mixture:
    """Normals of one standard deviation about some means, with weights."""

    means: tuple[tuple[float, ...], ...] = ((1.5, 0.0), (-1.0, 1.0))
    weights: tuple[float, ...] = (0.3, 0.7)
    std: float = 0.4

    def _log_joint(self, x, alpha, sigma):
        means, variance = jnp.asarray(self.means), alpha**2 * self.std**2 + sigma**2
        squared = jnp.square(x[:, None] - alpha * means[None]).sum(-1)
        normal = -0.5 * squared / variance - 0.5 * x.shape[-1] * jnp.log(2 * jnp.pi * variance)
        return normal + jnp.log(jnp.asarray(self.weights))[None]

    def log_density(self, x, blur=0.0):
        """log p [B] of x [B, D], with noise of this standard deviation added to the data."""
        return jax.nn.logsumexp(self._log_joint(x, 1.0, blur), axis=-1)

    def denoise(self, process: Process):
        def posterior_mean(x, t):
            alpha, sigma = process.alpha_sigma(t)
            means = jnp.asarray(self.means)
            gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
            each = means[None] + gain * (x[:, None] - alpha * means[None])
            return (
                jax.nn.softmax(self._log_joint(x, alpha, sigma), axis=-1)[..., None] * each
            ).sum(1)

        return posterior_mean
