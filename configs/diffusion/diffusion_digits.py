"""A class-conditional diffusion on scikit-learn's digits: real data that needs no download.

    python -m genjax train classifier_digits       # tells which digits the samples are
    python -m genjax train diffusion_digits
    python -m genjax sample runs/diffusion_digits --sampler.label 7 --sampler.guidance-scale 3
    python -m genjax evaluate runs/diffusion_digits

1,500 steps, two 2.5 GHz x86 cores, November 2026, jax 0.10.2, seed 0: 3 min 40 s in all, compilation included.
A classifier with 98.99 % on held-out digits takes 100 % of 1,000 samples for what was
asked for, and finds all ten classes; no copies of the training set among 1,500 samples (held-out images: 0.3 %).
Fréchet distance in pixels 0.61, precision 0.99, recall 0.68 at guidance 2. Over guidance 0, 1, 2 and 4 the agreement
is 10, 99, 100 and 100 %, and two samples of a label are 7.6, 4.5, 3.9 and 3.4 apart in the classifier's features.
"""

from genjax.data.sources import Digits
from genjax.evaluation.images.agreement import LabelAgreement
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.experiment import Every, Experiment, Keep
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DPMSolver
from genjax.samplers.diffusion.processes import VPCosine
from genjax.schedules import Constant, WarmUp

CLASSIFIER = "runs/classifier_digits"


def get_config(tiny: bool = False) -> Experiment:
    judged_by_classifier = (LabelAgreement(CLASSIFIER, while_training=False), GuidanceCurve(CLASSIFIER))
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, ()) if tiny else UNet((32, 64), 1, (4,)),
            process=VPCosine(),
            target="v",
            width=16 if tiny else 128,
            conditional=True,
            sampler=Denoising(DPMSolver(2 if tiny else 16), guidance_scale=2.0, clip=True),
        ),
        data=Digits(),
        optimizer=Adam(WarmUp(4 if tiny else 100, Constant(1e-3))),
        steps=8 if tiny else 1500,
        batch_size=16 if tiny else 64,
        ema=0.99,
        evaluators=(
            SampleQuality(samples=100 if tiny else 1500, kernel_subset=50 if tiny else 500),
            Memorisation(samples=100 if tiny else 1500, while_training=False),
            *(() if tiny else judged_by_classifier),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1500, 500, 500),
        keep=Keep(best="kernel_pixels"),
    )
