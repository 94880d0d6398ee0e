"""FLOPs against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.cli.bench import step_flops
from genjax.cli.flops import count_flops
from genjax.data.dataset import Dataset, Spec
from genjax.experiment import Experiment
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE
from genjax.nets.conv.conv import down_lax, down_matmul, up_lax, up_matmul
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.runs.setup import set_up
from tests.toy import ToyData


def test_products_batches_and_loops():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    assert count_flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5
    assert count_flops(jnp.matmul, jnp.ones((7, 3, 4)), jnp.ones((7, 4, 5))) == 7 * 2 * 3 * 4 * 5
    scanned = lambda a, s: jax.lax.scan(lambda c, _: (c @ s, None), a, None, 6)[0]  # noqa: E731
    assert count_flops(scanned, a, jnp.ones((4, 4))) == 6 * 2 * 3 * 4 * 4
    branched = lambda p, a: jax.lax.cond(p, lambda: a @ b, lambda: jnp.zeros((3, 5)))  # noqa: E731
    assert count_flops(branched, True, a) == 2 * 3 * 4 * 5


def test_both_forms_of_a_convolution_count_the_same():
    x, kernel = jnp.ones((8, 10, 12, 3)), jnp.ones((4, 4, 3, 5))
    forward = 2 * 8 * 5 * 6 * 5 * (4 * 4 * 3)
    assert count_flops(down_lax, x, kernel) == count_flops(down_matmul, x, kernel) == forward
    up = jnp.ones((4, 4, 3, 6))
    assert (
        count_flops(up_lax, x, up)
        == count_flops(up_matmul, x, up)
        == 2 * 8 * 10 * 12 * 3 * (4 * 4 * 6)
    )


def test_a_step_counts_the_same_however_it_is_accumulated():
    spec = Spec("points", (10,), np.zeros(10, np.float32))

    def flops(accumulate):
        experiment = Experiment(
            VAE(4, MLPCoder((6,)), Gaussian()), ToyData(), Adam(accumulate=accumulate), batch_size=8
        )
        return step_flops(set_up(experiment, data=Dataset({}, spec, None, "")))

    layers = [10 * 6, 6 * 8, 4 * 6, 6 * 10]
    forward = 2 * 8 * sum(layers)
    backward = 2 * forward - 2 * 8 * layers[0]  # no gradient for the data
    dots = 2 * sum([*layers, 6, 8, 6, 10])  # the gradient's norm
    assert (
        abs(flops(1) - forward - backward - dots) < 0.2 * forward
    )  # sums over an example are products, too
    assert abs(flops(4) - flops(1)) < 0.1 * flops(1)
