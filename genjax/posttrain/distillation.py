"""Distillation: a small model learns from the predictions of a larger one.

Logits at a temperature, mixed with the loss of the data: Hinton et al., arXiv 1503.02531. The
divergences, and texts that the student draws itself (GKD): Agarwal et al., arXiv 2306.13649.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.continued import Continued
from genjax.data.chat.template import ends_of
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.classifier import Classifier, predict_logits
from genjax.families.rewards import extract_prompts
from genjax.families.side_losses import list_sown
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    gradient_step,
)
from genjax.optim import Rules
from genjax.posttrain.rollouts import draw_rollout, strip_padding

TEACHER = "teacher"
DRAWN = "drawn"  # entry of a batch: 1 for rows that the student wrote


@checks.frozen
class Distillation(Continued):
    """Trains a student to predict what a teacher predicts: the next token, or a label.

    The loss is ``weight`` times the divergence of the student's distribution from the teacher's
    plus 1 - ``weight`` times the student's own loss on the data: for texts in nats per predicted
    token, for classes in nats per example. Teacher and student see the same rows, after
    augmentation; only the student has dropout.

    The run is evaluated, sampled and exported as its student. Training metrics: ``divergence``, of
    which ``loss`` is the mixture with ``nll``; of a classifier also ``accuracy``.

    Attributes:
      teacher: run directory of an ``Autoregressive`` model or a ``Classifier``, with the tokens or
        labels of the data.
      student: family of the same kind that is trained; ``Experiment.start_from`` gives it a start.
      weight: share of the divergence in the loss.
      temperature: divisor of the logits of both; the divergence is multiplied by its square, so
        that gradients keep their size.
      beta: 0 for the KL from teacher to student, which covers all that the teacher may say; 1 for
        the reverse, which prefers what it says most; between them the generalised Jensen-Shannon
        divergence, beta KL(teacher | mean) + (1 - beta) KL(student | mean), where the mean has
        beta of the teacher.
    """

    key_numbers: ClassVar[tuple[str, ...]] = ("divergence", "nll")

    teacher: Component = "runs/gpt_docs"
    student: Component = Autoregressive()
    weight: float = 0.5
    temperature: float = 1.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        checks.between(self, 0, 1, "weight", "beta")
        checks.above(self, 0, "temperature")
        if not isinstance(self.student, Autoregressive | Classifier):
            raise UserError(
                "student must be an Autoregressive model or a Classifier, got "
                f"{type(self.student).__name__}",
                "student",
            )
        if list_sown(self.student.net):
            raise UserError(
                "student.net.experts must be None: their losses of balance are not distilled",
                "student.net.experts",
            )

    @property
    def runs(self) -> Mapping[str, str]:
        return {TEACHER: self.teacher}

    @property
    def no_samples(self) -> str | None:  # type: ignore[override]
        """Why the student draws no samples; None if it does."""
        return self.wrapped.no_samples

    @property
    def wrapped(self) -> Family:
        student: Family = self.student
        return student

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        check_teacher(self.student, others[TEACHER], spec)
        return dataclasses.replace(self, teacher=others[TEACHER].family)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        made: tuple[Params, Variables] = self.student.init(key, example, spec)
        return made

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        teacher = state.frozen[TEACHER]
        if isinstance(self.student, Classifier):
            self.student.check_average(state, optimizer)

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            if isinstance(self.student, Classifier):
                return self.compare_classes(params, variables, teacher, batch, key, axis)
            return self.compare_texts(params, teacher["params"], batch, key), variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def eval_state(self, state: State) -> State:
        state = state.for_eval().replace(ema=None, frozen=None)
        evaluated: State = self.student.eval_state(state)
        return evaluated

    def compare_texts(
        self, params: Params, teacher: Params, batch: Batch, key: jax.Array | None = None
    ) -> Metrics:
        """Compute the metrics of rows of tokens; a key means training. Rows that are ``drawn`` have
        no loss of the data.
        """
        own, hidden, weight = self.student.open_head(params, batch, key)
        theirs, known, _ = self.teacher.open_head(teacher, batch)
        targets = batch["tokens"][:, 1:]

        def compare(rows: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            hidden, known, targets = rows
            logits = own(hidden).astype(jnp.float32)
            far = self.diverge(theirs(known).astype(jnp.float32), logits)
            hot = targets[..., None] == jnp.arange(logits.shape[-1])[None]
            return far, jax.nn.logsumexp(logits, -1) - jnp.where(hot, logits, 0.0).sum(-1)

        flat = [x.reshape(-1, *x.shape[2:]) for x in (hidden, known, targets)]
        far, nll = (x.reshape(targets.shape) for x in map_chunks(compare, flat, self.student.chunk))
        written = weight if DRAWN not in batch else weight * (1 - batch[DRAWN][:, None])
        of_data = nll * written
        loss = self.weight * far * weight + (1 - self.weight) * of_data
        return {
            "loss": Mean(loss.sum(), weight.sum()),
            "divergence": Mean.of(far, weight),
            "nll": Mean(of_data.sum(), written.sum()),
        }

    def compare_classes(
        self,
        params: Params,
        variables: Variables,
        teacher: Mapping[str, Params],
        batch: Batch,
        key: jax.Array,
        axis: str | None = None,
    ) -> tuple[Metrics, Variables]:
        """Compute the metrics of labelled examples, and the changed variables of the student."""
        logits, variables = self.student.train_logits(params, variables, batch, key, axis)
        known = predict_logits(self.teacher, teacher["params"], teacher["variables"], batch)
        far = self.diverge(known, logits)
        nll, hits = self.student.judge(logits, batch)
        each = {
            "loss": self.weight * far + (1 - self.weight) * nll,
            "divergence": far,
            "nll": nll,
            "accuracy": hits,
        }
        return {name: Mean.of(values, batch["mask"]) for name, values in each.items()}, variables

    def diverge(self, teacher: jax.Array, student: jax.Array) -> jax.Array:
        """Return the divergence [...] between logits [..., V] at the temperature, times its
        square; the teacher's have no gradient.
        """
        log_p, log_q = (
            jax.nn.log_softmax(x / self.temperature)
            for x in (jax.lax.stop_gradient(teacher), student)
        )
        return self.temperature**2 * measure_divergence(log_p, log_q, self.beta)


@checks.frozen
class OnPolicyDistillation(Distillation):
    """Distillation on texts that the student writes itself, where it meets its own mistakes (GKD).

    Of each batch a share of the rows is continued by the student, at temperature 1: a prefix if the
    data have one, else the first tokens of the row. The continuation takes the place of the rest
    and has no loss of the data; no gradient goes through the drawing.

    Training metrics are those of ``Distillation`` and ``response_length``, in tokens.

    Attributes:
      on_policy: share of the rows of a batch that the student writes.
      longest_prompt: maximum length of a prefix, in tokens; of rows without one, the number of
        tokens that are continued.
      new_tokens: maximum length of a continuation, in tokens; None for what is left of a row.
      codec: codec whose end token ends a text; None uses the data's.
    """

    on_policy: float = 0.5
    longest_prompt: int = 1
    new_tokens: int | None = None
    codec: Component = None

    key_numbers: ClassVar[tuple[str, ...]] = ("divergence", "nll", "response_length")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.numbers(self, ("on_policy",), "above 0 and at most 1", lambda x: 0 < x <= 1)
        checks.at_least(self, 1, "longest_prompt", "new_tokens")
        if not isinstance(self.student, Autoregressive):
            raise UserError(
                "student must be an Autoregressive model to write texts, got "
                f"{type(self.student).__name__}",
                "student",
            )

    def with_codec(self, codec: Component) -> Self:
        return self if self.codec is not None else dataclasses.replace(self, codec=codec)

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        if spec.packed or spec.source_length is not None or spec.image is not None:
            raise UserError(
                "OnPolicyDistillation needs unpacked rows of one text each, without a source"
            )
        if self.longest_prompt >= spec.shape[0]:
            raise UserError(
                f"longest_prompt must be < {spec.shape[0]} (tokens of a row), got "
                f"{self.longest_prompt}",
                "longest_prompt",
            )
        return super().resolve(others, spec)

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Let the student write the first rows of a batch; return it with ``drawn`` [B], 1 for
        those.

        Raises:
          UserError: a prefix is empty or longer than ``longest_prompt``, or there are several
              processes.
        """
        if jax.process_count() > 1:
            raise UserError("drawing texts needs a single process")
        if "prefix_mask" in batch:
            count = self._count_drawn(len(batch["mask"]))
            sizes = jax.device_get(batch["prefix_mask"][:count].sum(1))
            if not 0 < sizes.min() <= sizes.max() <= self.longest_prompt:
                raise UserError(
                    f"a prompt must have 1 to {self.longest_prompt} tokens "
                    f"(family.longest_prompt), got "
                    f"{int(sizes.min() if sizes.min() < 1 else sizes.max())}",
                    "family.longest_prompt",
                )
        return write_rows(self, state.params, batch, jax.random.split(key)[0])

    def shape_collected(self, state: State, batch: Batch) -> Batch:
        """Return the shapes of what ``collect`` returns for a batch, without drawing anything."""

        def mark(batch: dict[str, jax.Array]) -> Batch:
            return batch | {DRAWN: jnp.zeros_like(batch["mask"])}

        return jax.eval_shape(mark, dict(batch))

    def compare_texts(
        self, params: Params, teacher: Params, batch: Batch, key: jax.Array | None = None
    ) -> Metrics:
        found = super().compare_texts(params, teacher, batch, key)
        length = batch["loss_mask"].sum(1)
        return found | {"response_length": Mean.of(length, batch[DRAWN] * batch["mask"])}

    def _count_drawn(self, rows: int) -> int:
        return max(1, round(self.on_policy * rows))


