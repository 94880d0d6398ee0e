"""Measures whether captions describe pictures of generated shapes, whose attributes are known."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import HasScenes, Spec
from genjax.data.sources.captioned import ATTRIBUTES, Scene, attributes
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Part, Subject
from genjax.evaluation.text.drawn import cut_at_end
from genjax.families.autoregressive.captioner import Captioner, caption_images
from genjax.family import Batch, State

COLUMNS, LINE = 4, 22  # pictures per row, and letters per line of a caption


@checks.frozen
class CaptionAccuracy(Evaluator):
    """Compares greedy captions of held-out pictures with the scenes that they show.

    Numbers: ``shape_right``, ``colour_right``, ``place_right`` and ``size_right``, the shares of
    captions that name the attribute correctly; ``attributes_right``, their mean;
    ``captions_right``, the share of captions that name all four correctly. Attributes that a
    caption does not name are wrong, as are all of a caption that is not a sentence of the data.

    Attributes:
      limit: number of pictures, evenly spaced over the split; None for all.
      shown: how many are shown in the picture ``captions``, wrong ones in red.
    """

    judges: ClassVar[tuple[type, ...]] = (Captioner,)

    limit: int | None = None
    shown: int = 12

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "shown", "limit")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if spec.image is None:
            raise UserError(
                "CaptionAccuracy needs images with captions, but these data have no images"
            )

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        scenes = get_scenes(subject.select_part(self.limit))
        rows = subject.collect(_caption_batch, codec.start, codec.end, limit=self.limit)
        written = [codec.decode(cut_at_end(row, (codec.end,))) for row in rows]
        right = np.array(
            [
                compare_attributes(caption, scene)
                for caption, scene in zip(written, scenes, strict=True)
            ]
        )
        numbers = {f"{name}_right": float(right[:, i].mean()) for i, name in enumerate(ATTRIBUTES)}
        whole = np.all(right, axis=1)
        numbers |= {"attributes_right": float(right.mean()), "captions_right": float(whole.mean())}
        chosen = (
            np.arange(min(self.shown, len(scenes))) * len(scenes) // min(self.shown, len(scenes))
        )
        images = codec.image.decode(subject.select_part(self.limit).batch(chosen)["image"])
        picture = draw_captioned(images, [written[i] for i in chosen], whole[chosen])
        protocol = (
            f"greedy captions of {len(scenes):,} pictures of {subject.split}, at most "
            f"{rows.shape[1]} tokens"
        )
        return Findings(numbers, {"captions": picture}, protocol)


def compare_attributes(caption: str, scene: Scene) -> list[bool]:
    """Return whether a caption names each of ``ATTRIBUTES`` correctly."""
    named = attributes(caption)
    return [named.get(name) == getattr(scene, name) for name in ATTRIBUTES]


def get_scenes(part: Part) -> list[Scene]:
    """Return the scenes that the pictures of a part show.

    Raises:
      UserError: the split does not know its scenes.
    """
    whole = part.whole
    if not isinstance(whole, HasScenes):
        raise UserError(
            "the data must be CaptionedShapes or ShapeCaptions, which know what their pictures show"
        )
    return [whole.scenes[row] for row in part.rows]


def draw_captioned(images: np.ndarray, texts: Sequence[str], right: np.ndarray) -> np.ndarray:
    """Draw images uint8 [N, H, W, 3] in one picture, a text above each, in red if it is not
    ``right`` [N].
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(2.1 * columns, 2.4 * rows, dpi=100)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(image)
        colour = "black" if right[number] else "tab:red"
        axes.set_title("\n".join(textwrap.wrap(text, LINE)), fontsize=8, color=colour)
        axes.axis("off")
    return figure_pixels(figure)


def _caption_batch(
    family: Captioner, state: State, batch: Batch, key: jax.Array, start: int, end: int
) -> jax.Array:
    return caption_images(family, state, batch["image"], start, end)
