"""Compares how things move in sampled clips with how they move in real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.data.dataset import Spec
from genjax.data.video.codec import lay_rows
from genjax.evaluation.features.distances import frechet_distance
from genjax.evaluation.features.drawn import sample_images
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.video.frames import check_video, make_grey
from genjax.evaluation.video.motion import describe_clips
from genjax.family import Family, require_samples

SHOWN = 8  # clips in the picture


@checks.frozen
class ClipMotion(Evaluator):
    """Describes the motion of sampled clips beside that of held-out ones (``_data``).

    ``speed`` and ``acceleration`` of the centre of brightness in pixels, ``flicker``, the change of
    brightness between frames, ``unexplained``, the share of squared brightness that no shift of
    blocks of the frame before explains, ``brightness`` and ``spread``: see ``describe_clips``.
    ``frechet_motion`` is the squared Fréchet distance of Gaussians fitted to these six numbers,
    each in standard deviations of the data; ``frechet_motion_data`` that of two halves of the data,
    a floor. It compares with no published distance of video.

    Attributes:
      samples: number of samples, and of held-out clips.
      block: side of a block in pixels.
      reach: largest shift of a block in each direction.
    """

    images_only: ClassVar[bool] = True

    samples: int = 256
    block: int = 8
    reach: int = 4

    def __post_init__(self) -> None:
        checks.at_least(self, 4, "samples")
        checks.at_least(self, 1, "block", "reach")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "ClipMotion")

    def __call__(self, subject: Subject) -> Findings:
        codec = check_video(subject.model.codec, "ClipMotion")
        drawn = sample_images(subject, self.samples)
        real = subject.take_examples(self.samples)["image"]
        own, true = (
            describe_clips(make_grey(codec, clips), self.block, self.reach)
            for clips in (drawn, real)
        )
        numbers: dict[str, float] = {}
        for name in true:
            numbers |= {name: float(own[name].mean()), f"{name}_data": float(true[name].mean())}
        scale = np.array([values.std() for values in true.values()]) + 1e-9
        fake, held_out = (np.stack(list(d.values()), 1) / scale for d in (own, true))
        numbers["frechet_motion"] = frechet_distance(held_out, fake)
        numbers["frechet_motion_data"] = frechet_distance(held_out[::2], held_out[1::2])
        protocol = (
            f"{len(drawn):,} samples by {subject.model.family.sampler}, {len(real):,} clips of "
            f"{subject.split}; blocks of {self.block}, shifts up to {self.reach}"
        )
        picture = lay_rows(codec.cut_frames(drawn[:SHOWN]))
        return Findings(numbers, {"clips": picture}, protocol)
