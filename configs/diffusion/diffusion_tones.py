"""A label-conditional diffusion on generated tones: a one-dimensional U-Net, 8 pitches, sounds to listen to.

    python -m genjax train diffusion_tones
    python -m genjax sample runs/diffusion_tones --sampler.label 5 --num 4     # four tones at 440 Hz: a WAV file

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import Tones
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import Adam
from genjax.samplers import DPMSolver
from genjax.samplers.diffusion.processes import VPCosine
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, ()) if tiny else UNet((32, 48, 64, 64, 64), 1, ()),
            process=VPCosine(),
            target="v",
            data_std=0.17,
            width=16 if tiny else 128,
            conditional=True,
            sampler=Denoising(DPMSolver(2 if tiny else 24), clip=True),
        ),
        data=Tones(size=200, test_size=50, length=64) if tiny else Tones(),
        optimizer=Adam(WarmUp(4 if tiny else 200, Constant(5e-4))),
        steps=8 if tiny else 5000,
        batch_size=16 if tiny else 64,
        ema=0.995,
        evaluators=(GeneralisationGap(100 if tiny else 1000, while_training=False),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 500),
    )
