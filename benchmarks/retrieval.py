"""How well an index finds what people judged relevant: Cranfield and XQuAD, by words, by vectors
and by both.

    GENJAX_DATA=… python -m benchmarks.retrieval [--encoder wordllama] [--index faiss:…] …

reads ``retrieval/cranfield`` (1,400 abstracts, 225 queries; every judged pair counts as relevant)
and ``qa/xquad.en.json`` (240 paragraphs, 1,190 questions) and prints a JSON line for each set and
mode: nDCG@10, MAP@100, recall@5, MRR@10.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genjax.store.index.fusion import Fusion, ReciprocalRanks
from genjax.store.index.index import MODES, EngineIndex, Entry, Query
from genjax.store.index.opening import open_encoder, open_index

DEPTH = 100  # hits that are judged


@dataclass(frozen=True)
class Judged:
    """Texts, queries and what is relevant to each.

    Attributes:
      texts: by their id.
      queries: by theirs.
      relevant: the ids of texts by query.
    """

    texts: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Mapping[str, frozenset[str]]


def ndcg(found: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """Return the discounted gain of the first ``k`` over that of the best order, all gains being
    1.
    """
    gain = sum(1 / math.log2(i + 2) for i, name in enumerate(found[:k]) if name in relevant)
    best = sum(1 / math.log2(i + 2) for i in range(min(k, len(relevant))))
    return gain / best if best else 0.0


def average_precision(found: Sequence[str], relevant: Collection[str], k: int = 100) -> float:
    """Return the mean, over what is relevant, of the precision where it is found among the first
    ``k``.
    """
    hits, total = 0, 0.0
    for i, name in enumerate(found[:k], 1):
        if name in relevant:
            hits += 1
            total += hits / i
    return total / len(relevant) if relevant else 0.0


def recall(found: Sequence[str], relevant: Collection[str], k: int = 5) -> float:
    """Return the share of what is relevant that is among the first ``k``."""
    return len({*found[:k]} & {*relevant}) / len(relevant) if relevant else 0.0


def reciprocal_rank(found: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """One over the place of the first that is relevant, 0 where it is not among the first ``k``."""
    return next((1 / i for i, name in enumerate(found[:k], 1) if name in relevant), 0.0)


METRICS: Mapping[str, Callable[[Sequence[str], Collection[str]], float]] = {
    "ndcg@10": ndcg,
    "map@100": average_precision,
    "recall@5": recall,
    "mrr@10": reciprocal_rank,
}


def read_cranfield(folder: Path) -> Judged:
    """Cranfield's three files; judgements name queries by their place in the file, from 1."""
    texts = {number: parts.get("W", "") for number, parts in _read_parts(folder / "cran.all.1400")}
    asked = [parts.get("W", "") for _, parts in _read_parts(folder / "cran.qry")]
    relevant: dict[str, set[str]] = {}
    for line in (folder / "cranqrel").read_text(encoding="utf-8").splitlines():
        query, text, *_ = line.split()
        relevant.setdefault(query, set()).add(text)
    return Judged(
        texts,
        {str(i): text for i, text in enumerate(asked, 1)},
        {query: frozenset(found) for query, found in relevant.items()},
    )


def read_xquad(path: Path) -> Judged:
    """Return the paragraphs and questions of a file in SQuAD's form."""
    texts: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, frozenset[str]] = {}
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            name = f"p{len(texts):03d}"
            texts[name] = paragraph["context"]
            for asked in paragraph["qas"]:
                queries[asked["id"]] = asked["question"]
                relevant[asked["id"]] = frozenset({name})
    return Judged(texts, queries, relevant)


def evaluate(index: EngineIndex, judged: Judged, mode: str) -> dict[str, float]:
    """Return the mean of each metric over the queries that have something relevant."""
    totals = dict.fromkeys(METRICS, 0.0)
    for name, relevant in judged.relevant.items():
        query = Query(judged.queries[name], mode=mode, limit=DEPTH)  # type: ignore[arg-type]
        found = [hit.id for hit in index.search(query)]
        for metric, measure in METRICS.items():
            totals[metric] += measure(found, relevant)
    return {metric: total / len(judged.relevant) for metric, total in totals.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each set and mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="wordllama", help="a name, run or folder")
    parser.add_argument("--index", default=None, help="URL; a temporary LanceDB folder by default")
    parser.add_argument("--fusion", choices=("z", "ranks"), default="z")
    options = parser.parse_args(arguments)
    data = os.environ.get("GENJAX_DATA")
    if not data:
        print("set GENJAX_DATA to the folder of retrieval/ and qa/", file=sys.stderr)
        return 2
    sets = {
        "cranfield": read_cranfield(Path(data) / "retrieval" / "cranfield"),
        "xquad": read_xquad(Path(data) / "qa" / "xquad.en.json"),
    }
    fusion: Fusion | None = ReciprocalRanks() if options.fusion == "ranks" else None
    encoder = open_encoder(options.encoder)
    for name, judged in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            url = options.index or folder
            index = open_index(url, encoder, fusion=fusion, rebuild=True)
            index.rebuild(Entry(key, text) for key, text in judged.texts.items())
            for mode in MODES:
                found = {metric: round(x, 4) for metric, x in evaluate(index, judged, mode).items()}
                setting = {"engine": index.stats().engine, "encoder": encoder.id}
                print(json.dumps({"set": name, "mode": mode, **found, **setting}), flush=True)
            index.close()
    return 0


def _read_parts(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Return the number and the parts (T, A, B, W) of each item of a file of Cranfield's."""
    items = []
    for item in re.split(r"^\.I\s*", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        number, *parts = re.split(r"^\.([TABW])\s*$", item, flags=re.MULTILINE)
        keyed = dict(zip(parts[::2], (" ".join(part.split()) for part in parts[1::2]), strict=True))
        items.append((number.strip(), keyed))
    return items


if __name__ == "__main__":
    sys.exit(main())
