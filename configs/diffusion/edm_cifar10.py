"""EDM (Karras et al., arXiv 2206.00364) on CIFAR-10: its process, preconditioning, loss and Heun's sampler.

    python -m genjax train edm_cifar10
    python -m genjax train edm_cifar10 --data.name cifar10_jpeg     # a lossy copy; no score of it is a published one

Log-normal noise levels, sigma_data 0.5, non-leaking augmentation and 18 steps of Heun are the paper's; the U-Net is
smaller than its 56M parameters, and its augmentation has scaling and any rotation besides. Work for a GPU.

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.steps_curve import StepsCurve
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.augment import NonLeaking
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import Adam
from genjax.samplers import Heun
from genjax.samplers.diffusion.processes import EDM
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, (), 8) if tiny else UNet((128, 256, 256), 3, (16,), 64, dropout=0.13),
            process=EDM(),
            target="v",
            weighting="edm",
            data_std=0.5,
            width=16 if tiny else 512,
            augment=NonLeaking(0.12, shift=4),
            sampler=Denoising(Heun(2 if tiny else 18)),
        ),
        data=TFDS(name="cifar10"),
        optimizer=Adam(WarmUp(4 if tiny else 10_000, Constant(1e-3)), clip=1.0),
        steps=4 if tiny else 200_000,
        batch_size=8 if tiny else 512,
        ema=0.9999,
        evaluators=()
        if tiny
        else (
            SampleQuality(features="inception", samples=10_000, while_training=False),
            StepsCurve((4, 6, 9, 18), "inception", 10_000),
            Memorisation(features="inception", while_training=False),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 10_000, 5000, 5000),
    )