@functools.partial(jax.jit, static_argnums=0)
def write_rows(
    family: OnPolicyDistillation, params: Params, batch: Batch, key: jax.Array
) -> dict[str, jax.Array]:
    """Return a batch whose first rows are prompts, each continued by the student, with ``drawn``
    [B], 1 for those rows.
    """
    count, width = family._count_drawn(len(batch["mask"])), batch["tokens"].shape[1]
    longest = family.longest_prompt
    new_tokens = min(family.new_tokens or width, width - 1)
    new_tokens = min(new_tokens, family.student.net.context + 1 - longest)
    tokens = batch["tokens"][:count]
    if "prefix_mask" in batch:
        prompts, asked = extract_prompts(tokens, batch["prefix_mask"][:count], longest)
    else:
        prompts, asked = tokens[:, :longest], jnp.ones((count, longest), bool)
    known = ends_of(family.codec)
    ends, pad = tuple((end,) for end in known), known[0] if known else family.codec.pad or 0
    drawn = draw_rollout(family.student, params, prompts, asked, new_tokens, key, ends, pad)
    new = jnp.arange(longest + new_tokens)[None] >= longest

    def fit(x: jax.Array) -> jax.Array:
        """Move padding to the end, and cut or fill rows to the width of the batch."""
        moved, real = strip_padding(x, drawn.real)
        filled = jnp.pad(moved * real, ((0, 0), (0, max(0, width - x.shape[1]))))
        return filled[:, :width]

    entries = {
        "tokens": fit(drawn.tokens),
        "loss_mask": fit(jnp.broadcast_to(new, drawn.real.shape)),
    }
    if "prefix_mask" in batch:
        entries["prefix_mask"] = fit(jnp.broadcast_to(~new, drawn.real.shape))
    written = {
        name: jnp.concatenate([x.astype(batch[name].dtype), batch[name][count:]])
        for name, x in entries.items()
    }
    rows = (jnp.arange(len(batch["mask"])) < count).astype(jnp.float32)
    return {**batch, **written, DRAWN: rows}


