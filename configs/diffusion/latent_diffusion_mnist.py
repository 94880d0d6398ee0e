"""A class-conditional diffusion in the latent space of a VQ-VAE (Rombach et al., arXiv 2112.10752).

    python -m genjax train vqvae_mnist             # the latent space
    python -m genjax train classifier_mnist        # judges the samples
    python -m genjax train latent_diffusion_mnist
    python -m genjax sample runs/latent_diffusion_mnist --sampler.label 7 --sampler.guidance-scale 3
    python -m genjax evaluate runs/latent_diffusion_mnist

The data is MNIST. The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train latent_diffusion_mnist
    data: MNIST, in the latent space of `vqvae_mnist`, guidance
    value: not yet run
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
