"""TabDDPM (Kotelnikov et al., arXiv 2209.15421) on Abalone: the rings of 4,177 shells."""

import os

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    folder = os.environ.get("GENJAX_DATA", "")
    experiment = gx.Experiment(
        family=gx.TabularDiffusion(net=gx.ResidualMLP(256, 2, 512)),
        data=gx.Table(
            "tables/abalone.data",
            target="Rings",
            normalise="quantiles",
            root=folder,
            delimiter=",",
        ),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5))),
        steps=8000,
        batch_size=256,
        ema=0.999,
        every=gx.Every(log=100, evaluate=2000, sample=8000, checkpoint=2000),
        steps_per_dispatch=50,
    )
    return experiment
