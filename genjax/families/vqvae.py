"""Vector-quantised autoencoders (van den Oord et al., arXiv 1711.00937).

The codebook is a moving average of the encoder's outputs: appendix A.1 there, and Razavi et al.,
arXiv 1906.00446. Unused codes are reset to outputs of the encoder: Dhariwal et al., arXiv
2005.00341, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.likelihoods import Gaussian, Likelihood
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
    select_modelled,
)
from genjax.nets.conv.spatial import SpatialCoder
from genjax.optim import Rules

SMOOTHING = 1e-5  # of the codes' counts, in uses per batch
TINY = 1e-30  # keeps a batch of only masked rows from giving NaN
LEAST_PERPLEXITY = 1.5  # below it, the codebook counts as collapsed


@checks.frozen
class VQVAE(Family):
    """An image autoencoder whose latents are a grid of codebook entries.

    Among its metrics, ``loss`` is ``reconstruction``, -log p(x | codes) in nats, plus the weighted
    ``commitment``, the squared distance between encoder output and code, averaged over the grid.
    ``mse`` is per pixel and channel, for values in [-1, 1]. ``usage`` is the share of codes that a
    batch uses, ``perplexity`` the exponential of its codes' entropy, ``restarted`` the number of
    codes reset. With gradient accumulation the codebook moves after each microbatch.

    Attributes:
      codes: number of codebook entries.
      code_dim: dimensions of an entry.
      coder: encoder and decoder networks, a ``SpatialCoder``.
      likelihood: p(x | codes), ``Gaussian``, ``Bernoulli`` or ``DiscretizedLogistic``.
      commitment: weight of the term that keeps the encoder near the codebook.
      decay: decay per step of the moving averages that form the codebook.
      restart_below: share of the average code's moving count below which a code is reset to a
          random encoder output; 0 resets none. At step 0 all counts are 0, so the first batch sets
          most codes.
    """

    no_samples: ClassVar[str | None] = (
        "a VQ-VAE has no prior over its codes; an autoregressive prior trained on its codes draws "
        "samples"
    )

    codes: int = 256
    code_dim: int = 64
    coder: Component = SpatialCoder()
    likelihood: Likelihood = Gaussian()
    commitment: float = 0.25
    decay: float = 0.99
    restart_below: float = 0.1

    key_numbers: ClassVar[tuple[str, ...]] = ("perplexity", "reconstruction")

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "codes")
        checks.at_least(self, 1, "code_dim")
        checks.at_least(self, 0, "commitment")
        checks.share(self, "decay")
        checks.share(self, "restart_below")

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Report a codebook of which hardly more than one code is used."""
        perplexity = numbers.get("perplexity", math.inf)
        if not perplexity < min(LEAST_PERPLEXITY, self.codes / 2):
            return {}
        return {
            "perplexity": f"the codebook has collapsed: its perplexity is {perplexity:.3g} of "
            f"{self.codes} codes, so nearly all places have the same code; raise "
            "family.restart_below, or lower the learning rate"
        }

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if spec.entry != "image":
            raise UserError(f"a VQVAE needs images, but the data are {spec.entry}")
        self.likelihood.check(spec)
        encoder_key, decoder_key, codebook_key = jax.random.split(key, 3)
        x, mean = select_modelled(example), jnp.asarray(spec.mean)
        z, encoder = self._make_encoder().init_with_output(encoder_key, x)
        if z.ndim != 4:
            raise UserError(
                "family.coder must give a grid, as SpatialCoder does, got "
                f"{type(self.coder).__name__}",
                "family.coder",
            )
        params = {
            "encoder": encoder["params"],
            "decoder": self._decoder(mean.shape).init(decoder_key, jnp.zeros_like(z))["params"],
        }
        if shared := self.likelihood.init():
            params["likelihood"] = shared
        variables = {
            "mean": mean,
            "codebook": jax.random.normal(codebook_key, (self.codes, self.code_dim))
            * self.code_dim**-0.5,
            "counts": jnp.zeros(self.codes),
            "sums": jnp.zeros((self.codes, self.code_dim)),
        }
        return params, variables

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        if optimizer.ema is not None:
            raise UserError(
                "ema must be None: the codebook of a VQVAE fits only the live parameters", "ema"
            )
        # gradient_step folds the device's number into its key, but all devices must reset codes
        # alike.
        key, restart_key = jax.random.split(state.step_key)
        # The decay of a whole step does not depend on the number of microbatches.
        decay = self.decay ** (1 / optimizer.accumulate)

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            metrics, z, seen, chosen = self._compute_terms(params, variables, batch, key, axis)
            variables = update_codebook(variables, z, seen, chosen, decay, axis)
            variables, number = restart_codes(
                variables, z, seen, restart_key, self.restart_below, axis
            )
            return metrics | {"restarted": Mean(number, jnp.ones(()))}, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._compute_terms(state.params, state.variables, batch, key)[0]

    def reconstruct(
        self, state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the model's input, and the mean of p(x | codes) at its codes: [B, H, W, C]
        each.
        """
        x = self.likelihood.prepare(key, select_modelled(batch))
        return x, decode_codes(self, state, encode_to_codes(self, state, x))

    def to_latents(
        self, params: Params, variables: Variables, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Encode images [B, H, W, C]: the encoder's outputs [B, h, w, D] before quantisation."""
        return self.encode(params, variables, self.likelihood.prepare(key, x))

    def decode_latents(self, params: Params, variables: Variables, z: jax.Array) -> jax.Array:
        """Return the mean of p(x | codes) [B, H, W, C] for the codes nearest to z [B, h, w, D]."""
        chosen = find_nearest(variables["codebook"], z.reshape(-1, z.shape[-1])).reshape(
            z.shape[:-1]
        )
        return self.likelihood.mean(self.decode(params, variables, variables["codebook"][chosen]))

    def latent_moments(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Return the mean and standard deviation [1, 1, 1, D] of the codes, weighted by their
        use.
        """
        share = (variables["counts"] / jnp.maximum(variables["counts"].sum(), TINY))[:, None]
        mean = (share * variables["codebook"]).sum(0, keepdims=True)
        variance = (share * jnp.square(variables["codebook"] - mean)).sum(0)
        return mean.reshape(1, 1, 1, -1), jnp.sqrt(jnp.maximum(variance, TINY)).reshape(1, 1, 1, -1)

    def encode(self, params: Params, variables: Variables, x: jax.Array) -> jax.Array:
        """Return the encoder's outputs [B, h, w, D], before quantisation."""
        return apply(self._make_encoder(), params["encoder"], x - variables["mean"][None])

    def decode(self, params: Params, variables: Variables, z: jax.Array) -> jax.Array:
        """Return the outputs that parametrise p(x | z), [B, H, W, ...], for a grid of codebook
        entries [B, h, w, D].
        """
        mean = variables["mean"]
        return (
            apply(self._decoder(mean.shape), params["decoder"], z)
            + self.likelihood.offset(mean)[None]
        )

    def _compute_terms(
        self,
        params: Params,
        variables: Variables,
        batch: Batch,
        key: jax.Array,
        axis: str | None = None,
    ) -> tuple[Metrics, jax.Array, jax.Array, jax.Array]:
        """Return the metrics, the encoder's outputs [N, D] at all N = B * h * w places, their mask
        [N] and their codes [N].
        """
        x, mask = self.likelihood.prepare(key, select_modelled(batch)), batch["mask"]
        z = self.encode(params, variables, x)
        rows = len(x)
        flat = jax.lax.stop_gradient(z).reshape(-1, self.code_dim)
        seen = jnp.repeat(mask, len(flat) // rows)
        chosen = find_nearest(variables["codebook"], flat)
        quantised = variables["codebook"][chosen].reshape(z.shape)
        # Straight-through estimator: the decoder sees the code, and the encoder gets the gradient
        # as if it were z.
        outputs = self.decode(params, variables, z + jax.lax.stop_gradient(quantised - z))
        reconstruction = self.likelihood.nll(params.get("likelihood"), outputs, x)
        commitment = jnp.square(z - quantised).sum(-1).reshape(rows, -1).mean(-1)
        error = (
            jnp.square(jax.lax.stop_gradient(self.likelihood.mean(outputs)) - x)
            .reshape(rows, -1)
            .mean(-1)
        )
        uses = jnp.zeros(self.codes).at[chosen].add(seen)
        if axis is not None:
            uses = jax.lax.psum(uses, axis)
        values = {
            "loss": reconstruction + self.commitment * commitment,
            "reconstruction": reconstruction,
            "commitment": commitment,
            "mse": error,
            # Of the whole batch, so its mean weights batches by their rows.
            "perplexity": jnp.broadcast_to(perplexity(uses), mask.shape),
            "usage": jnp.broadcast_to((uses > 0).mean(), mask.shape),
        }
        return {name: Mean.of(value, mask) for name, value in values.items()}, flat, seen, chosen

    def _make_encoder(self) -> nn.Module:
        return self.coder.encoder(self.code_dim)

    def _decoder(self, shape: tuple[int, ...]) -> nn.Module:
        return self.coder.decoder(shape, self.likelihood.outputs_per_dim)


def encode_to_codes(family: VQVAE, state: State, x: jax.Array) -> jax.Array:
    """Encode images [B, H, W, C] in model space to codes, int32 [B, h, w]."""
    z = family.encode(state.params, state.variables, x)
    return find_nearest(state.variables["codebook"], z.reshape(-1, z.shape[-1])).reshape(
        z.shape[:-1]
    )


def decode_codes(family: VQVAE, state: State, codes: jax.Array) -> jax.Array:
    """Decode codes int32 [B, h, w] to the mean of p(x | codes): images [B, H, W, C] in model
    space.
    """
    return family.likelihood.mean(
        family.decode(state.params, state.variables, state.variables["codebook"][codes])
    )


def find_nearest(codebook: jax.Array, z: jax.Array) -> jax.Array:
    """Find the nearest entry of a codebook [K, D] to each of z [N, D]: int32 [N]."""
    # |z - e|^2 minus |z|^2, which is the same for all entries.
    product = jnp.dot(z, codebook.T, precision="highest")
    return jnp.argmin(jnp.square(codebook).sum(-1)[None] - 2 * product, axis=-1).astype(jnp.int32)


def update_codebook(
    variables: Variables,
    z: jax.Array,
    seen: jax.Array,
    chosen: jax.Array,
    decay: jax.Array | float,
    axis: str | None = None,
) -> Any:
    """Update the codebook by z [N, D] with codes ``chosen`` [N], where the mask ``seen`` [N] is 1.

    An entry is the moving sum of its encoder outputs over their moving count, with Laplace
    smoothing.
    """
    uses = jax.nn.one_hot(chosen, len(variables["counts"])) * seen[:, None]  # [N, K]
    batch = uses.sum(0), jnp.dot(uses.T, z, precision="highest")
    if axis is not None:
        batch = jax.lax.psum(batch, axis)
    counts, sums = (
        decay * old + (1 - decay) * new
        for old, new in zip((variables["counts"], variables["sums"]), batch, strict=True)
    )
    total = counts.sum()
    smoothed = (counts + SMOOTHING) / (total + len(counts) * SMOOTHING) * total
    means = sums / jnp.maximum(smoothed, TINY)[:, None]
    # Entries that were never used stay.
    codebook = jnp.where(counts[:, None] > 0, means, variables["codebook"])
    return variables | {"codebook": codebook, "counts": counts, "sums": sums}


def restart_codes(
    variables: Variables,
    z: jax.Array,
    seen: jax.Array,
    key: jax.Array,
    below: float,
    axis: str | None = None,
) -> tuple[Any, jax.Array]:
    """Reset codes with a count below a share of the average to random rows of z [N, D] where
    ``seen`` [N] is 1.

    They get the count of an average code. ``key`` must be the same on all devices; so are the
    results.

    Returns:
      The variables, and the number of codes reset.
    """
    counts = variables["counts"]
    average = counts.mean()
    whole = seen if axis is None else jax.lax.all_gather(seen, axis, tiled=True)
    dead = (counts < below * average) & (whole.sum() > 0)
    rows = _draw_rows(key, whole, len(counts))
    if axis is None:
        fresh = z[rows]
    else:  # each device sends the rows that it holds, far less than all of z
        rows = rows - jax.lax.axis_index(axis) * len(z)
        here = (rows >= 0) & (rows < len(z))
        fresh = jax.lax.psum(jnp.where(here[:, None], z[jnp.clip(rows, 0, len(z) - 1)], 0.0), axis)
    new = {
        "codebook": jnp.where(dead[:, None], fresh, variables["codebook"]),
        "counts": jnp.where(dead, average, counts),
        "sums": jnp.where(dead[:, None], average * fresh, variables["sums"]),
    }
    return variables | new, dead.sum()


def perplexity(counts: jax.Array) -> jax.Array:
    """Return exp(entropy) of the distribution with counts [K]: K for even counts, 1 for a single
    code.
    """
    share = counts / jnp.maximum(counts.sum(), TINY)
    return jnp.exp(jax.scipy.special.entr(share).sum())


def _draw_rows(key: jax.Array, seen: jax.Array, n: int) -> jax.Array:
    """Draw ``n`` indices [n] of rows where ``seen`` [N] is 1; they repeat only if there are fewer
    than ``n``.
    """
    score = jnp.where(seen > 0, jax.random.uniform(key, seen.shape), -1.0)
    best = jax.lax.top_k(score, min(n, len(seen)))[1]
    available = jnp.clip(jnp.count_nonzero(seen), 1, len(best))
    return best[jnp.arange(n) % available]
