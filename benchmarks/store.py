"""How fast a store of records is.

    python -m benchmarks.store [--records 100000] [--store URL]

prints a JSON line: seconds in which responses come in as a table of Arrow, go out, are counted by a
filter on metadata, and are added one transaction of 1,000 objects after another.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from genjax.store.bulk import add_table, read_table
from genjax.store.records import Payload, Prompt, Response, Run
from genjax.store.store import Store, open_store

PROMPTS, OBJECTS, BATCH = 100, 10_000, 1_000
WORDS = "the quick brown fox jumps over the lazy dog and then sleeps all day long " * 2


def measure(store: Store, records: int) -> dict[str, float]:
    """Seconds of each way."""
    (run,) = store.add(Run(origin="real", name="run"))
    asked = [Prompt(origin="real", payload=Payload(text=f"question {i}")) for i in range(PROMPTS)]
    prompts = store.add(*asked)
    table = pa.table(
        {
            "origin": ["synthetic"] * records,
            "generator": [run] * records,
            "run": [run] * records,
            "prompt": [prompts[i % PROMPTS] for i in range(records)],
            "text": [f"answer {i}: {WORDS}" for i in range(records)],
            "metadata": [json.dumps({"number": i}) for i in range(records)],
            "seed": range(records),
        }
    )
    found = {}
    begin = time.perf_counter()
    add_table(store, "response", table)
    found["arrow_in_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    rows = sum(len(batch) for batch in read_table(store, "response", origin="synthetic"))
    found["arrow_out_s"] = time.perf_counter() - begin
    assert rows == records
    begin = time.perf_counter()
    count = store.count(f"metadata.number<{records // 2}", kind="response", origin="any")
    found["filter_s"] = time.perf_counter() - begin
    assert count == records // 2
    begin = time.perf_counter()
    for first in range(0, OBJECTS, BATCH):
        made = {"origin": "synthetic", "generator": run, "payload": Payload(text=WORDS)}
        store.add(
            *(
                Response(prompt=prompts[number % PROMPTS], seed=number, **made)  # type: ignore[arg-type]
                for number in range(first, first + BATCH)
            )
        )
    found["objects_in_s"] = time.perf_counter() - begin
    return found


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.store or str(Path(folder) / "store.db")
        with open_store(place, create=True) as store:
            found = measure(store, options.records)
    shared = {"records": options.records, "objects": OBJECTS, "store": store.engine.dialect.name}
    print(json.dumps(shared | {name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
