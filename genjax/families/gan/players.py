"""The networks of generator and discriminator; ``genjax.families.gan.gan`` trains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.vectors import categories, constants, relax_outputs
from genjax.errors import UserError
from genjax.families.diffusion.conditioning import choose_labels
from genjax.family import Batch, Params, State, Variables, apply, select_modelled
from genjax.nets.conv import norm
from genjax.nets.gan import spectral
from genjax.nets.gan.discriminator import Discriminator
from genjax.nets.gan.progressive import Progressive, downsample, upsample

Normalised = Literal["none", "discriminator", "both"]
NORMALISED: dict[Normalised, tuple[str, ...]] = {
    "none": (),
    "discriminator": ("discriminator",),
    "both": ("discriminator", "generator"),
}
STANDING = 512  # latents used to measure the batch statistics of averaged parameters


@dataclass(frozen=True)
class Nets:
    """Generator and discriminator as functions of parameters and variables. For the fields see
    ``GAN``.
    """

    latent_dim: int
    generator: Component
    discriminator: Component
    spectral_norm: Normalised
    minibatch_std: bool
    pack: int
    conditional: bool
    temperature: float

    @property
    def progressive(self) -> bool:
        """Whether the resolution grows."""
        return isinstance(self.generator, Progressive)

    def init(
        self, key: jax.Array, example: Batch, spec: Spec, std: float | None
    ) -> tuple[Params, Variables]:
        """Initialise parameters and variables of both; ``std`` is ``GAN.init_std``."""
        classes = (spec.classes or 0) if self.conditional else 0
        keys = iter(jax.random.split(key, 6))
        z = jnp.zeros((1, self.latent_dim * (2 if classes else 1)))
        stage = {"stage": len(self.generator.sizes(spec.shape)) - 1} if self.progressive else {}
        made = self.generator.generator(spec.shape).init(next(keys), z, train=True, **stage)
        variables = {"mean": jnp.asarray(spec.mean), **constants(spec)}
        packed = jnp.concatenate([select_modelled(example, variables)] * self.pack, axis=-1)
        label = jnp.zeros(1, jnp.int32) if classes else None
        judge = self._discriminator(spec.shape, classes).init(
            next(keys), packed, label=label, train=True
        )
        params = {"generator": {"net": made["params"]}, "discriminator": judge["params"]}
        if std is not None:
            params = _redraw_matrices(params, next(keys), std)
        if classes:
            params["generator"]["label"] = jax.random.normal(next(keys), (classes, self.latent_dim))
        matrices = {
            "generator": params["generator"]["net"],
            "discriminator": params["discriminator"],
        }
        vectors = {
            part: spectral.draw_vectors(matrices[part], next(keys))
            for part in NORMALISED[self.spectral_norm]
        }
        stats = {
            "generator": made.get("batch_stats", {}),
            "discriminator": judge.get("batch_stats", {}),
        }
        variables |= {"batch_stats": stats, "spectral": vectors}
        if self.progressive:
            variables |= {"stage": jnp.zeros((), jnp.int32), "fade": jnp.ones(())}
        return params, variables

    def generate(
        self,
        params: Params,
        variables: Variables,
        z: jax.Array,
        label: jax.Array | None,
        shape: tuple[int, ...],
        axis: str | None = None,
        *,
        key: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, Any]:
        """Generate fakes of a ``shape`` [B, ...]; also return the variables with updated batch
        statistics.

        The ``key`` draws the categories of a table; other data depend on ``z`` alone.
        """
        full = variables["mean"].shape
        if label is not None:
            z = jnp.concatenate([z, params["label"][label].astype(z.dtype)], axis=-1)
        stage: dict[str, Any] = {}
        if self.progressive:
            stage = {
                "stage": self.generator.sizes(full).index(tuple(shape[1:3])),
                "fade": variables["fade"],
            }
        x, changed = apply(
            self.generator.generator(full, axis),
            params["net"],
            z,
            variables={"batch_stats": variables["batch_stats"]["generator"]},
            mutable=["batch_stats"],
            train=train,
            **stage,
        )
        if "shares" in variables:
            x = relax_outputs(key, x, categories(variables), self.temperature)
        return jnp.tanh(x) if x.ndim == 4 else x, _set_stats(variables, "generator", changed)

    def discriminate(
        self,
        params: Params,
        variables: Variables,
        x: jax.Array,
        label: jax.Array | None = None,
        mask: jax.Array | None = None,
        axis: str | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Return the logits of packs, [B / pack], and the variables with updated batch statistics;
        a key means training.
        """
        packed = jnp.concatenate(jnp.split(x, self.pack), axis=-1)
        classes = len(params["label"]["embedding"]) if self.conditional else 0
        logits, changed = apply(
            self._discriminator(variables["mean"].shape, classes, axis),
            params,
            packed,
            label=label,
            mask=None if mask is None else self.pack_mask(mask),
            variables={"batch_stats": variables["batch_stats"]["discriminator"]},
            mutable=["batch_stats"],
            rngs={} if key is None else {"dropout": key},
            train=key is not None,
            **({"fade": variables["fade"]} if self.progressive else {}),
        )
        return logits, _set_stats(variables, "discriminator", changed)

    def sample(
        self,
        state: State,
        key: jax.Array,
        n: int,
        label: jax.Array | None,
        truncation: float | None,
    ) -> jax.Array:
        """Draw ``n`` samples at the resolution of the data."""
        z, full = self.draw_latents(key, n, truncation), state.variables["mean"].shape
        params, variables = self.normalise(
            "generator", state.params["generator"], state.variables, False
        )

        def at(size: tuple[int, ...]) -> jax.Array:
            x, _ = self.generate(
                params, variables, z, label, (n, *size), key=derive_category_key(key), train=False
            )
            return x

        if not self.progressive:
            return at(full)
        sizes = self.generator.sizes(full)
        stages = [lambda i=i: upsample(at(sizes[i]), sizes[i:]) for i in range(len(sizes))]
        return jax.lax.switch(variables["stage"], stages)

    def draw_latents(self, key: jax.Array, n: int, truncation: float | None = None) -> jax.Array:
        if truncation is None:
            return jax.random.normal(key, (n, self.latent_dim))
        return jax.random.truncated_normal(key, -truncation, truncation, (n, self.latent_dim))

    def choose_label(self, state: State, n: int, label: int | str | None) -> jax.Array | None:
        classes = len(state.params["generator"]["label"]) if self.conditional else 0
        return choose_labels(label, n, classes, state)

    def pack_mask(self, mask: jax.Array) -> jax.Array:
        """Return 1 where no example of a pack is padding, else 0: [B / pack]."""
        return mask.reshape(self.pack, -1).min(0)

    def split_batch(self, batch: Batch, repeats: int) -> Batch:
        """Split the batch into a part for each discriminator step, [R, B / R, ...]."""
        rows = len(batch["mask"])
        if rows % (repeats * self.pack):
            raise UserError(
                f"pack must divide the {rows} examples of a device in {repeats} discriminator "
                f"step(s), got {self.pack}",
                "pack",
            )
        # Row i goes to part i % R, so that a sharded batch does not move.
        return jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, repeats, *x.shape[1:]), 1, 0), dict(batch)
        )

    def normalise(
        self, part: str, params: Params, variables: Variables, iterate: bool
    ) -> tuple[Params, Variables]:
        """Apply spectral norm to a player's parameters, if requested; also return the updated
        variables.
        """
        if part not in NORMALISED[self.spectral_norm]:
            return params, variables
        matrices = params["net"] if part == "generator" else params
        divided, vectors = spectral.normalise(matrices, variables["spectral"][part], iterate)
        params = params | {"net": divided} if part == "generator" else divided
        return params, variables | {"spectral": variables["spectral"] | {part: vectors}}

    def set_stage(self, variables: Variables, batch: Batch) -> Any:
        """Set the stage in the variables to that of the batch's resolution."""
        shape, full = select_modelled(batch, variables).shape[1:], variables["mean"].shape
        sizes = self.generator.sizes(full) if self.progressive else (full[:2],)
        if shape[:2] not in sizes:
            reached = ", ".join("x".join(map(str, size)) for size in sizes)
            raise UserError(
                f"the resolution must be {reached}, got {'x'.join(map(str, shape[:2]))}"
            )
        if not self.progressive:
            return variables
        fade = batch["fade"].max() if "fade" in batch else jnp.ones(())
        return variables | {"stage": jnp.int32(sizes.index(shape[:2])), "fade": fade}

    def resize_to_stage(
        self, state: State, x: jax.Array, judge: Callable[[jax.Array], jax.Array]
    ) -> jax.Array:
        """Apply ``judge`` to images [B, H, W, C], reduced to the resolution that training has
        reached.
        """
        if not self.progressive:
            return judge(x)
        count = len(self.generator.sizes(state.variables["mean"].shape))
        stages = [lambda x, times=count - 1 - i: judge(downsample(x, times)) for i in range(count)]
        return jax.lax.switch(state.variables["stage"], stages, x)

    def measure_statistics(self, state: State) -> Any:
        """Measure the batch statistics of the generator over a batch of latents; return the updated
        variables.
        """
        stats = state.variables["batch_stats"]["generator"]
        label = self.choose_label(state, STANDING, None)
        z = self.draw_latents(jax.random.key(0), STANDING)
        params, variables = self.normalise(
            "generator", state.params["generator"], state.variables, False
        )
        shape = (STANDING, *variables["mean"].shape)

        def after(stats: Any) -> Any:
            variables_now = _set_stats(variables, "generator", {"batch_stats": stats})
            _, changed = self.generate(
                params, variables_now, z, label, shape, key=jax.random.key(0), train=True
            )
            return changed["batch_stats"]["generator"]

        return _set_stats(
            state.variables, "generator", {"batch_stats": norm.measure_batch_stats(after, stats)}
        )

    def _discriminator(
        self, shape: tuple[int, ...], classes: int, axis: str | None = None
    ) -> nn.Module:
        net = self.discriminator
        backbone = net.features(shape) if self.progressive else net.backbone(axis)
        return Discriminator(backbone, classes, self.minibatch_std, axis)


def derive_category_key(key: jax.Array) -> jax.Array:
    """Derive the key that draws the categories of fakes from that of their latents."""
    return jax.random.fold_in(key, 0)


def _set_stats(variables: Variables, part: str, changed: Any) -> Any:
    stats = variables["batch_stats"] | {part: changed.get("batch_stats", {})}
    return variables | {"batch_stats": stats}


def _redraw_matrices(params: Params, key: jax.Array, std: float) -> Params:
    """Redraw all matrices from normals."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        std * jax.random.normal(k, p.shape) if p.ndim >= 2 else p
        for k, p in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)
