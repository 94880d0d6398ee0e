"""Compares long roll-outs of a forecast with the equation: error, spectrum, energy, copies."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.data.pictures import grid
from genjax.data.simulation.codec import FieldCodec, TrajectoryCodec, draw_trajectories
from genjax.evaluation.images.memorisation import find_copies
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.simulation.truth import (
    get_codec,
    get_system,
    integrate_on,
    roll_out,
    take_starts,
)
from genjax.families.diffusion.forecast import Forecast

VALID = 0.4  # normalised error up to which a forecast counts as valid
FALSE_ALARMS = 0.005


@checks.frozen
class RolloutFidelity(Evaluator):
    """Rolls forecasts out from held-out starts, beside the equation.

    Numbers: ``error_1``, the root mean square error of the first step in standard deviations of the
    columns; ``valid_time``, the mean time until the error of a roll-out first exceeds 0.4 (as in
    Pathak et al., Physical Review Letters 120, 2018), at most its length; ``spectrum``, the mean
    distance of the power spectra in decades, over time for states and over space for the last
    frames of fields, and ``spectrum_true``, that between two halves of the true ones, a floor.

    If the equation keeps an energy, ``energy_drift`` is the mean absolute change over a roll-out
    as a share of the standard deviation of energies among the starts, and ``energy_drift_true``
    that of the integrator.

    ``copies`` is the share of last states, with those before them in an example, that are nearer to
    a training example than new ones usually are (see ``Memorisation``), which expects 0.5 %;
    ``diversity`` is the standard deviation of last states over that of held-out ones.

    Attributes:
      starts: number of starts, from the evaluated split.
      length: states of a roll-out.
      limit: training examples that copies are searched in, evenly spaced.
    """

    judges: ClassVar[tuple[type, ...]] = (Forecast,)

    starts: int = 100
    length: int = 400
    limit: int = 20_000
    while_training: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "starts", "limit")
        checks.at_least(self, 3, "length")

    def __call__(self, subject: Subject) -> Findings:
        codec = get_codec(subject)
        system = get_system(subject, "RolloutFidelity")
        given = take_starts(subject, self.starts)
        own = roll_out(subject, given, self.length)  # [N, L, ..., C]
        true = integrate_on(codec, given, self.length)
        first = subject.model.family.given if given.ndim == 3 else given.shape[-1] // codec.channels
        error = compute_error(own, true, codec)  # [N, L]
        numbers = {
            "error_1": float(np.sqrt(np.square(error[:, first]).mean())),
            "valid_time": codec.interval * float(find_first_above(error, VALID).mean()),
        }
        spectrum = find_spectrum(true[::2], codec)
        numbers["spectrum"] = measure_distance(
            find_spectrum(own, codec), find_spectrum(true, codec)
        )
        numbers["spectrum_true"] = measure_distance(spectrum, find_spectrum(true[1::2], codec))
        for suffix, states in (("", own), ("_true", true)):
            found = system.energy(jnp.asarray(states))
            if found is not None:
                energy = np.asarray(found)
                drift = np.abs(energy[:, -1] - energy[:, first - 1]).mean()
                numbers[f"energy_drift{suffix}"] = float(drift / energy[:, first - 1].std())
        numbers |= self._find_copies(subject, codec, own)
        return Findings(
            numbers,
            {"rollouts": draw_beside(codec, own, true)},
            f"{len(own)} starts of {subject.split}, {self.length} states at steps of "
            f"{codec.interval:g}, samples by {subject.model.family.sampler.solver}",
        )

    def _find_copies(
        self, subject: Subject, codec: TrajectoryCodec, own: np.ndarray
    ) -> dict[str, float]:
        entry, shape = subject.model.spec.entry, subject.model.spec.shape
        window = shape[0] if len(shape) == 2 else shape[-1] // codec.channels
        if subject.split == "train" or not np.isfinite(own).all():
            return {}
        last = codec.encode(own[:, -window:]).reshape(len(own), -1)
        train, held_out = (
            subject.take_examples(self.limit, split)[entry] for split in ("train", subject.split)
        )
        train, held_out = train.reshape(len(train), -1), held_out.reshape(len(held_out), -1)
        copies = find_copies(last, train, held_out, FALSE_ALARMS)
        spread = float(last.std(0).mean() / held_out.std(0).mean())
        return {"copies": float(copies.mean()), "diversity": spread}


def compute_error(own: np.ndarray, true: np.ndarray, codec: TrajectoryCodec) -> np.ndarray:
    """Compute the root mean square error [N, L] of trajectories [N, L, ..., C], in standard
    deviations of the columns.
    """
    squares = np.square((own - true) / np.array(codec.scale))
    return np.sqrt(squares.mean(tuple(range(2, squares.ndim))))


def find_first_above(error: np.ndarray, bound: float) -> np.ndarray:
    """Return the first step [N] at which an error [N, L] exceeds the bound or is NaN; L if none."""
    above = ~(error <= bound)
    return np.where(above.any(1), above.argmax(1), error.shape[1])


def find_spectrum(states: np.ndarray, codec: TrajectoryCodec) -> np.ndarray:
    """Return the mean power spectrum [F, C]: over time for trajectories [N, L, C], with a Hann
    window; of the last frames for fields [N, L, H, W, C], by the wave number's length.
    """
    values = (states - np.array(codec.mean)) / np.array(codec.scale)
    if not isinstance(codec, FieldCodec):
        window = np.hanning(values.shape[1])[:, None]
        return np.square(np.abs(np.fft.rfft(values * window, axis=1))).mean(0)[1:]
    last = values[:, -1]
    power = np.square(np.abs(np.fft.fft2(last, axes=(1, 2)))).mean(0)  # [H, W, C]
    height, width = power.shape[:2]
    rows, columns = np.fft.fftfreq(height, 1 / height), np.fft.fftfreq(width, 1 / width)
    length = np.rint(np.hypot(rows[:, None], columns[None])).astype(int)
    rings = range(1, min(height, width) // 2 + 1)
    return np.stack([power[length == ring].mean(0) for ring in rings])


def measure_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance of spectra [F, C] in decades."""
    return float(np.abs(np.log10(one + 1e-12) - np.log10(other + 1e-12)).mean())


def draw_beside(codec: TrajectoryCodec, own: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Draw roll-outs [N, L, ...] beside the true ones: of fields, 6 frames of the first four."""
    if not isinstance(codec, FieldCodec):
        named = {"forecasts": own[:3], "equation": true[:3]}
        return draw_trajectories(named, codec.columns, codec.interval)
    chosen = np.linspace(0, own.shape[1] - 1, 6).astype(int)
    pairs = np.stack([own[:4, chosen], true[:4, chosen]], 1)  # [N, 2, 6, H, W, C]
    return grid(codec.shade(pairs.reshape(-1, *own.shape[2:])), columns=len(chosen))