def check_teacher(student: Component, teacher: Trained, spec: Spec) -> None:
    """Refuse a run that cannot teach the student.

    Raises:
      UserError: it is of another family, or has other data, tokens, labels or a shorter context.
    """

    def refuse(must: str, got: object) -> UserError:
        return UserError(f"teacher must {must}, but {teacher.run_dir} {got}", "teacher")

    kind = Classifier if isinstance(student, Classifier) else Autoregressive
    if not isinstance(teacher.family, kind):
        raise refuse(
            f"be a run of a {kind.__name__}, as the student is",
            f"is a {type(teacher.family).__name__}",
        )
    for name, said in (("vocabulary", "tokens"), ("classes", "labels")):
        own, theirs = getattr(spec, name), getattr(teacher.spec, name)
        if own != theirs and (name == "vocabulary" or kind is Classifier):
            raise refuse(f"have the {own} {said} of the data", f"has {theirs}")
    if kind is Classifier:
        if spec.vocabulary is None:
            teacher.check(spec)
        return
    assert isinstance(teacher.family, Autoregressive)
    if teacher.family.prefix_lm != student.prefix_lm:
        raise refuse(f"have prefix_lm={student.prefix_lm}, as the student has", "has not")
    if spec.shape[0] - 1 > teacher.family.net.context:
        raise refuse(
            f"have a context of {spec.shape[0] - 1} tokens or more",
            f"has {teacher.family.net.context}",
        )


def measure_divergence(log_p: jax.Array, log_q: jax.Array, beta: float) -> jax.Array:
    """Return the divergence [...] of the student's log-probabilities ``log_q`` [..., V] from the
    teacher's ``log_p``, in nats: KL(p | q) for a beta of 0, KL(q | p) for 1, else the generalised
    Jensen-Shannon divergence (arXiv 2306.13649, section 2), which divided by beta, or by 1 - beta,
    goes to them.
    """

    def kl(one: jax.Array, other: jax.Array) -> jax.Array:
        return (jnp.exp(one) * (one - other)).sum(-1)

    if beta == 0:
        return kl(log_p, log_q)
    if beta == 1:
        return kl(log_q, log_p)
    middle = jnp.logaddexp(log_p + jnp.log(beta), log_q + jnp.log1p(-beta))
    return beta * kl(log_p, middle) + (1 - beta) * kl(log_q, middle)


def map_chunks(
    function: Callable[[tuple[jax.Array, ...]], tuple[jax.Array, ...]],
    rows: list[jax.Array],
    size: int,
) -> tuple[jax.Array, ...]:
    """Apply a function of rows [n, ...] to arrays of N rows, ``size`` of them at a time, and again
    for the gradient, so that only their logits are in memory.
    """
    count = len(rows[0])
    if count <= size:
        return function(tuple(rows))
    more = -count % size
    parts = tuple(
        jnp.pad(x, ((0, more), *[(0, 0)] * (x.ndim - 1))).reshape(-1, size, *x.shape[1:])
        for x in rows
    )
    found = jax.lax.map(jax.checkpoint(function), parts)
    return tuple(x.reshape(-1, *x.shape[2:])[:count] for x in found)
