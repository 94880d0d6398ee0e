"""A U-Net of 6.5 million parameters that predicts noise, beside diffusers' on PyTorch.

The step of the network alone: noise to images, its prediction, the squared error and AdamW.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

BATCH, SHAPE, CHANNELS, ATTENTION, HEAD_DIM = 16, (32, 32, 3), (64, 128, 128), 16, 8
WIDTH = 160  # of the vector: with it both have as many parameters
RATE, DECAY = 1e-4, 1e-2


def genjax_net() -> Any:
    """A Linen module: x [B, 32, 32, 3], t [B] -> [B, 32, 32, 3]."""
    from genjax.nets.denoiser import Denoiser
    from genjax.nets.unet import UNet

    return Denoiser(UNet(CHANNELS, attention=(ATTENTION,), head_dim=HEAD_DIM).denoiser(SHAPE), WIDTH)


def torch_net() -> Any:
    """A PyTorch module: x [B, 3, 32, 32], step [B] -> an output with `sample` [B, 3, 32, 32]."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SHAPE[0],
        in_channels=SHAPE[2],
        out_channels=SHAPE[2],
        layers_per_block=2,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=HEAD_DIM,
    )


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    import functools

    import jax
    import jax.numpy as jnp
    import optax

    net, optimizer = genjax_net(), optax.adamw(RATE, weight_decay=DECAY)
    images = jax.random.normal(jax.random.key(0), (BATCH, *SHAPE))

    @jax.jit
    def init(key: jax.Array) -> Any:
        params = net.init(key, images, jnp.zeros(BATCH), train=False)["params"]
        return params, optimizer.init(params), key

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, images: jax.Array) -> Any:
        params, moments, key = state
        key, for_time, for_noise = jax.random.split(key, 3)
        t = jax.random.uniform(for_time, (BATCH,))
        noise = jax.random.normal(for_noise, images.shape)
        level = t[:, None, None, None]
        noisy = jnp.sqrt(1 - level) * images + jnp.sqrt(level) * noise

        def loss(params: Any) -> jax.Array:
            return jnp.square(net.apply({"params": params}, noisy, t, train=True) - noise).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments, key), value

    state = init(jax.random.key(1))

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, value = step(state, images)
        jax.block_until_ready((state, value))

    return run


def torch_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from torch.nn.functional import mse_loss

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    net = torch_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    images = torch.randn(BATCH, SHAPE[2], *SHAPE[:2])

    def run(steps: int) -> None:
        for _ in range(steps):
            t, noise = torch.rand(BATCH), torch.randn_like(images)
            level = t[:, None, None, None]
            noisy = (1 - level).sqrt() * images + level.sqrt() * noise
            optimizer.zero_grad(set_to_none=True)
            mse_loss(net(noisy, 1000 * t).sample, noise).backward()
            optimizer.step()

    return run
