"""Supervised classifiers; their features are used to evaluate other families.

Label smoothing: Szegedy et al., arXiv 1512.00567. Mixed labels: Zhang et al., arXiv 1710.09412.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    apply,
    gradient_step,
    labels,
    select_modelled,
)
from genjax.losses import cross_entropy
from genjax.nets.conv.resnet import ResNet
from genjax.optim import Rules


class ClassifierNetwork(nn.Module):
    """A backbone and a linear head: [B, ...] -> features [B, F] and logits [B, classes]."""

    backbone: nn.Module
    classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        features = self.backbone(x, mask, train=train)
        kept = nn.Dropout(self.dropout, deterministic=not train)(features)
        return features, nn.Dense(self.classes, name="head")(kept)


@checks.frozen
class Classifier(Family):
    """A classifier p(label | x), trained by cross-entropy.

    A batch with ``other_label`` and ``other_weight`` [B], as ``Mixup`` makes it, has two labels per
    example. An average of the parameters (``Experiment.ema``) is refused with batch norm, whose
    statistics fit only the live parameters.

    Attributes:
      net: backbone: a ``ResNet`` or ``MLPBackbone``, or for texts a ``TokenBackbone``.
      label_smoothing: share of each target spread over all classes, in training only.
      dropout: share of the features before the head dropped in training.
      top: also report top-k accuracy, with this k; None for none.
    """

    no_samples: ClassVar[str | None] = (
        "a classifier draws no samples; `python -m genjax evaluate` judges it"
    )

    net: Component = ResNet()
    label_smoothing: float = 0.0
    dropout: float = 0.0
    top: int | None = None

    key_numbers: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __post_init__(self) -> None:
        checks.share(self, "label_smoothing", "dropout")
        checks.at_least(self, 2, "top")

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.classes is None:
            raise UserError("a classifier needs labels, but the data have none")
        if self.top is not None and self.top >= spec.classes:
            raise UserError(
                f"family.top must be < {spec.classes} (classes), got {self.top}", "family.top"
            )
        if (spec.vocabulary is not None) != _reads_tokens(self.net):
            raise UserError(
                f"family.net must fit {spec.entry} data, got a {type(self.net).__name__}",
                "family.net",
            )
        made = self._make_network(spec.classes, vocabulary=spec.vocabulary).init(
            key, select_modelled(example)
        )
        return made["params"], {
            "mean": jnp.asarray(spec.mean),
            "batch_stats": made.get("batch_stats", {}),
        }

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        self.check_average(state, optimizer)

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            logits, variables = self.train_logits(params, variables, batch, key, axis)
            losses, hits = self.judge(logits, batch)
            metrics = {
                "loss": Mean.of(losses, batch["mask"]),
                "accuracy": Mean.of(hits, batch["mask"]),
            }
            return metrics, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def check_average(self, state: State, optimizer: Rules) -> None:
        """Refuse an average of the parameters with batch norm, with a ``UserError``."""
        if optimizer.ema is not None and state.variables["batch_stats"]:
            raise UserError(
                "ema must be None with batch norm, whose statistics fit only the live parameters",
                "ema",
            )

    def train_logits(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        axis: str | None = None,
    ) -> tuple[jax.Array, Variables]:
        """Return logits [B, classes] with dropout and the statistics of the batch, and the changed
        variables; ``axis`` names the mapped data axis.
        """
        (_, logits), changed = apply(
            self._make_network(_classes(params), axis, self._count_tokens(params)),
            params,
            _subtract_mean(select_modelled(batch), variables),
            batch["mask"],
            variables={"batch_stats": variables["batch_stats"]},
            mutable=["batch_stats"],
            rngs={"dropout": key},
            train=True,
        )
        return logits, {**variables, **changed}

    def judge(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the training loss [B] of logits [B, classes], and 1 where the label is right
        [B].
        """
        losses = cross_entropy(logits, labels(batch), self.label_smoothing)
        hits = _hits(logits, labels(batch))
        if "other_label" in batch:
            weight, other = batch["other_weight"], batch["other_label"]
            mixed = cross_entropy(logits, other, self.label_smoothing)
            losses = (1 - weight) * losses + weight * mixed
            hits = (1 - weight) * hits + weight * _hits(logits, other)
        return losses, hits

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        log_p, label, mask = predict(self, state, batch), labels(batch), batch["mask"]
        metrics = {
            "loss": Mean.of(cross_entropy(log_p, label), mask),
            "accuracy": Mean.of(_hits(log_p, label), mask),
        }
        if self.top is not None:
            nearest = jax.lax.top_k(log_p, self.top)[1]  # [B, top]
            metrics[f"top{self.top}"] = Mean.of((nearest == label[:, None]).any(-1), mask)
        return metrics

    def _make_network(
        self, classes: int, axis: str | None = None, vocabulary: int | None = None
    ) -> nn.Module:
        backbone = (
            self.net.backbone(axis) if vocabulary is None else self.net.backbone(axis, vocabulary)
        )
        return ClassifierNetwork(backbone, classes, self.dropout)

    def _count_tokens(self, params: Params) -> int | None:
        return len(params["backbone"]["tokens"]["embedding"]) if _reads_tokens(self.net) else None


def predict(family: Classifier, state: State, batch: Batch) -> jax.Array:
    """Return log-probabilities [B, classes], each row independent of the others."""
    return jax.nn.log_softmax(predict_logits(family, state.params, state.variables, batch))


def predict_logits(
    family: Classifier, params: Params, variables: Variables, batch: Batch
) -> jax.Array:
    """Return logits [B, classes], each row independent of the others."""
    return _apply_net(family, params, variables, select_modelled(batch))[1]


def features(family: Classifier, state: State, x: jax.Array) -> jax.Array:
    """Return the features [B, F] before the head, for x [B, *shape] in the model space of the
    classifier's own data.
    """
    return _apply_net(family, state.params, state.variables, x)[0]


def _apply_net(
    family: Classifier, params: Params, variables: Variables, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return features [B, F] and logits [B, classes], by the running statistics."""
    net = family._make_network(_classes(params), vocabulary=family._count_tokens(params))
    stats = {"batch_stats": variables["batch_stats"]}
    return apply(net, params, _subtract_mean(x, variables), variables=stats)


@runtime_checkable
class _ReadsTokens(Protocol):
    reads_tokens: bool


def _reads_tokens(net: Component) -> bool:
    return isinstance(net, _ReadsTokens) and net.reads_tokens


def _subtract_mean(x: jax.Array, variables: Variables) -> jax.Array:
    """Subtract the mean of the training data from x; leave tokens unchanged."""
    return x if jnp.issubdtype(x.dtype, jnp.integer) else x - variables["mean"][None]


def _classes(params: Params) -> int:
    return params["head"]["bias"].shape[0]


def _hits(scores: jax.Array, label: jax.Array) -> jax.Array:
    """Return 1 where the highest of scores [B, classes] is the label, else 0: [B]."""
    return (scores.argmax(-1) == label).astype(jnp.float32)
