"""The interface of a family: its state, its methods, and the gradient step that all families
share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp

from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.vectors import categories, vector
from genjax.data.text.augment import real_mask
from genjax.errors import UserError
from genjax.optim import Rules, UpdateRule

INPUTS = "inputs"  # in State.frozen: inputs that samples are drawn for

Params = Any
Variables = Any  # arrays that a step changes without a gradient, by collection
Batch = Mapping[str, jax.Array]


@runtime_checkable
class Conditional(Protocol):
    """A family that may be conditioned on labels, if ``conditional``."""

    conditional: bool


@runtime_checkable
class TextConditional(Protocol):
    """A family that may be conditioned on text, if ``text`` is not None."""

    text: Component


@runtime_checkable
class HasNet(Protocol):
    """A family of one net, given by its hyper-parameters."""

    net: Component


@runtime_checkable
class Reconstructs(Protocol):
    """A family that encodes an example and decodes it again."""

    reconstruct: Callable[..., jax.Array]


@runtime_checkable
class ScoresPairs(Protocol):
    """A family that scores both responses of a pair."""

    score_pairs: Callable[..., Any]


def is_conditional(family: Component) -> bool:
    """Return whether a family is conditioned on labels."""
    return isinstance(family, Conditional) and family.conditional


class Mean(NamedTuple):
    """A weighted mean stored as a pair, so that microbatches, devices and batches merge by
    addition.
    """

    sum: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array) -> Mean:
        """Take the mean of ``values`` [B] over rows where ``mask`` [B] is 1; other values may be
        any finite number.
        """
        return cls(jnp.sum(values * mask), jnp.sum(mask))

    @property
    def value(self) -> jax.Array:
        return self.sum / self.weight


Metrics = dict[str, Mean]
Loss = Callable[[Params, Any, Batch, jax.Array], tuple[Metrics, Variables]]


class State(flax.struct.PyTreeNode):
    """Everything that training changes; arrays only.

    Attributes:
      step: number of train steps taken, int32.
      params: trained parameters, float32; keyed by part in a family with parts.
      opt_state: an ``OptState``, or one per part.
      variables: arrays that a step changes without a gradient, such as batch statistics and
        codebooks, and constants of the data.
      ema: moving average of ``params``; None for none.
      key: base key; the key of a step is ``fold_in(key, step)``.
      frozen: parameters and variables from other runs, by role; never changed, saved once per run.
        While sampling, also the inputs, see ``with_inputs``.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    variables: Variables
    ema: Params | None
    key: jax.Array
    frozen: Any = None

    @property
    def step_key(self) -> jax.Array:
        return jax.random.fold_in(self.key, self.step)

    def for_eval(self) -> State:
        """Return the state for evaluation and sampling, with averaged parameters if there are
        any.
        """
        return self if self.ema is None else self.replace(params={**self.params, **self.ema})


def init_state(
    params: Params,
    variables: Variables,
    rule: UpdateRule | Mapping[str, UpdateRule],
    key: jax.Array,
) -> State:
    """Build the state at step 0. For a family with parts, ``rule`` is a mapping with the keys of
    ``params``.
    """
    opt_state: Any
    averaged: Any
    if isinstance(rule, Mapping):
        if rule.keys() - params.keys():
            raise UserError(
                f"an optimizer for {' and '.join(rule)}, but this family has no such parts"
            )
        opt_state = {part: r.init(params[part]) for part, r in rule.items()}
        averaged = {part: params[part] for part, r in rule.items() if r.ema is not None} or None
    else:
        opt_state, averaged = rule.init(params), params if rule.ema is not None else None
    copy = jax.tree.map(jnp.copy, averaged)  # a copy, as params and ema are both donated
    return State(jnp.zeros((), jnp.int32), params, opt_state, variables, copy, key)


