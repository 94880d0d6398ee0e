"""DPO: trains a language model on preferences between responses, close to where it started.

Rafailov et al., arXiv 2305.18290. IPO: Azar et al., arXiv 2310.12036. Conservative DPO: Mitchell,
2023.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError
from genjax.losses import preference_loss
from genjax.posttrain.paired import Paired, PairLosses, PairScores

Form = Literal["sigmoid", "ipo"]


@checks.frozen
class DPO(Paired):
    """Trains a language model on preferences, without a reward model and without sampling.

    The reward of a response is ``beta`` times its log-probability under the policy minus that under
    the reference, the initial model; the margin is the reward of the chosen response minus that of
    the rejected one.

    - "sigmoid": -log sigmoid(margin), which starts at ln 2. - "ipo": (margin / beta - 1 / (2
    beta))^2, where beta is the paper's tau; it pulls margins to 1/2.

    The metrics are those of ``Paired``.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      beta: strength of the pull to the reference; the higher, the closer the policy stays.
      form: form of the loss, "sigmoid" or "ipo".
      length_normalised: whether log-probabilities are means over the tokens of a response; then
        multiply beta by about the length of a response.
      label_smoothing: assumed share of wrong choices, in training only; for "sigmoid".
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/sft_instructions"
    beta: float = 0.1
    form: Form = "sigmoid"
    length_normalised: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "beta")
        checks.numbers(
            self, ("label_smoothing",), "at least 0 and below 0.5", lambda x: 0 <= x < 0.5
        )
        if self.label_smoothing and self.form == "ipo":
            raise UserError(
                'label_smoothing must be 0 with form="ipo", which holds margins at 1/2 without it',
                "label_smoothing",
            )

    def compare(self, scores: PairScores, training: bool) -> PairLosses:
        gained = scores.gained / scores.sizes if self.length_normalised else scores.gained
        rewards = self.beta * gained
        margin = rewards[:, 0] - rewards[:, 1]
        if self.form == "ipo":
            return PairLosses(jnp.square((margin - 0.5) / self.beta), rewards)
        return PairLosses(preference_loss(margin, self.label_smoothing if training else 0), rewards)
