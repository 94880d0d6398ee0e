"""A diffusion of digits goes on with clothes: all of `diffusion_mnist` is the start of a model of Fashion-MNIST.

    python -m genjax train transfer_mnist_to_fashion                # trains diffusion_mnist first where it is missing
    python -m genjax train transfer_mnist_to_fashion --start-from.run None --run-dir runs/fashion_from_scratch

Not yet trained to its end: only its tiny form has run.
"""

import dataclasses

from genjax.data.sources import TFDS
from genjax.experiment import Every, Experiment
from genjax.families.diffusion import Denoising, Diffusion
from genjax.nets.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DPMSolver
from genjax.schedules import Constant, WarmUp
from genjax.start import StartFrom


def get_config(tiny: bool = False) -> Experiment:
    family = Diffusion(
        net=UNet((16, 32, 32), 1, ()),
        target="v",
        data_std=0.6,
        width=64,
        sampler=Denoising(DPMSolver(16), clip=True),
    )
    if tiny:
        family = dataclasses.replace(
            family, net=UNet((8,), 1, ()), width=16, sampler=Denoising(DPMSolver(2), clip=True)
        )
    return Experiment(
        family=family,
        data=TFDS(name="fashion_mnist"),
        optimizer=Adam(WarmUp(4 if tiny else 50, Constant(1e-3))),
        steps=8 if tiny else 600,
        batch_size=16 if tiny else 64,
        ema=0.99,
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 50, 600, 300),
        start_from=StartFrom("runs/diffusion_mnist_tiny" if tiny else "runs/diffusion_mnist"),
    )
