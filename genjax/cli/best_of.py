"""Best of n: choose the sample with the highest reward, without any training (arXiv 2112.09332)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genjax.checks import MAX_SEED, Component
from genjax.cli.runs.compared import is_unprompted, split_answers
from genjax.data.codecs import ImageCodec
from genjax.data.text.codecs import NOTHING
from genjax.errors import UserError
from genjax.families.autoregressive.request import MOST_PROMPTS
from genjax.runs.rewards import Reward, image_rewards, text_rewards
from genjax.runs.run import Run
from genjax.samplers.options import encode_options


@dataclass(frozen=True)
class Best:
    """The best of n draws for each requested sample.

    Attributes:
      samples: samples in model space, [N, ...].
      rewards: rewards of all draws, [n, N]; NaN ranks below all numbers.
      draws: all draws, for each seed n * seed + k, [N, ...].
    """

    samples: np.ndarray
    rewards: np.ndarray
    draws: tuple[np.ndarray, ...] = ()

    @property
    def reward(self) -> np.ndarray:
        """Rewards of the samples, [N]."""
        return _rank_nan_lowest(self.rewards).max(0)

    def describe(self) -> str:
        """Describe the gain in reward, and the largest divergence from the model (the bound of
        arXiv 2401.01879).
        """
        n = len(self.rewards)
        bound = math.log(n) - (n - 1) / n
        best, drawn = (rewards[np.isfinite(rewards)] for rewards in (self.reward, self.rewards))
        if not len(best):
            return f"no reward of {self.rewards.size:,} samples is a number"
        return (
            f"mean reward {best.mean():.4g}, of all drawn {drawn.mean():.4g}; best of {n}, "
            f"so at most {bound:.3g} nats from the model"
        )


def draw_best(
    run: Run, reward: Reward, n: int, num: int = 64, seed: int = 0, options: Component = None
) -> Best:
    """Draw ``n`` samples for each prompt or label, and choose the one with the highest reward.

    Args:
      run: run of a model of texts or images.
      reward: reward, see ``genjax.runs.rewards``.
      n: number of draws from which one is chosen; draw k is that of ``run.sample`` with the seed n
        * seed + k.
      num: number of samples.
      seed: seed of the samples.
      options: options of the sampler; None for the family's own.

    Raises:
      UserError: the model draws neither texts nor images, or a reward is not a number.
    """
    if n < 2:
        raise UserError(f"best_of must be >= 2, got {n}", "best_of")
    if n * seed + n - 1 > MAX_SEED:
        raise UserError(
            f"seed must be smaller for the best of {n}, which uses seeds from {n} * seed on, got "
            f"{seed}",
            "seed",
        )
    family = run.family
    options = family.sampler if options is None else options
    if not is_unprompted(run.model()) and not isinstance(run.codec, ImageCodec):
        raise UserError(
            f"{run.run_dir} must draw texts, other than translations, or images to get rewards"
        )
    draws = [run.sample(num, n * seed + k, options) for k in range(n)]
    rewards = np.stack([_rewards(run, reward, options, samples) for samples in draws])
    chosen = _rank_nan_lowest(rewards).argmax(0)
    return Best(np.stack(_pad_draws(draws))[chosen, np.arange(num)], rewards, tuple(draws))


def _rewards(run: Run, reward: Reward, options: Component, samples: np.ndarray) -> np.ndarray:
    if isinstance(run.codec, ImageCodec):
        return image_rewards(reward, run, samples, options)
    request = encode_options(options, run.codec)
    prompts = options.prompts or (options.prompt,)
    typed = [prompts[number % MOST_PROMPTS % len(prompts)] for number in range(len(samples))]
    return text_rewards(
        reward, run.codec, request, typed, split_answers(samples, request, run.codec).responses
    )


def _rank_nan_lowest(rewards: np.ndarray) -> np.ndarray:
    """Replace NaN by minus infinity."""
    return np.where(np.isnan(rewards), -np.inf, rewards)


def _pad_draws(draws: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pad texts [N, T] of different lengths, which a stop may cause; return others unchanged."""
    if draws[0].ndim != 2:
        return list(draws)
    width = max(rows.shape[1] for rows in draws)
    return [
        np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=NOTHING)
        for rows in draws
    ]
