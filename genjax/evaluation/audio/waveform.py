"""Judges spectrograms after their way through a waveform, beside real recordings on the same
way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.mel import MelCodec
from genjax.data.charts import figure_pixels, new_figure, show_percents
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.features.distances import frechet_distance
from genjax.evaluation.features.drawn import data_features, sample_images
from genjax.evaluation.features.features import check_features, feature_space
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.images.agreement import check_labels
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject


class Judged(NamedTuple):
    """Spectrograms as a classifier hears them: the class found and the features, [N] and [N, F]."""

    found: np.ndarray
    features: np.ndarray


@checks.frozen
class WaveformQuality(Evaluator):
    """Judges generated sounds and held-out recordings by a classifier of spectrograms, each as it
    is and after the way through a waveform.

    The codec makes a waveform of a spectrogram by Griffin-Lim, and a spectrogram of that again. So
    the loss of the codec, which real recordings suffer as well, is known beside the model's.

    Numbers, each with ``_waveform`` after that way: ``real_accuracy``, of held-out recordings;
    ``sample_accuracy``, the share of samples recognised as the requested label;
    ``real_frechet`` and ``sample_frechet``, the squared Fréchet distance (Heusel et al., arXiv
    1706.08500) to the training part in the classifier's features, of as many recordings as samples,
    since it depends on their number.

    Attributes:
      classifier: run directory of a classifier of the same spectrograms.
      samples: number of samples and of held-out recordings; of each no more than these are.
    """

    images_only: ClassVar[bool] = True

    classifier: str
    samples: int = 300

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "samples")

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.classifier,)

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_labels("WaveformQuality", family, spec, self.classifier, others)
        width = check_features(self.classifier, spec, others)
        if width is not None and self.samples <= width:
            raise UserError(
                f"samples must be > {width} (features of {self.classifier}), got {self.samples}",
                "samples",
            )

    def __call__(self, subject: Subject) -> Findings:
        codec, classes = subject.model.codec, subject.model.spec.classes
        if not isinstance(codec, MelCodec) or classes is None:
            raise UserError(
                f"WaveformQuality needs mel spectrograms, but the codec is a {type(codec).__name__}"
            )
        real = subject.take_examples(self.samples)
        count = len(real["label"])
        drawn = sample_images(subject, count)
        labels = {"real": real["label"], "sample": cycle_labels(count, classes)}
        train = data_features(subject, self.classifier, "train", None)
        numbers: dict[str, float] = {}
        shares: dict[str, np.ndarray] = {}
        for name, images in (("real", real["image"]), ("sample", drawn)):
            for way, heard in (("", images), ("_waveform", through_waveform(codec, images))):
                judged = self._judge(subject, heard)
                right = judged.found == labels[name]
                numbers[f"{name}_accuracy{way}"] = float(right.mean())
                numbers[f"{name}_frechet{way}"] = frechet_distance(train, judged.features)
                shares[f"{name}{way}"] = np.array(
                    [right[labels[name] == label].mean() for label in range(classes)]
                )
        protocol = (
            f"{count:,} samples by {subject.model.family.sampler}, clipped to [-1, 1], asked for "
            f"all labels in turn, and {count:,} recordings of {subject.split}; waveforms by "
            f"{codec.iterations} iterations of Griffin-Lim at {codec.rate:,} Hz; classes and "
            f"features by the classifier {subject.others[self.classifier].origin}; Fréchet "
            f"distances to {len(train):,} recordings of train"
        )
        return Findings(numbers, {"heard": _picture(shares)}, protocol, _list_classes(shares))

    def _judge(self, subject: Subject, images: np.ndarray) -> Judged:
        probabilities = class_probabilities(subject, self.classifier, images)
        features = feature_space(subject, self.classifier)(images)
        return Judged(probabilities.argmax(-1), features)


def through_waveform(codec: MelCodec, images: np.ndarray) -> np.ndarray:
    """Return the spectrograms [N, H, W, 1] of the waveforms of spectrograms [N, H, W, 1]."""
    return codec.encode(codec.analyse(codec.synthesise(images)))


def _list_classes(shares: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Say the shares of each class [K] that are recognised, one sentence each."""
    return tuple(
        f"recognised of {name.replace('_', ' after the ')}, by label: "
        + ", ".join(f"{label} {share:.0%}" for label, share in enumerate(found))
        for name, found in shares.items()
    )


def _picture(shares: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draw the shares of each class [K] that are recognised, as bars side by side."""
    figure = new_figure(7, 3)
    axes = figure.add_subplot()
    width = 0.8 / len(shares)
    for number, (name, found) in enumerate(shares.items()):
        places = np.arange(len(found)) + (number - (len(shares) - 1) / 2) * width
        axes.bar(places, found, width, label=name.replace("_", ", "))
    axes.set(xlabel="label", ylabel="recognised", ylim=(0, 1.02), xticks=range(len(found)))
    show_percents(axes.yaxis)
    axes.legend(loc="lower right", fontsize=7)
    return figure_pixels(figure)
