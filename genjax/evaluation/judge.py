"""How a trained family is judged: its own metrics on a held-out split, and evaluators listed
in the config.
"""

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
from genjax.evaluation.drawn import Drawn, Part
from genjax.evaluation.outliers import Each, describe_outliers, evaluate_each, gather_each
from genjax.experiment import Experiment
from genjax.family import Batch, Family, Metrics, State, require_samples
from genjax.parallel import Layout
from genjax.samplers.options import decode_samples, encode_options

# Numbers folded into the base key where others fold in a step; no run comes that far.
EVALUATION, SAMPLES, EVALUATORS = 2**32 - 1, 2**32 - 2, 2**32 - 3

T = TypeVar("T")
SHARED = "samples"  # what is shared under this name and a count, see ``Subject.draw_samples``
CHUNK = (
    256  # samples that are drawn at once; a conditional sampler starts over with label 0 in each
)


@dataclass(frozen=True)
class Model:
    """A trained family.

    Attributes:
      family: with its hyper-parameters.
      state: for evaluation, the averaged parameters swapped in.
      spec: of the data that it learned.
      codec: from model space to what a person opens.
      origin: in words: run, step, averaged or not, seed.
    """

    family: Component
    state: State
    spec: Spec
    codec: Codec
    origin: str


@dataclass(frozen=True)
class Subject:
    """What an evaluator looks at.

    Attributes:
      model: the one that is judged.
      splits: of the data, by name.
      split: the one that the model is judged on, mostly a held-out one.
      key: for what is drawn.
      layout: the devices; results are on every process.
      batch_size: examples at once.
      others: the runs that evaluators requested, by run directory.
      made: what evaluators share, see ``compute_once``.
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
        """What ``make`` gives, made for the first evaluator that asks and kept for the others,
        such as features.
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
        """``function(family, state, batch, key, *static)`` over a split, or ``limit`` examples
        evenly spaced over it; by default the judged one. Every example counts once.
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
        """What ``function(family, state, batch, key, *static)`` gives for each example, arrays [N,
        ...].

        Of the judged split and all examples by default, else of ``limit`` evenly spaced; all of
        them are kept on the host.
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
        """Return a split, or ``limit`` examples evenly spaced over it, as it may be sorted by
        class.
        """
        chosen = self.splits[split or self.split]
        size = len(chosen)
        count = size if limit is None else min(limit, size)
        return Part(chosen, np.arange(count) * size // count)

    def take_examples(self, num: int, split: str | None = None) -> dict[str, np.ndarray]:
        """``num`` examples evenly spaced over a split, fewer where there are fewer."""
        part = self.select_part(num, split)
        return part.batch(np.arange(len(part)))

    def draw_samples(self, n: int) -> np.ndarray:
        """``n`` samples in model space, drawn as the family's sampler says; the same for every
        evaluator.
        """
        family = self.model.family
        require_samples(family)
        return self.compute_once((SHARED, n), lambda: self.draw_samples_with(family.sampler, n))

    def list_draws(self) -> list[np.ndarray]:
        """What ``draw_samples`` has drawn so far."""
        names = [name for name in self.made if isinstance(name, tuple) and name[0] == SHARED]
        return [self.made[name] for name in names]

    def draw_samples_with(self, options: Component, n: int) -> np.ndarray:
        """``n`` samples in model space by another sampler of the family's, from the same
        noise; they are not kept.
        """
        family, codec = self.model.family, self.model.codec
        checks.check_size(4.0 * n * math.prod(self.model.spec.shape), f"{n:,} samples", "samples")
        options = encode_options(options, codec)
        return decode_samples(
            draw_samples(self.layout, family, self.model.state, self.key, n, options),
            options,
            codec,
        )


@dataclass(frozen=True)
class Findings:
    """What an evaluator found.

    Attributes:
      numbers: by name.
      pictures: uint8 [H, W, C], by name.
      protocol: of the numbers: features, resizing, how many samples, which split. Step, averaging
        and seed are added.
      remarks: sentences for the reader, such as advice where a number is bad.
      drawn: samples that were scored one by one.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    protocol: str = ""
    remarks: tuple[str, ...] = ()
    drawn: Drawn | None = None


@dataclass(frozen=True)
class Report:
    """The findings of all evaluators together.

    Attributes:
      numbers: by name.
      pictures: uint8 [H, W, C], by name.
      protocols: one for each number.
      remarks: sentences for the reader.
      cautions: numbers that say more of the measurement than of the model.
      data: the set that was judged on, in words; "" for the one that the run was trained on.
      fingerprint: of that set.
      drawn: the samples that evaluators looked at.
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
    """Judges a model. Evaluators are in ``Experiment.evaluators``.

    Attributes:
      while_training: judge at ``every.evaluate``, too; otherwise ``genjax evaluate`` alone does.

    ``judges`` names the families that it can look at, ``images_only`` whether the data must be
    images.
    """

    judges: ClassVar[tuple[type, ...]] = (Family,)
    images_only: ClassVar[bool] = False

    while_training: bool = dataclasses.field(default=True, kw_only=True)

    @property
    def runs(self) -> tuple[str, ...]:
        """Directories of the runs it needs besides the judged one."""
        return ()

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        """Refuse what it cannot judge, before the first step.

        Args:
          others: the runs that are loaded, by run directory; those that no evaluator needs while
            training are not.

        Raises:
          UserError: another family, other data or another run than it is made for.
        """
        if not isinstance(family, self.judges):
            known = " or ".join(kind.__name__ for kind in self.judges)
            raise UserError(
                f"{type(self).__name__} judges a {known}, not a {type(family).__name__}"
            )
        if self.images_only and spec.entry != "image":
            raise UserError(f"{type(self).__name__} needs images, but the data are {spec.entry}")

    def __call__(self, subject: Subject) -> Findings:
        raise NotImplementedError

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        """Sentences about numbers that suggest that something is wrong with the measurement, such
        as a score that no model reaches.

        Args:
          numbers: those that it has found, all of them finite.
        """
        return ()


def make_model(
    experiment: Experiment, state: State, spec: Spec, codec: Codec, prefix: str = ""
) -> Model:
    """Return a state as evaluators see it."""
    averaged = "averaged (EMA) parameters" if state.ema is not None else "parameters"
    origin = f"{prefix}step {int(state.step)}, {averaged}, seed {experiment.seed}"
    family = wrap_family(experiment.family)
    return Model(family.wrapped, family.eval_state(state), spec, codec, origin)


@dataclass(frozen=True)
class Judge:
    """Judges states of one experiment on a split, with the same draws at every step and in every
    process.

    Attributes:
      experiment: whose states.
      layout: the devices.
      data: opened.
      evaluators: those of the experiment's that are asked.
      others: the runs that these need.
      compiled: the family's own ``evaluate``, and what each example adds to its loss.
      title: of data that are not the experiment's, for protocols.
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
          UserError: one of the experiment's evaluators cannot look at this family or these data.
        """
        family = wrap_family(experiment.family).evaluated_as
        for evaluator in experiment.evaluators:
            evaluator.check(family, data.spec, others)
        compiled = layout.compile_evaluation(evaluate_each(family.evaluate))
        return cls(experiment, layout, data, evaluators, others, compiled)

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
    """Return the family's metrics over one whole split, every example once; padded rows weigh
    nothing.

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
    """Return the family's own metrics over a split with remarks on them, and the findings of all
    evaluators.

    Where two evaluators give one name, as two of a class do, the later one's is numbered.
    """
    whole = f"whole {subject.split} split, {len(subject.splits[subject.split]):,} examples"
    own = "; ".join(part for part in (subject.model.family.protocol, whole) if part)
    numbers: dict[str, float] = {}
    pictures: dict[str, np.ndarray] = {}
    protocols: dict[str, str] = {}
    said: list[str] = []
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
        said.extend(found.remarks)
        doubts.extend(doubt_numbers(found.numbers, cautions))
        drawn += [] if found.drawn is None else [found.drawn]
    scored = {len(one.samples) for one in drawn if one.samples is not None}
    drawn += [Drawn(draws) for draws in subject.list_draws() if len(draws) not in scored]
    return Report(numbers, pictures, protocols, tuple(said), tuple(doubts), drawn=tuple(drawn))


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, or ``name_2`` and so on where it is taken."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


def default_split(splits: Mapping[str, Split]) -> str:
    """Return the split that a run is watched on: "validation" where one is held out, else "test".

    Raises:
      UserError: there is neither.
    """
    for name in ("validation", "test"):
        if name in splits:
            return name
    raise UserError(
        f"the data have nothing held out to evaluate on, only {', '.join(splits)}; see "
        "every.evaluate"
    )


def draw_samples(
    layout: Layout,
    family: Family,
    state: State,
    key: jax.Array,
    n: int,
    options: Component,
    chunk: int = CHUNK,
) -> np.ndarray:
    """``n`` samples in model space, in chunks of one compiled size, so that any number fits in
    memory.
    """
    draw = layout.compile_evaluation(type(family).sample, static_argnums=(0, 3, 4))
    return map_chunks(lambda key, size: draw(family, state, key, size, options), key, n, chunk)


def map_chunks(
    draw: Callable[[jax.Array, int], Any], key: jax.Array, n: int, chunk: int = CHUNK
) -> np.ndarray:
    """``n`` samples by ``draw(key, size)``, of one size always, so that any number fits in
    memory.
    """
    size = min(n, chunk)
    # Each chunk leaves the device before the next is drawn.
    chunks = [np.asarray(draw(jax.random.fold_in(key, i), size)) for i in range(-(-n // size))]
    return np.concatenate(chunks)[:n]


def cycle_labels(count: int, classes: int) -> np.ndarray:
    """Return the label [N] that each of ``draw_samples``'s first ``count`` was requested by a
    conditional sampler of all in turn.

    Of more than ``CHUNK`` classes the last are never requested.
    """
    return np.arange(count) % CHUNK % classes
