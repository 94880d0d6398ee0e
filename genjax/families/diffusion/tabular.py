"""TabDDPM: a diffusion over the mixed columns of a table (Kotelnikov et al., arXiv 2209.15421).

Numbers diffuse by Gaussian noise, the categories of each column by multinomial noise (Hoogeboom et
al., arXiv 2102.05379); one network sees them all and denoises them together. The columns of
``Spec.conditions``, the class of a row, are never noised: the network learns the rows given them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.vectors import blocks, categories, constants, vector
from genjax.errors import UserError
from genjax.families.diffusion import multinomial
from genjax.families.diffusion.rows import DrawRows, RowSampling
from genjax.family import (
    Batch,
    Family,
    Inputs,
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
from genjax.nets.denoiser import Denoiser
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Rules
from genjax.samplers.diffusion.ancestral import posterior_variance, renoise
from genjax.samplers.diffusion.processes import Parametrization, Process, Target, VPCosine
from genjax.samplers.diffusion.steps import Step, walk

Rows = tuple[jax.Array, tuple[jax.Array, ...]]  # numbers [B, Kn], and shares [B, C] of each column


@checks.frozen
class TabularDiffusion(Family):
    """A diffusion over rows of a table, given their class.

    ``loss`` is the sum of ``gaussian``, the mean squared error of the network's target over the
    numbers, and ``multinomial``, a bound on -log p of the categories in nats, as a mean over their
    columns; its terms are drawn, one timestep for each row.

    Attributes:
      net: network of the rows as vectors, such as ``ResidualMLP``.
      process: process of the numbers; a category is kept with probability alpha^2.
      steps: timesteps T; the times are 1 / T to 1.
      target: what the network predicts of numbers; of categories it predicts the logits.
      width: width of the vector that embeds the time.
      conditional: whether rows are learned given their class, ``Spec.conditions``; a table without
        one is learned without.
      sampler: sampling options.
    """

    net: Component = ResidualMLP(256, 3, 512)
    process: Component = VPCosine()
    steps: int = 100
    target: Target = "v"
    width: int = 128
    conditional: bool = True
    sampler: RowSampling = RowSampling()

    key_numbers = ("gaussian", "multinomial")
    protocol = "a timestep and noise for each row"

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "steps", "width")
        self.make_parametrization()

    def make_parametrization(self) -> Parametrization:
        """Return what the network predicts of the numbers."""
        return Parametrization(self.process, self.target)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.categories is None:
            raise UserError(f"TabularDiffusion is for tables, but the data are {spec.entry}")
        variables: dict[str, Any] = dict(constants(spec))
        given = np.zeros(len(spec.categories), bool)
        given[list(spec.conditions) if self.conditional else []] = True
        variables["given"] = jnp.asarray(given)
        if given.all():
            raise UserError("the table needs columns other than those that rows are given")
        x = select_modelled(example, variables)
        params = self._module(x.shape[1:]).init(key, x, jnp.zeros(1), train=False)["params"]
        return params, variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            return self.compute_metrics(params, variables, batch, key), variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self.compute_metrics(state.params, state.variables, batch, key)

    def compute_metrics(
        self, params: Params, variables: Variables, batch: Batch, key: jax.Array
    ) -> Metrics:
        """Compute the ``loss`` of a batch and its two terms, at one timestep for each row."""
        numbers, shares = blocks(select_modelled(batch, variables), categories(variables))
        given, rows = variables["given"], len(numbers)
        time_key, noise_key, key = jax.random.split(key, 3)
        # One in each of B-th of 1 .. T, so that the loss varies less.
        share = (jnp.arange(rows) + jax.random.uniform(time_key)) / rows
        number = 1 + jnp.floor(self.steps * share % self.steps).astype(jnp.int32)  # [B]
        number = jax.random.permutation(jax.random.fold_in(time_key, 1), number)
        noise = jax.random.normal(noise_key, numbers.shape)
        kept, kept_before = self.share_kept(number), self.share_kept(number - 1)
        drawn = multinomial.draw(key, [multinomial.diffuse(x0, kept) for x0 in shares])
        noisy = tuple(
            jnp.where(held, x0, x_t) for held, x0, x_t in zip(given, shares, drawn, strict=True)
        )
        t = number / self.steps
        alpha, sigma = self.process.alpha_sigma(t[:, None])
        held = given[None, : numbers.shape[1]]  # columns of numbers are the first ones
        x = jnp.where(held, numbers, alpha * numbers + sigma * noise)
        output, predicted = self.predict(params, (x, noisy), t)
        aim = self.make_parametrization().value(numbers, noise, t)
        # A missing number has no value to be right about.
        known = [shares[i][:, :1] for i in range(numbers.shape[1])]
        weight = jnp.concatenate([*known, jnp.zeros((rows, 0))], 1) * ~held
        error = (weight * jnp.square(output - aim)).sum(1) / jnp.maximum(weight.sum(1), 1)
        nats = [
            multinomial.kl(
                multinomial.posterior(x_t, x0, kept, kept_before),
                multinomial.posterior(x_t, guess, kept, kept_before),
            )
            for x_t, x0, guess in zip(noisy, shares, predicted, strict=True)
        ]  # [B] each
        of_columns = self.count_modelled(variables)
        bound = self.steps * sum(jnp.where(g, 0, n) for g, n in zip(given, nats, strict=True))
        terms = {"gaussian": error, "multinomial": bound / of_columns}
        terms["loss"] = terms["gaussian"] + terms["multinomial"]
        return {name: Mean.of(value, batch["mask"]) for name, value in terms.items()}

    def count_modelled(self, variables: Variables) -> jax.Array:
        """Return the number [] of columns of categories, not given, with at least two values."""
        several = jnp.asarray([size > 1 for size in categories(variables)])
        return jnp.maximum((several & ~variables["given"]).sum(), 1)

    def share_kept(self, number: jax.Array) -> jax.Array:
        """Return the share [...] of categories kept after this many timesteps; 1 after none."""
        alpha, _ = self.process.alpha_sigma(number / self.steps)
        return jnp.where(number == 0, 1.0, jnp.square(alpha))

    def predict(self, params: Params, x: Rows, t: jax.Array) -> Rows:
        """Return the network's target for numbers [B, Kn], and shares [B, C] of each column, from
        noisy rows at times t [B].
        """
        numbers, shares = x
        joined = jnp.concatenate([numbers, *shares], -1)
        output = apply(self._module(joined.shape[1:]), params, joined, t, train=False)
        of_numbers, logits = blocks(output, [share.shape[-1] for share in shares])
        return of_numbers, tuple(jax.nn.softmax(each, -1) for each in logits)

    def estimate(self, params: Params, x: Rows, t: jax.Array) -> Rows:
        """Return the estimate of the clean rows, numbers and shares, from noisy ones at time t
        [].
        """
        times = jnp.full(len(x[0]), t)
        output, shares = self.predict(params, x, times)
        return self.make_parametrization().x0(output, x[0], times), shares

    def sample(self, state: State, key: jax.Array, n: int, options: DrawRows) -> jax.Array:
        """Draw rows [n, D]; those of ``with_inputs`` keep their known cells."""
        sizes = categories(state.variables)
        numbers = self._count_numbers(state)
        start, way, classes = jax.random.split(key, 3)
        noise = jax.random.normal(start, (n, numbers))
        _, sigma = self.process.alpha_sigma(jnp.ones(()))
        uniform = multinomial.draw(
            jax.random.fold_in(start, 1), [jnp.full((n, size), 1 / size) for size in sizes]
        )
        known, clean = self._find_known(state, classes, n, numbers, options)
        x = walk_rows(
            lambda x, t: self.estimate(state.params, x, t),
            self.process,
            options.steps,
            (sigma * noise, uniform),
            (known, clean),
            state.variables["given"],
            way,
            options.resample if find_input(state, "known") is not None or options.fixed else 1,
        )
        return jnp.concatenate([x[0], *x[1]], -1)

    def describe_inputs(self, state: State, options: DrawRows) -> Inputs:
        columns = len(categories(state.variables))
        return {
            "numeric": ((self._count_numbers(state),), np.float32),
            "categorical": ((columns,), np.int32),
            "known": ((columns,), np.float32),
        }

    def _count_numbers(self, state: State) -> int:
        """Return the number of ``numeric`` columns, from the shape of the network's output."""
        width = state.params["net"]["output"]["bias"].shape[0]
        return int(width - sum(categories(state.variables)))

    def _find_known(
        self, state: State, key: jax.Array, n: int, numbers: int, options: DrawRows
    ) -> tuple[jax.Array, Rows]:
        """Return which columns [n, K] are known before drawing, and rows with their values.

        Columns that rows are given and that no input has are drawn from the training rows' shares,
        of the values that the options allow.
        """
        variables = state.variables
        sizes, shares = categories(variables), variables["shares"]
        allowed = dict(options.allowed)
        wanted = []
        for place, size in enumerate(sizes):
            share = shares[place]
            if place in allowed:
                mask = np.zeros(size, np.float32)
                mask[list(allowed[place])] = 1
                share = share * mask
            wanted.append(jnp.broadcast_to((share / share.sum())[None], (n, size)))
        drawn = list(multinomial.draw(key, wanted))
        known = jnp.broadcast_to(variables["given"][None], (n, len(sizes)))
        clean = jnp.zeros((n, numbers))
        for place, value, number in options.fixed:
            known = known.at[:, place].set(True)
            drawn[place] = jnp.zeros_like(drawn[place]).at[:, value].set(1)
            clean = clean.at[:, place].set(number) if place < numbers else clean
        given = find_input(state, "known")
        if given is None:
            return known, (clean, tuple(drawn))
        numeric, places = find_input(state, "numeric"), find_input(state, "categorical")
        assert numeric is not None and places is not None
        clean, hot = blocks(vector(numeric, places, sizes), sizes)
        rows = [jnp.where(given[:, k, None] > 0, hot[k], drawn[k]) for k in range(len(sizes))]
        return known | (given > 0), (clean, tuple(rows))

    def _module(self, shape: tuple[int, ...]) -> Denoiser:
        return Denoiser(self.net.denoiser(shape), self.width)


