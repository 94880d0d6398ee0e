"""TabDDPM (Kotelnikov et al., arXiv 2209.15421) on Adult: incomes of 32,561 people."""

import os

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    folder = os.environ.get("GENJAX_DATA", "")
    experiment = gx.Experiment(
        family=gx.TabularDiffusion(net=gx.ResidualMLP(256, 3, 512)),
        data=gx.Table(
            "tables/adult.csv",
            target="income",
            normalise="quantiles",
            root=folder,
        ),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(2e-3, 1e-5))),
        steps=12000,
        batch_size=512,
        ema=0.999,
        every=gx.Every(log=100, evaluate=2000, sample=6000, checkpoint=2000),
        steps_per_dispatch=50,
    )
    return experiment
