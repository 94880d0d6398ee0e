"""CodebookUsage counts every code of every held-out example once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.evaluation.judge import Judge, Subject, make_model
from genjax.evaluation.likelihood.codebook import CodebookUsage
from genjax.families import vqvae
from genjax.families.vae import VAE
from genjax.families.vqvae import VQVAE
from genjax.nets.conv.spatial import SpatialCoder
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from genjax.runs.setup import initial_state
from tests import toy

FAMILY = VQVAE(codes=8, code_dim=3, coder=SpatialCoder((4,), residual_blocks=0))


def subject(family=FAMILY, count=1, **variables):
    """A family at step 0, with variables in the place of its own."""
    experiment = toy.experiment(family=family, data=Digits())
    data, layout = experiment.data.open(), parallel.start(Devices(count=count))
    state = initial_state(experiment, data.spec)()
    state = state.replace(variables=state.variables | variables)
    model = make_model(experiment, state, data.spec, data.codec)
    return Subject(model, data.splits, "test", jax.random.key(0), layout, 64)


def codes_of(on):
    x = jnp.asarray(on.splits["test"].batch(np.arange(297))["image"])
    return np.asarray(vqvae.encode_to_codes(on.model.family, on.model.state, x))


@pytest.mark.parametrize("count", [1, 8])
def test_usage_and_perplexity_are_those_of_the_whole_split(count):
    on = subject(count=count)
    found = CodebookUsage()(on)
    counts = np.bincount(codes_of(on).ravel(), minlength=8)
    share = counts[counts > 0] / (297 * 16)
    assert found.numbers["codebook_usage"] == (counts > 0).mean()
    np.testing.assert_allclose(
        found.numbers["codebook_perplexity"], np.exp(-(share * np.log(share)).sum()), rtol=1e-5
    )
    assert "297 examples of test, 16 each" in found.protocol
    picture = found.pictures["codebook"]
    assert (
        picture.dtype == np.uint8
        and picture.ndim == 3
        and picture.shape[-1] == 3
        and picture.std() > 0
    )


def test_a_codebook_that_lies_idle_is_remarked_upon_and_a_busy_one_is_not():
    lonely = jnp.full((8, 3), 1e3).at[2].set(0.0)
    found = CodebookUsage()(subject(codebook=lonely))
    assert found.numbers == {"codebook_usage": 1 / 8, "codebook_perplexity": pytest.approx(1.0)}
    (remark,) = found.remarks
    assert "12% of 8 codes" in remark and "restart_below" in remark

    x = jnp.asarray(Digits().open().splits["test"].batch(np.arange(40))["image"])
    on = subject()
    z = np.asarray(FAMILY.encode(on.model.state.params, on.model.state.variables, x)).reshape(-1, 3)
    apart = np.unique(z.round(2), axis=0)
    busy = CodebookUsage()(subject(codebook=jnp.asarray(apart[:: len(apart) // 8][:8])))
    assert busy.numbers["codebook_usage"] > 0.5 and not busy.remarks


def test_a_family_without_a_codebook_is_refused():
    experiment = toy.experiment(
        family=VAE(2, MLPCoder((4,))), data=Digits(), evaluators=(CodebookUsage(),)
    )
    layout = parallel.start(Devices(count=1))
    with pytest.raises(UserError, match="CodebookUsage needs a VQVAE, got a VAE"):
        Judge.of(experiment, layout, experiment.data.open(), experiment.evaluators, {})
