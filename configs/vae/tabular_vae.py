"""TVAE (Xu et al., arXiv 1907.00503) on the measures of 569 breast tumours, a table that needs no download.

    python -m genjax train tabular_vae
    python -m genjax evaluate runs/tabular_vae
    python -m genjax sample runs/tabular_vae --num 1000      # a CSV file with the columns of the table

2,000 steps in about 2 min on one shared core of a 2.5 GHz x86 machine (1 min of CPU time), November 2026, jax 0.10.2.
Trained on 427 rows, tested on 142; of seeds 0, 1 and 2, each with five sets of 427 samples:

    accuracy trained on samples            94.5, 94.0, 94.1 % (standard error 0.2 to 0.4), on the real rows 95.4 %
      logistic regression                  95.1, 95.1, 95.4 %, on the real rows 96.5 %
      random forest                        93.9, 93.0, 92.8 %, on the real rows 94.4 %
    mean distance of a column              0.105, 0.109, 0.108; of the training rows 0.081
    mean difference of a correlation       0.188, 0.180, 0.153; of the training rows 0.091
    nearest record, over that of new rows  1.29, 1.26, 1.26; no copies

Correlations come out too weak, 0.27 in the mean instead of 0.39 (seed 0): given its latents the mode of a number is
drawn apart from where the number lies in it. With one mode a column the difference was 0.128 (seed 0, beta 0.5). With
all modes and beta 0.5, the weight in the paper's code, the held-out bound of seed 0 was 45.9 nats; at weight 1 it is
6.6, 10.8 and 9.6.
"""

from genjax.data.sources import EmbeddedTable
from genjax.evaluation.tables.correlations import TabularCorrelations
from genjax.evaluation.tables.marginals import TabularMarginals
from genjax.evaluation.tables.privacy import TabularPrivacy
from genjax.evaluation.tables.utility import TrainOnSynthetic
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import Tabular
from genjax.families.vae import VAE, PriorSampler
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.schedules import Constant


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VAE(
            latent_dim=4 if tiny else 16,
            coder=MLPCoder(hidden=(16,) if tiny else (128, 128)),
            likelihood=Tabular(),
            sampler=PriorSampler(draw=True),
        ),
        data=EmbeddedTable("iris" if tiny else "breast_cancer"),
        optimizer=Adam(Constant(1e-3), clip=100.0),
        steps=16 if tiny else 2000,
        batch_size=16 if tiny else 100,
        ema=0.999,
        evaluators=(
            TabularMarginals(200 if tiny else 2000),
            TabularCorrelations(200 if tiny else 2000),
            TrainOnSynthetic(("logistic_regression",), draws=2) if tiny else TrainOnSynthetic(while_training=False),
            TabularPrivacy(200 if tiny else 2000, while_training=False),
        ),
        every=Every(log=4, evaluate=8, sample=8, checkpoint=8) if tiny else Every(100, 500, 1000, 500),
        steps_per_dispatch=4 if tiny else 20,
    )
