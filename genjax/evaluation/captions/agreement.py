"""Measures whether samples show what their prompt describes, by the nearest possible picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.sources.captioned import (
    ATTRIBUTES,
    COMBINATIONS,
    NAME_ALL,
    SENTENCES,
    SHIFTS,
    Scene,
    attributes,
    is_held_out,
    render_scenes,
    write_captions,
)
from genjax.errors import UserError
from genjax.evaluation.captions.accuracy import draw_captioned, get_scenes
from genjax.evaluation.drawing import CHUNK
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.applications import sample_conditions
from genjax.families.diffusion.diffusion import Diffusion

GROUPS = ("held_out", "seen")


@checks.frozen
class PromptAgreement(Evaluator):
    """Measures how much of a prompt about ``CaptionedShapes`` its sample shows.

    A sample counts as the scene of the nearest among all possible pictures: each combination of
    attributes at each shift.

    Numbers: ``shape_found_<group>``, ``colour_found_<group>``, ``place_found_<group>`` and
    ``size_found_<group>``, the share of samples that have the attribute as their prompt names it;
    ``attributes_found_<group>``, the same over all attributes named. The groups are the
    combinations held out from training, "held_out", and the others, "seen".
    ``nearest_picture_right`` is the share of the split's own pictures that are recognised
    correctly.

    Attributes:
      prompts: number of prompts per group, evenly spaced over its combinations, see
        ``make_prompts``; one sample each.
      shown: how many per group are shown in the picture ``prompts``, in red if something is
        missing.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion,)
    images_only: ClassVar[bool] = True

    prompts: int = 240
    shown: int = 8

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "shown")
        checks.ordered(self, "shown", "prompts")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if family.text is None or family.conditional:
            raise UserError("PromptAgreement needs a model conditioned on text alone (family.text)")

    def __call__(self, subject: Subject) -> Findings:
        decode = subject.model.codec.decode
        part = subject.select_part()
        truth = [scene[:4] for scene in get_scenes(part)]
        own = find_scenes(decode(part.batch(np.arange(len(part)))["image"]))
        numbers = {
            "nearest_picture_right": float(
                np.mean([a[:4] == b for a, b in zip(own, truth, strict=True)])
            )
        }
        asked = [make_prompts(group, self.prompts) for group in GROUPS]
        images = decode(
            self._draw_samples(subject, [prompt for prompts in asked for prompt in prompts])
        )
        shown_images, shown_prompts, shown_right = [], [], []
        for number, (group, prompts) in enumerate(zip(GROUPS, asked, strict=True)):
            drawn = images[number * self.prompts : (number + 1) * self.prompts]
            found = match_attributes(prompts, find_scenes(drawn))
            for i, name in enumerate(ATTRIBUTES):
                numbers[f"{name}_found_{group}"] = float(np.nanmean(found[:, i]))
            numbers[f"attributes_found_{group}"] = float(np.nanmean(found))
            chosen = np.arange(self.shown) * self.prompts // self.shown
            shown_images += [drawn[chosen]]
            shown_prompts += [prompts[i] for i in chosen]
            shown_right += [np.nanmin(found[chosen], axis=1) == 1]
        picture = draw_captioned(
            np.concatenate(shown_images), shown_prompts, np.concatenate(shown_right)
        )
        return Findings(
            numbers,
            {"prompts": picture},
            f"a sample of each of {self.prompts:,} prompts about combinations held out and as many "
            "about others, by "
            f"{subject.model.family.sampler}; nearest of {len(COMBINATIONS) * len(SHIFTS):,} "
            "pictures",
        )

    def _draw_samples(self, subject: Subject, prompts: Sequence[str]) -> np.ndarray:
        """Draw a sample for each prompt, [N, H, W, C], by one compiled function."""
        family, state = subject.model.family, subject.model.state
        conditions = np.stack([family.text.embed(prompt) for prompt in prompts])
        draw = subject.layout.compile_evaluation(sample_conditions, static_argnums=(0, 4))
        size = min(len(prompts), CHUNK)
        chunks = []
        for start in range(0, len(prompts), size):
            rows = np.arange(start, start + size) % len(prompts)  # the last chunk wraps around
            key = jax.random.fold_in(subject.key, start)
            chunks.append(np.asarray(draw(family, state, key, conditions[rows], family.sampler)))
        return np.concatenate(chunks)[: len(prompts)]


def make_prompts(group: str, count: int) -> list[str]:
    """Write ``count`` sentences about the combinations of a group of ``GROUPS``, evenly spaced over
    them.

    They take all forms in turn; held-out combinations take those that name all attributes, as they
    are seen in another size.
    """
    pool = [scene for scene in COMBINATIONS if is_held_out(scene) == (group == "held_out")]
    forms = NAME_ALL if group == "held_out" else range(SENTENCES)
    return [
        write_captions(pool[i * len(pool) // count])[forms[i % len(forms)]] for i in range(count)
    ]


def match_attributes(prompts: Sequence[str], scenes: Sequence[Scene]) -> np.ndarray:
    """Return 1 where a scene has each of ``ATTRIBUTES`` as its prompt names it, else 0, or NaN if
    the prompt does not name it: float64 [N, 4].
    """
    named = [attributes(prompt) for prompt in prompts]
    return np.array(
        [
            [
                float(getattr(scene, name) == asked[name]) if name in asked else np.nan
                for name in ATTRIBUTES
            ]
            for asked, scene in zip(named, scenes, strict=True)
        ]
    )


def find_scenes(pictures: np.ndarray) -> list[Scene]:
    """Find the scenes, of all combinations and shifts, nearest to pictures uint8 [N, side, side,
    3].
    """
    scenes = [scene._replace(shift=shift) for scene in COMBINATIONS for shift in SHIFTS]
    # Integers in float64, so squared distances, minus the picture's own square, are exact.
    known, flat = (
        x.reshape(len(x), -1).astype(np.float64)
        for x in (render_scenes(scenes, pictures.shape[1]), pictures)
    )
    distance = np.square(known).sum(-1)[None] - 2 * flat @ known.T
    return [scenes[i] for i in distance.argmin(-1)]
