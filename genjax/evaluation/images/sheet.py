"""Summarises an image model in one picture: samples, their nearest training images, class
frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.data.pictures import GAP, grid
from genjax.evaluation.features.drawn import data_features, data_part, sample_images
from genjax.evaluation.features.features import PIXELS, feature_space, find_nearest, list_runs
from genjax.evaluation.images.bias import (
    Shares,
    compare,
    count_classes,
    data_classes,
    draw_shares,
    sample_classes,
)
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import Family, require_samples

CONFIDENCE = 0.95  # of all intervals in the histogram together
DPI = 110
# Inches: height of the grids, maximum width of both, height of the histogram.
SIDE, WIDTH, HISTOGRAM = 5.0, 13.0, 2.6


@checks.frozen
class Sheet(Evaluator):
    """Draws the picture ``report``: samples, some of them next to their nearest training images,
    and a histogram of classes.

    Attributes:
      samples: number of samples, all of which are in the histogram.
      shown: how many are in the grid.
      rows: how many are followed by their nearest training images.
      neighbours: training images per row.
      features: "pixels", or the run directory of a classifier, in whose features distances are
        measured.
      classifier: run directory of a classifier that labels samples and held-out images; None for no
        histogram.
      limit: maximum number of training images to search, and of held-out images to count, evenly
        spaced.
    """

    images_only: ClassVar[bool] = True

    samples: int = 2_000
    shown: int = 64
    rows: int = 6
    neighbours: int = 5
    features: str = PIXELS
    classifier: str | None = None
    limit: int = 60_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "shown", "rows", "neighbours")
        checks.ordered(self, "neighbours", "limit")
        checks.ordered(self, "shown", "samples")
        checks.ordered(self, "rows", "samples")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "Sheet")
        for run in self.runs:
            count_classes("Sheet", run, others)

    @property
    def runs(self) -> tuple[str, ...]:
        classified = (
            ()
            if self.classifier is None or self.classifier == self.features
            else (self.classifier,)
        )
        return (*list_runs(self.features), *classified)

    def __call__(self, subject: Subject) -> Findings:
        samples = sample_images(subject, self.samples)
        decode = subject.model.codec.decode
        train = data_part(subject, "train", self.limit)
        known = data_features(subject, self.features, "train", self.limit)
        queries = feature_space(subject, self.features)(samples[: self.rows])
        _, index = find_nearest(queries, known, min(self.neighbours, len(train)))
        near = train.batch(index.ravel())["image"].reshape(*index.shape, *samples.shape[1:])
        # [rows, 1 + neighbours, H, W, C]
        beside = np.concatenate([samples[: self.rows, None], near], axis=1)
        found = None
        if self.classifier is not None:
            classes = subject.others[self.classifier].spec.classes
            assert classes is not None, "a classifier's data have labels"
            drawn = sample_classes(subject, self.classifier, self.samples)
            held_out = data_classes(subject, self.classifier, self.limit)
            counts, of_data = (
                np.bincount(labels, minlength=classes) for labels in (drawn, held_out)
            )
            found = compare(counts, of_data, CONFIDENCE)
        text = {
            "title": f"{type(subject.model.family).__name__}, {subject.model.origin}",
            "samples": f"{self.shown} samples",
            "beside": "samples (left) and the nearest training images, "
            + ("in pixels" if self.features == PIXELS else "in a classifier's features"),
            "classes": f"classes of {self.samples:,} samples",
            "of_data": f"{subject.split} images",
        }
        images = grid(decode(samples[: self.shown]))
        columns = beside.shape[1]
        pairs = grid(decode(beside.reshape(-1, *beside.shape[2:])), columns)
        return Findings(pictures={"report": _report(images, pairs, columns, found, text)})


def _report(
    images: np.ndarray,
    pairs: np.ndarray,
    columns: int,
    found: Shares | None,
    text: Mapping[str, str],
) -> np.ndarray:
    """Draw two grids side by side, at the same height, above the histogram if there is one."""
    aspects = [picture.shape[1] / picture.shape[0] for picture in (images, pairs)]
    height = min(SIDE, WIDTH / sum(aspects))
    width = max(height * sum(aspects) + 0.5, 7.0)
    heights = [height + 0.5] + ([HISTOGRAM] if found else [])
    figure = new_figure(width, sum(heights) + 0.4, dpi=DPI)
    figure.suptitle(text["title"], fontsize=10)
    rows = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    panels = rows[0].subgridspec(1, 2, width_ratios=aspects)
    left, right = (figure.add_subplot(panels[side]) for side in (0, 1))
    _show(left, images, text["samples"])
    _show(right, pairs, text["beside"])
    right.axvline((pairs.shape[1] - GAP) / columns + (GAP - 1) / 2, color="tab:red", linewidth=1.5)
    if found:
        axes = figure.add_subplot(rows[1])
        draw_shares(axes, found, text["of_data"])
        flagged = int(found.flagged.sum())
        verdict = f"{flagged} of {len(found.share)} differ" if flagged else "none differs"
        axes.set_title(f"{text['classes']}: {verdict} at {CONFIDENCE:.0%} confidence", fontsize=10)
    return figure_pixels(figure)


def _show(axes: Any, image: np.ndarray, title: str) -> None:
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
