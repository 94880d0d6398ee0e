"""A class-conditional diffusion in the latent space of a VQ-VAE (Rombach et al., arXiv 2112.10752).

    python -m genjax train vqvae_mnist             # the latent space
    python -m genjax train classifier_mnist        # judges the samples
    python -m genjax train latent_diffusion_mnist
    python -m genjax sample runs/latent_diffusion_mnist --sampler.label 7 --sampler.guidance-scale 3
    python -m genjax evaluate runs/latent_diffusion_mnist

The data is MNIST. 4,000 steps of 64 took 9.5 minutes of CPU time on two x86 cores shared with other
work (November 2026, jax 0.10.2, seed 0). With guidance 1.5 a classifier takes
98.9 % of 1,000 samples for the requested digit; without guidance 91.0 % of 500, at 2 and 4 99.8 and
100 %, while the distance between samples of a digit falls from 2.36 to 0.93 and 0.66. In its
features the Fréchet distance of 5,000 samples is 0.055, precision 0.947, recall 0.856; after 2, 4,
8, 16 and 32 steps it is 0.223, 0.114, 0.085, 0.086 and 0.086, of 1,000 samples each. Of 1,000
samples 0.1 % are copies of training images by their pixels, fewer than the 0.5 % of new images
that would count as one.

Result:
    command: python -m genjax train latent_diffusion_mnist
    data: MNIST, in the latent space of `vqvae_mnist`, guidance
    hardware: two x86 cores, shared (minutes of CPU time)
    minutes: 9.5
    seeds: 0
    metric: samples that a classifier takes for the requested digit, % of 1,000
    value: 98.9
    kept: latent_diffusion_mnist:label_agreement

Result:
    command: python -m genjax train latent_diffusion_mnist
    data: MNIST, in the latent space of `vqvae_mnist`, guidance
    hardware: two x86 cores, shared (minutes of CPU time)
    minutes: 9.5
    seeds: 0
    metric: Fréchet distance of 5,000 samples in the features of `classifier_mnist`
    value: 0.055
    kept: latent_diffusion_mnist:frechet_classifier_mnist
"""

from genjax import gx

CLASSIFIER = "runs/classifier_mnist"


def get_config(tiny: bool = False) -> gx.Experiment:
    judged_by_classifier = (
        gx.SampleQuality(CLASSIFIER, samples=5000, while_training=False),
        gx.LabelAgreement(CLASSIFIER, while_training=False),
        gx.GuidanceCurve(CLASSIFIER),
        gx.StepsCurve(features=CLASSIFIER),
    )
    experiment = gx.Experiment(
        family=gx.LatentDiffusion(
            autoencoder="runs/vqvae_mnist",
            diffusion=gx.Diffusion(
                net=gx.UNet((32, 64), 1, (4,)),
                process=gx.VPCosine(),
                target="v",
                width=128,
                conditional=True,
                sampler=gx.Denoising(gx.DPMSolver(20), guidance_scale=1.5),
            ),
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5))),
        steps=4000,
        batch_size=64,
        ema=0.998,
        evaluators=(gx.Memorisation(samples=1000, while_training=False), *judged_by_classifier),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=1000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.diffusion.net.channels": (8,),
            "family.diffusion.net.attention": (),
            "family.diffusion.width": 16,
            "family.diffusion.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
