"""TabDDPM (Kotelnikov et al., arXiv 2209.15421) on a pair of tables: customers and their orders.

    python -m genjax train tabddpm_orders
    python -m genjax evaluate runs/tabddpm_orders
    python -m genjax sample runs/tabddpm_orders --num 1000    # customers and orders, two CSV files
    python -m genjax sample runs/tabddpm_orders --num 8 --sampler.where "plan='plus' and orders=3"

The tables are generated with known relations, see ``gx.Customers``; for one's own pair of files put
``gx.RelatedTables("customers.csv", "orders.csv", key="customer")`` in its place. A customer with
all orders is one example, so that the orders of one customer depend on one another.

4,000 steps took 1:45 minutes of CPU time, 18 minutes on two very busy x86 cores (November 2026, jax
0.10.2), seed 0, averaged parameters. 4,000 customers with their orders, beside 1,000 held-out ones;
in the last column the training rows whose orders went to random customers, which is what a model of
each table by itself would get:

                                              samples    training rows    shuffled
    associations of customers and orders      0.051      0.021            0.154
    associations of two orders of a customer  0.065      0.079            0.450
    distribution of the number of orders      0.100      0.023            0.023
    orders of no customer                     0          0                0

The numbers are mean absolute differences of associations, and a total variation distance. Customers
have 1.95 orders in the mean, for 1.66 of the held-out ones: too few have none. 16 % of samples
equal a training row, as 21 % of new customers do, who have no orders; the area under the curve of
the membership attack is 0.524, the diversity 1.21.

Result:
    command: python -m genjax train tabddpm_orders
    data: generated customers and orders
    hardware: two x86 cores, very busy (minutes of CPU time)
    minutes: 1.1 to 2
    seeds: 0, 1, 2
    metric: mean difference of associations of customers' columns with their orders'
    value: 0.051, 0.046, 0.042
    kept: tabddpm_orders:dependence_difference, tabddpm_orders_1:dependence_difference,
      tabddpm_orders_2:dependence_difference
    baseline: 0.021 of training rows; 0.154 of orders given to random customers

Result:
    command: python -m genjax train tabddpm_orders
    data: generated customers and orders
    hardware: two x86 cores, very busy (minutes of CPU time)
    minutes: 1.1 to 2
    seeds: 0, 1, 2
    metric: total variation distance of the numbers of orders
    value: 0.100, 0.106, 0.109
    kept: tabddpm_orders:cardinality_distance, tabddpm_orders_1:cardinality_distance,
      tabddpm_orders_2:cardinality_distance
    baseline: 0.023 of training rows
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
