"""The loss by position: a planted law shows where it is planted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Model, Subject
from genjax.evaluation.text.positions import LossByPosition
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import init_state
from genjax.nets.bigram import Bigram
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from tests import toy

SPEC = Spec("tokens", (21,), np.zeros(21, np.float32), vocabulary=4)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Token 1 follows 0 and 0 follows 1 in the first half of each row; then all is 2."""

    packed: bool = False
    in_memory = True

    def __len__(self):
        return 5

    def batch(self, indices):
        tokens = np.tile(
            np.where(np.arange(21) < 11, np.arange(21) % 2, 2), (len(indices), 1)
        ).astype(np.int32)
        batch = {"tokens": tokens, "loss_mask": np.ones(tokens.shape, np.float32)}
        if self.packed:
            batch["positions"] = np.tile(np.arange(21) % 7, (len(indices), 1)).astype(np.int32)
            batch["segment_ids"] = np.tile(1 + np.arange(21) // 7, (len(indices), 1)).astype(
                np.int32
            )
        return batch


def found(rows, limit=None):
    family = Autoregressive(Bigram())
    params, variables = family.init(
        jax.random.key(0), {"tokens": jnp.zeros((1, 21), jnp.int32)}, SPEC
    )
    table = params["table"].at[2].set(jnp.log(jnp.asarray([0.1, 0.1, 0.7, 0.1])))
    state = init_state({"table": table}, variables, Adam(Constant(0.1)).build(1), jax.random.key(0))
    layout = parallel.start(Devices(count=1))
    model = Model(family, layout.init(lambda: state), SPEC, toy.ToyData().open().codec, "planted")
    return LossByPosition(limit)(
        Subject(model, {"test": rows}, "test", jax.random.key(1), layout, 2)
    )


def test_a_planted_law_shows_where_it_is_planted():
    result = found(Rows())
    np.testing.assert_allclose(result.numbers["loss_first_tenth"], np.log(4), rtol=1e-5)
    np.testing.assert_allclose(result.numbers["loss_last_tenth"], -np.log(0.7), rtol=1e-5)
    assert result.pictures["loss_by_position"].ndim == 3 and "5 rows of test" in result.protocol
    assert "2 rows of test" in found(Rows(), 2).protocol


def test_positions_of_packed_rows_are_those_within_their_documents():
    result = found(Rows(packed=True))
    # Of the three documents' first predictions one is among the twos; the same of the last.
    mixed = (np.log(4) * 2 - np.log(0.7)) / 3
    np.testing.assert_allclose(result.numbers["loss_first_tenth"], mixed, rtol=1e-5)
    assert "of 7 positions" in result.protocol


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="limit must be at least 1"):
        LossByPosition(0)
    with pytest.raises(UserError, match="LossByPosition needs a Autoregressive, got a Toy"):
        LossByPosition().check(toy.Toy(), SPEC, {})
