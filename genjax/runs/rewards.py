"""Rewards for the samples of a run: a Python function, as in training, or a trained reward model.

For texts a function takes lists of prompts, including what a template puts around them, and of
responses; for images it takes float32 [N, H, W, C] in [-1, 1] and the requested labels [N] or None.
It returns a number for each, the higher the better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from genjax.checks import Component
from genjax.errors import UserError
from genjax.evaluation.images.reward_of_images import requested_labels
from genjax.families.autoregressive.request import Request
from genjax.families.image_rewards import score_images
from genjax.families.rewards import score_texts
from genjax.posttrain.reward import RewardModel, score_responses
from genjax.runs.run import Run, load
from genjax.serial import stored, trust


@dataclass(frozen=True)
class RunReward:
    """The reward of a trained reward model.

    Attributes:
      run: run of the model.
    """

    run: Run

    def score_prompts(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Return the rewards [N] of responses to prompts as typed by a person; NaN, which always
        loses, for an empty response.
        """
        model, length = self.run.model(), self.run.spec.shape[0]
        codec: Component = model.codec
        there = [number for number, response in enumerate(responses) if response.strip()]
        found = np.full(len(responses), np.nan)
        asked = [prompts[number] for number in there], [responses[number] for number in there]
        found[there] = score_responses(model.family, model.state, codec, *asked, length)
        return found


Reward = Callable[[Any, Any], Any] | RunReward


def load_reward(name: str) -> Reward:
    """Load a reward: a Python function "module:function", or the run directory of a reward model.

    Raises:
      UserError: there is no such function, or the run is not a reward model.
    """
    if ":" in name and not epath.Path(name).exists():
        with trust.allow((name.partition(":")[0],)):  # the user has named it
            return stored.load_function(name)
    try:
        run = load(name)
    except UserError as error:
        raise UserError(f"reward: {error}", "reward") from None
    if not isinstance(run.family, RewardModel):
        raise UserError(
            f"reward must be a run of a reward model, got a "
            f"{type(run.experiment.family).__name__} in {name}",
            "reward",
        )
    return RunReward(run)


def text_rewards(
    reward: Reward,
    codec: Component,
    request: Request,
    typed: Sequence[str],
    responses: Sequence[str],
) -> np.ndarray:
    """Return the rewards [N] of responses to a request, whose prompts a person has ``typed``.

    Raises:
      UserError: a function fails; see ``rewards_of_texts``.
    """
    if isinstance(reward, RunReward):
        return reward.score_prompts(typed, responses)
    prompts = [
        codec.decode(np.asarray(request.get_prompt(number), np.int32))
        for number in range(len(responses))
    ]
    return score_texts(reward, prompts, responses).astype(np.float64)


def image_rewards(
    reward: Reward, run: Run, samples: np.ndarray, options: Component = None
) -> np.ndarray:
    """Return the rewards [N] of images [N, H, W, C] drawn by a run with ``options``, by default its
    own sampler.

    Raises:
      UserError: a function fails, see ``rewards_of_images``, or the reward is of texts.
    """
    if isinstance(reward, RunReward):
        raise UserError(f"the reward of {reward.run.run_dir} is of texts, not of images")
    family = run.family
    labels = requested_labels(
        family, run.spec, family.sampler if options is None else options, len(samples)
    )
    return score_images(reward, np.clip(samples, -1, 1).astype(np.float32), labels).astype(
        np.float64
    )
