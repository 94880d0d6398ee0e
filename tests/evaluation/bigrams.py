"""Models of texts whose law is written down: tables of which token follows which."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax import parallel
from genjax.evaluation.judge import Model, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.family import init_state
from genjax.nets.bigram import Bigram
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant


def subject(data, table, steps=40, split="test", batch_size=8):
    """A ``Subject`` of opened data and the table of probabilities [V, V], which draws
    ``steps`` tokens.
    """
    family = Autoregressive(Bigram(256), sampler=Decoding(steps=steps))
    example = {"tokens": jnp.zeros((1, *data.spec.shape), jnp.int32)}
    _, variables = family.init(jax.random.key(0), example, data.spec)
    params = {"table": jnp.log(jnp.asarray(np.maximum(table, 1e-30), jnp.float32))}
    state = init_state(params, variables, Adam(Constant(0.1)).build(1), jax.random.key(0))
    layout = parallel.start(Devices(count=1))
    model = Model(family, layout.init(lambda: state), data.spec, data.codec, "a table")
    return Subject(model, data.splits, split, jax.random.key(1), layout, batch_size)
