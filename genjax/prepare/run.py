"""Run a ``Preparation``, one stage after another.

Each stage writes its records to a folder that gets its final name when it is complete. So a killed
run continues after the last complete stage, and after a change of the pipeline only the changed
stage and later ones run again.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genjax.config_files import to_json
from genjax.data.sources.prepared import MANIFEST
from genjax.data.splits import digest
from genjax.data.tally import format_counts
from genjax.errors import UserError
from genjax.machine import disk
from genjax.prepare import card, engine, reading, shards
from genjax.prepare.matching.review import write_csv
from genjax.prepare.preparation import Change, Outcome, Preparation
from genjax.prepare.reading import DROPPED, KEPT
from genjax.prepare.stage import CHANGED, ID, REASON, SOURCE, Stage
from genjax.serial.json_text import Json

DONE, STAGES = "done.json", "stages"
REMARK, BESIDE = "remark.txt", "beside"  # remark and further files of a stage
GLOB = "*?[]{}%#"  # special characters of patterns and URLs
LEFT = "finished stages are kept, and the same command resumes once there is room"
QUARANTINE = "quarantine.jsonl"
VERSION = 5  # of the stages' output; raised when old folders must be made again


def prepare(
    preparation: Preparation,
    name: str,
    out: str | Path,
    runner: str = engine.NATIVE,
    say: Callable[[str], None] = print,
) -> Path:
    """Run a preparation, or what is left of it; return the path of the manifest.

    Args:
      preparation: the preparation.
      name: name of the data in the card.
      out: folder of the shards, the card and the stages.
      runner: "native", "ray", or the address of a Ray cluster, whose workers see the same folders.
      say: function called with a line for each stage.

    Raises:
      UserError: there is nothing to read, no room to write, or more broken records than
        ``max_bad``.
    """
    folder = Path(out).expanduser()
    plan, schema = reading.plan_reading(preparation.readers)
    _check_free(folder, [path for _, files in plan for path in files.paths])
    engine.begin(runner)
    from daft.exceptions import DaftCoreException

    reading.note_passed_over(plan)

    try:
        with disk.explain_full_disk(LEFT, folder):
            return _run_stages(preparation, name, folder, plan, schema, say)
    except BrokenPipeError:  # nobody reads the printed lines any more
        raise
    except (OSError, pa.ArrowException, DaftCoreException) as error:
        if disk.crowded(folder):  # Daft rarely says why its threads ended
            raise disk.refusal(folder, LEFT) from error
        raise UserError(f"{folder} cannot be written: {' '.join(str(error).split())}") from error


def _run_stages(
    preparation: Preparation,
    name: str,
    folder: Path,
    plan: Any,
    schema: pa.Schema,
    say: Callable[[str], None],
) -> Path:
    inputs = {
        files.name(path): reader.digest(files, path)
        for reader, files in plan
        for path in files.paths
    }
    code = [_code(reader) for reader in preparation.readers]
    parts = [str(VERSION), repr(sorted(inputs.items())), _text(preparation.readers), *code]
    key = digest(part.encode() for part in parts)
    stages = folder / STAGES
    stages.mkdir(parents=True, exist_ok=True)
    names = ["read", *(stage.name for stage in preparation.stages)]
    outcomes: list[Outcome] = []
    before: Path | None = None
    for number, stage in enumerate((None, *preparation.stages)):
        others = {} if stage is None else dict(sorted(stage.hash_inputs().items()))
        if stage is not None:
            key = digest(part.encode() for part in (key, _text(stage), _code(stage), repr(others)))
        place = stages / f"{number:02d}_{names[number]}"
        done = _done(place, key)
        if done is None:
            _clear(stages, number)
            partial = stages / f"{number:02d}.partial"
            if stage is None or before is None:
                reading.read_files(plan, schema, partial)
            else:
                _run(stage, before, partial)
            done = _outcome(stage, names[number], others, partial, preparation.examples)
            _write(
                partial / DONE,
                json.dumps({"key": key} | done.__dict__, ensure_ascii=False, indent=1),
            )
            partial.replace(place)
            changed = format_counts({what: change.times for what, change in done.changed.items()})
            line = f"{place.name}: {done.kept:,} kept, {sum(done.dropped.values()):,} dropped"
            say(f"{line}; {changed}" if changed else line)
        else:
            say(f"{place.name}: done before, {done.kept:,} kept")
        outcomes.append(done)
        _quarantine(folder, stages, outcomes, preparation.stages)
        _check_bad(preparation, outcomes, folder)
        before = place
    assert before is not None
    for path in sorted(stages.glob(f"*/{BESIDE}/*")):
        disk.write(folder / path.name, path.read_bytes())
    found = shards.write(before / KEPT, folder, int(preparation.shard_mb * 2**20))
    passed = reading.passed_over(plan)
    return card.write(
        folder, name, preparation, inputs, outcomes, found, stages / "00_read" / KEPT, passed
    )


def _check_free(folder: Path, inputs: Sequence[str]) -> None:
    """Raise ``UserError`` for a folder whose files would be lost or read as raw files."""
    if wrong := sorted(set(GLOB) & set(str(folder))):
        raise UserError(
            f"{folder} must not contain {' '.join(wrong)} in its name: these are special characters"
        )
    own = folder.resolve()
    if any(
        own == path.parent or own / STAGES in path.parents
        for path in (Path(name).resolve() for name in inputs)
    ):
        raise UserError(f"{folder} holds raw files of this preparation: write to another folder")
    started = (folder / STAGES).exists() or (folder / MANIFEST).exists()
    if not started and any(folder.glob(shards.PATTERN)):
        raise UserError(
            f"{folder} holds other Parquet files named like shards: write to another folder"
        )


def _text(value: Any) -> str:
    return json.dumps(to_json(value), sort_keys=True)


def _code(value: Any) -> str:
    """Return the source of a reader's or stage's module; "" for genjax's own, which ``VERSION``
    covers.
    """
    module = type(value).__module__
    try:
        return "" if module.startswith("genjax.") else inspect.getsource(sys.modules[module])
    except (OSError, TypeError):  # defined interactively, without a file
        return ""


def _done(place: Path, key: str) -> Outcome | None:
    """Return the outcome of a finished stage; None if it is not finished, or was a different
    one.
    """
    try:
        stored = json.loads((place / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(stored, dict) or stored.pop("key", None) != key:
        return None
    changed = {what: Change(*change) for what, change in stored.pop("changed").items()}
    return Outcome(**stored, changed=changed)


def _clear(stages: Path, number: int) -> None:
    """Remove the remains of this stage and of later ones."""
    for path in stages.iterdir():
        if path.name[:2].isdigit() and int(path.name[:2]) >= number:
            shutil.rmtree(path)


def _run(stage: Stage, before: Path, partial: Path) -> None:
    """Write the records that a stage keeps and those that it drops."""
    import daft

    records = daft.read_parquet(str(before / KEPT / "*.parquet"))
    records = records.select(
        *(name for name in records.column_names if name not in (REASON, CHANGED))
    )
    said = stage.judge(records)
    judged = said.records.with_column(KEPT, daft.col(REASON).is_null())
    judged.write_parquet(str(partial / "written"), partition_cols=[KEPT])
    for part, value in ((KEPT, "true"), (DROPPED, "false")):
        (partial / part).mkdir()
        for number, file in enumerate(
            sorted((partial / "written" / f"{KEPT}={value}").glob("*.parquet"))
        ):
            file.replace(partial / part / f"{number:06d}.parquet")
    shutil.rmtree(partial / "written")
    _write(partial / REMARK, said.remark)
    (partial / BESIDE).mkdir()
    for name, table in said.tables.items():
        if name.endswith(".csv"):
            write_csv(table, partial / BESIDE / name)
        else:
            pq.write_table(table, partial / BESIDE / name)


def _outcome(
    stage: Stage | None, name: str, inputs: dict[str, str], folder: Path, examples: int
) -> Outcome:
    """Count the records that a stage kept and dropped.

    Raises:
      UserError: nothing is left.
    """
    kept = sum(pq.read_metadata(path).num_rows for path in (folder / KEPT).glob("*.parquet"))
    dropped: dict[str, int] = {}
    shown: dict[str, list[list[str]]] = {}
    for row in records(folder / DROPPED):
        reason = str(row[REASON]).split(":")[0]
        dropped[reason] = dropped.get(reason, 0) + 1
        found = shown.setdefault(reason, [])
        found.append([row[ID], card.format_record(row)])
        shown[reason] = sorted(found)[:examples]
    if not kept:
        most = max(dropped, key=lambda reason: dropped[reason], default="there was none")
        raise UserError(
            f"{name} drops all {sum(dropped.values()):,} records, most of them because: {most}"
        )
    broken = stage is None or stage.broken
    remark = "" if stage is None else (folder / REMARK).read_text(encoding="utf-8")
    changed = reading.changes(folder) if stage is None else _changes(folder, examples)
    return Outcome(
        name,
        kept,
        dict(sorted(dropped.items())),
        dict(sorted(shown.items())),
        remark,
        broken,
        inputs,
        changed,
    )


def _changes(folder: Path, examples: int) -> dict[str, Change]:
    """Return what a stage has changed, with examples from the records with the smallest ids."""
    counts: Counter[str] = Counter()
    shown: dict[str, dict[str, str]] = {}
    for path in (
        *sorted((folder / KEPT).glob("*.parquet")),
        *sorted((folder / DROPPED).glob("*.parquet")),
    ):
        file = pq.ParquetFile(path)
        if CHANGED not in file.schema_arrow.names:
            continue
        for batch in file.iter_batches(1024, columns=[ID, CHANGED]):
            for row in batch.to_pylist():
                for what, count, example in json.loads(row[CHANGED] or "[]"):
                    counts[what] += count
                    if not example:
                        continue
                    found = shown.setdefault(what, {})
                    found[example] = min(found.get(example, row[ID]), row[ID])
                    if len(found) > examples:  # so that the examples do not depend on the order
                        found.pop(max(found, key=lambda each: (found[each], each)))
    return {
        what: Change(
            count, 0, tuple(sorted(shown.get(what, {}), key=lambda each: (shown[what][each], each)))
        )
        for what, count in sorted(counts.items())
    }


def records(folder: Path) -> Iterator[dict[str, Json]]:
    """Yield the records of the Parquet files of a folder."""
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()


def _quarantine(
    folder: Path, stages: Path, outcomes: Sequence[Outcome], of: Sequence[Stage]
) -> None:
    """Write all broken records with their reasons, sorted by name."""
    rows = []
    for number, outcome in enumerate(outcomes):
        if outcome.broken and outcome.dropped:
            for row in records(stages / f"{number:02d}_{outcome.name}" / DROPPED):
                why = {
                    "stage": outcome.name,
                    "reason": row[REASON],
                    "holds": card.excerpt(card.format_record(row), of),
                }
                rows.append({ID: row[ID], SOURCE: row[SOURCE]} | why)
    rows.sort(key=lambda row: (row[ID], row["stage"]))
    _write(folder / QUARANTINE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _check_bad(preparation: Preparation, outcomes: Sequence[Outcome], folder: Path) -> None:
    whole = outcomes[0].kept + sum(outcomes[0].dropped.values())
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.broken:
            counts.update(outcome.dropped)
    bad = counts.total()
    if bad > preparation.max_bad * whole:
        most = ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common(3))
        raise UserError(
            f"{bad:,} of {whole:,} records are broken, more than max_bad {preparation.max_bad:g} "
            f"allows: {most}; "
            f"see {folder / QUARANTINE}"
        )


def _write(path: Path, text: str) -> None:
    """Write a file atomically: after a crash there is the old one or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
