"""Process rewards: where steps end, their scores and advantages by hand, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.text.codecs import Characters
from genjax.errors import UserError
from genjax.posttrain.grpo import GRPO, compute_group_advantages
from genjax.posttrain.process_rewards import (
    StepScores,
    compute_step_advantages,
    find_step_ends,
    score_steps,
)
from genjax.posttrain.rollouts import Rollout
from tests.grouped import KEY, G, N, moved, prompts_batch, resolve, state_of, updated

CODEC = Characters(".abc", delimiter=True)  # token 0 ends a text, 1 a step
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
# "ab.c.", "ab.c" with the end token, "a." with it, nothing but it, "..", cut.
TOKENS = np.array(
    [[2, 3, 1, 4, 1], [2, 3, 1, 4, 0], [2, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 2, 2, 2]], np.int32
)
REAL = np.arange(5)[None] < np.array([5, 5, 3, 1, 5])[:, None]
ENDS = np.array(
    [[0, 0, 1, 0, 1], [0, 0, 1, 0, 1], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 1]]
)
STEPS = [["ab.", "c."], ["ab.", "c"], ["a."], [""], [".", ".", "aaa"]]


def drawn_of(tokens, real):
    prompts = np.full((len(tokens), 2), 2, np.int32)
    return Rollout(
        jnp.asarray(np.concatenate([prompts, tokens], 1)),
        jnp.asarray(np.concatenate([np.array([[False, True]] * len(tokens)), real], 1)),
        jnp.zeros(tokens.shape),
        jnp.zeros(len(tokens), bool),
    )


def test_steps_end_at_marks_and_at_the_end():
    np.testing.assert_array_equal(find_step_ends(TOKENS, REAL, CODEC, "."), ENDS)


def test_each_step_is_scored_where_it_ends():
    seen = []

    def by_length(prompts, steps):
        seen.append((prompts, steps))
        return [[len(step) + 0.5 for step in one] for one in steps]

    found = score_steps(by_length, CODEC, ".", drawn_of(TOKENS, REAL), 2)
    assert seen == [(["a"] * 5, STEPS)]
    np.testing.assert_array_equal(found.ends, ENDS)
    expected = [[0, 0, 3.5, 0, 2.5], [0, 0, 3.5, 0, 1.5], [0, 0, 2.5, 0, 0], [0.5, 0, 0, 0, 0]]
    np.testing.assert_array_equal(found.scores, [*expected, [1.5, 1.5, 0, 0, 3.5]])


def test_advantages_are_sums_over_this_step_and_later_ones():
    scores = jnp.array([[0, 1.0, 0, 2.0], [0, 0, 0, 3.0], [5.0, 0, 0, 0], [5.0, 5.0, 0, 0]])
    ends = jnp.array([[0, 1.0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    found, tied = compute_step_advantages(StepScores(scores, ends), 2, False, 1e-6)
    close(found, [[-1, -1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(tied, [False, False, True, True])
    scaled, _ = compute_step_advantages(StepScores(scores, ends), 2, True, 0.0)
    close(scaled[:2], found[:2] / np.sqrt(2 / 3))


def test_one_step_a_response_is_grpo():
    rewards = jax.random.normal(KEY, (12,))
    ends = jax.nn.one_hot(jnp.arange(12) % 5, 5)
    found, _ = compute_step_advantages(StepScores(rewards[:, None] * ends, ends), 4, True, 1e-6)
    expected, _ = compute_group_advantages(rewards, 4, True)
    before = np.asarray(jnp.cumsum(ends[:, ::-1], 1)[:, ::-1])
    close(found, np.asarray(expected)[:, None] * before, atol=1e-5)


def test_a_batch_holds_the_shapes_that_a_plan_compiles_for_and_its_loss_is_by_token():
    def by_letter(prompts, steps):
        return [[float(step.count("b")) for step in one] for one in steps]

    family = resolve(
        GRPO("base", by_letter, group=G, new_tokens=N, minibatches=1, kl=0.0, step_end="c")
    )
    state = state_of(family)
    state = state.replace(params=moved(state.params))
    batch = family.collect(state, prompts_batch(), KEY)
    shapes = family.shape_collected(state, prompts_batch())
    assert {name: (x.shape, x.dtype) for name, x in shapes.items()} == {
        name: (np.shape(x), np.asarray(x).dtype) for name, x in batch.items()
    }
    close(batch["reward"], batch["step_score"].sum(1))
    share = batch["response_mask"] / batch["response_length"][:, None]
    _, metrics = updated(family, state, batch)
    close(metrics["loss"].value, -(batch["advantage"] * share).sum(1).mean(), atol=1e-5)


@pytest.mark.parametrize(
    ("reward", "end", "field"),
    [
        (lambda p, s: [[1.0] * len(one) for one in s], "x", "family.step_end"),
        (lambda p, s: [[1.0] for one in s], ".", None),
        (lambda p, s: [[float("nan")] * len(one) for one in s], ".", None),
        (lambda p, s: [[1.0] * len(one) for one in s[1:]], ".", None),
        (lambda p, s: 1 / 0, ".", None),
    ],
    ids=["no_mark", "too_few", "nan", "one_short", "raises"],
)
def test_what_does_not_fit_is_refused(reward, end, field):
    with pytest.raises(UserError) as found:
        score_steps(reward, CODEC, end, drawn_of(TOKENS, REAL), 2)
    assert found.value.field == field
    with pytest.raises(UserError) as found:
        GRPO("base", reward, step_end="")
    assert found.value.field == "step_end"
