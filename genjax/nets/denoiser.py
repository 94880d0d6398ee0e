"""Embeds the conditions of a denoiser (time, label, text, augmentation) in one vector."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.errors import UserError


def time_features(t: jax.Array, count: int, frequency: float = 1000.0) -> jax.Array:
    """Return sines and cosines of times in [0, 1]: [B] -> float32 [B, count], count even.

    Frequencies fall from ``frequency`` to 0.1 radians per unit of t. 1,000 is DDPM's (arXiv
    2006.11239) with its 1,000 timesteps.
    """
    frequencies = frequency * jnp.exp(
        -math.log(10 * frequency) * jnp.arange(count // 2) / (count // 2)
    )
    angles = t.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class Denoiser(nn.Module):
    """A network and the embedding of its conditions: [B, ...] -> the same shape.

    The network is called as ``net(x [B, ...], vector [B, width], train=...)``.

    Attributes:
      net: the network, such as ``UNet().denoiser(shape)``.
      width: width of the vector; even.
      classes: number of labels, 0 for none. Label ``classes`` is the null label of classifier-free
        guidance (Ho & Salimans, arXiv 2207.12598).
      text: width of the text's pooled embedding, 0 for none. A row of zeros is the null text.
      augment: how many numbers describe an example's augmentation (Karras et al., arXiv 2206.00364,
        appendix F.2), 0 for none. A row of zeros means no augmentation; samplers pass zeros.
      frequency: highest frequency of the time features, in radians per unit of t; above 0.1.
      two_times: whether it also takes the time at which a jump ends, as flow maps do (Geng et al.,
        arXiv 2505.13447). Its part of the vector starts at 0; the other parameters stay the same.
      control: network of a sketch, whose outputs are added inside the network, such as
        ``DiT().controller(shape, copied)``; None for none.
    """

    net: nn.Module
    width: int
    classes: int = 0
    text: int = 0
    augment: int = 0
    frequency: float = 1000.0
    two_times: bool = False
    control: nn.Module | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        t: jax.Array,
        label: jax.Array | None = None,
        text: jax.Array | None = None,
        augment: jax.Array | None = None,
        end: jax.Array | None = None,
        given: jax.Array | None = None,
        *,
        train: bool,
    ) -> jax.Array:
        """Predict from noisy data and conditions; a condition that is None is null for every
        example.

        Args:
          x: [B, ...].
          t: [B], in [0, 1].
          label: int [B].
          text: [B, self.text].
          augment: [B, self.augment].
          end: [B], in [0, 1]; needed with ``two_times``.
          given: a sketch [B, ...] for the control.
          train: whether dropout, of the rng "dropout", is on.

        Raises:
          UserError: a condition that the network was not built for, or of another width; one time
            instead of two, or two instead of one; an odd ``width``.
        """
        if self.width < 2 or self.width % 2:
            raise UserError(f"width must be even and >= 2, got {self.width}", "width")
        if label is not None and not self.classes:
            raise UserError("a denoiser without classes was given labels")
        if (end is not None) != self.two_times:
            raise UserError(
                "a denoiser of two times was given one"
                if self.two_times
                else "a denoiser of one time was given two"
            )
        _check("text", text, self.text)
        _check("augment", augment, self.augment)
        if given is not None and self.control is None:
            raise UserError("a denoiser without control was given a sketch")

        rows = len(x)
        y = nn.Dense(self.width, name="time_a")(
            time_features(t, self.width, self.frequency).astype(x.dtype)
        )
        vector = nn.Dense(self.width, name="time_b")(nn.silu(y))
        if end is not None:
            y = nn.Dense(self.width, name="span_a")(
                time_features(t - end, self.width, self.frequency).astype(x.dtype)
            )
            zeros = nn.initializers.zeros
            vector += nn.Dense(self.width, kernel_init=zeros, name="span_b")(nn.silu(y))
        if self.classes:
            label = jnp.full((rows,), self.classes) if label is None else label
            vector += nn.Embed(self.classes + 1, self.width, name="label")(label)
        if self.text:
            text = jnp.zeros((rows, self.text), x.dtype) if text is None else text
            null = self.param("null_text", nn.initializers.normal(0.02), (self.width,))
            text = text.astype(x.dtype)
            asked = jnp.any(text != 0, -1, keepdims=True)
            vector += jnp.where(asked, nn.Dense(self.width, name="text")(text), null[None])
        if self.augment:
            augment = (
                jnp.zeros((rows, self.augment), x.dtype)
                if augment is None
                else augment.astype(x.dtype)
            )
            vector += nn.Dense(self.width, use_bias=False, name="augment")(augment)
        vector = nn.silu(vector)
        if given is None or self.control is None:
            return self.net(x, vector, train=train)
        control = self.control(x, vector, given.astype(x.dtype))
        return self.net(x, vector, control, train=train)


def _check(name: str, value: jax.Array | None, width: int) -> None:
    if value is not None and not width:
        raise UserError(f"a denoiser without {name} was given {name}")
    if value is not None and value.shape[-1] != width:
        raise UserError(f"{name} must have {width} numbers an example, got {value.shape[-1]}")
