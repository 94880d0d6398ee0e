"""Compares the frames that a model predicts from its own predictions with the true ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.data.video.codec import VideoCodec, lay_rows
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.video.frames import check_video, continue_clips, make_grey
from genjax.evaluation.video.motion import measure_motion_error
from genjax.families.continuing import Continues
from genjax.family import Family

SHOWN = 4  # clips in the picture


@checks.frozen
class ClipContinuation(Evaluator):
    """Lets the model continue the given frames of held-out clips, and compares with the true ones.

    Numbers over all frames to come, then of the first and last (``_1`` and ``_last``): ``mse``, the
    squared error of grey values in [0, 1], summed over a frame, as in the literature on Moving
    MNIST; ``motion_error``, the mean shift in pixels that finds a block of the true frame in the
    predicted one, up to ``reach``, weighted by squared brightness; ``lost``, the share of
    brightness that no shift finds. Those ending in ``_still`` are of a prediction that repeats the
    last given frame.

    Attributes:
      clips: number of clips, evenly spaced over the split.
      block: side of a block in pixels.
      reach: largest shift in each direction.
    """

    images_only: ClassVar[bool] = True

    clips: int = 128
    block: int = 8
    reach: int = 4
    while_training: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "clips", "block", "reach")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not isinstance(family, Continues):
            raise UserError(
                "ClipContinuation needs a family that continues given states, such as NextState or "
                f"Forecast, got a {type(family).__name__}"
            )
        if self.block > min(spec.shape[:2]):
            raise UserError(
                f"block must be <= {min(spec.shape[:2])}, the side of a frame, got {self.block}",
                "block",
            )

    def __call__(self, subject: Subject) -> Findings:
        codec = check_video(subject.model.codec, "ClipContinuation")
        clips = subject.take_examples(self.clips)["image"]
        own = continue_clips(subject, clips)
        given = subject.model.family.select_given(clips[:1]).shape[-1] // codec.channels
        true, predicted = (make_grey(codec, x) for x in (clips, own))
        last = np.broadcast_to(true[:, given - 1 : given], true[:, given:].shape)
        curves = self._measure(true[:, given:], predicted[:, given:])
        still = self._measure(true[:, given:], last)
        numbers: dict[str, float] = {}
        for name, curve in curves.items():
            numbers |= {
                name: float(curve.mean()),
                f"{name}_1": float(curve[0]),
                f"{name}_last": float(curve[-1]),
                f"{name}_still": float(still[name].mean()),
            }
        protocol = (
            f"{len(clips):,} clips of {subject.split}, {given} frames given, samples by "
            f"{subject.model.family.sampler}; blocks of {self.block}, shifts up to {self.reach}"
        )
        pictures = {
            "continued": draw_beside(codec, clips[:SHOWN], own[:SHOWN]),
            "by_frame": _draw(curves, still, given),
        }
        return Findings(numbers, pictures, protocol)

    def _measure(self, true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
        """Compare frames [N, T, H, W]: numbers [T] by name."""
        error = np.square(true - predicted).sum((2, 3), dtype=np.float64).mean(0)
        shift, lost = measure_motion_error(true, predicted, self.block, self.reach)
        return {"mse": error, "motion_error": shift, "lost": lost}


def draw_beside(codec: VideoCodec, true: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Draw clips [N, H, W, T C], the true one above the model's: uint8 [H', W', C]."""
    frames = np.stack([codec.cut_frames(x) for x in (true, own)], 1)  # [N, 2, T, H, W, C]
    return lay_rows(frames.reshape(-1, *frames.shape[2:]))


def _draw(curves: dict[str, np.ndarray], still: dict[str, np.ndarray], given: int) -> np.ndarray:
    figure = new_figure(3.2 * len(curves), 2.8)
    axes: Any = figure.subplots(1, len(curves))
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        number = given + 1 + np.arange(len(curve))
        axis.plot(number, curve, marker="o", markersize=3, label="model")
        axis.plot(number, still[name], linestyle="--", color="black", label="last frame")
        axis.set(xlabel="frame", title=name, ylim=(0, None))
    axes[0].legend()
    return figure_pixels(figure)
