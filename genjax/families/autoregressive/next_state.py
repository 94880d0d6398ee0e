"""A model of successive states, each given all before it; within a state, numbers are independent.

Trained and scored with the true states before each (teacher forcing), as the convolutional baseline
of Video Pixel Networks (Kalchbrenner et al., arXiv 1610.00527).
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.continuing import GIVEN
from genjax.families.likelihoods import Bernoulli, Likelihood
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    apply,
    find_input,
    gradient_step,
    select_modelled,
)
from genjax.nets.transformer.space_time import SpaceTime, split_states
from genjax.optim import Rules


@checks.frozen
class Continuation:
    """Sampling options of a ``NextState``.

    Attributes:
      length: states of a sample, with those given; None for as many as in a training example.
      draw: whether states are drawn from their distribution instead of taking its mean.
    """

    length: int | None = None
    draw: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "length")


@checks.frozen
class NextState(Family):
    """A model of images whose channels are successive states: p(state | those before).

    The ``loss`` is in nats a state, the mean over the states after the ``given`` ones, summed over
    the numbers of a state.

    Attributes:
      net: network with a ``predictor``, such as ``SpaceTime``.
      likelihood: distribution of a state given the network's outputs.
      given: states that are given.
      first: training counts the states from this number on, from 0; the very first ones can hardly
        be predicted.
      sampler: sampling options.
    """

    protocol: ClassVar[str] = "every state given all true ones before it"

    net: Component = SpaceTime()
    likelihood: Likelihood = Bernoulli()
    given: int = 10
    first: int = 1
    sampler: Continuation = Continuation()

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "given")
        checks.at_least(self, 0, "first")
        if self.likelihood.outputs_per_dim != 1:
            raise UserError("likelihood must have one output for each number", "likelihood")

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.entry != "image":
            raise UserError(f"NextState needs images of states, but the data are {spec.entry}")
        self.likelihood.check(spec)
        count = spec.shape[-1] // self.net.channels
        for name in ("given", "first"):
            if getattr(self, name) >= count:
                raise UserError(
                    f"{name} must be < {count}, the states of an example, got "
                    f"{getattr(self, name)}",
                    name,
                )
        x = select_modelled(example)
        params = {"net": self.net.predictor(spec.shape).init(key, x, train=False)["params"]}
        known = {"likelihood": found} if (found := self.likelihood.init()) else {}
        start = self.select_given(x)[0]
        return params | known, {"mean": jnp.asarray(spec.mean), "start": start}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            x = self.likelihood.prepare(key, select_modelled(batch))
            nll = self.nll(params, x, key)[:, self.first :]
            return {"loss": Mean.of(nll.mean(1), batch["mask"])}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        x = self.likelihood.prepare(key, select_modelled(batch))
        nll = self.nll(state.params, x)[:, self.given :]
        return {"loss": Mean.of(nll.mean(1), batch["mask"])}

    def nll(self, params: Params, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return -log p(state | states before) in nats of examples [B, H, W, T C]: [B, T]; a key
        means training.
        """
        outputs = self.predict(params, x, key)
        states, wanted = (split_states(a, self.net.channels) for a in (outputs, x))
        flat = [a.reshape(-1, *a.shape[2:]) for a in (states, wanted)]
        return self.likelihood.nll(params.get("likelihood"), *flat).reshape(states.shape[:2])

    def measure_floor(self, x: jax.Array) -> jax.Array:
        """Return the entropy of the targets [B, H, W, T C] in nats: [B, T]. Targets of a
        ``Bernoulli`` are probabilities, whose entropy a perfect prediction pays.
        """
        p = (split_states(x, self.net.channels) + 1) / 2
        entropy = jax.scipy.special.entr(p) + jax.scipy.special.entr(1 - p)
        return entropy.sum((2, 3, 4))

    def predict(self, params: Params, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the network's outputs [B, H, W, T C], those of a state from the states before it;
        a key means training.
        """
        rngs = {} if key is None else {"dropout": key}
        module = self.net.predictor(x.shape[1:])
        return apply(module, params["net"], x, rngs=rngs, train=key is not None)

    def sample(self, state: State, key: jax.Array, n: int, options: Continuation) -> jax.Array:
        """Continue the given states, or those of the first training example."""
        given = find_input(state, GIVEN)
        if given is None:
            start = state.variables["start"]
            given = jnp.broadcast_to(start, (n, *start.shape))
        length = None if options.length is None else options.length * self.net.channels
        return self.roll_out(state, key, given, options, length)

    def select_given(self, x: jax.Array) -> jax.Array:
        """Return the given part of examples [B, H, W, T C]."""
        return x[..., : self.given * self.net.channels]

    def roll_out(
        self,
        state: State,
        key: jax.Array,
        given: jax.Array,
        options: Continuation,
        length: int | None = None,
    ) -> jax.Array:
        """Continue the given states [B, H, W, M C] to ``length`` channels in all, each predicted
        from those before it: [B, H, W, L C].

        The network sees as many states as in a training example, the latest ones.
        """
        channels = self.net.channels
        known = given.shape[-1] // channels
        seen = state.variables["mean"].shape[-1] // channels
        length = seen if length is None else length // channels
        if length <= known:
            raise UserError(
                f"sampler.length must be > {known} (given), got {length}", "sampler.length"
            )
        missing = max(length, seen) - known
        blank = jnp.full((*given.shape[:-1], missing * channels), -1.0, given.dtype)
        whole = jnp.concatenate([given, blank], -1)

        def step(t: jax.Array, whole: jax.Array) -> jax.Array:
            first = jnp.maximum(t + 1 - seen, 0)
            window = jax.lax.dynamic_slice_in_dim(whole, first * channels, seen * channels, axis=-1)
            outputs = self.predict(state.params, window)
            outputs = jax.lax.dynamic_slice_in_dim(
                outputs, (t - first) * channels, channels, axis=-1
            )
            known = state.params.get("likelihood")
            drawn = (
                self.likelihood.draw(known, jax.random.fold_in(key, t), outputs)
                if options.draw
                else self.likelihood.mean(outputs)
            )
            return jax.lax.dynamic_update_slice_in_dim(whole, drawn, t * channels, axis=-1)

        whole = jax.lax.fori_loop(known, length, step, whole)
        return whole[..., : length * channels]
