"""The likelihood of a step of music: the sum that a plain loop over its tokens gives, for both
layouts of rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.audio.music import STEP, ChoraleCodec
from genjax.data.sources.chorales import _corpus
from genjax.data.text.dataset import token_dataset
from genjax.data.text.layouts import Documents, Packed
from genjax.errors import UserError
from genjax.evaluation.judge import Model, Subject
from genjax.evaluation.text.frames import FrameLikelihood
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import init_state
from genjax.nets.bigram import Bigram
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant

CODEC = ChoraleCodec(60, 65)
PIECES = [[[60, 64], [], [62]], [[65]], [[61, 62, 63], [61], [60, 65], [60, 65]], [[], [64]]]
TABLE = jax.random.normal(jax.random.key(0), (CODEC.vocabulary, CODEC.vocabulary))


def found(layout, codec=CODEC):
    data = token_dataset(
        {"train": _corpus(PIECES, CODEC)}, CODEC, layout, ["pieces"], {"train": "pieces"}
    )
    family = Autoregressive(Bigram())
    state = init_state({"table": TABLE}, {}, Adam(Constant(0.1)).build(1), jax.random.key(0))
    devices = parallel.start(Devices(count=1))
    model = Model(family, devices.init(lambda: state), data.spec, codec, "planted")
    return FrameLikelihood()(Subject(model, data.splits, "train", jax.random.key(1), devices, 3))


@pytest.mark.parametrize("layout", [Documents(16), Packed(20)], ids=["documents", "packed"])
def test_a_step_costs_the_sum_of_its_tokens(layout):
    log_p = np.asarray(jax.nn.log_softmax(TABLE))
    frames, later = [], []
    for piece in PIECES:
        last = CODEC.start
        for number, frame in enumerate(piece):
            nll = 0.0
            for token in CODEC.encode([frame]).tolist():
                nll, last = nll - log_p[last, token], token
            frames.append(nll)
            later += [nll] * (number > 0)
    assert len(frames) == 10 and len(later) == 6
    result = found(layout)
    np.testing.assert_allclose(result.numbers["nll_per_frame"], np.mean(frames), rtol=1e-5)
    np.testing.assert_allclose(result.numbers["nll_per_later_frame"], np.mean(later), rtol=1e-5)
    assert result.protocol == "10 steps of 4 pieces of train, nats"
    assert CODEC.step == STEP


def test_tokens_without_steps_are_refused():
    class NoSteps:
        end = 0

    with pytest.raises(UserError, match="needs a ChoraleCodec, got a NoSteps"):
        found(Documents(12), NoSteps())
    with pytest.raises(UserError, match="FrameLikelihood needs a Autoregressive"):
        FrameLikelihood().check(object(), None, {})
    assert jnp.isfinite(TABLE).all()
