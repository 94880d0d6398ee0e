"""The prior of a trained VQ-VAE: an autoregressive model of its codes, from which images are drawn.

van den Oord et al., arXiv 1711.00937 (section 3.3); with a Transformer: Esser et al., arXiv
2012.09841. Classifier-free guidance of the logits: Gafni et al., arXiv 2203.13131.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.continued import Continued
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion import conditioning
from genjax.families.likelihoods import Bernoulli, DiscretizedLogistic
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.side_losses import add_side, list_sown
from genjax.families.vqvae import VQVAE, decode_codes, encode_to_codes
from genjax.family import (
    Batch,
    Inputs,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    gradient_step,
    labels,
    select_modelled,
)
from genjax.nets.transformer.token_net import unstack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Rules
from genjax.samplers.tokens.decoding import Prompts, TokenSampler, generate

AUTOENCODER = "autoencoder"
Rows = Mapping[str, jax.Array]


@checks.frozen
class CodeSampler:
    """Sampling options of the codes of an image.

    Attributes:
      temperature: divisor of the logits; 0 takes the most likely code.
      top_k: number of most likely codes to draw from; None for all.
      top_p: probability of the smallest set of most likely codes to draw from; None for all.
      guidance_scale: 1 for the conditional model, 0 for the unconditional one; above 1, samples
        follow the label more closely and are less diverse. Values other than 0 and 1 evaluate the
        network twice per code.
      label: label to draw in a class-conditional model, by number or name; None draws all in turn,
        starting over every 256 samples.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance_scale: float = 1.0
    label: int | str | None = None

    def __post_init__(self) -> None:
        self.tokens(1)
        checks.at_least(self, 0, "guidance_scale")

    def tokens(self, steps: int) -> TokenSampler:
        """Return the options for drawing this many codes."""
        return TokenSampler(steps, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@checks.frozen
class ImageCodes(Continued):
    """A model of the codes of a frozen ``VQVAE``, from which it draws images.

    A subclass scores the rows that ``_read`` makes of codes, and draws codes.

    Among its metrics, ``loss`` is in nats per code, ``code_nats`` in nats for all codes of an
    image. ``code_bits_per_dim`` is the latter in bits over its pixels and channels: a rate that
    ignores the decoder's error. If the autoencoder's likelihood is of stored values
    (``DiscretizedLogistic``, or ``Bernoulli`` of binary images), ``bits_per_dim`` is the bound on
    the image itself, -log p(codes) - log p(x | codes).

    Attributes:
      autoencoder: run directory of a ``VQVAE`` of the same data.
      net: causal ``Transformer`` whose context holds all codes of an image.
      conditional: whether the start token is the label.
      drop_label: share of labels hidden in training, so that the net also learns the unconditional
          model.
      sampler: sampling options.
    """

    autoencoder: Component = "runs/vqvae_mnist"
    net: Transformer = Transformer(layers=4, heads=4, width=128, context=64)
    conditional: bool = False
    drop_label: float = 0.1
    sampler: CodeSampler = CodeSampler()

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not self.net.causal or self.net.cross_attention:
            raise UserError(
                f"net.causal must be True and net.cross_attention False in a {name}", "net.causal"
            )
        if self.net.ahead > 1:
            raise UserError(f"net.ahead must be 1 in a {name}, got {self.net.ahead}", "net.ahead")
        checks.share(self, "drop_label")
        self.check_sampler(self.sampler)

    @property
    def runs(self) -> Mapping[str, str]:
        return {AUTOENCODER: self.autoencoder}

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        run_dir, family = others[AUTOENCODER].run_dir, others[AUTOENCODER].family
        if not isinstance(family, VQVAE):
            raise UserError(
                f"autoencoder must be a run of a VQVAE, but {run_dir} is a {type(family).__name__}",
                "autoencoder",
            )
        self.check_base(family, run_dir)
        others[AUTOENCODER].check(spec)
        return dataclasses.replace(self, autoencoder=family)

    def check_base(self, family: VQVAE, run_dir: str) -> None:
        """Refuse an autoencoder whose codes this model cannot take, with a ``UserError``."""

    def check_sampler(self, options: CodeSampler) -> None:
        """Refuse sampling options that this model does not support, with a ``UserError``."""
        conditioning.check_guidance(options.guidance_scale, self.conditional, self.drop_label)

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        if self.conditional and "other_label" in batch:
            raise UserError("a prior conditioned on labels takes one per example: no Mixup")
        key = jax.random.fold_in(state.step_key, 1)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            hide_key, dropout_key = jax.random.split(key)
            label = labels(batch) if self.conditional else None
            if label is not None:
                label, _ = conditioning.hide(
                    hide_key, self.drop_label, label, self._count_classes(params), None
                )
            nll, sown = self._score(params, batch, label, dropout_key)
            real = jnp.broadcast_to(batch["mask"][:, None], nll.shape)
            metrics = {"loss": per_code(nll, batch["mask"])}
            return add_side(metrics, self.net, sown, real, axis), variables

        _, codes = self._encode_codes(state, batch, key)
        kept = {name: batch[name] for name in ("mask", "label") if name in batch}
        rows = kept | dict(self._read(state, codes))
        state, metrics = gradient_step(loss, optimizer, state, rows, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        x, codes = self._encode_codes(state, batch, key)
        label = labels(batch) if self.conditional else None
        nll, _ = self._score(state.params, self._read(state, codes), label, None)
        rate, mask, bits = nll.sum(-1), batch["mask"], math.prod(x.shape[1:]) * math.log(2)
        metrics = {
            "loss": per_code(nll, mask),
            "code_nats": Mean.of(rate, mask),
            "code_bits_per_dim": Mean.of(rate / bits, mask),
        }
        likelihood = self.autoencoder.likelihood
        if isinstance(likelihood, DiscretizedLogistic) or (
            isinstance(likelihood, Bernoulli) and likelihood.binarize
        ):
            params, variables = (
                state.frozen[AUTOENCODER][name] for name in ("params", "variables")
            )
            vectors = self.autoencoder.assemble(params, variables, codes)
            outputs = self.autoencoder.decode(params, variables, vectors)
            bound = rate + likelihood.nll(params.get("likelihood"), outputs, x)
            metrics["bits_per_dim"] = Mean.of(bound / bits, mask)
        return metrics

    def sample(self, state: State, key: jax.Array, n: int, options: CodeSampler) -> jax.Array:
        """Draw codes and return the means [n, H, W, C] of p(x | codes)."""
        codes = self.draw_codes(state, key, n, options)
        return decode_codes(self.autoencoder, autoencoder_state(state), codes)

    def describe_inputs(self, state: State, options: CodeSampler) -> Inputs:
        return conditioning.describe_label(self.conditional)

    def draw_codes(self, state: State, key: jax.Array, n: int, options: CodeSampler) -> jax.Array:
        """Draw codes for n images, in the shape in which the autoencoder gives them.

        Raises:
          UserError: the guidance or the label does not fit the model.
        """
        raise NotImplementedError

    def _read(self, state: State, codes: jax.Array) -> Rows:
        """Return what is scored of codes, as the autoencoder gives them: "codes" int32 [B, N],
        and whatever else ``_score`` reads.
        """
        raise NotImplementedError

    def _score(
        self, params: Params, rows: Rows, label: jax.Array | None, key: jax.Array | None
    ) -> tuple[jax.Array, Mapping[str, Any]]:
        """Return -log p of each code [B, N] in nats, and what modules sowed, see
        ``HasSideLosses``; a key means training.
        """
        raise NotImplementedError

    def _count_classes(self, params: Params) -> int:
        """Count the labels; 0 in an unconditional model."""
        raise NotImplementedError

    def _count_starts(self, spec: Spec) -> int:
        """Count the start tokens: one, or one for each label and one for a hidden label.

        Raises:
          UserError: the model is conditional, but the data have no labels.
        """
        if not self.conditional:
            return 1
        if spec.classes is None:
            raise UserError("family.conditional needs labels, but the data have none")
        return spec.classes + (self.drop_label > 0)

    def _choose_labels(self, state: State, n: int, options: CodeSampler) -> jax.Array | None:
        """Return the labels [n] to draw, those of the hidden label without guidance; None in an
        unconditional model.
        """
        self.check_sampler(options)
        classes = self._count_classes(state.params)
        label = conditioning.choose_labels(options.label, n, classes, state)
        hidden = label is not None and options.guidance_scale == 0
        return jnp.full(n, classes) if hidden else label

    def _encode_codes(
        self, state: State, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the autoencoder's input [B, H, W, C] for a batch, and its codes."""
        x = self.autoencoder.likelihood.prepare(key, select_modelled(batch))
        return x, encode_to_codes(self.autoencoder, autoencoder_state(state), x)


@checks.frozen
class CodePrior(ImageCodes):
    """A Transformer that predicts each code of an image from those before it, in raster order.

    The autoencoder is frozen. The input for an image of h x w codes is a start token, or its label
    as one, and all codes but the last. For fields and metrics see ``ImageCodes``.
    """

    @property
    def protocol(self) -> str:  # type: ignore[override]
        return (
            "nats per code, in raster order; code_bits_per_dim: all codes of an image over its "
            "pixels and channels"
        )

    def check_base(self, family: VQVAE, run_dir: str) -> None:
        if isinstance(family.grid_quantiser, MultiscaleCodebook):
            raise UserError(
                f"autoencoder must be a run with codes in raster order, but those of {run_dir} are "
                "of several scales: NextScale draws them",
                "autoencoder",
            )

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        starts = self._count_starts(spec)

        def outputs() -> jax.Array:
            params, variables = self.autoencoder.init(key, example, spec)
            return self.autoencoder.encode(params, variables, select_modelled(example))

        length = math.prod(jax.eval_shape(outputs).shape[1:3])
        if length > self.net.context:
            raise UserError(
                f"family.net.context must be >= {length} (codes per image), got {self.net.context}",
                "family.net.context",
            )
        module = self.net.module(self.autoencoder.grid_quantiser.codes + starts)
        return module.init(key, jnp.zeros((1, 1), jnp.int32))["params"], {}

    def draw_codes(self, state: State, key: jax.Array, n: int, options: CodeSampler) -> jax.Array:
        """Draw codes, int32 [n, h, w], in one compiled loop with a cache.

        Raises:
          UserError: the guidance or the label does not fit the model.
        """
        label, twice = self._choose_labels(state, n, options), needs_two(options)
        classes = self._count_classes(state.params)
        rows, columns = self._find_grid(state)
        net, params = self.net, state.params
        if net.scan_layers:  # a loop over layers is slow for single codes
            net, params = dataclasses.replace(net, scan_layers=False), unstack_layers(params)
        known = self.autoencoder.grid_quantiser.codes
        module: Any = net.module(len(params["embedding"]))

        def model(
            tokens: jax.Array, mask: jax.Array, cache: Any, last: int
        ) -> tuple[jax.Array, Any]:
            if twice:  # the same codes again, after the start token of a hidden label
                tokens = jnp.concatenate(
                    [tokens, jnp.where(tokens < known, tokens, known + classes)]
                )
            hidden, cache = module.apply({"params": params}, tokens, cache=cache)
            logits = module.apply({"params": params}, hidden[:, -last:], method="logits")[
                ..., :known
            ]
            if twice:
                logits = guide(logits, options.guidance_scale)
            return logits, cache

        starts = self._make_start_tokens(label, n)
        prompts = Prompts(starts, jnp.ones(starts.shape, bool))
        cache = net.new_cache(2 * n if twice else n, rows * columns)
        drawing = generate(model, cache, prompts, options.tokens(rows * columns), key)
        return drawing.tokens.reshape(n, rows, columns)

    def nll(
        self,
        params: Params,
        codes: jax.Array,
        label: jax.Array | None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Return -log p(code | earlier codes, label) [B, N] in nats of codes int32 [B, N]; a key
        means training.
        """
        return self._score(params, {"codes": codes}, label, key)[0]

    def _read(self, state: State, codes: jax.Array) -> Rows:
        return {"codes": codes.reshape(len(codes), -1)}

    def _score(
        self, params: Params, rows: Rows, label: jax.Array | None, key: jax.Array | None
    ) -> tuple[jax.Array, Mapping[str, Any]]:
        codes = rows["codes"]
        inputs = jnp.concatenate([self._make_start_tokens(label, len(codes)), codes[:, :-1]], 1)
        module: Any = self.net.module(len(params["embedding"]))
        rngs = {} if key is None else {"dropout": key}
        (hidden, _), sown = module.apply(
            {"params": params},
            inputs,
            rngs=rngs,
            train=key is not None,
            mutable=list_sown(self.net),
        )
        logits = module.apply({"params": params}, hidden, method="logits")[
            ..., : self.autoencoder.grid_quantiser.codes
        ]
        log_prob = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_prob, codes[..., None], -1)[..., 0], sown

    def _make_start_tokens(self, label: jax.Array | None, n: int) -> jax.Array:
        """Return the start tokens int32 [n, 1], which come after the codes in the vocabulary."""
        start = jnp.zeros(n, jnp.int32) if label is None else label.astype(jnp.int32)
        return self.autoencoder.grid_quantiser.codes + start[:, None]

    def _find_grid(self, state: State) -> tuple[int, int]:
        """Return the rows and columns of the grid of codes."""
        params, variables = (state.frozen[AUTOENCODER][name] for name in ("params", "variables"))
        image = jax.ShapeDtypeStruct((1, *variables["mean"].shape), jnp.float32)
        rows, columns = jax.eval_shape(self.autoencoder.encode, params, variables, image).shape[1:3]
        return rows, columns

    def _count_classes(self, params: Params) -> int:
        """Count the labels, 0 in an unconditional model; the token after theirs is that of a hidden
        label.
        """
        if not self.conditional:
            return 0
        return (
            len(params["embedding"]) - self.autoencoder.grid_quantiser.codes - (self.drop_label > 0)
        )


def needs_two(options: CodeSampler) -> bool:
    """Return whether guidance needs the net twice, with the label and without."""
    return options.guidance_scale not in (0, 1)


def guide(logits: jax.Array, scale: float) -> jax.Array:
    """Join logits [2B, ...], those with the label first, by classifier-free guidance: [B, ...]."""
    given, free = jnp.split(logits, 2)
    return free + scale * (given - free)


def per_code(nll: jax.Array, mask: jax.Array) -> Mean:
    """Return the mean over the codes of nll [B, N]; mask [B]."""
    return Mean.of(nll, jnp.broadcast_to(mask[:, None], nll.shape))


def autoencoder_state(state: State) -> State:
    """Return the state of the autoencoder."""
    return state.replace(**state.frozen[AUTOENCODER])