@dataclass(frozen=True)
class Trained:
    """Another run that a family depends on; its arrays are in ``State.frozen``.

    Attributes:
      run_dir: run directory.
      family: family with its hyper-parameters.
      spec: spec of its training data.
    """

    run_dir: str
    family: Component
    spec: Spec

    def check(self, spec: Spec) -> None:
        """Refuse data of another kind or shape than in training, with a ``UserError``."""
        if (self.spec.entry, tuple(self.spec.shape)) != (spec.entry, tuple(spec.shape)):
            raise UserError(
                f"the run {self.run_dir} was trained on {self.spec.entry} of shape "
                f"{list(self.spec.shape)}, but the data are {spec.entry} of shape "
                f"{list(spec.shape)}"
            )


@dataclass(frozen=True)
class Family:
    """The base class of families: frozen dataclasses of hyper-parameters with pure methods.

    One that depends on other trained runs, or collects on the host before a step, is a
    ``Continued``.

    ``no_samples`` says why a family cannot draw samples and what to do instead, None if it can;
    ``protocol`` says what its metrics depend on besides the data, such as the draws of a bound;
    ``key_numbers`` lists the few metrics shown next to the loss while training.
    """

    no_samples: ClassVar[str | None] = None
    protocol: ClassVar[str] = ""
    key_numbers: ClassVar[tuple[str, ...]] = ()

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        """Initialise parameters and variables, from a batch of one example and the data's spec.

        Raises:
          UserError: the family cannot model such data.
        """
        raise NotImplementedError

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        """Take one step on a batch; return the new state and metrics.

        ``axis`` names the mapped data axis, if the step is mapped over devices.
        """
        raise NotImplementedError

    def eval_state(self, state: State) -> State:
        """Return the state for evaluation and sampling, with averaged parameters if there are
        any.
        """
        return state.for_eval()

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        """Compute the metrics of a held-out batch; ``loss`` is the main one."""
        raise NotImplementedError

    def sample(self, state: State, key: jax.Array, n: int, options: Component) -> jax.Array:
        """Draw ``n`` samples in model space, unless ``no_samples``."""
        raise NotImplementedError

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report signs of collapse: a sentence for each, by the name of its metric.

        Args:
          numbers: metrics of training or of an evaluation; some may be missing, or not finite.
        """
        return {}


Inputs = dict[str, tuple[tuple[int, ...], type]]  # shape of a row and dtype, by name


@runtime_checkable
class TakesInputs(Protocol):
    """A family whose samples can be given inputs: a label, a prompt, a source or a picture."""

    def describe_inputs(self, state: State, options: Component) -> Inputs:
        """Describe the inputs that ``with_inputs`` can give; none if the model is unconditional.

        Tokens are padded with -1 at the end.
        """
        ...


def with_inputs(state: State, given: Mapping[str, jax.Array]) -> State:
    """Return a state whose samples are drawn for these inputs, one row per sample, which override
    the sampling options.
    """
    return state.replace(frozen={**(state.frozen or {}), INPUTS: dict(given)})


def find_input(state: State, name: str) -> jax.Array | None:
    """Return the input of that name that samples are drawn for; None if it was not given."""
    return (state.frozen or {}).get(INPUTS, {}).get(name)


def require_samples(family: Family, who: str = "") -> None:
    """Refuse a family that draws no samples.

    Args:
      who: name of what needs samples, for the message.

    Raises:
      UserError: the message gives the reason, and what to do instead.
    """
    if family.no_samples is not None:
        raise UserError(
            f"{who} needs samples, but {family.no_samples}" if who else family.no_samples
        )


def make_example(spec: Spec) -> dict[str, jax.Array]:
    """Make a batch of one example of zeros."""
    example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in spec.entries.items()}
    return example | {"mask": jnp.ones(1)}


def select_modelled(batch: Batch, variables: Variables = None) -> jax.Array:
    """Return the entry of a batch that an unconditional family models: an image [B, H, W, C], a
    signal [B, T, C] or points [B, D].

    For text it is tokens int32 [B, T] with -1 for padding, as a classifier reads them; for a table,
    rows as vectors [B, D], if the ``variables`` include ``genjax.data.tables.vectors.constants``.
    """
    if "categorical" in batch:
        return vector(batch["numeric"], batch["categorical"], categories(variables or {}))
    if "tokens" in batch:
        return jnp.where(real_mask(batch), batch["tokens"], -1)
    for entry in ("image", "signal"):
        if entry in batch:
            return batch[entry]
    return batch["points"]


def labels(batch: Batch) -> jax.Array:
    """Return the labels [B] of a batch, which must have them."""
    if "label" not in batch:
        raise UserError("this split of the data has no labels")
    return batch["label"]


def conditions(batch: Batch) -> jax.Array:
    """Return the embedded texts [B, D] of a batch, which must have them."""
    if "condition" not in batch:
        raise UserError("this split of the data has no condition (embedded text)")
    return batch["condition"]


def apply(
    net: Component, params: Params, *inputs: jax.Array, variables: Variables = None, **kwargs: Any
) -> Any:
    """Call ``net.apply`` in the dtype of ``params``: float inputs are cast to it, outputs to
    float32.

    ``variables`` are the other collections of the net, such as {"batch_stats": ...}.
    """
    dtype = jnp.result_type(*(p for p in jax.tree.leaves(params) if p.ndim))

    def typed(x: jax.Array) -> jax.Array:
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    outputs = net.apply({"params": params, **(variables or {})}, *map(typed, inputs), **kwargs)
    return jax.tree.map(lambda y: y.astype(jnp.float32), outputs)


def gradient_step(
    loss: Loss,
    optimizer: Rules,
    state: State,
    batch: Batch,
    key: jax.Array,
    part: str | None = None,
    axis: str | None = None,
) -> tuple[State, Metrics]:
    """Make one update of ``state.params``, or of one part of them.

    ``loss(params, variables, batch, key) -> metrics, variables`` returns named ``Mean`` pairs; the
    gradient is that of ``metrics["loss"]``. Sums are added over microbatches and devices and
    divided once by the total weight, so that accumulated or mapped steps equal the full batch
    whatever the masks. An update with a loss or gradient that is not finite changes nothing and
    counts as skipped.

    Args:
      optimizer: an ``UpdateRule``, or a mapping of them by part.
      key: key of this step; microbatches and devices fold in their number.
      axis: mapped axis, whose devices each hold a slice of the batch.

    Returns:
      The state, with unchanged ``step`` (a train step may make several updates), and the metrics,
      with ``grad_norm`` (before clipping), ``learning_rate`` and ``skipped``.
    """
    rule: UpdateRule = optimizer if part is None else optimizer[part]
    params, opt_state, ema = (
        _get_part(tree, part) for tree in (state.params, state.opt_state, state.ema)
    )
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    grads, metrics, variables = _mean_gradients(loss, rule, params, state, batch, key, axis)
    # The scopes are for profiles, see docs/where_time_goes.md.
    with jax.named_scope("check_gradients"):
        norm = rule.measure_norm(rule.mask_frozen(grads, opt_state.updates))
        finite = jnp.isfinite(metrics["loss"].sum) & jnp.isfinite(norm)

    def updated() -> tuple[Params, Any, Any, Any]:
        with jax.named_scope("update_parameters"):
            new_params, new_opt_state = rule.update(grads, norm, opt_state, params)
        if rule.ema is None:
            return new_params, new_opt_state, ema, variables
        with jax.named_scope("update_average"):
            new_ema = _update_ema(ema, new_params, rule.ema, opt_state.updates)
        return new_params, new_opt_state, new_ema, variables

    rate = rule.learning_rate(opt_state.updates)
    # A branch instead of jnp.where, which on a CPU costs a copy of everything.
    params, opt_state, ema, variables = jax.lax.cond(
        finite, updated, lambda: (params, opt_state, ema, state.variables)
    )

    step = {"grad_norm": norm, "learning_rate": rate, "skipped": 1.0 - finite}
    metrics = metrics | {name: Mean(value, jnp.ones(())) for name, value in step.items()}
    state = state.replace(
        params=_set_part(state.params, part, params),
        opt_state=_set_part(state.opt_state, part, opt_state),
        ema=state.ema if rule.ema is None else _set_part(state.ema, part, ema),
        variables=variables,
    )
    return state, metrics


def _mean_gradients(
    loss: Loss,
    rule: UpdateRule,
    params: Params,
    state: State,
    batch: Batch,
    key: jax.Array,
    axis: str | None,
) -> tuple[Any, Metrics, Variables]:
    """Compute gradients of the mean loss over microbatches and devices, summed metrics, and new
    variables.
    """
    whole = rule.accumulate == 1

    def objective(
        params: Params, variables: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        metrics, variables = loss(rule.cast_params(params), variables, batch, key)
        total, weight = metrics["loss"]
        if whole:
            # Dividing here is free; dividing the gradients would be one more pass over them.
            total = total / _clamp_weight(weight if axis is None else jax.lax.psum(weight, axis))
        return total, (metrics, variables)

    grads, metrics, variables = _accumulate_gradients(
        jax.grad(objective, has_aux=True), rule.accumulate, params, state.variables, batch, key
    )
    if axis is not None:
        grads, metrics = jax.lax.psum((grads, metrics), axis)
        variables = jax.tree.map(lambda v: _average_devices(v, axis), variables)
    if not whole:
        grads = jax.tree.map(lambda g: g / _clamp_weight(metrics["loss"].weight), grads)
    return grads, metrics, variables


def _accumulate_gradients(
    gradient: Callable[..., Any],
    pieces: int,
    params: Params,
    variables: Variables,
    batch: Batch,
    key: jax.Array,
) -> tuple[Any, Metrics, Any]:
    """Sum gradients and metrics over ``pieces`` microbatches, one at a time."""
    if pieces == 1:
        grads, (metrics, variables) = gradient(params, variables, batch, key)
        return grads, metrics, variables

    def split(x: jax.Array) -> jax.Array:
        # Row i goes to microbatch i % pieces, so that a sharded batch does not move.
        return jnp.moveaxis(x.reshape(-1, pieces, *x.shape[1:]), 1, 0)

    def one(carry: Any, piece: Any) -> tuple[Any, None]:
        grads, metrics, variables = carry
        microbatch, number = piece
        more, (added, variables) = gradient(
            params, variables, microbatch, jax.random.fold_in(key, number)
        )
        return (*jax.tree.map(jnp.add, (grads, metrics), (more, added)), variables), None

    microbatches = jax.tree.map(split, dict(batch))
    first = jax.tree.map(lambda x: x[0], microbatches)
    shapes = jax.eval_shape(gradient, params, variables, first, key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[1][0]))
    carry, _ = jax.lax.scan(one, (*zeros, variables), (microbatches, jnp.arange(pieces)))
    return carry


def _clamp_weight(weight: jax.Array) -> jax.Array:
    """Avoid division by 0: a batch of only masked rows gets gradient 0 instead of NaN."""
    return jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)


def _update_ema(ema: Params, params: Params, decay: float, updates: jax.Array) -> Params:
    # The decay warms up, so that the random start is soon forgotten.
    warm = jnp.minimum(decay, (1 + updates) / (10 + updates))
    return jax.tree.map(lambda e, p: e + (1 - warm) * (p - e), ema, params)


def _average_devices(variable: jax.Array, axis: str) -> jax.Array:
    floating = jnp.issubdtype(variable.dtype, jnp.floating)
    return jax.lax.pmean(variable, axis) if floating else variable


def _get_part(tree: Any, part: str | None) -> Any:
    return tree if part is None or tree is None else tree.get(part)


def _set_part(tree: Any, part: str | None, value: Any) -> Any:
    return value if part is None else tree | {part: value}
