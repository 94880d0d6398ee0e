"""A variational autoencoder, of perceptrons (``vae``) or strided convolutions (``vae_conv``),
compared with PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable

BATCH, SIDE, LATENT = 128, 28, {"vae": 20, "vae_conv": 32}
CHANNELS = (32, 64)


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    from benchmarks.peers import image_steps
    from genjax.data.sources import Digits
    from genjax.experiment import Experiment
    from genjax.families.vae import VAE
    from genjax.nets.conv.conv import ConvCoder
    from genjax.nets.mlp import MLPCoder
    from genjax.optim import Adam

    coder = MLPCoder((400,)) if case == "vae" else ConvCoder(CHANNELS)
    family = VAE(LATENT[case], coder)
    return image_steps(
        Experiment(family, data=Digits(), optimizer=Adam(), batch_size=BATCH, ema=0.999),
        (SIDE, SIDE, 1),
    )


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from torch import nn
    from torch.nn import functional

    from benchmarks.peers import use_torch

    use_torch()
    pixels, latent, corner = SIDE * SIDE, LATENT[case], SIDE // 4
    if case == "vae":
        encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 400), nn.ReLU(), nn.Linear(400, 2 * latent)
        )
        decoder = nn.Sequential(nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, pixels))
    else:
        a, b = CHANNELS
        encoder = nn.Sequential(
            *(nn.Conv2d(1, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(b * corner * corner, 2 * latent)),
        )
        decoder = nn.Sequential(
            *(
                nn.Linear(latent, b * corner * corner),
                nn.ReLU(),
                nn.Unflatten(1, (b, corner, corner)),
            ),
            *(
                nn.ConvTranspose2d(b, a, 4, 2, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(a, 1, 4, 2, 1),
                nn.Flatten(),
            ),
        )
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    images = torch.rand(BATCH, 1, SIDE, SIDE)

    def run(steps: int) -> None:
        for _ in range(steps):
            mean, log_variance = encoder(images).chunk(2, dim=-1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            targets = images.flatten(1)
            nll = functional.binary_cross_entropy_with_logits(decoder(z), targets, reduction="sum")
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            optimizer.zero_grad(set_to_none=True)
            ((nll + kl) / BATCH).backward()
            optimizer.step()

    return run
