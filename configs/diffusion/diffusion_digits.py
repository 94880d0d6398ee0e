"""A class-conditional diffusion on scikit-learn's digits: real data without a download.

    python -m genjax train classifier_digits       # says which digits the samples are
    python -m genjax train diffusion_digits
    python -m genjax sample runs/diffusion_digits --sampler.label 7 --sampler.guidance-scale 3
    python -m genjax evaluate runs/diffusion_digits

1,500 steps took 3 min 40 s with compilation on two 2.5 GHz x86 cores (November 2026, jax 0.10.2,
seed 0). A classifier with an accuracy of 98.99 % on held-out digits finds the requested label in
100 % of 1,000 samples, and all ten classes. None of 1,500 samples is a copy of a training image;
0.3 % of held-out images would count as one.

At guidance 2 the Fréchet distance in pixels is 0.61, precision 0.99 and recall 0.68. At guidance 0,
1, 2 and 4 the label agreement is 10, 99, 100 and 100 %, and two samples of a label are 7.6, 4.5,
3.9 and 3.4 apart in the classifier's features.

Result:
    command: python -m genjax train diffusion_digits
    data: scikit-learn digits, class-conditional, guidance
    hardware: two 2.5 GHz x86 cores
    minutes: 3.67
    seeds: 0
    metric: samples that a classifier takes for the requested digit, % of 1,000
    value: 100
"""

from genjax import gx

CLASSIFIER = "runs/classifier_digits"


def get_config(tiny: bool = False) -> gx.Experiment:
    judged_by_classifier = (
        gx.LabelAgreement(CLASSIFIER, while_training=False),
        gx.GuidanceCurve(CLASSIFIER),
    )
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((32, 64), 1, (4,)),
            process=gx.VPCosine(),
            target="v",
            width=128,
            conditional=True,
            sampler=gx.Denoising(gx.DPMSolver(16), guidance_scale=2.0, clip=True),
        ),
        data=gx.Digits(),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Constant(1e-3))),
        steps=1500,
        batch_size=64,
        ema=0.99,
        evaluators=(
            gx.SampleQuality(samples=1500, kernel_subset=500),
            gx.Memorisation(samples=1500, while_training=False),
            *judged_by_classifier,
        ),
        every=gx.Every(log=100, evaluate=1500, sample=500, checkpoint=500),
        keep=gx.Keep(best="kernel_pixels"),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.net.attention": (),
            "family.width": 16,
            "family.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (
                gx.SampleQuality(samples=100, kernel_subset=50),
                gx.Memorisation(while_training=False, samples=100),
            ),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
