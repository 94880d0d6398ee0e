"""The records of training runs, and ids that follow from content."""

from __future__ import annotations

import hashlib

from genjax.runs import lineage
from genjax.runs.run import Run
from genjax.store.records import DataSet
from genjax.store.records import Run as RunRecord
from genjax.store.store import Store


def record_run(store: Store, run: Run) -> RunRecord:
    """The record of a run, made with those of its data where it is missing."""
    known = lineage.read_record(run.run_dir, run.step)
    sets = []
    for one in known["origins"]:
        sets.append(
            DataSet(
                id=make_id("dataset", str(one["fingerprint"])),
                origin="real",
                name=str(one["name"]),
                fingerprint=str(one["fingerprint"]),
                manifest={"inputs": dict(lineage.read_inputs(one) or {}), "kind": one["kind"]},
            )
        )
    place = str(run.run_dir)
    record = RunRecord(
        id=make_id("run", f"{place}\n{known['config']}\n{known['data_fingerprint']}"),
        origin="real",
        name=run.run_dir.name,
        path=place,
        config=known["config"],
        fingerprint=known["data_fingerprint"],
        parents=tuple(dict.fromkeys(one.id for one in sets)),
        metadata={"commits": known["commits"], "training_seed": known["training_seed"]},
    )
    store.add_new([*{one.id: one for one in sets}.values(), record])
    return record


def mend(text: str) -> str:
    """A text without what no database stores, which a model may draw, too."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def make_id(kind: str, content: str) -> str:
    """An id that follows from the content, so that the same is recorded once."""
    digest = hashlib.sha256(f"{kind}\n{content}".encode("utf-8", "replace")).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
