"""Beside the CTGAN and TVAE of the package ctgan: CatBoost trained on their rows and on a run's.

    python -m genjax train tabddpm_abalone
    pip install ctgan
    python -m benchmarks.tables runs/tabddpm_abalone --epochs 300

All three learn the training rows of the run and are tested on its held-out rows; the protocol is
that of ``BoostedUtility``. A line of JSON is printed for each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import genjax
from genjax.data.tables.codec import Columns
from genjax.evaluation.tables.boosting import BoostedUtility, split_rows
from genjax.runs.setup import set_up


def read_rows(run: Any) -> tuple[Columns, Columns]:
    """Return the training and the held-out rows of a run."""
    data = set_up(run.experiment).data
    found = []
    for name in ("train", "test"):
        batch = data.splits[name].batch(np.arange(len(data.splits[name])))
        found.append(run.codec.decode_columns(batch["numeric"], batch["categorical"]))
    return found[0], found[1]


def draw_with(kind: str, train: Columns, epochs: int, seed: int) -> tuple[Columns, float]:
    """Fit ctgan's model of this name to rows; return as many new rows, and seconds of training."""
    import ctgan
    import pandas
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    words = [name for name, cells in train.items() if cells.dtype.kind != "f"]
    frame = pandas.DataFrame(
        {n: ["" if c is None else c for c in x] if n in words else x for n, x in train.items()}
    )
    model = getattr(ctgan, kind)(epochs=epochs)
    begin = time.perf_counter()
    model.fit(frame, words)
    seconds = time.perf_counter() - begin
    drawn = model.sample(len(frame))
    rows = {
        name: drawn[name].to_numpy(object if name in words else np.float64, copy=True)
        for name in train
    }
    for name in words:
        rows[name] = np.array([cell or None for cell in rows[name]], object)
    return rows, seconds


def compare(
    run_dir: str, epochs: int, seed: int, judge: BoostedUtility
) -> Iterator[dict[str, Any]]:
    """Yield a row of results for real rows, the run, TVAE and CTGAN."""
    run: Any = genjax.load(run_dir)
    train, test = read_rows(run)
    rest, valid = split_rows(train)
    count = len(next(iter(train.values())))

    def score(rows: Columns) -> dict[str, float]:
        found = judge.fit(run.codec, rows, valid, test)
        return {name: round(float(np.mean([f[name] for f in found])), 4) for name in found[0]}

    yield {"rows": "real", "seconds": None, **score(rest)}
    yield {"rows": run_dir, "seconds": None, **score(run.codec.decode(run.sample(count, seed)))}
    for kind in ("TVAE", "CTGAN"):
        rows, seconds = draw_with(kind, train, epochs, seed)
        yield {"rows": f"ctgan's {kind}", "seconds": round(seconds), **score(rows)}


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run directory of a model of a table with a target")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of TVAE and CTGAN")
    parser.add_argument("--seed", type=int, default=0, help="seed of training and samples")
    parser.add_argument("--seeds", type=int, default=2, help="CatBoost trainings on each")
    parser.add_argument("--learning-rate", type=float, default=0.028, help="of CatBoost")
    parser.add_argument("--depth", type=int, default=5, help="of CatBoost")
    parser.add_argument("--l2", type=float, default=7.78, help="of CatBoost")
    given = parser.parse_args()
    judge = BoostedUtility(given.learning_rate, given.depth, given.l2, seeds=given.seeds)
    for row in compare(given.run, given.epochs, given.seed, judge):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
