"""What encryption costs a store.

    python -m benchmarks.privacy [--records 20000] [--rounds 3]

prints a JSON line: for each way, the seconds of a plain SQLite store and the ratio of an encrypted
one, the median of rounds that take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from genjax.store.bulk import add_table, read_table
from genjax.store.opening import open_store
from genjax.store.privacy.keys import VARIABLE, make_key
from genjax.store.privacy.plan import BLOBS, FIELDS, Plan
from genjax.store.privacy.rotation import rotate
from genjax.store.records import Document, Payload, Prompt
from genjax.store.store import Store

BATCH, BLOB, COUNT = 1_000, 2**24, 8
WORDS = "the quick brown fox jumps over the lazy dog and then sleeps all day long " * 2


def _time(act: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def _drain(rows: Iterable[Any]) -> None:
    for _ in rows:
        pass


def _add(store: Store, records: int) -> None:
    for first in range(0, records, BATCH):
        store.add(
            *(
                Prompt(origin="real", payload=Payload(text=f"{i}: {WORDS}"), metadata={"number": i})
                for i in range(first, min(first + BATCH, records))
            )
        )


def _add_blobs(store: Store) -> None:
    for _ in range(COUNT):
        payload = Payload(content=os.urandom(BLOB), media_type="application/octet-stream")
        store.add(Document(origin="real", payload=payload))


def _read_blobs(store: Store) -> None:
    for one in store.select(kind="document"):
        if isinstance(one, Document):
            store.read_blob(one.payload)


def measure(place: Path, plan: Plan, records: int) -> dict[str, float]:
    """Return the seconds of each way."""
    with open_store(str(place), create=True, privacy=plan) as store:
        table = pa.table(
            {"origin": ["real"] * records, "text": [f"{i}: {WORDS}" for i in range(records)]}
        )
        return {
            "add": _time(lambda: _add(store, records)),
            "read": _time(lambda: _drain(store.select(kind="prompt"))),
            "arrow_in": _time(lambda: add_table(store, "prompt", table)),
            "arrow_out": _time(lambda: _drain(read_table(store, "prompt"))),
            "blobs_in": _time(lambda: _add_blobs(store)),
            "blobs_out": _time(lambda: _read_blobs(store)),
        }


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    key = make_key()
    os.environ[VARIABLE] = key
    rounds: dict[str, list[dict[str, float]]] = {"plain": [], "encrypted": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name, plan in (("plain", Plan()), ("encrypted", Plan((*FIELDS, BLOBS)))):
                place = Path(folder) / f"{name}{number}.db"
                rounds[name].append(measure(place, plan, options.records))
        os.environ[VARIABLE] = f"{make_key()} {key}"
        with open_store(str(Path(folder) / "encrypted0.db")) as store:
            turned = _time(lambda: rotate(store))
    plain, sealed = (
        {way: statistics.median(one[way] for one in found) for way in found[0]}
        for found in rounds.values()
    )
    print(
        json.dumps(
            {
                "records": options.records,
                "plain_s": {way: round(seconds, 3) for way, seconds in plain.items()},
                "ratio": {way: round(sealed[way] / plain[way], 2) for way in plain},
                "rotate_s": round(turned, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
