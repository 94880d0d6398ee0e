"""The prior of a trained VQ-VAE: an autoregressive model of its codes, from which images are drawn.

van den Oord et al., arXiv 1711.00937 (section 3.3); with a Transformer: Esser et al., arXiv
2012.09841. Classifier-free guidance of the logits: Gafni et al., arXiv 2203.13131.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.image_codes import (
    AUTOENCODER,
    CodeSampler,
    ImageCodes,
    Rows,
    guide,
    needs_two,
)
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.side_losses import list_sown
from genjax.families.vqvae import VQVAE
from genjax.family import Batch, Params, State, Variables, select_modelled
from genjax.nets.transformer.token_net import unstack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.samplers.tokens.decoding import Prompts, generate


@checks.frozen
class CodePrior(ImageCodes):
    """A Transformer that predicts each code of an image from those before it, in raster order.

    The autoencoder is frozen. The input for an image of h x w codes is a start token, or its label
    as one, and all codes but the last. For the metrics see ``ImageCodes``.

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