def walk_rows(
    estimate: Any,
    process: Process,
    steps: int,
    start: Rows,
    held: tuple[jax.Array, Rows],
    given: jax.Array,
    key: jax.Array,
    resample: int = 1,
) -> Rows:
    """Draw rows from noise by ancestral steps, with some of their cells known.

    Cells of ``given`` columns are clean throughout, as in training. Other known cells are noised to
    the level of each step, and each step is taken ``resample`` times, with noise added again in
    between, so that the unknown cells agree with them (RePaint: Lugmayr et al., arXiv 2201.09865).

    Args:
      estimate: clean rows from noisy ones [B, ...] at a time [].
      process: process of the numbers.
      steps: number of steps.
      start: noise to start from.
      held: which columns are known, bool [B, K], and rows with their values.
      given: columns that are never noised, bool [K].
      key: random key.
      resample: how often each step is taken.
    """
    known, clean = held
    width = start[0].shape[1]

    def hold(x: Rows, alpha: jax.Array, sigma: jax.Array, key: jax.Array) -> Rows:
        """Put the known cells, noised to this level, into rows."""
        noise = jax.random.normal(jax.random.fold_in(key, 1), x[0].shape)
        noised = jnp.where(given[None, :width], clean[0], alpha * clean[0] + sigma * noise)
        numbers = jnp.where(known[:, :width], noised, x[0])
        kept = jnp.broadcast_to(jnp.square(alpha), (len(known),))
        cells = multinomial.draw(key, [multinomial.diffuse(true, kept) for true in clean[1]])
        columns = tuple(
            jnp.where(known[:, k, None], jnp.where(given[k], true, cell), now)
            for k, (now, true, cell) in enumerate(zip(x[1], clean[1], cells, strict=True))
        )
        return numbers, columns

    def back(x: Rows, here: Step, key: jax.Array) -> Rows:
        """Take one step towards the data."""
        numbers, shares = estimate(x, here.t)
        fresh = jnp.sqrt(posterior_variance(here))
        moved = renoise(here, numbers, x[0], fresh, fresh, key)
        rows = jnp.ones(len(known))
        kept, before = rows * jnp.square(here.alpha), rows * jnp.square(here.next_alpha)
        ways = [
            multinomial.posterior(now, guess, kept, before)
            for now, guess in zip(x[1], shares, strict=True)
        ]
        columns = multinomial.draw(jax.random.fold_in(key, steps), ways)
        return hold((moved, columns), here.next_alpha, here.next_sigma, jax.random.fold_in(key, 1))

    def forth(x: Rows, here: Step, key: jax.Array) -> Rows:
        """Add the noise of one step again."""
        ratio = here.alpha / here.next_alpha
        spread = jnp.sqrt(
            jnp.maximum(jnp.square(here.sigma) - jnp.square(ratio * here.next_sigma), 0)
        )
        numbers = ratio * x[0] + spread * jax.random.normal(key, x[0].shape)
        kept = jnp.broadcast_to(jnp.square(ratio), (len(known),))
        way = jax.random.fold_in(key, 3)
        columns = multinomial.draw(way, [multinomial.diffuse(now, kept) for now in x[1]])
        return hold((numbers, columns), here.alpha, here.sigma, jax.random.fold_in(key, 1))

    def step(x: Rows, here: Step) -> Rows:
        here_key = jax.random.fold_in(key, here.number)

        def again(i: jax.Array, x: Rows) -> Rows:
            k = jax.random.fold_in(here_key, i)
            return forth(back(x, here, k), here, jax.random.fold_in(k, 2))

        if resample > 1:
            x = jax.lax.fori_loop(0, resample - 1, again, x)
        return back(x, here, jax.random.fold_in(here_key, resample))

    first = process.alpha_sigma(jnp.ones(()))
    return walk(step, process, steps, hold(start, *first, jax.random.fold_in(key, steps)))
