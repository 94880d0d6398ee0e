"""Walks take edges that are there; optimality by hand, of shortest paths and of what is no path."""

import dataclasses
import itertools

import numpy as np
import pytest

from genjax.data.sources import RandomWalks
from genjax.data.sources.random_walks import optimality
from genjax.errors import UserError

SOURCE = RandomWalks()


def node(letter):
    return ord(letter) - ord("a")


def test_every_node_has_an_edge_and_reaches_the_goal():
    edges, shortest = SOURCE.edges, SOURCE.shortest
    assert edges.shape == (21, 21) and not edges.diagonal().any() and not edges[0].any()
    assert edges[1:].any(1).all() and shortest[0] == 1 and (shortest[1:] < 10).all()
    for start in range(1, 21):  # Bellman's equation
        assert shortest[start] == 1 + min(shortest[after] for after in np.flatnonzero(edges[start]))


def test_walks_take_edges_and_end_at_the_goal_or_are_cut():
    for split, count in (("train", 1_000), ("test", 400)):
        walks = SOURCE.make_walks(split)
        assert len(walks) == count
        for walk in walks:
            assert all(SOURCE.edges[node(a), node(b)] for a, b in itertools.pairwise(walk))
            assert walk.find("a") in (-1, len(walk) - 1) and (len(walk) == 10 or walk[-1] == "a")
    assert [walk[0] for walk in walks[:21]] == [*"bcdefghijklmnopqrstu", "b"], "each start in turn"
    assert SOURCE.make_walks("train") != walks
    assert (
        dataclasses.replace(SOURCE, size=50).make_walks("train") == SOURCE.make_walks("train")[:50]
    )
    assert dataclasses.replace(SOURCE, seed=3).make_walks("test") != walks


def test_rows_give_the_first_node_and_predict_the_others():
    data = SOURCE.open()
    split = data.splits["test"]
    batch, walks = split.batch(np.arange(len(split))), SOURCE.make_walks("test")
    assert data.spec.shape == batch["tokens"].shape[1:] == (12,) and data.spec.vocabulary == 22
    for number, walk in enumerate(walks):
        row, learned = batch["tokens"][number], batch["loss_mask"][number] > 0
        assert data.codec.decode(row[:2]) == walk[0] and row[0] == data.codec.start
        end = [data.codec.end] if walk[-1] == "a" else []  # a walk that is cut has none
        np.testing.assert_array_equal(row[learned], [*data.codec.encode(walk[1:]), *end])
        np.testing.assert_array_equal(batch["prefix_mask"][number], [1, 1] + [0] * 10)
    assert SOURCE.open().fingerprint == data.fingerprint


def test_optimality_by_hand():
    shortest = SOURCE.shortest
    start = next(n for n in range(1, 21) if shortest[n] == 4)
    path = [start]
    while path[-1] != 0:
        path.append(min(np.flatnonzero(SOURCE.edges[path[-1]]), key=lambda n: shortest[n]))
    letters = "".join(chr(n + ord("a")) for n in path)
    stranger = next(
        chr(n + ord("a")) for n in range(1, 21) if not SOURCE.edges[start, n] and n != start
    )
    cases = {
        letters[1:]: 1.0,
        letters[1:] + "qqq": 1.0,  # what comes after the goal does not count
        letters[1:-1]: 0.0,  # never arrives
        stranger + "a": 0.0,  # no such edge
        "z" + letters[1:]: 0.0,
        "": 0.0,
    }
    assert optimality([letters[0]] * len(cases), list(cases)) == list(cases.values())
    long = next(
        w for w in SOURCE.make_walks("test") if w[-1] == "a" and shortest[node(w[0])] < len(w) < 10
    )
    wanted = (10 - len(long)) / (10 - shortest[node(long[0])])
    assert optimality([long[0]], [long[1:]]) == [wanted] and 0 < wanted < 1
    walks = SOURCE.make_walks("train")
    mean = np.mean(optimality([w[0] for w in walks], [w[1:] for w in walks]))
    assert 0.3 < mean < 0.4, "what imitation comes to"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nodes": 27}, "from 2 to 26, got 27"),
        ({"edge_probability": 0.0}, "edge_probability must be above 0 and at most 1"),
        ({"size": 0}, "size must be from 1 to 1000000"),
        ({"longest": 2}, "longest must be at least 3"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        RandomWalks(**changes)


def test_a_graph_that_is_never_found_is_told():
    with pytest.raises(UserError, match="all 26 nodes reach the goal within 9 nodes"):
        RandomWalks(26, 0.001).open()
