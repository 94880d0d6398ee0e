"""Record runs, their checkpoints and their data; recording them again adds nothing."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from etils import epath

from genjax.runs import lineage
from genjax.store.records import Checkpoint, DataSet, Record, Run
from genjax.store.store import Store


def name_record(kind: str, content: str, secret: bytes = b"") -> str:
    """Return an id derived from the content, so that equal content is recorded once.

    With the secret of an encrypted store (``Guard.names``) nobody else can confirm a guess by it.
    """
    named = f"{kind}\n{content}".encode("utf-8", "replace")
    digest = hmac.new(secret, named, "sha256") if secret else hashlib.sha256(named)
    return shape_id(digest.hexdigest())


def shape_id(digest: str) -> str:
    """Return the first digits of a hash in the form of an id."""
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def mend(text: str) -> str:
    """Replace characters that databases cannot store, but a model may draw."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def name_dataset(fingerprint: str) -> str:
    """Return the id of the data with a fingerprint."""
    return name_record("dataset", fingerprint)


def note_run(store: Store, run_dir: str | Path | epath.Path, step: int | None = None) -> Run:
    """Return the record of a run, after adding it, its data and a checkpoint if they are missing.

    Args:
      store: the store.
      run_dir: the run directory.
      step: step of the checkpoint; None for none.
    """
    known = lineage.read_record(run_dir, step)
    sets = [
        DataSet(
            id=name_dataset(str(one["fingerprint"])),
            origin="real",
            name=str(one["name"]),
            fingerprint=str(one["fingerprint"]),
            manifest={"inputs": dict(lineage.read_inputs(one) or {}), "kind": one["kind"]},
        )
        for one in known["origins"]
    ]
    place = str(run_dir)
    run = Run(
        id=name_record("run", f"{place}\n{known['config']}\n{known['data_fingerprint']}"),
        origin="real",
        name=epath.Path(run_dir).name,
        path=place,
        config=known["config"],
        fingerprint=known["data_fingerprint"],
        parents=tuple(dict.fromkeys(one.id for one in sets)),
        metadata={"commits": known["commits"], "training_seed": known["training_seed"]},
    )
    records: list[Record] = [*{one.id: one for one in sets}.values(), run]
    if step is not None:
        records.append(make_checkpoint(run, step))
    store.add_new(records)
    return run


def make_checkpoint(run: Run, step: int) -> Checkpoint:
    """Return the record of a run's checkpoint."""
    one = name_record("checkpoint", f"{run.id}\n{step}")
    return Checkpoint(id=one, origin="real", run=run.id, step=step, path=run.path)
