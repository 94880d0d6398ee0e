"""The reward of samples of models whose law is written down, and what is refused."""

import dataclasses

import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.data.sources import RandomWalks
from genjax.errors import UserError
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.rewards import score_texts
from tests.evaluation.bigrams import subject

WALKS = RandomWalks(size=8, test_size=210)  # no multiple of the batch


def table_of(edges):
    """A walker [22, 22] over the delimiter and the nodes; the goal is followed by the end."""
    table = np.zeros((22, 22))
    table[2:, 1:] = edges[1:] / edges[1:].sum(1, keepdims=True)
    table[:2, 0] = 1
    return table


def expected(steps):
    """The mean optimality of a random walk of up to this many steps from each start of the test
    walks, exactly.
    """
    edges, shortest = WALKS.edges, WALKS.shortest
    move = np.where(edges.any(1)[:, None], edges / np.maximum(edges.sum(1, keepdims=True), 1), 0)
    here, found = np.eye(21), np.zeros(21)
    for nodes in range(2, steps + 2):
        here = here @ move
        found += here[:, 0] * (10 - nodes) / (10 - shortest)
        here[:, 0] = 0
    return np.mean([found[ord(walk[0]) - ord("a")] for walk in WALKS.make_walks("test")])


def test_the_mean_reward_of_a_random_walk_is_the_exact_one():
    found = RewardOfSamples(WALKS.optimality, "optimality", steps=9)(
        subject(WALKS.open(), table_of(WALKS.edges))
    )
    mean, error = found.numbers["optimality"], found.numbers["optimality_error"]
    assert 0.01 < error < 0.04 and abs(mean - expected(9)) < 3 * error
    assert "210 prompts of test" in found.protocol


def test_the_shortest_paths_have_1_and_no_spread():
    edges = WALKS.edges & (WALKS.shortest[None] == WALKS.shortest[:, None] - 1)
    evaluator = RewardOfSamples(WALKS.optimality, "optimality", steps=9, temperature=0, limit=40)
    found = evaluator(subject(WALKS.open(), table_of(edges)))
    assert found.numbers == {"optimality": 1.0, "optimality_error": 0.0}


def first_and_last(prompts, responses):
    """1 where a prompt is a letter and a response ends at the goal, or is cut after three steps."""
    return [
        float(len(p) == 1 and (r[-1] == "a" or len(r) == 3))
        for p, r in zip(prompts, responses, strict=True)
    ]


def test_prompts_and_responses_are_text_without_delimiters():
    found = RewardOfSamples(first_and_last, steps=3, limit=30)(
        subject(WALKS.open(), table_of(WALKS.edges))
    )
    assert found.numbers["reward"] == 1.0


def test_a_reward_is_a_finite_number_for_each():
    np.testing.assert_array_equal(
        score_texts(lambda p, r: [len(a) for a in r], ["x", "y"], ["ab", "c"]), [2, 1]
    )
    with pytest.raises(
        UserError, match="the reward <lambda> must be finite, got inf for the response"
    ):
        score_texts(lambda p, r: [np.inf] * len(p), ["x"], ["ab"])
    with pytest.raises(
        UserError, match="failed on the response 'c' to the prompt 'y': KeyError: 'c'"
    ):
        score_texts(lambda p, r: [{"ab": 1}[a] for a in r], ["x", "y"], ["ab", "c"])
    with pytest.raises(
        UserError, match=r"array of shape \[1\]; the first is the response 'a{80}…'"
    ):
        score_texts(lambda p, r: [0.0], ["x", "y"], ["a" * 200, "c"])


def test_what_does_not_fit_is_refused():
    for settings, words in (
        ({"reward": 3}, "must be a function"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"limit": 1}, "limit must be at least 2"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
    ):
        with pytest.raises(UserError, match=words):
            RewardOfSamples(**{"reward": first_and_last} | settings)
    spec = Spec("tokens", (4,), np.zeros(4, np.float32), vocabulary=5)
    with pytest.raises(UserError, match="needs prompts"):
        RewardOfSamples(first_and_last).check(Autoregressive(), spec, {})
    prefixed = dataclasses.replace(spec, prefixed=True)
    with pytest.raises(UserError, match=r"steps must be <= 1024 \(context\), got 2000"):
        RewardOfSamples(first_and_last, steps=2000).check(Autoregressive(), prefixed, {})
