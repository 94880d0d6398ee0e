"""Read the inputs of samples from the command line or a file, and write them with the answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from genjax.checks import Component
from genjax.data.chat.template import before_end
from genjax.data.codecs import ImageCodec
from genjax.data.pictures import png_bytes
from genjax.data.tables.codec import TableCodec
from genjax.data.text.documents import lines
from genjax.data.text.json_records import SUFFIXES, json_records
from genjax.errors import UserError
from genjax.machine import disk
from genjax.runs import lineage
from genjax.runs.inputs import Kind, Part
from genjax.runs.run import Run

ROWS = ".jsonl"  # suffix of a file with a record for each sample
FILES = (".txt", *SUFFIXES)  # suffixes of files of inputs
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """The inputs of samples.

    Attributes:
      kind: kind of input.
      values: one input for each sample.
      rows: record that each input was read from; empty without one.
      file: file that they were read from.
    """

    kind: Kind
    values: tuple[str, ...]
    rows: tuple[Row, ...]
    file: Path | None = None

    @classmethod
    def of(cls, kind: Kind, values: Sequence[str]) -> Inputs:
        """Return inputs from the command line."""
        return cls(kind, tuple(values), ({},) * len(values))

    def take(self, num: int | None) -> Inputs:
        """Return ``num`` inputs, in turn; None for each once."""
        turn = [i % len(self.values) for i in range(num or len(self.values))]
        values, rows = [self.values[i] for i in turn], [self.rows[i] for i in turn]
        return Inputs(self.kind, tuple(values), tuple(rows), self.file)


def read_inputs(kind: Kind, path: Path) -> Inputs:
    """Read the inputs of a file: its lines, or the field ``kind`` of its JSON records, a text or a
    conversation of one message. Empty lines are skipped.

    Raises:
      UserError: the file is missing or has another content; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"{kind}s: there is no file {path}", str(path))
    kinds = [path.suffix, path.with_suffix("").suffix] if path.suffix == ".gz" else [path.suffix]
    if any(suffix.lower() in SUFFIXES for suffix in kinds):
        found = [_read_record(kind, where, one) for where, one in json_records(path)]
    elif any(suffix.lower() in (".csv", ".tsv", ".parquet") for suffix in kinds):
        raise UserError(
            f"{path} must be lines of text or JSON records ({', '.join(FILES)}): write the column "
            "of a table as one of them",
            str(path),
        )
    else:
        texts = (line.rstrip("\r\n") for line in lines(path, left=Counter()))
        found = [(text, {}) for text in texts if text.strip()]
    if not found:
        raise UserError(f"{path} holds no {kind}", str(path))
    values, rows = zip(*found, strict=True)
    return Inputs(kind, values, rows, path)


def _read_record(kind: Kind, where: str, record: Any) -> tuple[str, Row]:
    """Return the input in a record, and the record."""
    if isinstance(record, str | int) and not isinstance(record, bool):
        return str(record), {}
    if not isinstance(record, dict) or kind not in record:
        known = ", ".join(map(repr, record)) if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{where} must have {kind!r}, got {known}", kind)
    value = record[kind]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("content")  # a conversation of one message
    if isinstance(value, int) and kind == "label" and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UserError(
            f"{kind!r} of {where} must be a text, got {type(record[kind]).__name__}", kind
        )
    return value, record


def name_reading(run: Run) -> str | None:
    """Say what a model of texts reads instead of a prompt; None if it continues a prompt."""
    if run.spec.source_length is not None:
        return "what it translates"
    tokens = run.spec.vocabulary is not None
    return "a picture" if tokens and run.spec.image is not None else None


def write_rows(
    run: Run,
    inputs: Inputs | None,
    parts: Sequence[Part],
    out: str | None,
    seed: int,
) -> Path:
    """Write a JSON record for each sample, with the record read, the input and the answer; return
    the path.

    Images are in a folder beside the file, as PNG.

    Args:
      run: run that drew the samples.
      inputs: inputs of the samples; None for none.
      parts: samples.
      out: file to write; None for samples/STEP_seed_SEED.jsonl in the run directory.
      seed: seed of the samples.
    """
    default = run.run_dir / "samples" / f"{run.step:08d}_seed_{seed}"
    stem = epath.Path(out).expanduser() if out else default
    stem = stem.with_suffix("") if stem.suffix == ROWS else stem
    stem.parent.mkdir(parents=True, exist_ok=True)

    def write() -> Path:
        answers: list[dict[str, Any]] = []
        for part in parts:
            answers += _make_answers(run, inputs, part, stem, len(answers))
        given: list[dict[str, Any]] = [{} for _ in answers]
        if inputs is not None:
            pairs = zip(inputs.rows, inputs.values, strict=True)
            given = [{**row, inputs.kind: value} for row, value in pairs]
        records = (before | after for before, after in zip(given, answers, strict=True))
        text = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
        path = stem.parent / f"{stem.name}{ROWS}"
        disk.write(path, text)
        return Path(path)

    return lineage.record_samples(run.run_dir, run.step, seed, stem, write)


def _make_answers(
    run: Run, inputs: Inputs | None, part: Part, stem: epath.Path, first: int
) -> Iterator[dict[str, Any]]:
    """Yield the answer of each sample for its record; ``first`` is the number of the first."""
    codec: Component = run.codec
    if run.spec.vocabulary is not None:
        texts = [codec.decode(before_end(codec, row)) for row in part.samples]
        if all(isinstance(text, str) for text in texts):
            if inputs is not None and inputs.kind == "prompt" and any(part.starts):
                yield from ({"completion": text} for text in part.decode_completions(codec))
            else:
                yield from ({"text": text} for text in texts)
            return
    if isinstance(codec, TableCodec):
        cells = codec.format(codec.decode(part.samples))
        yield from (dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True))
        return
    stem.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(part.samples, first):
        name = f"{number:06d}"
        if isinstance(codec, ImageCodec):
            path = stem / f"{name}.png"
            disk.write(path, png_bytes(codec.decode(sample[None])[0]))
        else:
            path = epath.Path(codec.write(sample[None], stem / name))
        yield {"file": f"{stem.name}/{path.name}"}


def join_parts(parts: Sequence[Part], fill: int) -> np.ndarray:
    """Join the samples of all parts; texts of different widths are padded."""
    arrays = [part.samples for part in parts]
    if arrays[0].ndim == 2 and arrays[0].dtype == np.int32:
        width = max(array.shape[1] for array in arrays)
        arrays = [
            np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)
            for array in arrays
        ]
    return np.concatenate(arrays)
