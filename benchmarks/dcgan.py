"""Both players of a DCGAN on 28x28 images, compared with PyTorch."""

from __future__ import annotations

from collections.abc import Callable

BATCH, SIDE, LATENT = 64, 28, 100
MAKER, JUDGE = (256, 128), (64, 128)
RATE, B1 = 2e-4, 0.5


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax."""
    from benchmarks.peers import image_steps
    from genjax.data.sources import Digits
    from genjax.experiment import Experiment
    from genjax.families.gan.gan import GAN
    from genjax.nets.gan.generators import ConvBackbone, ConvGenerator
    from genjax.optim import Adam, Players
    from genjax.schedules import Constant

    family = GAN(LATENT, ConvGenerator(MAKER), ConvBackbone(JUDGE, batch_norm=True))
    players = Players(Adam(Constant(RATE), b1=B1), Adam(Constant(RATE), b1=B1))
    return image_steps(
        Experiment(family, data=Digits(), optimizer=players, batch_size=BATCH, ema=0.999),
        (SIDE, SIDE, 1),
    )


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of the PyTorch twin."""
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    from benchmarks.peers import use_torch

    use_torch()
    corner = SIDE // 4
    a, b = MAKER
    generator = nn.Sequential(
        *(nn.Linear(LATENT, corner * corner * a, bias=False), nn.Unflatten(1, (a, corner, corner))),
        *(
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.ConvTranspose2d(a, b, 4, 2, 1),
            nn.BatchNorm2d(b),
            nn.ReLU(),
        ),
        *(nn.ConvTranspose2d(b, 1, 4, 2, 1), nn.Tanh()),
    )
    a, b = JUDGE
    discriminator = nn.Sequential(
        *(
            nn.Conv2d(1, a, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(a, b, 4, 2, 1),
            nn.BatchNorm2d(b),
            nn.LeakyReLU(0.2),
        ),
        *(nn.Flatten(), nn.Linear(b * corner * corner, 1)),
    )
    for_generator = torch.optim.Adam(generator.parameters(), lr=RATE, betas=(B1, 0.999))
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=RATE, betas=(B1, 0.999))
    real = torch.rand(BATCH, 1, SIDE, SIDE) * 2 - 1
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)

    def run(steps: int) -> None:
        for _ in range(steps):
            fake = generator(torch.randn(BATCH, LATENT))
            for_discriminator.zero_grad(set_to_none=True)
            loss = binary_cross_entropy_with_logits(discriminator(real), ones)
            loss = loss + binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
            loss.backward()
            for_discriminator.step()
            for_generator.zero_grad(set_to_none=True)
            binary_cross_entropy_with_logits(discriminator(fake), ones).backward()
            for_generator.step()

    return run
