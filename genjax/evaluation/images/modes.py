"""Measures how many of the known modes of the data a generator covers, and how evenly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.data.charts import add_circles, figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.features.drawn import BLOCK, sample_images
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.images.bias import count_classes
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import Family, require_samples

FEW = 0.8  # of the modes that fair samples would find; below it there is a remark


@checks.frozen
class MixtureModes(Evaluator):
    """Measures coverage of a mixture of Gaussians with equal widths and weights.

    The protocol of Srivastava et al. (VEEGAN), arXiv 1705.07761, and Lin et al. (PacGAN), arXiv
    1712.04086, in the units of the data. Numbers: ``good``, the share of samples within ``within``
    standard deviations of the nearest centre; ``modes``, the number of centres nearest to a good
    sample; ``reverse_kl``, the KL from the good samples' distribution over centres to the uniform
    one, in nats, left out if no sample is good.

    Attributes:
      centres: centre of each mode, such as ``tuple(map(tuple,
          Points("eight_gaussians").modes()[0]))``.
      std: standard deviation of each mode and coordinate.
      samples: number of samples.
      within: radius of a mode in standard deviations; 3 includes all but 1.1 % of a 2-D Gaussian.
    """

    centres: tuple[tuple[float, ...], ...]
    std: float
    samples: int = 2_500
    within: float = 3.0

    def __post_init__(self) -> None:
        if not self.centres or len({len(centre) for centre in self.centres}) > 1:
            raise UserError(
                "centres must be one or more points with the same number of coordinates", "centres"
            )
        checks.above(self, 0, "std", "within")
        if self.samples < len(self.centres):
            raise UserError(
                f"samples must be >= {len(self.centres)} (modes), got {self.samples}", "samples"
            )

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if spec.entry != "points":
            raise UserError(f"MixtureModes needs points, but the data are {spec.entry}")
        if spec.shape != (len(self.centres[0]),):
            raise UserError(
                f"centres must have {spec.shape[0]} coordinates as the data, got "
                f"{len(self.centres[0])}",
                "centres",
            )
        require_samples(family, "MixtureModes")

    def __call__(self, subject: Subject) -> Findings:
        points = subject.model.codec.decode(subject.draw_samples(self.samples))
        centres = np.asarray(self.centres, np.float64)
        mode, distance = find_nearest_centre(points, centres)
        good = distance <= self.within * self.std
        counts = np.bincount(mode[good], minlength=len(centres))
        numbers = {"modes": int((counts > 0).sum()), "good": float(good.mean())}
        if good.any():
            numbers["reverse_kl"] = kl_to_uniform(counts)
        pictures = {}
        if centres.shape[1] == 2:
            pictures["modes"] = _plane(points, good, centres, counts, self.within * self.std)
        return Findings(
            numbers,
            pictures,
            f"of {len(centres):,} modes; good within {self.within:g} standard deviations of "
            f"{self.std:g}, "
            f"{len(points):,} samples by {subject.model.family.sampler}",
            make_remarks(counts, len(points)),
        )


@checks.frozen
class StackedModes(Evaluator):
    """Measures coverage of ``Stacked`` images, whose three channels of K classes each make K^3
    modes.

    A classifier predicts the class of each channel (Metz et al., arXiv 1611.02163). Numbers:
    ``modes``, the number of modes with a sample; ``mode_kl``, the KL from the samples' distribution
    over modes to the uniform one, in nats.

    Attributes:
      classifier: run directory of a classifier of the grey images.
      samples: number of samples.
    """

    images_only: ClassVar[bool] = True

    classifier: str
    samples: int = 25_600

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples")

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.classifier,)

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        channels = spec.shape[-1]
        if channels != 3:
            raise UserError(
                f"StackedModes needs images with 3 channels, as Stacked makes them, got {channels}"
            )
        require_samples(family, "StackedModes")
        classes = count_classes("StackedModes", self.classifier, others)
        if classes is None:
            return
        if spec.classes is not None and spec.classes != classes**channels:
            raise UserError(
                f"the classifier {self.classifier} has {classes} classes, which make "
                f"{classes**channels:,} modes, but the data have {spec.classes:,}"
            )
        if self.samples < classes**channels:
            raise UserError(
                f"samples must be >= {classes**channels:,} (modes), got {self.samples:,}", "samples"
            )

    def __call__(self, subject: Subject) -> Findings:
        model = subject.others[self.classifier]
        classes = model.spec.classes
        assert classes is not None, "a classifier's data have labels"
        samples = sample_images(subject, self.samples)  # [N, H, W, 3]
        blocks = np.array_split(samples, -(-len(samples) // BLOCK))
        mode = np.concatenate([self._classify_modes(subject, block, classes) for block in blocks])
        counts = np.bincount(mode, minlength=classes ** samples.shape[-1])
        usual = (len(counts) - 1) / (2 * len(samples))  # to first order in 1 / N
        return Findings(
            {"modes": int((counts > 0).sum()), "mode_kl": kl_to_uniform(counts)},
            {"modes": _ranks(counts)},
            f"of {len(counts):,} modes, each channel's class by the classifier {model.origin}; "
            f"{len(samples):,} "
            f"samples by {subject.model.family.sampler}, of which a fair generator would find "
            f"{expect_modes(counts, len(samples)):,.0f} modes with a KL of about {usual:.3f}",
            make_remarks(counts, len(samples)),
        )

    def _classify_modes(self, subject: Subject, images: np.ndarray, classes: int) -> np.ndarray:
        """Classify images [N, H, W, 3] into modes [N]."""
        single = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3], 1)  # [N * 3, H, W, 1]
        found = (
            class_probabilities(subject, self.classifier, single)
            .argmax(-1)
            .reshape(len(images), -1)
        )
        return found @ classes ** np.arange(images.shape[-1])[::-1]


def find_nearest_centre(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of centres [K, D] to each of points [N, D]: indices [N] and distances
    [N].
    """
    blocks = np.array_split(points, -(-len(points) // BLOCK))
    distance = np.concatenate(
        [np.linalg.norm(block[:, None] - centres[None], axis=-1) for block in blocks]
    )
    mode = distance.argmin(-1)
    return mode, distance[np.arange(len(points)), mode]


def kl_to_uniform(counts: np.ndarray) -> float:
    """Compute KL(counts / their sum || uniform) of counts [K] in nats: 0 for even counts, log K for
    a single mode.
    """
    share = counts[counts > 0] / counts.sum()
    return max(0.0, float((share * np.log(share * len(counts))).sum()))


def expect_modes(counts: np.ndarray, samples: int) -> float:
    """Return the expected number of the K modes that occur among ``samples`` uniform draws."""
    return (
        len(counts) * -math.expm1(samples * math.log1p(-1 / len(counts)))
        if len(counts) > 1
        else 1.0
    )


def make_remarks(counts: np.ndarray, samples: int) -> tuple[str, ...]:
    """Return advice if the samples, counted by mode [K], cover far fewer modes than fair ones
    would.
    """
    found = int((counts > 0).sum())
    if found >= FEW * expect_modes(counts, samples):
        return ()
    return (
        f"mode collapse: {found:,} of {len(counts):,} modes found; packed samples, minibatch "
        "standard deviation, a "
        "weaker discriminator, a gradient penalty or a lower learning rate are the usual cures",
    )


def _plane(
    points: np.ndarray, good: np.ndarray, centres: np.ndarray, counts: np.ndarray, radius: float
) -> np.ndarray:
    """Draw samples [N, 2] and circles around the centres; samples far outside are counted, not
    shown.
    """
    low, high = centres.min(0), centres.max(0)
    margin = 0.15 * float((high - low).max()) + 2 * radius
    middle, half = (low + high) / 2, float((high - low).max()) / 2 + margin
    shown = (np.abs(points - middle) <= half).all(-1)
    figure = new_figure(5.5, 5.8)
    axes = figure.add_subplot()
    kinds = ((~good, "tab:orange", "others"), (good, "tab:blue", f"good ({good.mean():.1%})"))
    for chosen, colour, name in kinds:
        x, y = points[chosen & shown].T
        axes.scatter(x, y, s=4, alpha=0.5, linewidths=0, color=colour, label=name)
    lost = counts == 0
    for chosen, colour in ((~lost, "0.4"), (lost, "red")):
        diameters = np.full(int(chosen.sum()), 2 * radius)
        style = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.8}
        add_circles(axes, centres[chosen], diameters, **style)
    if lost.any():
        x, y = centres[lost].T
        axes.scatter(x, y, marker="x", s=40, color="red", label="lost mode")
    axes.set(
        xlim=(middle[0] - half, middle[0] + half),
        ylim=(middle[1] - half, middle[1] + half),
        aspect="equal",
    )
    outside = f"; samples outside: {(~shown).sum():,}" if not shown.all() else ""
    axes.set_title(f"{int((~lost).sum())} of {len(centres)} modes{outside}")
    figure.legend(loc="outside lower center", ncols=3, markerscale=2, frameon=False)
    return figure_pixels(figure)


def _ranks(counts: np.ndarray) -> np.ndarray:
    """Draw the number of samples of each mode, the most frequent first, with that of fair
    samples.
    """
    found, fair = int((counts > 0).sum()), counts.sum() / len(counts)
    figure = new_figure(6, 3.6)
    axes = figure.add_subplot()
    axes.stairs(np.sort(counts)[::-1], fill=True, label="samples")
    axes.axhline(fair, color="black", linestyle="--", linewidth=1, label=f"evenly: {fair:.1f}")
    axes.set(xlabel="mode, most frequent first", ylabel="samples of it", xlim=(0, len(counts)))
    axes.set_title(
        f"{found:,} of {len(counts):,} modes, KL to the uniform {kl_to_uniform(counts):.3f} nats"
    )
    axes.legend()
    return figure_pixels(figure)
