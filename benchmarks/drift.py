"""How often `genjax store drift` alarms for nothing, and how surely it finds what was planted.

    GENJAX_DATA=… python -m benchmarks.drift [--trials 1000] [--planted 100] [--sizes 150 300 600]

Both windows of an undrifted trial are drawn at random from one pool of texts: instructions and
English questions (XQuAD), 5 % of them refusals, with tags, labels and scores drawn by chance. A
planted drift changes the second window: 20 % of its texts are of another subject (Cranfield,
aerodynamics, cut to the same lengths), each text is longer by 25 %, 10 % are in German (XQuAD),
15 % refuse in place of 5 %, or the shares of a category change from 50, 30, 15 and 5 % to 35, 30,
25 and 10 %. Prints the share of alarms of each test at the 5 % level, of the family after the
correction (Holm's, and Benjamini and Hochberg's), and the share of planted drifts that are found by
their own test after Holm's correction, by the size of the windows. Set OPENBLAS_NUM_THREADS=1 on a
busy machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genjax.store.index.encoders import Encoder
from genjax.store.monitoring.drift import Drift, Testing, find_drift
from genjax.store.monitoring.samples import Sample
from genjax.store.monitoring.wording import is_refusal, tell_language

SORRY = "I'm sorry, but I can't help with that. "
TAGS = {"web": 0.3, "phone": 0.2, "new": 0.1}
CATEGORIES = ("fact", "task", "chat", "other")
SHARES, CHANGED = (0.5, 0.3, 0.15, 0.05), (0.35, 0.3, 0.25, 0.1)
REFUSED, REFUSED_LATER = 0.05, 0.15
LONGER, ELSEWHERE, FOREIGN = 0.25, 0.2, 0.1


@dataclass(frozen=True)
class Corpus:
    """Texts of a pool, of another subject, and in another language."""

    texts: Sequence[str]
    elsewhere: Sequence[str]
    foreign: Sequence[str]


@dataclass(frozen=True)
class Plant:
    """A drift: the test that should find it, and rows that replace a share of a window."""

    test: str
    share: float
    rows: Sample


def make_sample(
    texts: Sequence[str],
    encoder: Encoder,
    rng: np.random.Generator,
    shares: Sequence[float] = SHARES,
) -> Sample:
    """A sample with tags, labels and scores drawn by chance."""
    count = len(texts)
    rated = rng.integers(1, 6, count).astype(float)
    return Sample(
        tuple(f"{rng.integers(2**60):x}-{i}" for i in range(count)),
        tuple(texts),
        encoder.encode(texts),
        tuple(map(tell_language, texts)),
        np.array(list(map(is_refusal, texts))),
        tuple(tuple(t for t, p in TAGS.items() if rng.random() < p) for _ in texts),
        {"category": tuple(rng.choice(CATEGORIES, count, p=shares).tolist())},
        {
            "rating": np.where(rng.random(count) < 0.6, rated, np.nan),
            "reward": rng.standard_normal(count),
        },
        count,
    )


def make_pool(corpus: Corpus, encoder: Encoder, seed: int = 0) -> tuple[Sample, dict[str, Plant]]:
    """A pool that undrifted windows are drawn from, and the drifts to plant."""
    rng = np.random.default_rng(seed)
    refuses = rng.random(len(corpus.texts)) < REFUSED
    texts = [SORRY + t if r else t for t, r in zip(corpus.texts, refuses, strict=True)]
    plain = [text for text, refused in zip(corpus.texts, refuses, strict=True) if not refused]
    others = rng.permutation(texts).tolist()
    longer = [_lengthen(t, o, LONGER) for t, o in zip(texts, others, strict=True)]
    again = (REFUSED_LATER - REFUSED) / (1 - REFUSED)
    everyone = make_sample(texts, encoder, rng)
    return everyone, {
        "subject": Plant("embedding", ELSEWHERE, make_sample(corpus.elsewhere, encoder, rng)),
        "length": Plant("length", 1.0, make_sample(longer, encoder, rng)),
        "language": Plant("language", FOREIGN, make_sample(corpus.foreign, encoder, rng)),
        "refusals": Plant("refusals", again, make_sample([SORRY + t for t in plain], encoder, rng)),
        "categories": Plant("label category", 1.0, make_sample(texts, encoder, rng, CHANGED)),
    }


def _lengthen(text: str, other: str, share: float) -> str:
    more = round(share * len(text))
    return text + (" " + other * (1 + more // max(len(other), 1)))[:more]


def draw_pair(
    pool: Sample, size: int, rng: np.random.Generator, plant: Plant | None = None
) -> tuple[Sample, Sample]:
    """Two windows of the pool without a common row, the second with a drift."""
    rows = rng.choice(len(pool), 2 * size, replace=False)
    before, after = pool.take(rows[:size]), pool.take(rows[size:])
    if plant is None:
        return before, after
    count = round(plant.share * size)
    new = plant.rows.take(rng.choice(len(plant.rows), count, replace=count > len(plant.rows)))
    return before, _join(after.take(np.arange(count, size)), new)


def _join(first: Sample, second: Sample) -> Sample:
    assert first.vectors is not None and second.vectors is not None
    assert first.refused is not None and second.refused is not None
    return dataclasses.replace(
        first,
        ids=first.ids + second.ids,
        texts=first.texts + second.texts,
        vectors=np.concatenate([first.vectors, second.vectors]),
        languages=first.languages + second.languages,
        refused=np.concatenate([first.refused, second.refused]),
        tags=first.tags + second.tags,
        labels={name: one + second.labels[name] for name, one in first.labels.items()},
        scores={
            name: np.concatenate([one, second.scores[name]]) for name, one in first.scores.items()
        },
        total=len(first) + len(second),
    )


def compare_drawn(
    pool: Sample, size: int, trials: int, plant: Plant | None = None, draws: int = 999
) -> list[Drift]:
    """Compare pairs of windows, each with a seed of its own."""
    found = []
    for trial in range(trials):
        before, after = draw_pair(pool, size, np.random.default_rng([trial, size]), plant)
        found.append(find_drift(before, after, Testing(seed=trial, draws=draws)))
    return found


def count_alarms(found: Sequence[Drift]) -> dict[str, float]:
    """The share of alarms of each test at 5 %, and of the family after Holm's correction and
    Benjamini and Hochberg's.
    """
    tests = [one.test for one in found[0].findings]
    raw = np.array([[one.p for one in drift.findings] for drift in found])
    ordered = np.sort(raw, axis=1)
    ranks = np.arange(1, raw.shape[1] + 1)
    hochberg = (ordered <= 0.05 * ranks / raw.shape[1]).any(1)
    alarms = dict(zip(tests, (raw <= 0.05).mean(0).tolist(), strict=True))
    holm = float(np.mean([bool(drift.drifted) for drift in found]))
    return alarms | {"family, holm": holm, "family, fdr": float(hochberg.mean())}


def find_share(found: Sequence[Drift], test: str) -> float:
    """The share of comparisons in which a test alarmed after the correction."""
    return float(np.mean([test in [one.test for one in drift.drifted] for drift in found]))


def read_corpus(data: Path) -> Corpus:
    """The texts of the benchmark."""
    rng = np.random.default_rng(0)
    instruct = data / "instruct"
    rows = json.loads((instruct / "instruction_data_1100.json").read_text(encoding="utf-8"))
    for name in ("self_instruct_seed_tasks", "self_instruct_user_oriented"):
        lines = (instruct / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows += map(json.loads, lines)
    texts = [row["instruction"] for row in rows] + _read_questions(data / "qa/xquad.en.json")
    abstracts = (data / "retrieval/cranfield/cran.all.1400").read_text(encoding="utf-8")
    bodies = re.findall(r"\.W\n(.*?)(?=\n\.I|\Z)", abstracts, re.DOTALL)
    words = [" ".join(body.split()) for body in bodies]
    lengths = rng.permutation([len(text) for text in texts])
    elsewhere = [w[:n].strip() for w, n in zip(words, lengths, strict=False) if w]
    return Corpus(texts, elsewhere, _read_questions(data / "qa/xquad.de.json"))


def _read_questions(path: Path) -> list[str]:
    read = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [qa["question"] for one in read for p in one["paragraphs"] for qa in p["qas"]]


def main() -> None:
    """Print the shares as lines, and all of it as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[150, 300, 600])
    parser.add_argument("--draws", type=int, default=999)
    options = parser.parse_args()
    if not (data := os.environ.get("GENJAX_DATA")):
        print("set GENJAX_DATA to the folder of instruct/, qa/ and retrieval/", file=sys.stderr)
        raise SystemExit(2)
    from genjax.store.index.encoders import WordLlama

    began = time.perf_counter()
    pool, plants = make_pool(read_corpus(Path(data)), WordLlama())
    print(f"pool {len(pool):,} texts", flush=True)
    alarms = count_alarms(compare_drawn(pool, options.size, options.trials, draws=options.draws))
    for name, share in alarms.items():
        print(f"{name:<16}{share:7.1%} alarms without drift", flush=True)
    power: dict[str, dict[int, float]] = {name: {} for name in plants}
    for name, plant in plants.items():
        for size in options.sizes:
            found = compare_drawn(pool, size, options.planted, plant, draws=options.draws)
            power[name][size] = find_share(found, plant.test)
            print(f"{name:<16}{power[name][size]:7.1%} found, windows of {size}", flush=True)
    took = round(time.perf_counter() - began)
    shared = vars(options) | {"pool": len(pool), "seconds": took}
    print(json.dumps(shared | {"alarms": alarms, "found": power}))


if __name__ == "__main__":
    main()
