"""Evaluates a trained family: its own metrics on a held-out split, and the config's evaluators."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.continued import wrap_family
from genjax.data.dataset import Codec, Dataset, Spec, Split
from genjax.data.stream import pad_batches
from genjax.errors import UserError
from genjax.evaluation.cautions import doubt_metrics, doubt_numbers
from genjax.evaluation.drawing import draw_finished
from genjax.evaluation.drawn import Drawn
from genjax.evaluation.outliers import Each, describe_outliers, evaluate_each, gather_each
from genjax.experiment import Experiment
from genjax.family import Batch, Family, Metrics, State, require_samples
from genjax.parallel import Layout
from genjax.samplers.options import encode_options

# Folded into the base key in place of a step number; no run has that many steps.
EVALUATION, SAMPLES, EVALUATORS = 2**32 - 1, 2**32 - 2, 2**32 - 3

T = TypeVar("T")
SHARED = "samples"  # what is shared under this name and a count, see ``Subject.draw_samples``


@dataclass(frozen=True)
class Model:
    """A trained family.

    Attributes:
      family: family with its hyper-parameters.
      state: state for evaluation, with the averaged parameters if there are any.
      spec: spec of its training data.
      codec: codec from model space to pictures, texts, ...
      origin: description: run, step, averaged or not, seed.
    """

    family: Component
    state: State
    spec: Spec
    codec: Codec
    origin: str


@dataclass(frozen=True)
class Part:
    """Some examples of a split, as a split.

    Attributes:
      whole: the split.
      rows: row numbers in it, [N].
    """

    whole: Split
    rows: np.ndarray

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return self.whole.batch(self.rows[indices])


@dataclass(frozen=True)
class Subject:
    """What an evaluator gets: a model, its data, and caches.

    Attributes:
      model: model to evaluate.
      splits: splits of the data, by name.
      split: name of the split to evaluate on, usually a held-out one.
      key: random key.
      layout: devices; results are on every process.
      batch_size: examples per batch.
      others: other runs that evaluators need, by run directory.
      made: results that evaluators share, see ``compute_once``.
    """

    model: Model
    splits: Mapping[str, Split]
    split: str
    key: jax.Array
    layout: Layout
    batch_size: int
    others: Mapping[str, Model] = field(default_factory=dict)
    made: dict[Any, Any] = field(default_factory=dict)

    def compute_once(self, name: Any, make: Callable[[], T]) -> T:
        """Return the result of ``make``, computed once and shared by all evaluators, such as
        features.
        """
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def compute_metrics(
        self,
        function: Callable[..., Metrics],
        *static: Any,
        split: str | None = None,
        limit: int | None = None,
    ) -> dict[str, float]:
        """Compute ``function(family, state, batch, key, *static)`` over a split, by default the
        evaluated one, or ``limit`` evenly spaced examples of it. Every example counts once.
        """
        numbers = (0, *range(4, 4 + len(static)))
        compiled = self.layout.compile_evaluation(function, static_argnums=numbers)

        def evaluate(state: State, batch: Batch, key: jax.Array) -> Metrics:
            return compiled(self.model.family, state, batch, key, *static)

        chosen = self.select_part(limit, split)
        return evaluate_split(
            self.layout, evaluate, self.model.state, chosen, self.batch_size, self.key
        )

    def collect(
        self,
        function: Callable[..., Any],
        *static: Any,
        split: str | None = None,
        limit: int | None = None,
    ) -> Any:
        """Collect the results of ``function(family, state, batch, key, *static)`` for each example,
        arrays [N, ...].

        By default over the whole evaluated split, else over ``limit`` evenly spaced examples; all
        are kept on the host.
        """
        compiled = self.layout.compile_evaluation(
            function, static_argnums=(0, *range(4, 4 + len(static)))
        )
        chosen = self.select_part(limit, split)
        batches = pad_batches(chosen, self.batch_size, self.layout.select_rows(self.batch_size))
        parts = [
            jax.device_get(
                compiled(
                    self.model.family,
                    self.model.state,
                    self.layout.place(batch),
                    jax.random.fold_in(self.key, number),
                    *static,
                )
            )
            for number, batch in enumerate(batches)
        ]
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(chosen)], *parts)

    def select_part(self, limit: int | None = None, split: str | None = None) -> Part:
        """Return a split, or ``limit`` examples evenly spaced over it, in case it is sorted by
        class.
        """
        chosen = self.splits[split or self.split]
        size = len(chosen)
        count = size if limit is None else min(limit, size)
        return Part(chosen, np.arange(count) * size // count)

    def take_examples(self, num: int, split: str | None = None) -> dict[str, np.ndarray]:
        """Return ``num`` examples evenly spaced over a split, or all if there are fewer."""
        part = self.select_part(num, split)
        return part.batch(np.arange(len(part)))

    def draw_samples(self, n: int) -> np.ndarray:
        """Draw ``n`` samples in model space with the family's sampling options; the same for every
        evaluator.
        """
        family = self.model.family
        require_samples(family)
        return self.compute_once((SHARED, n), lambda: self.draw_samples_with(family.sampler, n))

    def list_draws(self) -> list[np.ndarray]:
        """Return the samples that ``draw_samples`` has drawn so far, [N, ...] for each N."""
        names = [name for name in self.made if isinstance(name, tuple) and name[0] == SHARED]
        return [self.made[name] for name in names]

    def draw_samples_with(self, options: Component, n: int) -> np.ndarray:
        """Draw ``n`` samples in model space with other sampling options, from the same noise; they
        are not cached.
        """
        family, codec = self.model.family, self.model.codec
        checks.check_size(4.0 * n * math.prod(self.model.spec.shape), f"{n:,} samples", "samples")
        options = encode_options(options, codec)
        return draw_finished(
            self.layout, family, self.model.state, self.key, n, options, codec, strict=False
        )


@dataclass(frozen=True)
class Findings:
    """The results of an evaluator.

    Attributes:
      numbers: results by name.
      pictures: uint8 [H, W, C] by name.
      protocol: how the numbers were computed: features, resizing, number of samples, split; step,
          averaging and seed are added.
      remarks: sentences for the reader, such as advice if a number is bad.
      drawn: samples that were scored one by one.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    protocol: str = ""
    remarks: tuple[str, ...] = ()
    drawn: Drawn | None = None


