"""The 25 Gaussians of PacGAN (Lin et al., arXiv 1712.04086): does a GAN find them all?

    python -m genjax train gan_points
    python -m genjax train gan_points --family.pack 2 --batch-size 200

A batch has 100 packs. 30,000 steps took about 10 min, with packs of two 12 to 14 min, on one core
of a 2.5 GHz x86 machine (November 2026, jax 0.10.2). In that version of the code the two players
did not share fakes: the generator received fresh ones. Of 2,500 samples, seeds 0 and 1:

    plain          24, 20 modes   65, 77 % good   reverse KL 0.44, 0.52
    packs of two   23, 25 modes   62, 44 % good   reverse KL 0.33, 0.26

The paper's ten trials of 400,000 steps: 17.3 modes, 94.8 % good, KL 0.70 for the plain game and
23.8 modes, 91.3 %, 0.13 with packs of two. After a thirteenth of the steps fewer samples are near
a centre, but packs already make the modes more even.

Result:
    command: python -m genjax train gan_points
    data: 25 Gaussians
    hardware: one 2.5 GHz x86 core
    minutes: 10
    seeds: 0, 1
    metric: modes of 25 among 2,500 samples, 30,000 steps
    value: 24, 20
    published: 17.3 after 400,000 steps (PacGAN, arXiv 1712.04086)

Result:
    command: python -m genjax train gan_points
    data: 25 Gaussians
    hardware: one 2.5 GHz x86 core
    minutes: 10
    seeds: 0, 1
    metric: reverse KL, 30,000 steps
    value: 0.44, 0.52
    published: 0.70 after 400,000 steps (PacGAN, arXiv 1712.04086)

Result:
    command: python -m genjax train gan_points --family.pack 2 --batch-size 200
    data: 25 Gaussians
    hardware: one 2.5 GHz x86 core
    minutes: 12 to 14
    seeds: 0, 1
    metric: modes of 25 among 2,500 samples, 30,000 steps
    value: 23, 25
    published: 23.8 after 400,000 steps (PacGAN, arXiv 1712.04086)

Result:
    command: python -m genjax train gan_points --family.pack 2 --batch-size 200
    data: 25 Gaussians
    hardware: one 2.5 GHz x86 core
    minutes: 12 to 14
    seeds: 0, 1
    metric: reverse KL, 30,000 steps
    value: 0.33, 0.26
    published: 0.13 after 400,000 steps (PacGAN, arXiv 1712.04086)
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    data = gx.Points("twenty_five_gaussians", size=100_000)
    centres, std = data.modes()
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=2,
            generator=gx.MLPGenerator((400,) * 4, batch_norm=True),
            discriminator=gx.MaxoutBackbone((200,) * 3, 5),
            init_std=0.02,
        ),
        data=data,
        optimizer=gx.Players(
            gx.Adam(gx.Constant(1e-4), b1=0.8), gx.Adam(gx.Constant(1e-4), b1=0.8)
        ),
        steps=30_000,
        batch_size=100,
        evaluators=(
            gx.GameGauges(),
            gx.MixtureModes(tuple(map(tuple, centres.tolist())), std, samples=2500),
        ),
        every=gx.Every(log=200, evaluate=5000, sample=5000, checkpoint=5000),
        keep=gx.Keep(best="modes", larger_is_better=True),
        steps_per_dispatch=20,
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.generator.hidden": (8,),
            "family.discriminator.hidden": (8,),
            "family.discriminator.pieces": 2,
            "data.size": 1000,
            "steps": 8,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "steps_per_dispatch": 1,
        },
    )
