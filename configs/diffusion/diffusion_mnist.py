"""A small diffusion on MNIST, minutes of a CPU: what `transfer_mnist_to_fashion` starts from.

    python -m genjax train diffusion_mnist

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.experiment import Every, Experiment
from genjax.families.diffusion import Denoising, Diffusion
from genjax.nets.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DPMSolver
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, ()) if tiny else UNet((16, 32, 32), 1, ()),
            target="v",
            data_std=0.6,
            width=16 if tiny else 64,
            sampler=Denoising(DPMSolver(2 if tiny else 16), clip=True),
        ),
        data=TFDS(name="mnist"),
        optimizer=Adam(WarmUp(4 if tiny else 100, Constant(1e-3))),
        steps=8 if tiny else 1000,
        batch_size=16 if tiny else 64,
        ema=0.99,
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 500, 1000, 500),
    )
