"""Hears whether generated tones have the requested pitch, and whether they are new."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.audio.signals import SignalCodec
from genjax.data.dataset import Spec
from genjax.data.sources.tones import HARMONICS, PITCHES
from genjax.errors import UserError
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.features.distances import mean_pairwise_distance
from genjax.evaluation.images.memorisation import find_copies
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import is_conditional, require_samples

FALSE_ALARMS = 0.005
PAIRS = 20_000  # most pairs in a mean distance


@checks.frozen
class ToneQuality(Evaluator):
    """Hears the pitches of samples of a class-conditional model of ``Tones``.

    A tone's pitch is that of the eight whose harmonics explain most of its energy.
    ``pitch_accuracy`` is the share of samples with the requested pitch, ``harmonic`` the mean share
    of their energy in its harmonics, which noise lowers; both with ``_held_out`` for tones of the
    split. ``copies`` is the share of samples whose spectrum is nearer to that of a training tone
    than those of new tones usually are (see ``Memorisation``), which expects 0.5 %; ``diversity``
    the mean distance of two of their spectra over that of two held-out ones.

    Attributes:
      samples: number of samples, which take all labels in turn.
    """

    samples: int = 800

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "samples")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "ToneQuality")
        if not is_conditional(family) or spec.classes != len(PITCHES):
            raise UserError("ToneQuality needs a class-conditional model of Tones()")
        if family.sampler.label is not None:
            raise UserError("sampler.label must be None for ToneQuality", "sampler.label")

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        if not isinstance(codec, SignalCodec):
            raise UserError(f"ToneQuality needs signals, got a {type(codec).__name__}")
        held_out, train = subject.take_examples(self.samples), subject.take_examples(8_000, "train")
        drawn = np.nan_to_num(subject.draw_samples(self.samples)[..., 0])
        numbers = {}
        for suffix, signals, labels in (
            ("", drawn, cycle_labels(self.samples, len(PITCHES))),
            ("_held_out", held_out["signal"][..., 0], held_out["label"]),
        ):
            shares = explain_energy(signals, codec.rate)
            numbers[f"pitch_accuracy{suffix}"] = float((shares.argmax(1) == labels).mean())
            numbers[f"harmonic{suffix}"] = float(shares[np.arange(len(labels)), labels].mean())
        own, known, new = (
            find_spectra(x) for x in (drawn, train["signal"][..., 0], held_out["signal"][..., 0])
        )
        if subject.split != "train":
            numbers["copies"] = float(find_copies(own, known, new, FALSE_ALARMS).mean())
        apart = [mean_pairwise_distance(x, PAIRS) for x in (own, new)]
        numbers["diversity"] = apart[0] / max(apart[1], 1e-12)
        return Findings(
            numbers,
            {},
            f"{self.samples:,} samples by {subject.model.family.sampler}, asked for all labels in "
            f"turn; {len(new):,} tones of {subject.split}",
        )


def explain_energy(signals: np.ndarray, rate: int) -> np.ndarray:
    """Return the share of the energy of signals [N, T] that the harmonics of each pitch explain by
    least squares, [N, K]; 0 for silence.
    """
    time = np.arange(signals.shape[1]) / rate
    energy = np.maximum(np.square(signals).sum(1), 1e-12)
    shares = []
    for pitch in PITCHES:
        turns = 2 * np.pi * pitch * np.arange(1, HARMONICS + 1)[:, None] * time  # [H, T]
        basis = np.linalg.qr(np.concatenate([np.sin(turns), np.cos(turns)]).T)[0]  # [T, 2 H]
        shares.append(np.square(signals @ basis).sum(1) / energy)
    return np.stack(shares, 1)


def find_spectra(signals: np.ndarray) -> np.ndarray:
    """Return the magnitudes of the Fourier transform of signals [N, T], float32 [N, F]: all but
    the phases.
    """
    return np.abs(np.fft.rfft(signals, axis=1)).astype(np.float32)
