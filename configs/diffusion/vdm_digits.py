"""A variational diffusion (Kingma et al., arXiv 2107.00630) on digits, with a learned schedule.

    python -m genjax train vdm_digits
    python -m genjax evaluate runs/vdm_digits     # also the density by the probability-flow ODE

    python -m benchmarks.schedules --steps 1000   # the learned schedule next to fixed ones

The data is scikit-learn's digits. The full 3,000 steps have not been run. The table shows runs of
1,000 steps, 6 min each on one busy 2.5 GHz x86 core, with seeds 0, 1 and 2 (November 2026, jax
0.10.2): the variance of the loss of a training batch in nats squared, and the bound on the test
images in bits per dimension. The bound is that of averaged parameters, with the standard error of
ten draws of times and noise.

             variance             bound
    learned  18.9, 17.0, 18.8     1.991±0.015, 1.998±0.017, 1.997±0.016
    cosine   238, 266, 251        2.417±0.047, 2.483±0.052, 2.415±0.046
    linear   1395, 1883, 1799     2.811±0.147, 2.878±0.167, 2.830±0.153

Result:
    command: python -m genjax train vdm_digits --steps 1000
    data: scikit-learn digits, a learned schedule
    hardware: one 2.5 GHz x86 core, busy
    minutes: 6
    seeds: 0, 1, 2
    metric: bound in bits per dimension after 1,000 steps
    value: 1.991, 1.998, 1.997
    error: 0.015, 0.017, 0.016
    baseline: cosine schedule 2.417, 2.483, 2.415; linear schedule 2.811, 2.878, 2.830

Result:
    command: python -m genjax train vdm_digits --steps 1000
    data: scikit-learn digits, a learned schedule
    hardware: one 2.5 GHz x86 core, busy
    minutes: 6
    seeds: 0, 1, 2
    metric: variance of the loss of a training batch, nats squared, after 1,000 steps
    value: 18.9, 17.0, 18.8
    baseline: cosine schedule 238, 266, 251; linear schedule 1395, 1883, 1799

Result:
    command: python -m genjax train vdm_digits
    data: scikit-learn digits, a learned schedule
    metric: bound in bits per dimension after all 3,000 steps
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((32, 64), 1, (4,), dropout=0.1),
            process=gx.Learned(256, gamma_min=-8.0, gamma_max=5.0),
            target="noise",
            weighting="likelihood",
            width=128,
            fourier=(2, 3),
            sampler=gx.Denoising(gx.DDPM(100)),
        ),
        data=gx.Digits(),
        optimizer=gx.AdamW(gx.WarmUp(100, gx.Constant(1e-3)), weight_decay=0.01),
        steps=3000,
        batch_size=64,
        ema=0.995,
        evaluators=(gx.FlowLikelihood(297, batch=50),),
        every=gx.Every(log=100, evaluate=500, sample=1000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.net.attention": (),
            "family.net.dropout": 0.0,
            "family.process.width": 8,
            "family.width": 16,
            "family.sampler.solver.steps": 4,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators.0.examples": 4,
            "evaluators.0.batch": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
