"""How time, memory and disk of the index grow with its rows, beside LanceDB used by hand.

    python -m benchmarks.index_growth 10000 100000

prints a JSON line for each number of rows, each measured in a process of its own: vectors of 384
numbers in clusters, texts of 30 words and queries of 10, few of which are drawn often, as in a
language. Both sides have the same rows, queries and settings of LanceDB; ``ratio`` is genjax's time
over that by hand. ``load`` is the machine's, since others may use it at the same time. With
``pip install chromadb`` Chroma's local form holds the same vectors, too: it ranks no words, so that
only its search by vector is beside ours.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genjax.store.index.encoders import scale_to_unit
from genjax.store.index.index import BATCH, POOL, Entry, Query
from genjax.store.index.lance import EF, PROBES, REFINE
from genjax.store.index.opening import open_index

D, WORDS, VOCABULARY, K = 384, 30, 20_000, 10
QUERIES, ASKED = 100, 10  # queries, words of a query
CLUSTERED = 1.0  # the noise around a cluster's centre, of about its length


class Given:
    """An encoder whose vectors are always given."""

    id, dimension = "given", D

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See ``Encoder``."""
        raise AssertionError(f"vectors are given, not made of {len(texts)} texts")


def main(arguments: Sequence[str]) -> int:
    """Measure each number of rows in a process of its own."""
    if len(arguments) == 2 and arguments[0] == "--one":
        print(json.dumps(measure(int(arguments[1]))), flush=True)
        return 0
    for rows in arguments or ("10000", "100000"):
        command = [sys.executable, "-m", "benchmarks.index_growth", "--one", str(int(rows))]
        subprocess.run(command, check=True)
    return 0


def measure(rows: int) -> dict[str, Any]:
    """Times in seconds and milliseconds, sizes in MB."""
    vectors, texts = make_vectors(rows), make_texts(rows, 1, WORDS)
    queries, asked = make_vectors(QUERIES, rows), make_texts(QUERIES, 2, ASKED)
    with tempfile.TemporaryDirectory() as folder:
        ours = open_index(f"{folder}/ours", Given())
        found: dict[str, Any] = {"rows": rows, "load": os.getloadavg()[0]}
        found["ingest_s"] = time_once(lambda: ours.rebuild(make_entries(vectors, texts)))
        theirs, by_hand = load_by_hand(f"{folder}/theirs", vectors, texts)
        found["ingest_by_hand_s"] = by_hand
        found["rows_per_s"] = rows / found["ingest_s"]

        def search(i: int, mode: Any) -> list[str]:
            query = Query(asked[i], queries[i], None, mode, K)
            return [hit.id for hit in ours.search(query)]

        def search_by_hand(i: int) -> list[str]:
            return hybrid_by_hand(theirs, queries[i], asked[i], rows)

        mine, hand = time_in_turn(lambda i: search(i, "hybrid"), search_by_hand)
        for name, times in (("hybrid", mine), ("by_hand", hand)):
            found[f"{name}_p50_ms"], found[f"{name}_p95_ms"] = np.percentile(times, (50, 95))
        found["ratio"] = found["hybrid_p50_ms"] / found["by_hand_p50_ms"]
        best = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
        exact = [{make_id(n) for n in row} for row in best]
        shared = [len(exact[i] & set(search(i, "vector"))) for i in range(QUERIES)]
        found["recall@10"] = sum(shared) / (K * QUERIES)
        if importlib.util.find_spec("chromadb") is not None:
            found |= measure_chroma(f"{folder}/chroma", vectors, queries, exact, search)
        files = [path for path in Path(folder, "ours").rglob("*") if path.is_file()]
        found["disk_mb"] = sum(path.stat().st_size for path in files) / 1e6
        found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        found["input_mb"] = vectors.nbytes / 1e6
    return {name: round(value, 3) for name, value in found.items()}


