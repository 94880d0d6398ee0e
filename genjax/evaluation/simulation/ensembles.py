"""Measures whether ensembles of forecasts are calibrated, beside those of the equation."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.simulation.codec import FieldCodec, TrajectoryCodec
from genjax.data.simulation.systems import integrate
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.simulation.scores import (
    compute_fair_crps,
    compute_spread_ratio,
    count_ranks,
    find_p_of_flatness,
)
from genjax.evaluation.simulation.truth import (
    get_codec,
    get_system,
    recover_states,
    roll_out,
    show_states,
    take_starts,
)
from genjax.families.diffusion.forecast import Forecast


@checks.frozen
class EnsembleCalibration(Evaluator):
    """Scores ensembles of forecasts from uncertain starts.

    The truth and each member start from the same held-out state plus errors of their own, all of
    one distribution, so that members of a perfect model are draws of the truth's: as in perfect-
    model experiments of weather forecasting. An ensemble of the equation is scored beside (numbers
    with ``_true``).

    Numbers at each lead of n steps: ``crps_n``, the fair CRPS averaged over columns, in their
    standard deviations; ``spread_n``, spread over error, 1 if calibrated; ``rank_p_n``, the p-value
    of a chi-square test that the truth's ranks in the first column (or at one place of a field) are
    uniform.

    Attributes:
      starts: number of starts, from the evaluated split.
      members: members of each ensemble.
      leads: steps at which they are scored.
      error: standard deviation of the starts' errors, as a share of that of the states.
    """

    judges: ClassVar[tuple[type, ...]] = (Forecast,)

    starts: int = 200
    members: int = 9
    leads: tuple[int, ...] = (10, 40)
    error: float = 0.02
    while_training: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "starts")
        checks.at_least(self, 2, "members")
        checks.some(self, "leads")
        checks.at_least(self, 1, "leads")
        checks.above(self, 0, "error")

    def __call__(self, subject: Subject) -> Findings:
        system, codec = get_system(subject, "EnsembleCalibration"), get_codec(subject)
        centres = recover_states(codec, take_starts(subject, self.starts))  # [N, M, ...]
        given, count = centres.shape[1], len(centres)
        scale = centres[:, 0].std(0, keepdims=True)[None]  # [1, 1, ...]
        shape = (self.members + 1, *centres[:, 0].shape)
        errors = self.error * scale * jax.random.normal(subject.key, shape)
        starts = (centres[None, :, 0] + errors).reshape(-1, *shape[2:])
        length = given + max(self.leads)
        states = integrate(system, starts, codec.interval, length)
        true = np.asarray(system.observe(states))
        true = true.reshape(shape[0], count, *true.shape[1:])
        seen = show_states(codec, states[count:, :given])
        own = roll_out(subject, seen, length).reshape(self.members, *true.shape[1:])
        truth, members = true[0], true[1:]
        numbers: dict[str, float] = {}
        for lead in self.leads:
            at = given - 1 + lead
            for suffix, ensemble in (("", own), ("_true", members)):
                found = self._score(codec, ensemble[:, :, at], truth[:, at])
                numbers |= {f"{name}_{lead}{suffix}": value for name, value in found.items()}
        picture = draw_fan(codec, own, members, truth)
        return Findings(
            numbers,
            {"ensembles": picture},
            f"{count} starts of {subject.split}, {self.members} members, errors of {self.error:g} "
            f"standard deviations, steps of {codec.interval:g}, samples by "
            f"{subject.model.family.sampler.solver}",
        )

    def _score(
        self, codec: TrajectoryCodec, members: np.ndarray, truth: np.ndarray
    ) -> dict[str, float]:
        """Score members [M, N, ..., C] of outcomes [N, ..., C]."""
        scale = np.array(codec.scale)
        # The first number of each state.
        ranks = count_ranks(
            members.reshape(*members.shape[:2], -1)[..., 0], truth.reshape(len(truth), -1)[:, 0]
        )
        return {
            "crps": float((compute_fair_crps(members, truth) / scale).mean()),
            "spread": compute_spread_ratio(members / scale, truth / scale),
            "rank_p": find_p_of_flatness(ranks),
        }


def draw_fan(
    codec: TrajectoryCodec, own: np.ndarray, members: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """Draw the first start's ensembles [M, N, L, ...] of the model and the equation over time, with
    the truth [N, L, ...], at the first number of a state: uint8 [H, W, 3].
    """
    figure = new_figure(9, 3.2)
    axes: Any = figure.subplots(1, 2, sharey=True)
    time = codec.interval * np.arange(truth.shape[1])
    place = (0,) * (truth.ndim - 3) + (-1 if isinstance(codec, FieldCodec) else 0,)
    for axis, title, ensemble in zip(axes, ("forecasts", "equation"), (own, members), strict=True):
        for one in ensemble[:, 0]:
            axis.plot(time, one[(slice(None), *place)], color="tab:blue", linewidth=0.6)
        axis.plot(time, truth[0][(slice(None), *place)], color="black", linewidth=1.2)
        axis.set(title=title, xlabel="time", ylabel=codec.columns[place[-1]])
    return figure_pixels(figure)
