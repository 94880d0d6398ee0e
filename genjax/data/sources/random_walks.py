"""Random walks on a graph, rewarded by how close they come to a shortest path; the best possible
reward is known.

This is the task of trlX (Havrilla et al., 2023), after an example in Decision Transformers (Chen et
al., arXiv 2106.01345): imitation learns walks, and reinforcement learning finds the short ones.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genjax import checks
from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.splits import DRAW, MOST_MADE, digest
from genjax.data.stream import raw_bits
from genjax.data.text.codecs import Characters
from genjax.errors import UserError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
GOAL = 0
TRIES = 10_000  # most graphs that are drawn


@checks.frozen
class RandomWalks:
    """Generates walks on a directed graph, written as one letter per node. A walk ends at the goal,
    node "a", or is cut.

    Each edge exists with the same probability; graphs are drawn until every node has an edge and
    can reach the goal in a walk shorter than the longest. Each step of a walk takes a random edge.
    The first node is given as the prompt: it is random in training walks, and each node except the
    goal in turn in test walks. Walk i of a split depends only on the seed and i.

    Attributes:
      nodes: number of nodes of the graph.
      edge_probability: probability of each edge.
      size: number of training walks.
      test_size: number of test walks.
      longest: most nodes of a walk, including the first and the goal; longer walks are cut.
      seed: seed of the graph and the walks.
    """

    nodes: int = 21
    edge_probability: float = 0.1
    size: int = 1_000
    test_size: int = 400
    longest: int = 10
    seed: int = 1_000

    def __post_init__(self) -> None:
        if not 2 <= self.nodes <= len(LETTERS):
            raise UserError(f"nodes must be from 2 to {len(LETTERS)}, got {self.nodes}", "nodes")
        checks.numbers(self, ("edge_probability",), "above 0 and at most 1", lambda x: 0 < x <= 1)
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        checks.at_least(self, 3, "longest")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` int32 [B, longest + 2], ``loss_mask`` and
        ``prefix_mask``.

        A row is a delimiter, the nodes, and a delimiter after the goal; ``prefix_mask`` is 1 for
        the first delimiter and the first node, which are given.

        Raises:
          UserError: no suitable graph was found.
        """
        codec = Characters(LETTERS[: self.nodes], delimiter=True)
        walks = {"train": self.make_walks("train"), "test": self.make_walks("test")}
        splits = {name: _rows(texts, codec, self.longest) for name, texts in walks.items()}
        shape = (self.longest + 2,)
        token_bytes = codec.token_bytes
        assert token_bytes is not None  # all characters are known
        spec = Spec(
            "tokens",
            shape,
            np.zeros(shape, np.float32),
            vocabulary=codec.vocabulary,
            prefixed=True,
            token_bytes=tuple(token_bytes.tolist()),
            token_kinds=tuple(codec.token_kinds.tolist()),
        )
        contents = (f"{name} {' '.join(texts)}".encode() for name, texts in walks.items())
        return Dataset(splits, spec, codec, digest(contents))

    def make_walks(self, split: str) -> list[str]:
        """Return the walks of "train" or "test", in their order."""
        edges = self.edges
        stream, count = (DRAW, self.size) if split == "train" else (DRAW + 1, self.test_size)
        words = raw_bits(self.seed, stream, count * self.longest).reshape(count, self.longest)
        uniform = (words >> np.uint64(11)) * 2.0**-53
        starts = (
            np.arange(count) % (self.nodes - 1)
            if split == "test"
            else (uniform[:, 0] * (self.nodes - 1))
        )
        found = []
        for start, steps in zip(starts.astype(int), uniform[:, 1:], strict=True):
            walk = [int(start) + 1]  # any node except the goal
            for step in steps:
                after = np.flatnonzero(edges[walk[-1]])
                walk.append(int(after[int(step * len(after))]))
                if walk[-1] == GOAL:
                    break
            found.append("".join(LETTERS[node] for node in walk))
        return found

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """Whether there is an edge from a node to another, bool [nodes, nodes]; the goal has none.

        Raises:
          UserError: no graph was found on which every node reaches the goal.
        """
        # This generator gives the graph of trlX's task for its seed.
        random = np.random.RandomState(self.seed)
        for _ in range(TRIES):
            edges = random.rand(self.nodes, self.nodes) > 1 - self.edge_probability
            np.fill_diagonal(edges, False)
            whole = edges.any(1).all()
            edges[GOAL] = False
            if whole and (_shortest(edges) < self.longest).all():
                return edges
        raise UserError(
            f"edge_probability must be larger than {self.edge_probability}: in none of {TRIES:,} "
            f"graphs all {self.nodes} nodes reach the goal within {self.longest - 1} nodes",
            "edge_probability",
        )

    @functools.cached_property
    def shortest(self) -> np.ndarray:
        """Number of nodes on the shortest path from each node to the goal, including both, int64
        [nodes].
        """
        return _shortest(self.edges)

    def optimality(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Return how close each walk, a prompt with its response, comes to a shortest path, from 0
        to 1.

        A walk that reaches the goal at its n-th node scores (longest - n) / (longest - fewest
        possible nodes); what follows the goal is ignored. A walk that takes a missing edge or never
        arrives scores 0.
        """
        return [
            self._score_walk(prompt + response)
            for prompt, response in zip(prompts, responses, strict=True)
        ]

    def _score_walk(self, walk: str) -> float:
        nodes = [LETTERS.find(letter) for letter in walk]
        if GOAL not in nodes or not all(
            0 <= node < self.nodes for node in nodes[: nodes.index(GOAL)]
        ):
            return 0.0
        path = nodes[: nodes.index(GOAL) + 1]
        if not all(self.edges[a, b] for a, b in itertools.pairwise(path)):
            return 0.0
        best = int(self.shortest[path[0]])
        return max(0.0, (self.longest - len(path)) / (self.longest - best))


def optimality(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return ``RandomWalks.optimality`` for the default source; a config can name this reward."""
    return _default().optimality(prompts, responses)


@functools.cache
def _default() -> RandomWalks:
    return RandomWalks()


@dataclass(frozen=True)
class WalkRows:
    """Walks as rows of tokens.

    Attributes:
      tokens: padded tokens int32 [N, T].
      lengths: number of tokens of each row, int64 [N].
    """

    tokens: np.ndarray
    lengths: np.ndarray

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: np.ndarray) -> Batch:
        tokens, place = self.tokens[indices], np.arange(self.tokens.shape[1])[None]
        prefix = np.broadcast_to(place < 2, tokens.shape)
        real = place < self.lengths[indices][:, None]
        loss_mask = (real & ~prefix).astype(np.float32)
        return {"tokens": tokens, "loss_mask": loss_mask, "prefix_mask": prefix.astype(np.float32)}


def _rows(walks: Sequence[str], codec: Characters, longest: int) -> WalkRows:
    assert codec.end is not None
    tokens = np.full((len(walks), longest + 2), codec.end, np.int32)
    for row, walk in zip(tokens, walks, strict=True):
        row[1 : len(walk) + 1] = codec.encode(walk)
    over = np.array([walk[-1] == LETTERS[GOAL] for walk in walks])
    return WalkRows(tokens, np.array([len(walk) + 1 for walk in walks]) + over)


def _shortest(edges: np.ndarray) -> np.ndarray:
    """Return the number of nodes on the shortest path to the goal, int64; larger than the number of
    nodes if there is no path.
    """
    found = np.full(len(edges), len(LETTERS) + 1)
    found[GOAL] = 1
    for _ in range(len(edges)):
        after = np.where(edges, found[None], len(LETTERS) + 1).min(1) + 1
        found = np.minimum(found, after)
    return found
