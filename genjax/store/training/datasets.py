"""Write a data set of sampled records, as ``genjax sample --as-dataset`` does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from genjax.data.sources.prepared import FOLDER
from genjax.errors import UserError
from genjax.prepare import synthetic
from genjax.serial.json_text import Json
from genjax.store.audit.deeds import note_deed
from genjax.store.filters import All, Filter
from genjax.store.records import OUT, DataSet, Prompt, Response
from genjax.store.records import Run as RunRecord
from genjax.store.rows import load, split
from genjax.store.runs import name_dataset
from genjax.store.store import Store
from genjax.store.training.snapshots import hash_record, hash_rows

PICTURE = "image/"


def write_dataset(
    store: Store, name: str, filter: Filter | str = All(()), out: str | Path | None = None
) -> tuple[Path, int]:
    """Write the sampled responses that pass a filter as a synthetic data set.

    Returns the path of its manifest and its number of records.

    The column is ``text``, or ``image`` with ``label`` if each image has a prompt of its own.
    Records keep their ids. The manifest holds the hash of each, the runs that drew them with their
    data, and a fingerprint. The store records the set with its records as parents.

    Args:
      name: the name of the set.
      filter: a filter on the responses, which must be all texts or all images.
      out: the folder to write; prepared/NAME by default.

    Raises:
      UserError: the filter passes nothing, or both texts and images, or the folder exists.
    """
    store = store.read_for("export")
    found = store.select(filter, kind="response", origin="synthetic")
    answers = [one for one in found if isinstance(one, Response)]
    pictures = [a for a in answers if (a.payload.media_type or "").startswith(PICTURE)]
    texts = [a for a in answers if a.payload.text and a.payload.text.strip()]
    if bool(pictures) == bool(texts):
        what = "both texts and pictures: narrow it" if texts else "no drawn text or picture"
        raise UserError(f"filter of store {store.place} passes {what}, got {filter!r}", "filter")
    used = pictures or texts
    columns: dict[str, list[Any]] = (
        {"image": [store.read_blob(one.payload) for one in used]}
        if pictures
        else {"text": [one.payload.text for one in used]}
    )
    said = _read_prompts(store, used)
    if pictures and all(said.values()):
        columns["label"] = [said[one.prompt] for one in used]
    hashes = {f"response {one.id}": hash_record(one) for one in used}
    print_ = hash_rows([], hashes)
    folder = Path(FOLDER) / name if out is None else Path(out).expanduser()
    place = str(folder.absolute())
    rows = len(used)
    deed: dict[str, Json] = {"name": name, "filter": str(filter), "rows": rows, OUT: place}
    note_deed(store, "dataset", deed)
    made = _describe(store, used, print_) | {"inputs": hashes}
    manifest = synthetic.write(folder, name, columns, made, [one.id for one in used])
    store.add_new(
        [
            DataSet(
                id=name_dataset(print_),
                origin="real",
                name=name,
                fingerprint=print_,
                manifest={"rows": len(used), "synthetic": True, OUT: place},
                parents=tuple(one.id for one in used),
            )
        ]
    )
    return manifest, len(used)


def _read_prompts(store: Store, answers: list[Response]) -> dict[str, str]:
    """Return the texts of prompts, by id."""
    found: dict[str, str] = {}
    for part in split(sorted({one.prompt for one in answers})):
        with store.reading() as connection:
            records = load(connection, part)
        found |= {r.id: r.payload.text or "" for r in records if isinstance(r, Prompt)}
    return found


def _describe(store: Store, answers: list[Response], fingerprint: str) -> dict[str, Json]:
    """Return the origin of the records, in the form of ``lineage.read_record``."""
    drawn = Counter((one.run, one.step) for one in answers)
    ids = sorted({run for run, _ in drawn if run is not None})
    with store.reading() as connection:
        runs = {r.id: r for r in load(connection, ids) if isinstance(r, RunRecord)}
    parents: dict[str, Json] = {}
    for (one, step), count in sorted(drawn.items(), key=str):
        run = runs.get(one or "")
        if run is not None:
            parents[f"{run.name}, step {step}, {count:,} records"] = {
                "run": run.path,
                "step": step,
                "training_seed": run.metadata.get("training_seed"),
                "config": run.config,
                "commits": run.metadata.get("commits") or [],
                "data_fingerprint": run.fingerprint,
                "origins": [],
                "parents": {},
            }
    seeds = sorted({one.seed for one in answers if one.seed is not None})
    return {
        "run": f"store {store.place}",
        "step": max((one.step or 0 for one in answers), default=0),
        "seed": ", ".join(map(str, seeds)) or "not recorded",
        "training_seed": None,
        "config": fingerprint,
        "commits": [],
        "data_fingerprint": fingerprint,
        "origins": [],
        "parents": parents,
        "drawn": len(answers),
        "best_of": 1,
    }