def make_vectors(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors [count, D] around centres that are the same for each seed."""
    centres = np.random.default_rng(7).standard_normal((256, D)).astype(np.float32)
    draw = np.random.default_rng(seed + 11)
    noise = draw.standard_normal((count, D), dtype=np.float32)
    return scale_to_unit(centres[draw.integers(0, 256, count)] + CLUSTERED * noise)


def make_texts(count: int, seed: int, words: int) -> list[str]:
    """Texts of so many words, whose frequency falls with their rank."""
    draw = np.random.default_rng(seed)
    ranks = (VOCABULARY ** draw.random((count, words))).astype(int)
    return [" ".join(f"word{rank}" for rank in row) for row in ranks.tolist()]


def make_id(number: int) -> str:
    return f"{number:08d}"


def make_entries(vectors: np.ndarray, texts: Sequence[str]) -> Iterator[Entry]:
    """Yield an entry for each row."""
    for i, text in enumerate(texts):
        yield Entry(make_id(i), text, "document", "real", vectors[i])


def load_by_hand(folder: str, vectors: np.ndarray, texts: Sequence[str]) -> tuple[Any, float]:
    """Return a LanceDB table of the same rows and indexes, and the seconds it took."""
    import lancedb
    from lancedb.index import FTS, HnswSq

    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), D)),
        ]
    )
    table = lancedb.connect(folder).create_table("entries", schema=schema)

    def load() -> None:
        for start in range(0, len(texts), BATCH):
            part = slice(start, start + BATCH)
            names = [make_id(i) for i in range(*part.indices(len(texts)))]
            numbers = pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].ravel()), D)
            table.add(pa.Table.from_arrays([names, texts[part], numbers], schema=schema))
        table.create_index("text", config=FTS())
        if len(texts) >= 10_000:
            table.create_index("vector", config=HnswSq(distance_type="dot"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table.optimize(cleanup_older_than=timedelta(0))

    return table, time_once(load)


def hybrid_by_hand(table: Any, vector: np.ndarray, text: str, rows: int) -> list[str]:
    """LanceDB's own hybrid search with its reciprocal ranks, over as many candidates."""
    query = table.search(query_type="hybrid").vector(vector).text(text).distance_type("dot")
    query = query.nprobes(PROBES).refine_factor(REFINE).ef(EF)
    return list(query.limit(POOL).to_arrow()["id"].to_pylist()[:K])


def measure_chroma(
    folder: str,
    vectors: np.ndarray,
    queries: np.ndarray,
    exact: Sequence[set[str]],
    search: Callable[[int, Any], list[str]],
) -> dict[str, float]:
    """Chroma's times and recall beside ours of a search by vector alone."""
    import chromadb

    client = chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))
    table = client.create_collection("entries", metadata={"hnsw:space": "ip"})

    def load() -> None:
        for start in range(0, len(vectors), BATCH):
            names = [make_id(i) for i in range(start, min(start + BATCH, len(vectors)))]
            table.add(names, embeddings=vectors[start : start + BATCH])

    def search_chroma(i: int) -> list[str]:
        return table.query(query_embeddings=queries[i : i + 1], n_results=K, include=[])["ids"][0]

    seconds = time_once(load)
    mine, theirs = time_in_turn(lambda i: search(i, "vector"), search_chroma)
    shared = [len(exact[i] & set(search_chroma(i))) for i in range(QUERIES)]
    return {
        "chroma_ingest_s": seconds,
        "vector_p50_ms": float(np.median(mine)),
        "chroma_p50_ms": float(np.median(theirs)),
        "chroma_ratio": float(np.median(mine) / np.median(theirs)),
        "chroma_recall@10": sum(shared) / (K * QUERIES),
    }


def time_once(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_in_turn(*calls: Callable[[int], object]) -> list[np.ndarray]:
    """Milliseconds of each query for each call, in turn, so that a busy machine slows both."""
    for i in range(10):
        for call in calls:
            call(i)
    times = [[1e3 * time_once(lambda: call(i)) for call in calls] for i in range(QUERIES)]  # noqa: B023
    return list(np.array(times).T)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
