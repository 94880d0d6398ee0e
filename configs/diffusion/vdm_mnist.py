"""A variational diffusion (Kingma et al., arXiv 2107.00630) on MNIST: learned schedule, bits per dimension.

    python -m genjax train vdm_mnist
    python -m genjax evaluate runs/vdm_mnist      # the ODE's bits per dimension of 500 test images

As far as two busy CPU cores went in an hour, seed 0: 1,882 steps of a smaller net, not yet this config as it stands:

    --batch-size 64 --family.net.channels 16 32 --family.net.blocks 1 --optimizer.learning-rate.warm-up 200

The bound is 1.449 bits/dim over the test set and was still falling. The ODE gives 1.859 (standard error 0.014) on 500
test images, raw pixels with uniform dequantisation; this took most of 93 min. Published flows, for scale: RealNVP 1.06,
Glow 1.05, FFJORD 0.99.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.likelihood.flow import FlowLikelihood
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.bound import Learned
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.conv.unet import UNet
from genjax.optim import AdamW
from genjax.samplers import DDPM
from genjax.schedules import Constant, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Diffusion(
            net=UNet((8,), 1, (), 8) if tiny else UNet((32, 64), 2, (), 16, dropout=0.1),
            process=Learned(8 if tiny else 1024),
            target="noise",
            weighting="likelihood",
            width=16 if tiny else 128,
            fourier=(6, 7),
            sampler=Denoising(DDPM(2 if tiny else 250)),
        ),
        data=TFDS(name="mnist"),
        optimizer=AdamW(WarmUp(4 if tiny else 500, Constant(1e-3)), weight_decay=0.01),
        steps=4 if tiny else 20_000,
        batch_size=8 if tiny else 128,
        ema=0.999,
        evaluators=() if tiny else (FlowLikelihood(500),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 5000, 1000),
    )
