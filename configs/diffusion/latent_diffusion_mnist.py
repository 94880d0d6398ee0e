"""A class-conditional diffusion in the latent space of a VQ-VAE of MNIST (Rombach et al., arXiv 2112.10752).

    python -m genjax train vqvae_mnist             # the latent space
    python -m genjax train classifier_mnist        # judges the samples
    python -m genjax train latent_diffusion_mnist
    python -m genjax sample runs/latent_diffusion_mnist --sampler.label 7 --sampler.guidance-scale 3
    python -m genjax evaluate runs/latent_diffusion_mnist

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.agreement import LabelAgreement
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.steps_curve import StepsCurve
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DPMSolver
from genjax.samplers.diffusion.processes import VPCosine
from genjax.schedules import Constant, WarmUp

CLASSIFIER = "runs/classifier_mnist"


def get_config(tiny: bool = False) -> Experiment:
    judged_by_classifier = (
        SampleQuality(CLASSIFIER, samples=5000, while_training=False),
        LabelAgreement(CLASSIFIER, while_training=False),
        GuidanceCurve(CLASSIFIER),
        StepsCurve(features=CLASSIFIER),
    )
    return Experiment(
        family=LatentDiffusion(
            autoencoder="runs/vqvae_mnist",
            diffusion=Diffusion(
                net=UNet((8,), 1, ()) if tiny else UNet((64, 128), 2, (4,)),
                process=VPCosine(),
                target="v",
                width=16 if tiny else 256,
                conditional=True,
                sampler=Denoising(DPMSolver(2 if tiny else 20), guidance_scale=1.5),
            ),
        ),
        data=TFDS(name="mnist"),
        optimizer=Adam(WarmUp(4 if tiny else 200, Constant(5e-4))),
        steps=8 if tiny else 6000,
        batch_size=16 if tiny else 128,
        ema=0.998,
        evaluators=() if tiny else (Memorisation(samples=1000, while_training=False), *judged_by_classifier),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 2000, 2000, 1000),
    )
