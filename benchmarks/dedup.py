"""Near-duplicate texts, compared with datasketch: MinHash signatures of 5-word shingles, bands,
pairs checked, components.

``dedup`` takes 100,000 texts of some 120 words in memory, of which a fifth are edited copies of
others; ``dedup_small`` 2,000. Both sides have 128 permutations, the same bands and the same
threshold.

    python -m benchmarks.dedup [--documents 100000]   # copies that each side finds, and theory
    python -m benchmarks.dedup --memory               # peak of memory as texts double or lengthen
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from genjax.prepare.matching.components import components, measure_agreement
from genjax.prepare.matching.minhash import MinHash

DOCUMENTS = {"dedup": 100_000, "dedup_small": 2_000}
MINHASH = MinHash()
# one text in five is a copy, with up to this many words replaced
WORDS, VOCABULARY, COPIES, EDITS = (
    120,
    30_000,
    5,
    8,
)
# Where memory is measured: texts of a file, and by the words of a text how many there are.
PART = 5_000
SIZES = {WORDS: (50_000, 100_000, 200_000, 400_000), 4 * WORDS: (100_000, 200_000, 400_000)}


def texts(count: int, words: int = WORDS, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """(texts, the index [count // COPIES] that each of the last ones is a copy of)."""
    rng = np.random.default_rng(seed)
    copies = count // COPIES
    rows = rng.integers(0, VOCABULARY, (count - copies, words))
    sizes = rng.integers(3 * words // 4, words + 1, count - copies)
    of = rng.permutation(count - copies)[:copies]
    edited, edits = rows[of], rng.integers(1, EDITS + 1, copies)
    for row, size, number in zip(edited, sizes[of], edits, strict=True):
        row[rng.integers(0, size, number)] = rng.integers(0, VOCABULARY, number)
    spelt = np.array([f"w{word:x}" for word in range(VOCABULARY)], object)
    both = zip(np.concatenate([rows, edited]), np.concatenate([sizes, sizes[of]]), strict=True)
    return [" ".join(spelt[row[:size]]) for row, size in both], of


def genjax_clusters(documents: list[str]) -> np.ndarray:
    """Return the group [N] of each text."""
    import daft

    frame = daft.from_pydict({"text": documents})
    signed = frame.select(MINHASH.sign(daft.col("text"))).to_arrow()
    return MINHASH.cluster(MINHASH.stack_signatures(signed["text"].chunks))


def peer_clusters(documents: list[str]) -> np.ndarray:
    """Return the group [N] of each text by datasketch."""
    try:
        import datasketch
    except ImportError:
        raise SystemExit("the peer is datasketch: pip install '.[reference]'") from None
    index = datasketch.MinHashLSH(MINHASH.threshold, MINHASH.permutations, params=MINHASH.layout)
    signed: list[datasketch.MinHash] = []
    pairs: list[tuple[int, int]] = []
    for i, text in enumerate(documents):
        signature = datasketch.MinHash(MINHASH.permutations, seed=MINHASH.seed)
        signature.update_batch([shingle.encode() for shingle in shingles(text)])
        pairs += [
            (j, i)
            for j in index.query(signature)
            if signature.jaccard(signed[j]) >= MINHASH.threshold
        ]
        index.insert(i, signature)
        signed.append(signature)
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return components(left, right, len(documents))


def shingles(text: str) -> set[str]:
    """All runs of five words."""
    words = text.split(" ")
    return {" ".join(words[i : i + MINHASH.ngram]) for i in range(len(words) - MINHASH.ngram + 1)}


def genjax_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of genjax: a step takes all texts."""
    return _repeated(genjax_clusters, case)


def peer_step(case: str) -> Callable[[int], None]:
    """``run(steps)`` of datasketch."""
    return _repeated(peer_clusters, case)


def _repeated(clusters: Callable[[list[str]], np.ndarray], case: str) -> Callable[[int], None]:
    documents, _ = texts(DOCUMENTS[case])

    def run(steps: int) -> None:
        for _ in range(steps):
            clusters(documents)

    return run


def recall(count: int) -> dict[str, object]:
    """Which planted copies each side finds, by their true Jaccard similarity, and how far both
    agree.
    """
    documents, of = texts(count)
    begin = count - len(of)
    pairs = zip((documents[i] for i in of), documents[begin:], strict=True)
    jaccard = np.array(
        [len(a & b) / len(a | b) for a, b in ((shingles(a), shingles(b)) for a, b in pairs)]
    )
    ours, peers = genjax_clusters(documents), peer_clusters(documents)
    theory = MINHASH.recall(jaccard)
    found = {"genjax": ours[of] == ours[begin:], "peer": peers[of] == peers[begin:]}
    columns = {"jaccard": jaccard, **found, "theory": theory}
    rows = []
    for low in np.arange(0.4, 1.0, 0.05):
        some = (jaccard >= low) & (jaccard < low + 0.05)
        if some.any():
            means = {name: round(float(column[some].mean()), 4) for name, column in columns.items()}
            rows.append({"copies": int(some.sum()), **means})
    return {
        "documents": count,
        "layout": MINHASH.layout,
        "clusters": {"genjax": len(np.unique(ours)), "peer": len(np.unique(peers))},
        "copies": {name: int(some.sum()) for name, some in found.items()},
        "copies_of_both": int((found["genjax"] & found["peer"]).sum()),
        "agreement": measure_agreement(ours, peers)._asdict(),
        "recall": rows,
    }


def memory() -> None:
    """Print a JSON line for each number and length of texts: the peak of a process that reads
    them from files.
    """
    for words, sizes in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            parts = [Path(folder) / f"{part}.parquet" for part in range(sizes[-1] // PART)]
            for part, path in enumerate(parts):
                write(path, words, part)
            for size in sizes:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.dedup",
                    "--measure",
                    *map(str, parts[: size // PART]),
                ]
                print(
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout,
                    end="",
                    flush=True,
                )


def write(path: Path, words: int, seed: int) -> None:
    """Write a Parquet file of ``PART`` texts."""
    documents, _ = texts(PART, words, seed)
    pa.parquet.write_table(pa.table({"text": documents}), path)


def measure(paths: list[str]) -> None:
    """Print what memory in MB it takes to de-duplicate these files, beyond that of a process
    that saw few texts.
    """
    import daft

    def clusters(frame: daft.DataFrame) -> np.ndarray:
        signed = frame.select(MINHASH.sign(daft.col("text"))).to_arrow()
        return MINHASH.cluster(MINHASH.stack_signatures(signed["text"].chunks))

    # by default eight groups of files are read at once
    daft.set_execution_config(scantask_max_parallel=2)
    clusters(daft.from_pydict({"text": texts(1000)[0]}))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # reset the peak
    found = clusters(daft.read_parquet(paths))
    result = {
        "documents": len(found),
        "text": sum(pa.parquet.read_metadata(path).row_group(0).total_byte_size for path in paths)
        / 1e6,
        "signatures": len(found) * MINHASH.permutations * 4 / 1e6,
        "before": before,
        "growth": resident("VmHWM") - before,
        "clusters": len(np.unique(found)),
    }
    print(json.dumps({name: round(value) for name, value in result.items()}), flush=True)


def resident(what: str) -> float:
    """Memory of this process in MB: "VmRSS" what it has, "VmHWM" the most that it had (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(what))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=DOCUMENTS["dedup"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
    elif options.memory:
        memory()
    else:
        print(json.dumps(recall(options.documents)))


if __name__ == "__main__":
    main()
