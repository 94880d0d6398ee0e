"""A text-conditional diffusion on generated pictures with captions: a prompt tells it what to draw.

    python -m genjax train diffusion_captioned_shapes
    python -m genjax sample runs/diffusion_captioned_shapes --prompt "a red circle at the top left" \
        --sampler.guidance-scale 3
    python -m genjax evaluate runs/diffusion_captioned_shapes

Without a prompt samples are those of the unconditional model. The test split holds combinations of shape, colour, place
and size that training never shows.

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import CaptionedShapes
from genjax.data.text.hashed import HashedText
from genjax.evaluation.images.quality import SampleQuality
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DPMSolver
from genjax.samplers.diffusion.processes import VPCosine
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    text = HashedText(16 if tiny else 64)
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, ()) if tiny else UNet((32, 64, 64), 1, (4,)),
            process=VPCosine(),
            target="v",
            data_std=0.4,
            width=16 if tiny else 128,
            text=text,
            sampler=Denoising(DPMSolver(2 if tiny else 16), clip=True),
        ),
        data=CaptionedShapes(size=200, test_size=50, text=text) if tiny else CaptionedShapes(text=text),
        optimizer=Adam(WarmUp(4 if tiny else 200, Constant(5e-4))),
        steps=8 if tiny else 6000,
        batch_size=16 if tiny else 64,
        ema=0.995,
        evaluators=() if tiny else (SampleQuality(samples=1000, kernel_subset=500, while_training=False),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 500),
    )
