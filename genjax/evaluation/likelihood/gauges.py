"""Diagnoses the last steps of adversarial training: oscillation, and too strong a discriminator."""

from __future__ import annotations

from typing import ClassVar

import jax

from genjax import checks
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.families.gan import losses as adversarial
from genjax.families.gan.gan import GAN

SWING = 1.0  # above it, the mean logit of fakes swings more than fakes differ
STRONG = 0.97
ENOUGH = 0.6  # the least weight of the gauges, reached after about 90 steps


@checks.frozen
class GameGauges(Evaluator):
    """Reports gauges of a GAN over its last 100 steps or so, with advice for each that is too high.

    ``oscillation`` is too high above 1: the mean logit of fakes then swings between steps by more
    than logits differ within a batch. ``strength``, the lower of the discriminator's accuracies on
    real and fake examples, is too high from 0.97 on, except for the Wasserstein loss, whose critic
    should be as strong as possible.
    """

    judges: ClassVar[tuple[type, ...]] = (GAN,)

    def __call__(self, subject: Subject) -> Findings:
        gauges = jax.device_get(subject.model.state.variables["gauges"])
        swing = float(adversarial.oscillation(gauges))
        strength = float(min(adversarial.accuracies(gauges)))
        remarks = []
        if gauges["weight"] > ENOUGH and swing > SWING:
            remarks.append(
                f"the players chase each other (oscillation {swing:.2f}): lower learning rates, "
                "add r1, or average the generator (ema)"
            )
        if (
            gauges["weight"] > ENOUGH
            and strength >= STRONG
            and subject.model.family.loss != "wasserstein"
        ):
            remarks.append(
                f"the discriminator is too strong ({100 * strength:.1f} % right on real and "
                "fake examples): lower its learning rate, add r1, spectral_norm or augment, or "
                "make it smaller"
            )
        return Findings(
            {"oscillation": swing, "strength": strength},
            protocol="moving averages over the last steps of training, about 100",
            remarks=tuple(remarks),
        )
