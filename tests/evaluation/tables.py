"""A table with known samples, for the tests of the metrics for tables."""

import jax
import numpy as np

from genjax.data.dataset import Spec
from genjax.data.tables.codec import CategoryColumn, NumberColumn, TableCodec
from genjax.data.tables.fit import TableRows
from genjax.evaluation.judge import Model
from genjax.families.likelihoods import Tabular
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from tests.evaluation.test_bias import Planted

CODEC = TableCodec(
    (
        NumberColumn("body mass", (1.0,), (0.0,), (1.0,), decimals=3, missing=True),
        NumberColumn("age", (1.0,), (0.0,), (1.0,), decimals=3),
    ),
    (CategoryColumn("kind", ("a", "b", "c"), missing=True),),
    ("body mass", "kind", "age"),
    "kind",
)
FAMILY = VAE(2, MLPCoder((4,)), Tabular())
SPEC = Spec(
    "table",
    (2 + sum(CODEC.sizes),),
    np.zeros(2 + sum(CODEC.sizes), np.float32),
    categories=CODEC.sizes,
)


def columns(mass, kind, age):
    return {
        "body mass": np.array(mass, float),
        "kind": np.array(kind, object),
        "age": np.array(age, float),
    }


def vectors(rows, codec=CODEC):
    """Columns as samples [N, D]."""
    batch = codec.encode(rows)
    hot = [np.eye(size)[batch["categorical"][:, k]] for k, size in enumerate(codec.sizes)]
    return np.concatenate([batch["numeric"], *hot], axis=1)


def table_subject(layout, samples, codec=CODEC, **splits):
    """A subject that draws ``samples`` and has ``splits``, all of them columns."""
    parts = {name: TableRows(**codec.encode(rows)) for name, rows in splits.items()}
    model = Model(FAMILY, None, SPEC, codec, "step 0")
    return Planted(
        model, parts, "test", jax.random.key(0), layout, 16, drawn=vectors(samples, codec)
    )


def drawn(rows, seed):
    """``kind`` decides which of two far places the age is near; the mass hangs on nothing."""
    draw = np.random.default_rng(seed)
    place = draw.integers(0, 2, rows)
    return columns(
        draw.normal(size=rows),
        np.array(["a", "b"], object)[place],
        4 * place + 0.3 * draw.normal(size=rows),
    )
