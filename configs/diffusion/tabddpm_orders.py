"""TabDDPM (Kotelnikov et al., arXiv 2209.15421) on a pair of tables: customers and their orders.

    python -m genjax train tabddpm_orders
    python -m genjax evaluate runs/tabddpm_orders
    python -m genjax sample runs/tabddpm_orders --num 1000    # customers and orders, two CSV files
    python -m genjax sample runs/tabddpm_orders --num 8 --sampler.where "plan='plus' and orders=3"

The tables are generated with known relations, see ``gx.Customers``; for one's own pair of files put
``gx.RelatedTables("customers.csv", "orders.csv", key="customer")`` in its place. A customer with
all orders is one example, so that the orders of one customer depend on one another.

Result:
    command: python -m genjax train tabddpm_orders
    data: generated customers and orders
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.TabularDiffusion(net=gx.ResidualMLP(256, 2, 512)),
        data=gx.Customers(),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5))),
        steps=4000,
        batch_size=256,
        ema=0.999,
        evaluators=(
            gx.TabularRelations(4000, while_training=False),
            gx.TabularMarginals(4000, while_training=False),
            gx.TabularPrivacy(2000, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=1000, sample=4000, checkpoint=500),
        steps_per_dispatch=50,
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net": gx.ResidualMLP(16, 1, 16),
            "family.width": 8,
            "family.steps": 8,
            "family.sampler.steps": 4,
            "data.size": 200,
            "data.most": 3,
            "steps": 8,
            "batch_size": 16,
            "evaluators.0.samples": 100,
            "evaluators.1.samples": 100,
            "evaluators.2.samples": 100,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "steps_per_dispatch": 2,
        },
    )