@dataclass(frozen=True)
class Report:
    """The combined results of all evaluators.

    Attributes:
      numbers: results by name.
      pictures: uint8 [H, W, C] by name.
      protocols: protocol of each number.
      remarks: sentences for the reader.
      cautions: warnings about numbers that say more about the measurement than about the model.
      data: name of the evaluated data set; "" for the one that the run was trained on.
      fingerprint: fingerprint of that set.
      drawn: samples that evaluators looked at.
    """

    numbers: Mapping[str, float]
    pictures: Mapping[str, np.ndarray]
    protocols: Mapping[str, str]
    remarks: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    data: str = ""
    fingerprint: str = ""
    drawn: tuple[Drawn, ...] = ()


@checks.frozen
class Evaluator:
    """The base class of evaluators, which are listed in ``Experiment.evaluators``.

    Attributes:
      while_training: whether it runs at ``every.evaluate``; if not, only ``genjax evaluate`` runs
          it.

    ``judges`` lists the families it can evaluate; ``images_only`` says whether the data must be
    images.
    """

    judges: ClassVar[tuple[type, ...]] = (Family,)
    images_only: ClassVar[bool] = False

    while_training: bool = dataclasses.field(default=True, kw_only=True)

    @property
    def runs(self) -> tuple[str, ...]:
        """Directories of the other runs it needs."""
        return ()

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        """Refuse a family or data that it cannot evaluate, before the first step.

        Args:
          others: loaded runs, by run directory; while training, only those needed then.

        Raises:
          UserError: the family, the data or another run does not fit.
        """
        if not isinstance(family, self.judges):
            known = " or ".join(kind.__name__ for kind in self.judges)
            raise UserError(f"{type(self).__name__} needs a {known}, got a {type(family).__name__}")
        if self.images_only and spec.entry != "image":
            raise UserError(f"{type(self).__name__} needs images, but the data are {spec.entry}")

    def __call__(self, subject: Subject) -> Findings:
        raise NotImplementedError

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        """Return warnings about numbers that suggest a faulty measurement, such as a score that no
        model reaches.

        Args:
          numbers: the evaluator's finite numbers, by name.
        """
        return ()


def make_model(
    experiment: Experiment, state: State, spec: Spec, codec: Codec, prefix: str = ""
) -> Model:
    """Build the model that evaluators see from a state."""
    averaged = "averaged (EMA) parameters" if state.ema is not None else "parameters"
    origin = f"{prefix}step {int(state.step)}, {averaged}, seed {experiment.seed}"
    family = wrap_family(experiment.family)
    return Model(family.wrapped, family.eval_state(state), spec, codec, origin)


