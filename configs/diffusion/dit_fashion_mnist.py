"""A diffusion Transformer (Peebles & Xie, arXiv 2212.09748) on Fashion-MNIST: class-conditional, with guidance.

    python -m genjax train classifier_fashion_mnist      # tells what the samples show
    python -m genjax train dit_fashion_mnist
    python -m genjax evaluate runs/dit_fashion_mnist     # label agreement and diversity over the guidance scale

Min-SNR weights (Hang et al., arXiv 2303.09556), v, and the cosine schedule.

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.agreement import LabelAgreement
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.sheet import Sheet
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.transformer.dit import DiT
from genjax.optim import AdamW
from genjax.samplers import DPMSolver
from genjax.samplers.diffusion.processes import VPCosine
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    eyes = "runs/classifier_fashion_mnist"
    return Experiment(
        family=Diffusion(
            net=DiT(7, 16, 1, 2) if tiny else DiT(4, 192, 6, 6),
            process=VPCosine(),
            target="v",
            weighting="min_snr",
            width=16 if tiny else 192,
            conditional=True,
            sampler=Denoising(DPMSolver(2 if tiny else 25), guidance_scale=2.0, clip=True),
        ),
        data=TFDS(name="fashion_mnist"),
        optimizer=AdamW(WarmUp(4 if tiny else 500, Constant(3e-4)), weight_decay=0.01, clip=1.0),
        steps=4 if tiny else 20_000,
        batch_size=8 if tiny else 128,
        ema=0.999,
        evaluators=()
        if tiny
        else (
            SampleQuality(features=eyes, while_training=False),
            LabelAgreement(eyes, while_training=False),
            GuidanceCurve(eyes),
            Memorisation(features=eyes, while_training=False),
            Sheet(features=eyes, classifier=eyes, while_training=False),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 2000, 2000, 1000),
    )
