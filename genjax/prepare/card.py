"""Write the data card (what went in and came out, what was dropped and why) and a small manifest to
commit.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax.config_files import to_json
from genjax.data.charts import new_figure
from genjax.data.images.files import format_counts as format_kinds
from genjax.data.sources.prepared import FORMAT, MANIFEST
from genjax.data.synthetic import REAL, SYNTHETIC
from genjax.machine import disk
from genjax.prepare import shards
from genjax.prepare.preparation import Outcome, Preparation
from genjax.prepare.shards import Shards
from genjax.prepare.stage import CHANGED, ID, REASON, SOURCE, Stage
from genjax.serial.json_text import Json

CARD = "card.md"
KINDS = 30  # most kinds of changes shown for a stage
HELD, SHOWN = 1000, 100  # characters of an example that are stored, and that are shown


def format_record(row: Mapping[str, Json]) -> str:
    """Format a record in one line, cut to a readable length."""
    values = [
        value
        for name, value in row.items()
        if name not in (ID, SOURCE, REASON, CHANGED) and value is not None
    ]
    cells = (
        f"{len(v):,} bytes" if isinstance(v, bytes) else " ".join(str(v)[:HELD].split())
        for v in values
    )
    return ", ".join(cells)[:HELD]


def excerpt(text: str, stages: Sequence[Stage]) -> str:
    """Shorten a record's text for people, redacted by all stages."""
    for stage in stages:
        text = stage.redact(text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def write(
    folder: Path,
    name: str,
    preparation: Preparation,
    inputs: Mapping[str, str],
    outcomes: Sequence[Outcome],
    found: Shards,
    read: Path,
    passed_over: Mapping[str, int],
) -> Path:
    """Write card, plots and, last, the manifest; return the manifest's path.

    Args:
      folder: folder of the set.
      name: name of the set.
      preparation: the preparation.
      inputs: hashes of the raw files.
      outcomes: results of the stages.
      found: shards of the set.
      read: folder of the records as read.
      passed_over: numbers of files that no reader reads, by kind.
    """
    pictures = {"stages": _stages(outcomes)} | _distributions(read, folder)
    _write_plots(folder, pictures)
    disk.write(
        folder / CARD,
        _card(name, preparation, inputs, outcomes, found, list(pictures), passed_over),
    )
    manifest = {
        "format": FORMAT,
        "name": name,
        "origin": REAL,
        "fingerprint": found.fingerprint,
        "licence": preparation.licence,
        "source": preparation.origin,
        "shards": [dataclasses.asdict(shard) for shard in found.files],
        "inputs": dict(sorted(inputs.items())),
        "passed_over": dict(sorted(passed_over.items())),
        "stages": [
            {
                "name": o.name,
                "kept": o.kept,
                "dropped": o.dropped,
                "changed": {what: change.times for what, change in o.changed.items()},
                "inputs": o.inputs,
            }
            for o in outcomes
        ],
        "preparation": to_json(preparation),
        "versions": {
            package: importlib.metadata.version(package) for package in ("daft", "pyarrow", "numpy")
        },
    }
    return _write_manifest(folder, manifest)


def write_synthetic(folder: Path, name: str, generator: Mapping[str, Json], found: Shards) -> Path:
    """Write card, plots and, last, the manifest of records drawn by a run; return the manifest's
    path.

    Args:
      folder: folder of the set.
      name: name of the set.
      generator: the run, with step and seed of the samples and the data it was trained on.
      found: shards of the set.
    """
    pictures = _distributions(None, folder)
    _write_plots(folder, pictures)
    disk.write(folder / CARD, _synthetic_card(name, generator, found, list(pictures)))
    manifest = {
        "format": FORMAT,
        "name": name,
        "origin": SYNTHETIC,
        "fingerprint": found.fingerprint,
        "licence": "that of what the generator learned from; see there",
        "source": _format_generator(generator),
        "shards": [dataclasses.asdict(shard) for shard in found.files],
        "generator": generator,
        "versions": {
            package: importlib.metadata.version(package) for package in ("pyarrow", "numpy")
        },
    }
    return _write_manifest(folder, manifest)


def _format_generator(generator: Mapping[str, Json]) -> str:
    return f"drawn from {generator['run']}, step {generator['step']}, with seed {generator['seed']}"


def _synthetic_card(
    name: str, generator: Mapping[str, Json], found: Shards, pictures: Sequence[str]
) -> str:
    rows = sum(shard.rows for shard in found.files)
    origins = generator["origins"]
    lines = [
        f"# SYNTHETIC: {name}",
        "",
        f"{rows:,} records of {generator['drawn']:,} that a model drew; none of them is real. No "
        "reader takes them for "
        "real ones: they come into training only where a config asks for them, such as by "
        f'`PreparedTexts(NAME, synthetic=Synthetic("{name}", share=0.25))`.',
        "",
        f"- Generator: {_format_generator(generator)}",
        f"- Its config: `{generator['config']}`",
        f"- Its data: `{generator['data_fingerprint']}`",
        *(
            f"- Of these, {origin['kind']}: {origin['name']}, `{origin['fingerprint']}`"
            for origin in origins
        ),
        "- Licence: that of what the generator learned from; see there",
        f"- Fingerprint: `{found.fingerprint}`",
        "",
        "## Distributions",
        "",
        *(f"![{picture}](plots/{picture}.png)" for picture in pictures),
    ]
    return "\n".join(lines) + "\n"


def _write_manifest(folder: Path, manifest: Mapping[str, Json]) -> Path:
    """Write the manifest atomically."""
    path = folder / MANIFEST
    disk.write(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return path


def _card(
    name: str,
    preparation: Preparation,
    inputs: Mapping[str, str],
    outcomes: Sequence[Outcome],
    found: Shards,
    pictures: Sequence[str],
    passed_over: Mapping[str, int],
) -> str:
    total = outcomes[0].kept + sum(outcomes[0].dropped.values())
    splits: dict[str, int] = {}
    for shard in found.files:
        splits[shard.split] = splits.get(shard.split, 0) + shard.rows
    parts = ", ".join(f"{rows:,} {split}" for split, rows in splits.items())
    lines = [
        f"# {name}",
        "",
        f"{total:,} records of {len(inputs):,} files became {outcomes[-1].kept:,}: {parts}.",
        "",
        f"- Licence: {preparation.licence}",
        f"- Origin: {preparation.origin}",
        f"- Fingerprint: `{found.fingerprint}`",
        "",
        "## Stages",
        "",
        "| stage | in | kept | dropped | reasons |",
        "|---|---|---|---|---|",
    ]
    lines += [_stage_row(outcome) for outcome in outcomes]
    lines += _changed(outcomes)
    files = f"{sum(passed_over.values()):,} files that no reader takes: {format_kinds(passed_over)}"
    remarks = [f"- {files}"] if passed_over else []
    remarks += [f"- {outcome.name}: {outcome.remark}" for outcome in outcomes if outcome.remark]
    if remarks:
        lines += ["", "## To know", "", *remarks]
    lines += _examples(outcomes, preparation)
    lines += [
        "",
        "## Distributions",
        "",
        *(f"![{picture}](plots/{picture}.png)" for picture in pictures),
    ]
    return "\n".join(lines) + "\n"


def _stage_row(outcome: Outcome) -> str:
    gone = sum(outcome.dropped.values())
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in outcome.dropped.items())
    return (
        f"| {outcome.name} | {outcome.kept + gone:,} | {outcome.kept:,} | {gone:,} | "
        f"{_cell(reasons)} |"
    )


def _examples(outcomes: Sequence[Outcome], preparation: Preparation) -> list[str]:
    """Return examples of dropped records for each stage and reason; [] if none were dropped."""
    lines = [
        f"| {outcome.name} | {_cell(reason)} | {_cell(i)} | "
        f"{_cell(excerpt(text, preparation.stages))} |"
        for outcome in outcomes
        for reason, rows in outcome.examples.items()
        for i, text in rows
    ]
    if not any(outcome.examples for outcome in outcomes):
        return []
    title = "## Examples of what was dropped"
    return ["", title, "", "| stage | reason | record | holds |", "|---|---|---|---|", *lines]


def _changed(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what was skipped and changed, the commonest first; [] if nothing was."""
    rows = []
    for outcome in outcomes:
        found = sorted(outcome.changed.items(), key=lambda item: (-item[1].times, item[0]))
        for what, change in found[:KINDS]:
            files = f" in {change.files:,} files" if change.files else ""
            shown = ", ".join(f"`{example}`" for example in change.examples)
            rows.append(
                f"| {outcome.name} | {_cell(what)} | {change.times:,}{files} | {_cell(shown)} |"
            )
        if rest := found[KINDS:]:
            count = sum(change.times for _, change in rest)
            rows.append(f"| {outcome.name} | {len(rest):,} other things | {count:,} | |")
    if not rows:
        return []
    title = "## What was skipped and changed"
    return ["", title, "", "| stage | what | how often | such as |", "|---|---|---|---|", *rows]


def _cell(text: str) -> str:
    """Format a text as a table cell in one line."""
    return " ".join(text.replace("|", "\\|").split())


def _write_plots(folder: Path, pictures: Mapping[str, bytes]) -> None:
    (folder / "plots").mkdir(exist_ok=True)
    for picture, content in pictures.items():
        disk.write(folder / "plots" / f"{picture}.png", content)


def _distributions(read: Path | None, folder: Path) -> dict[str, bytes]:
    """Plot each column: the frequency of each class, or the lengths of the values.

    Args:
      read: folder of the records as read; None if they were not read.
      folder: folder of the shards.
    """
    before = {} if read is None else shards.lengths(read)
    were = {} if read is None else shards.classes(read)
    few = shards.classes(folder)
    found = {}
    for column, lengths in shards.lengths(folder).items():
        if column in few:
            found[f"classes_{column}"] = _classes(column, were.get(column), few[column])
        else:
            found[f"length_{column}"] = _lengths(column, before.get(column), lengths)
    return found


def _classes(column: str, before: Mapping[str, int] | None, after: Mapping[str, int]) -> bytes:
    """Plot how many records have each value of a column, before and after the preparation."""
    names = sorted({*(before or {}), *after})
    figure = new_figure(6, 0.25 * len(names) + 1)
    axes = figure.add_subplot()
    shown = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in names]
    for label, values, colour in (("as read", before, "#bbbbbb"), ("prepared", after, "#4477aa")):
        if values is not None:
            axes.barh(shown, [values.get(name, 0) for name in names], label=label, color=colour)
    axes.invert_yaxis()
    axes.set_xlabel(f"records by {column}")
    figure.legend(loc="outside upper right", ncols=2)
    return _png(figure)


def _stages(outcomes: Sequence[Outcome]) -> bytes:
    """Plot how many records each stage left."""
    figure = new_figure(6, 0.4 * len(outcomes) + 1)
    axes = figure.add_subplot()
    names = [f"{number} {outcome.name}" for number, outcome in enumerate(outcomes)]
    kept = [outcome.kept for outcome in outcomes]
    gone = [sum(outcome.dropped.values()) for outcome in outcomes]
    axes.barh(names, kept, color="#4477aa", label="kept")
    axes.barh(names, gone, left=kept, color="#ee6677", label="dropped")
    axes.invert_yaxis()
    axes.set_xlabel("records")
    figure.legend(loc="outside upper right", ncols=2)
    return _png(figure)


def _lengths(column: str, before: np.ndarray | None, after: np.ndarray) -> bytes:
    """Plot the lengths of the values of a column, before and after the preparation."""
    figure = new_figure(6, 3)
    axes = figure.add_subplot()
    whole = np.maximum(after if before is None else np.concatenate([before, after]), 1)
    edges = np.unique(np.rint(np.geomspace(whole.min(), whole.max() + 1, 41))).tolist()
    for label, values, colour in (("as read", before, "#bbbbbb"), ("prepared", after, "#4477aa")):
        if values is not None:
            axes.hist(np.maximum(values, 1), edges, label=label, color=colour, alpha=0.7)
    axes.set_xscale("log")
    axes.set_xlabel(f"length of {column}")
    axes.set_ylabel("records")
    axes.legend()
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
