"""Measures whether samples have the edges of the sketches that they were drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy import ndimage

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.design.sketches import find_edges
from genjax.data.pictures import grid
from genjax.errors import UserError
from genjax.evaluation.images.attributes import draw_requests
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.control import SKETCH, SketchDiffusion


@checks.frozen
class SketchAgreement(Evaluator):
    """Compares the edges of samples with the sketches of held-out images, by F1.

    Precision is the share of a sample's edges that have an edge of its sketch within ``distance``
    pixels, diagonals included; recall is the share of the sketch's edges that have one of the
    sample's.

    Numbers: ``edges_f1`` of samples that get sketch and request, the condition of the held-out
    image; ``edges_f1_no_request`` with the sketch alone; ``edges_f1_no_sketch`` and
    ``edges_f1_neither`` of the frozen base with and without the request, from the same noise. The
    picture ``sketches`` has a column for each of them, after the image and its sketch.

    Attributes:
      samples: number of sketches, evenly spaced over the split.
      distance: pixels within which edges agree.
      steep: gradient from which a sample's pixel is an edge, that of ``Sketched``.
      shown: rows of the picture.
    """

    judges: ClassVar[tuple[type, ...]] = (SketchDiffusion,)
    images_only: ClassVar[bool] = True

    samples: int = 500
    distance: int = 1
    steep: float = 0.25
    shown: int = 8

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "distance")
        checks.at_least(self, 1, "shown")
        checks.ordered(self, "shown", "samples")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if family.text is None or family.conditional:
            raise UserError("SketchAgreement needs a model conditioned on text alone (family.text)")

    def __call__(self, subject: Subject) -> Findings:
        family = subject.model.family
        real = subject.take_examples(self.samples)
        sketch = {SKETCH: real[SKETCH]}
        requests = real["condition"]
        without = np.zeros_like(requests)
        plain = dataclasses.replace(family.sampler, follow=False)
        ways = {"": (requests, None), "_no_request": (without, None)}
        ways |= {"_no_sketch": (requests, plain), "_neither": (without, plain)}
        numbers, columns = {}, []
        for name, (asked, options) in ways.items():
            images = np.clip(draw_requests(subject, asked, sketch, options), -1, 1)
            f1 = compare_edges(find_edges(images, self.steep), real[SKETCH], self.distance)
            numbers[f"edges_f1{name}"] = float(f1.mean())
            columns.append(images[: self.shown])
        channels = real["image"].shape[-1]
        lines = (2 * real[SKETCH] - 1).repeat(channels, -1)
        cells = np.stack([x[: self.shown] for x in (real["image"], lines, *columns)], 1)
        picture = grid(
            subject.model.codec.decode(cells.reshape(-1, *cells.shape[2:])), cells.shape[1]
        )
        return Findings(
            numbers,
            {"sketches": picture},
            f"a sample for each of {len(without):,} sketches of {subject.split}, by "
            f"{family.sampler}; edges within {self.distance} pixels agree, means over images",
        )


def compare_edges(found: np.ndarray, wanted: np.ndarray, distance: int) -> np.ndarray:
    """Return the F1 of edges ``found`` [N, H, W, 1] against those ``wanted``, float64 [N]; see
    ``SketchAgreement``. It is 1 if both are empty, and 0 if only one is.
    """
    found, wanted = found[..., 0] > 0, wanted[..., 0] > 0
    near = np.ones((2 * distance + 1,) * 2, bool)
    scores = []
    for ours, theirs in zip(found, wanted, strict=True):
        if not ours.any() or not theirs.any():
            scores.append(float(ours.any() == theirs.any()))
            continue
        precision = ndimage.binary_dilation(theirs, near)[ours].mean()
        recall = ndimage.binary_dilation(ours, near)[theirs].mean()
        scores.append(2 * precision * recall / max(precision + recall, 1e-9))
    return np.array(scores)
