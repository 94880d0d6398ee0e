"""A U-Net of 6.5 million parameters that predicts noise, compared with diffusers' on PyTorch.

``unet`` is a training step: noise to images, its prediction, the squared error and AdamW.
``diffusion_sample`` draws a batch by a few steps of DDIM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BATCH, SHAPE, CHANNELS, ATTENTION, HEAD_DIM = 16, (32, 32, 3), (64, 128, 128), 16, 8
WIDTH = 160  # of the vector: with it both have as many parameters
RATE, DECAY, STEPS = 1e-4, 1e-2, 5


def genjax_family() -> Any:
    """Return a diffusion with the U-Net."""
    from genjax.families.diffusion.diffusion import Denoising, Diffusion
    from genjax.nets.conv.unet import UNet
    from genjax.samplers import DDIM
    from genjax.samplers.diffusion.processes import VPLinear

    net = UNet(CHANNELS, attention=(ATTENTION,), head_dim=HEAD_DIM)
    return Diffusion(net, VPLinear(), target="noise", width=WIDTH, sampler=Denoising(DDIM(STEPS)))


def torch_net() -> Any:
    """Return a PyTorch module: x [B, 3, 32, 32], step [B] -> an output with `sample` [B, 3, 32,
    32].
    """
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
    from benchmarks.peers import image_steps
    from genjax.data.sources import Digits
    from genjax.experiment import Experiment
    from genjax.optim import AdamW
    from genjax.schedules import Constant

    family = genjax_family()
    if case == "diffusion_sample":
        return _sampling(family)
    optimizer = AdamW(Constant(RATE), weight_decay=DECAY)
    return image_steps(
        Experiment(family, data=Digits(), optimizer=optimizer, batch_size=BATCH, ema=0.999), SHAPE
    )


def _sampling(family: Any) -> Callable[[int], None]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from genjax import parallel
    from genjax.data.dataset import Spec
    from genjax.family import init_state
    from genjax.optim import Adam

    layout = parallel.start(parallel.Devices(count=1))
    spec = Spec("image", SHAPE, np.zeros(SHAPE, np.float32))
    example = {"image": jnp.zeros((1, *SHAPE)), "mask": jnp.ones(1)}
    key = jax.random.key(0)

    def begin() -> Any:
        params, variables = family.init(key, example, spec)
        return init_state(params, variables, Adam().build(1), key)

    state = layout.init(begin)
    draw = layout.compile_evaluation(
        lambda state, key: family.sample(state, key, BATCH, family.sampler)
    )

    def run(steps: int) -> None:
        for i in range(steps):
            jax.block_until_ready(draw(state, jax.random.key(i)))

    return run


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from torch.nn.functional import mse_loss

    from benchmarks.peers import use_torch

    use_torch()
    net = torch_net()
    if case == "diffusion_sample":
        return _torch_sampling(net)
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


def _torch_sampling(net: Any) -> Callable[[int], None]:
    import torch
    from diffusers import DDIMScheduler

    net.eval()
    scheduler: Any = DDIMScheduler(num_train_timesteps=1000, clip_sample=False)
    scheduler.set_timesteps(STEPS)

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                x = torch.randn(BATCH, SHAPE[2], *SHAPE[:2])
                for t in scheduler.timesteps:
                    x = scheduler.step(net(x, t).sample, t, x).prev_sample

    return run
