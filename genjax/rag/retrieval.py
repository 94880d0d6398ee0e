"""Find the passages that may answer a question by words, meaning and relations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.rag.graph import Neighbours, find_neighbours
from genjax.rag.library import Library, Passage
from genjax.rag.reranking import Reranker
from genjax.rag.words import Rarity
from genjax.store.filters import All, Compare, parse_filter
from genjax.store.index.index import MODES
from genjax.store.records import Wanted
from genjax.store.searching import search

POOL = 30  # the fewest chunks to request from a search
RELATED = 0.6  # the least share of words credited to a passage that relations led to
LONGEST = 20_000  # the most characters in a question


@checks.frozen
class Retrieval:
    """The options of finding passages.

    Attributes:
      mode: the mode of the search, "hybrid", "vector" or "keyword".
      k: the most passages.
      threshold: the lowest score of a passage, from 0 to 1.
      steps: the number of relations to follow from the entities that the question names.
      filter: a filter on the chunks, as ``parse_filter`` reads it, without scores.
      origin: the origin of the chunks, "real", "synthetic" or "any".
    """

    mode: str = "hybrid"
    k: int = 5
    threshold: float = 0.3
    steps: int = 2
    filter: str = ""
    origin: str = "real"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}", "mode")
        if self.origin not in ("real", "synthetic", "any"):
            raise UserError("origin must be one of real, synthetic, any", "origin")
        checks.between(self, 1, 100, "k")
        checks.between(self, 0, 1, "threshold")
        checks.between(self, 0, 5, "steps")
        parse_filter(self.filter)


@dataclass(frozen=True)
class Retrieved:
    """The result of a retrieval.

    Attributes:
      passages: the passages, the best first, with each text once.
      named: the names of those entities in the store that the question names.
      missing: the number of chunks that the index lacks or holds in an old version.
    """

    passages: tuple[Passage, ...]
    named: tuple[str, ...]
    missing: int


def check_question(question: str) -> str:
    """Return the question without blanks around it.

    Raises:
      UserError: the question is empty, too long, or cannot be stored.
    """
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"question must not be empty, got {question!r:.40}", "question")
    if len(question) > LONGEST:
        raise UserError(
            f"question must have at most {LONGEST:,} characters, got {len(question):,}", "question"
        )
    try:
        question.encode()
    except UnicodeEncodeError:
        raise UserError("question must be valid Unicode", "question") from None
    if "\0" in question:
        raise UserError("question must not hold the character NUL", "question")
    return question.strip()


def retrieve(
    library: Library,
    question: str,
    retrieval: Retrieval = Retrieval(),
    reranker: Reranker | None = None,
) -> Retrieved:
    """Find passages for a question.

    The passages are in the order of the reranker or, without one, of the search; then passages that
    relations led to take up to a third of the places.

    Raises:
      UserError: the question or the filter is invalid, or the index is damaged.
    """
    question = check_question(question)
    origin: Wanted = retrieval.origin  # type: ignore[assignment]
    found = _search(library, question, retrieval)
    near = Neighbours()
    if retrieval.steps:
        near = find_neighbours(library.store, question, retrieval.steps, origin)
    joined = _join(library, retrieval, near)
    read = library.read_passages(list(dict.fromkeys((*found, *joined))))
    passages = [p for p in read.values() if origin in ("any", p.origin)]
    kept = _score(library, question, passages, near, retrieval.threshold, (found, joined))
    if reranker is not None:
        ordered = _rerank(reranker, question, kept)
    else:
        ordered = _order(found, kept, retrieval.k)
    unique: dict[str, Passage] = {}
    for passage in ordered:
        unique.setdefault(" ".join(passage.text.split()), passage)
    best = tuple(unique.values())[: retrieval.k]
    return Retrieved(best, near.named, library.count_missing())


def _search(library: Library, question: str, retrieval: Retrieval) -> list[str]:
    """Return the ids of the chunks that the store's search finds, the best first."""
    tree = All((Compare("kind", "=", "chunk"), parse_filter(retrieval.filter)))
    hits = search(
        library.store,
        library.index,
        question,
        filter=tree,
        origin=retrieval.origin,  # type: ignore[arg-type]
        mode=retrieval.mode,
        limit=max(POOL, 3 * retrieval.k),
    ).hits
    return [hit.id for hit in hits]


def _join(library: Library, retrieval: Retrieval, near: Neighbours) -> list[str]:
    """Return the ids of the chunks that the neighbours of a question's entities lead to."""
    if not near.named:
        return []
    found = list(near.chunks)
    if near.names:  # chunks without a relation may also name a neighbour
        words = " ".join(near.names)[:1000]
        found += _search(library, words, dataclasses.replace(retrieval, mode="keyword"))[:POOL]
    return list(dict.fromkeys(found))[: 2 * POOL]


def _score(
    library: Library,
    question: str,
    passages: Sequence[Passage],
    near: Neighbours,
    threshold: float,
    found: tuple[Sequence[str], Sequence[str]],
) -> list[Passage]:
    """Return the passages that reach the threshold, with their scores.

    A score is the mean of the share of the question's words in the passage, with rare words
    counting more, and the cosine between both. For a passage that relations led to or that names a
    neighbour, the share is at least ``RELATED``.

    Args:
      library: the library of the passages.
      question: the question.
      passages: the passages to score.
      near: the neighbours of the question's entities.
      threshold: the lowest score to keep.
      found: the ids that the search found, and those that relations led to.
    """
    if not passages:
        return []
    language = library.language
    there = [set(language.find_stems(f"{p.title} {p.text}")) for p in passages]
    rarity = Rarity.of(there)
    wanted = language.find_content(question) or language.find_stems(question)
    vectors = library.encode([question, *(p.text for p in passages)])
    cosines = np.clip(vectors[1:] @ vectors[0], 0, 1)
    names = [set(language.find_stems(name)) for name in near.names]
    searched, linked = set(found[0]), set(found[1])
    kept = []
    for passage, stems, cosine in zip(passages, there, cosines.tolist(), strict=True):
        share = rarity.cover(wanted, stems)
        score, by = (share + cosine) / 2, "search"
        named = passage.id in linked and any(name and name <= stems for name in names)
        close = passage.id in near.chunks or named
        if close and (score < threshold or passage.id not in searched):
            score, by = (max(share, RELATED) + cosine) / 2, "graph"
        if score >= threshold and (passage.id in searched or by == "graph"):
            kept.append(dataclasses.replace(passage, score=round(score, 6), found_by=by))
    return kept


def _order(found: Sequence[str], passages: Sequence[Passage], k: int) -> list[Passage]:
    """Return the passages in the order of the search, with related ones in some of ``k`` places."""
    place = {one: number for number, one in enumerate(found)}
    searched = [p for p in passages if p.found_by == "search"]
    searched.sort(key=lambda p: place[p.id])
    related = sorted((p for p in passages if p.found_by == "graph"), key=lambda p: -p.score)
    room = min(len(related), max(1, k // 3)) if searched else k
    first = searched[: max(k - room, 1)]
    return [*first, *related[:room], *searched[len(first) :], *related[room:]]


def _rerank(reranker: Reranker, question: str, passages: Sequence[Passage]) -> list[Passage]:
    if not passages:
        return []
    scores = np.asarray(reranker.score(question, [p.text for p in passages]), np.float64)
    if scores.shape != (len(passages),):
        raise UserError(
            f"rerank must give {len(passages)} scores, got shape {scores.shape}", "rerank"
        )
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return [passages[i] for i in order.tolist()]