@dataclass(frozen=True)
class Judge:
    """Evaluates states of one experiment, with the same random draws at every step and in every
    process.

    Attributes:
      experiment: experiment of the states.
      layout: devices.
      data: opened data.
      evaluators: evaluators to run, of the experiment's.
      others: other runs that these need.
      compiled: compiled ``evaluate`` of the family, with the contribution of each example to the
          loss.
      title: title of the data, for protocols, if they are not the experiment's.
    """

    experiment: Experiment
    layout: Layout
    data: Dataset
    evaluators: tuple[Evaluator, ...]
    others: Mapping[str, Model]
    compiled: Any
    title: str = ""

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        layout: Layout,
        data: Dataset,
        evaluators: tuple[Evaluator, ...],
        others: Mapping[str, Model],
    ) -> Judge:
        """Check the evaluators and compile the family's own metrics.

        Raises:
          UserError: one of the experiment's evaluators does not fit the family or the data.
        """
        family = wrap_family(experiment.family).evaluated_as
        for evaluator in experiment.evaluators:
            evaluator.check(family, data.spec, others)
        compiled = layout.compile_evaluation(evaluate_each(family.evaluate))
        return cls(experiment, layout, data, evaluators, others, compiled)

    def lower(self, state: State, key: jax.Array) -> Any:
        """Trace the family's own metrics for a batch, for ``Ahead``.

        Args:
          state: shapes, types and places of the arrays of a state in training.
          key: random key of a batch.
        """
        state = self.layout.eval_shapes(wrap_family(self.experiment.family).eval_state, state)
        batch = self.layout.shape_batch(self.data.spec.entries, self.experiment.batch_size)
        return self.compiled.lower(state, batch, key)

    def __call__(self, state: State, split: str) -> Report:
        spec, codec = self.data.spec, self.data.codec
        judged = make_model(self.experiment, state, spec, codec, self.title and f"{self.title}; ")
        judged = dataclasses.replace(
            judged, family=wrap_family(self.experiment.family).evaluated_as
        )
        size, chosen = self.experiment.batch_size, self.data.splits[split]
        key = jax.random.fold_in(state.key, EVALUATION)
        found: list[Each] = []

        def evaluate(state: State, batch: Batch, key: jax.Array) -> Metrics:
            metrics, each = self.compiled(state, batch, key)
            found.append(each)
            return metrics

        metrics = evaluate_split(self.layout, evaluate, judged.state, chosen, size, key)
        remarks = describe_outliers(*gather_each(found, len(chosen)), split)
        key = jax.random.fold_in(state.key, EVALUATORS)
        subject = Subject(judged, self.data.splits, split, key, self.layout, size, self.others)
        return judge(subject, self.evaluators, metrics, remarks)


def evaluate_split(
    layout: Layout,
    evaluate: Any,
    state: State,
    split: Split,
    batch_size: int,
    key: jax.Array,
) -> dict[str, float]:
    """Compute the family's metrics over a whole split, every example once; padding rows do not
    count.

    ``evaluate`` is ``layout.compile_evaluation(family.evaluate)``.
    """
    total: Metrics | None = None
    for number, batch in enumerate(pad_batches(split, batch_size, layout.select_rows(batch_size))):
        metrics = evaluate(state, layout.place(batch), jax.random.fold_in(key, number))
        total = metrics if total is None else jax.tree.map(lambda a, b: a + b, total, metrics)
    assert total is not None, "a split has at least one example"
    return {name: float(mean.value) for name, mean in jax.device_get(total).items()}


def judge(
    subject: Subject,
    evaluators: Sequence[Evaluator],
    metrics: Mapping[str, float],
    remarks: tuple[str, ...] = (),
) -> Report:
    """Run the evaluators, and combine their results with the family's own metrics and remarks.

    If two evaluators use the same name, as two of one class do, the later one's is numbered.
    """
    whole = f"whole {subject.split} split, {len(subject.splits[subject.split]):,} examples"
    own = "; ".join(part for part in (subject.model.family.protocol, whole) if part)
    numbers: dict[str, float] = {}
    pictures: dict[str, np.ndarray] = {}
    protocols: dict[str, str] = {}
    notes: list[str] = []
    doubts: list[str] = []
    drawn: list[Drawn] = []
    for cautions, found in (
        (doubt_metrics, Findings(metrics, protocol=own, remarks=remarks)),
        *((evaluator.cautions, evaluator(subject)) for evaluator in evaluators),
    ):
        protocol = "; ".join(part for part in (found.protocol, subject.model.origin) if part)
        for name, value in found.numbers.items():
            free = _free(name, numbers)
            numbers[free], protocols[free] = value, protocol
        for name, picture in found.pictures.items():
            pictures[_free(name, pictures)] = picture
        notes.extend(found.remarks)
        doubts.extend(doubt_numbers(found.numbers, cautions))
        drawn += [] if found.drawn is None else [found.drawn]
    scored = {len(one.samples) for one in drawn if one.samples is not None}
    drawn += [Drawn(draws) for draws in subject.list_draws() if len(draws) not in scored]
    return Report(numbers, pictures, protocols, tuple(notes), tuple(doubts), drawn=tuple(drawn))


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return ``name``, or ``name_2`` and so on if it is taken."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


def default_split(splits: Mapping[str, Split]) -> str:
    """Return the split that training evaluates on: "validation" if there is one, else "test".

    Raises:
      UserError: there is neither.
    """
    for name in ("validation", "test"):
        if name in splits:
            return name
    raise UserError(
        f"every.evaluate needs a validation or test split, but the data have only "
        f"{', '.join(splits)}",
        "every.evaluate",
    )
