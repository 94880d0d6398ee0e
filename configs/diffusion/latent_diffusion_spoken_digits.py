"""A class-conditional diffusion of spoken digits, in the latents of a VAE of mel spectrograms.

    python -m genjax train classifier_spoken_digits     # says what the samples sound like
    python -m genjax train autoencoder_spoken_digits    # the latent space
    python -m genjax train latent_diffusion_spoken_digits
    python -m genjax sample runs/latent_diffusion_spoken_digits --sampler.label 7 --num 8
    python -m genjax evaluate runs/latent_diffusion_spoken_digits

4,000 steps took 21 min on two cores that others kept busy, under 3 min of processor time
(November 2026, jax 0.10.2, seed 0). The classifier, 99.67 % right on test recordings, recognises
97.8 % of 1,000 samples as the requested digit.

Of 300 samples it recognises 97.67 %, and 96.67 % after the way through a waveform; of 300 test
recordings 99.67 and 99.33 %. The squared Fréchet distance to the training part in its 64 features
is 0.572 (0.668 after the waveform) for 300 samples and 0.227 (0.251) for 300 test recordings. The
spectrograms are smoother than real ones, which the decoder's means explain. One of 1,000 samples
is as close to a training spectrogram as 0.3 % of held-out ones are.

Result:
    command: python -m genjax train latent_diffusion_spoken_digits
    data: Free Spoken Digits, latents of `autoencoder_spoken_digits`, guidance
    hardware: two 2.5 GHz x86 cores, busy
    minutes: 21
    seeds: 0
    metric: samples that a classifier takes for the requested digit, % of 1,000
    value: 97.8
    kept: latent_diffusion_spoken_digits:label_agreement
"""

from genjax import gx

CLASSIFIER = "runs/classifier_spoken_digits"


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.LatentDiffusion(
            autoencoder="runs/autoencoder_spoken_digits",
            diffusion=gx.Diffusion(
                net=gx.ResidualMLP(256, 4, 512),
                process=gx.VPCosine(),
                target="v",
                width=128,
                conditional=True,
                sampler=gx.Denoising(gx.DPMSolver(20), guidance_scale=1.5),
            ),
        ),
        data=gx.MelSpectrograms(),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5))),
        steps=4000,
        batch_size=128,
        ema=0.998,
        evaluators=(
            gx.LabelAgreement(CLASSIFIER, while_training=False),
            gx.WaveformQuality(CLASSIFIER, while_training=False),
            gx.SampleQuality(CLASSIFIER, samples=1000, kernel_subset=300, while_training=False),
            gx.Memorisation(features=CLASSIFIER, samples=1000, while_training=False),
            gx.Diversity(features=CLASSIFIER, samples=1000, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=1000, sample=2000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.diffusion.net": gx.ResidualMLP(16, 1, 16),
            "family.diffusion.width": 16,
            "family.diffusion.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
