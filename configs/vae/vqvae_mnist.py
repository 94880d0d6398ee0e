"""A VQ-VAE on MNIST with short codes, each image 7x7 of them: the latent space of `latent_diffusion_mnist`.

    python -m genjax train vqvae_mnist

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.reconstruction import Reconstructions
from genjax.evaluation.likelihood.codebook import CodebookUsage
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import Gaussian
from genjax.families.vqvae import VQVAE
from genjax.nets.conv.spatial import SpatialCoder
from genjax.optim import Adam
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VQVAE(
            codes=32 if tiny else 256,
            code_dim=4,
            coder=SpatialCoder(channels=(4, 8), residual_blocks=1) if tiny else SpatialCoder(channels=(32, 64)),
            likelihood=Gaussian("fixed", 1.0),
        ),
        data=TFDS(name="mnist"),
        optimizer=Adam(WarmUp(100, Cosine(1e-3, 1e-5)), clip=1000.0),
        steps=8 if tiny else 3000,
        batch_size=16 if tiny else 128,
        ema=None,
        evaluators=(Reconstructions(), CodebookUsage()),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
    )
