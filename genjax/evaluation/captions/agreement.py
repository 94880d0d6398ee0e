"""Whether pictures that are drawn for a prompt show what it requests, judged by the nearest
picture that there can be.
"""

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
from genjax.evaluation.judge import CHUNK, Evaluator, Findings, Model, Subject
from genjax.families.diffusion.applications import sample_conditions
from genjax.families.diffusion.diffusion import Diffusion

GROUPS = ("held_out", "seen")


@checks.frozen
class PromptAgreement(Evaluator):
    """What of a prompt about ``CaptionedShapes`` its sample shows.

    A sample is taken for the scene of the nearest of all pictures that there can be, each
    combination of attributes at each shift.

    Numbers: ``shape_found_<group>``, ``colour_found_<group>``, ``place_found_<group>`` and
    ``size_found_<group>``, the shares of the prompts naming the attribute whose sample has it as
    named; ``attributes_found_<group>``, that of all attributes that prompts name. The groups are
    the combinations that training leaves out, "held_out", and the others, "seen".
    ``nearest_picture_right`` is the share of the judged split's own pictures that are taken for
    what they show.

    Attributes:
      prompts: of each group, evenly spaced over its combinations, see ``make_prompts``; one sample
        each.
      shown: of them of each group, in the picture ``prompts``, those in red of which something is
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
            raise UserError(
                "PromptAgreement needs a model of text alone (family.text, not family.conditional)"
            )

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
        """Return one [N, H, W, C] of each prompt, by one compiled function."""
        family, state = subject.model.family, subject.model.state
        conditions = np.stack([family.text.embed(prompt) for prompt in prompts])
        draw = subject.layout.compile_evaluation(sample_conditions, static_argnums=(0, 4))
        size = min(len(prompts), CHUNK)
        chunks = []
        for start in range(0, len(prompts), size):
            rows = np.arange(start, start + size) % len(prompts)  # the last chunk is filled up
            key = jax.random.fold_in(subject.key, start)
            chunks.append(np.asarray(draw(family, state, key, conditions[rows], family.sampler)))
        return np.concatenate(chunks)[: len(prompts)]


def make_prompts(group: str, count: int) -> list[str]:
    """``count`` sentences about the combinations of a group of ``GROUPS``, evenly spaced over them.

    Of all forms in turn; about what is held out of those that name all attributes, as it is seen in
    another size.
    """
    pool = [scene for scene in COMBINATIONS if is_held_out(scene) == (group == "held_out")]
    forms = NAME_ALL if group == "held_out" else range(SENTENCES)
    return [
        write_captions(pool[i * len(pool) // count])[forms[i % len(forms)]] for i in range(count)
    ]


def match_attributes(prompts: Sequence[str], scenes: Sequence[Scene]) -> np.ndarray:
    """Return whether each scene has each of ``ATTRIBUTES`` as its prompt names it: float64 [N, 4]
    of 0 and 1, NaN where the prompt does not name it.
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
    """Return the scenes, of all combinations and shifts, whose pictures are nearest to pictures
    uint8 [N, side, side, 3].
    """
    scenes = [scene._replace(shift=shift) for scene in COMBINATIONS for shift in SHIFTS]
    # Whole numbers in float64: squared distances, less the picture's own square, are exact.
    known, flat = (
        x.reshape(len(x), -1).astype(np.float64)
        for x in (render_scenes(scenes, pictures.shape[1]), pictures)
    )
    distance = np.square(known).sum(-1)[None] - 2 * flat @ known.T
    return [scenes[i] for i in distance.argmin(-1)]
