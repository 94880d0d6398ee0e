"""DDPM (Ho et al., arXiv 2006.11239) on MNIST: a U-Net predicts the noise.

    python -m genjax train classifier_mnist       # its features judge the samples
    python -m genjax train ddpm_mnist
    python -m genjax evaluate runs/ddpm_mnist     # and how quality depends on the number of steps

The paper's linear schedule in continuous time, its loss and a smaller U-Net; samples by 50 steps of DDIM.

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.inpainting import Inpainting
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.sheet import Sheet
from genjax.evaluation.images.steps_curve import StepsCurve
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DDIM
from genjax.samplers.diffusion.processes import VPLinear
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    eyes = "runs/classifier_mnist"
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, (), 8) if tiny else UNet((32, 64, 64), 2, (7,), 16, dropout=0.1),
            process=VPLinear(),
            target="noise",
            width=16 if tiny else 128,
            sampler=Denoising(DDIM(2 if tiny else 50), clip=True),
        ),
        data=TFDS(name="mnist"),
        optimizer=Adam(WarmUp(4 if tiny else 1000, Constant(2e-4)), clip=1.0),
        steps=4 if tiny else 20_000,
        batch_size=8 if tiny else 128,
        ema=0.999,
        evaluators=()
        if tiny
        else (
            SampleQuality(features=eyes, while_training=False),
            StepsCurve(features=eyes),
            Memorisation(features=eyes, while_training=False),
            Inpainting(),
            Sheet(features=eyes, classifier=eyes, while_training=False),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 2000, 2000, 1000),
    )
