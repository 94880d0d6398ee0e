"""Write samples of a run to a store: prompts, responses, scores, and the run itself."""

from __future__ import annotations

import dataclasses
import mimetypes
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from genjax.checks import Component
from genjax.cli.runs.compared import is_unprompted, split_answers
from genjax.config_files import to_json
from genjax.data.chat.template import before_end
from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.pictures import png_bytes
from genjax.data.tables.codec import TableCodec
from genjax.data.text.captions import CaptionCodec
from genjax.evaluation.images.reward_of_images import requested_labels
from genjax.families.autoregressive.request import MOST_PROMPTS
from genjax.runs.inputs import Kind, Part
from genjax.runs.run import Run
from genjax.samplers.options import encode_options
from genjax.serial.json_text import Json
from genjax.store.access.entering import open_as
from genjax.store.privacy.columns import NONE
from genjax.store.privacy.guard import Guard
from genjax.store.records import Feedback, Payload, Prompt, Record, Response, SourceKind
from genjax.store.records import Run as RunRecord
from genjax.store.rows import make_ids
from genjax.store.runs import make_checkpoint, mend, name_record, note_run
from genjax.store.store import Store

Drawn = tuple[int, np.ndarray, np.ndarray | None]  # seed, samples in model space, scores [N]
PNG = "image/png"
TYPES = {".wav": "audio/wav", ".mid": "audio/midi"}
SOUND = ".wav"  # what a person listens to, where a codec writes scores of music beside it


@dataclasses.dataclass(frozen=True)
class Score:
    """The source and the name of scores.

    Attributes:
      source: name of the function or run that gives them.
      kind: kind of the source.
      name: name of the score.
    """

    source: str | None = None
    kind: SourceKind = "CODE"
    name: str = "reward"


def find_kind(reward: str | None) -> SourceKind:
    """Return whether a reward on the command line is a function or a model."""
    return "CODE" if reward is None or ":" in reward else "MODEL"


def store_draws(
    place: str, run: Run, sampler: Component, drawn: Iterable[Drawn], reward: str | None = None
) -> int:
    """Write samples to a store, all or none, and create it if it is missing; return their number.

    Args:
      place: path or URL of the store.
      run: run that drew the samples.
      sampler: sampler of the samples.
      drawn: seeds, samples from ``run.sample``, and scores.
      reward: reward that gave the scores.

    Raises:
      UserError: the store cannot be written.
    """
    with open_as(place, create=True) as store:
        records, count = list[Record](), 0
        record = record_run(store, run)
        for seed, samples, scores in drawn:
            prompts = make_prompts(read_said(run, sampler, len(samples)), guard=store.guard)
            payloads = make_payloads(run, samples, sampler)
            answers = make_responses(run, record, sampler, seed, prompts, payloads)
            records += [*prompts, *answers]
            if scores is not None:
                records += make_scores(answers, scores, Score(reward, find_kind(reward)))
            count += len(answers)
        store.add_new(unique(records))
    return count


def store_inputs(
    place: str,
    run: Run,
    sampler: Component,
    seed: int,
    kind: Kind,
    values: Sequence[str],
    parts: Sequence[Part],
) -> int:
    """Write a sample for each input to a store, all or none; return their number.

    Args:
      place: path or URL of the store.
      run: run that drew the samples.
      sampler: sampler of the samples.
      seed: seed of the samples.
      kind: kind of the inputs: prompts, sources or labels.
      values: inputs; for a captioner, paths of pictures, which are stored, too.
      parts: samples, in the order of the inputs.

    Raises:
      UserError: the store cannot be written.
    """
    pictures = kind == "source" and isinstance(run.codec, CaptionCodec)
    prompts = [_make_picture(value) for value in values] if pictures else []
    payloads: list[Payload] = []
    for part in parts:
        if kind == "prompt" and any(part.starts):
            texts = part.decode_completions(run.codec)
            payloads += [Payload(text=mend(text)) for text in texts]
        else:
            payloads += make_payloads(run, part.samples)
    with open_as(place, create=True) as store:
        record = record_run(store, run)
        if not pictures:
            prompts = make_prompts(values, kind, store.guard)
        answers = make_responses(run, record, sampler, seed, prompts, payloads)
        store.add_new(unique([*prompts, *answers]))
    return len(answers)


def record_run(store: Store, run: Run) -> RunRecord:
    """Return the record of a run, after adding it, its checkpoint and its data if missing."""
    return note_run(store, run.run_dir, run.step)


def make_prompts(values: Sequence[str], kind: Kind = "prompt", guard: Guard = NONE) -> list[Prompt]:
    """A prompt for each text, the same for the same text; a source or label says that it is one."""
    metadata: Mapping[str, Json] = {} if kind == "prompt" else {"input": kind}
    said = [guard.clean_text(mend(value)) for value in values]
    return [
        Prompt(
            id=name_record(kind, text, guard.names),
            origin="real",
            payload=Payload(text=text),
            metadata=metadata,
        )
        for text in said
    ]


def _make_picture(value: str) -> Prompt:
    """Return the prompt of a captioner, a picture."""
    content = Path(value).expanduser().read_bytes()
    payload = Payload(text=mend(value), content=content, media_type=_guess_type(value))
    one = name_record("source", f"{value}\n{content.hex()}")
    return Prompt(id=one, origin="real", payload=payload, metadata={"input": "source"})


def make_responses(
    run: Run,
    record: RunRecord,
    sampler: Component,
    seed: int,
    prompts: Sequence[Prompt],
    payloads: Sequence[Payload],
) -> list[Response]:
    """Return a response to each prompt, drawn by a run with the given record."""
    options = to_json(sampler)
    said = zip(make_ids(len(payloads)), prompts, payloads, strict=True)
    return [
        Response(
            id=one,
            origin="synthetic",
            generator=record.id,
            prompt=prompt.id,
            payload=payload,
            run=record.id,
            step=run.step,
            parents=(make_checkpoint(record, run.step).id,),
            sampler=options if isinstance(options, dict) else None,
            seed=seed,
            metadata={"number": number},
        )
        for number, (one, prompt, payload) in enumerate(said)
    ]


def make_scores(
    answers: Sequence[Response], scores: np.ndarray | Sequence[float], by: Score
) -> list[Feedback]:
    """Return scores [N] of responses as feedback, without those that are not finite."""
    return [
        Feedback(
            origin="real",
            target=answer.id,
            name=by.name,
            value=float(value),
            source_kind=by.kind,
            source_id=by.source,
        )
        for answer, value in zip(answers, scores, strict=True)
        if np.isfinite(value)
    ]


def unique(records: Sequence[Record]) -> list[Record]:
    """Return the records without repeated ids."""
    seen: set[str] = set()
    found = []
    for record in records:
        if not record.id or record.id not in seen:
            found.append(record)
            seen.add(record.id)
    return found


def read_said(run: Run, sampler: Component, count: int) -> list[str]:
    """Return the input of a model for each of ``count`` samples: a prompt, the name of a label, or
    "".
    """
    codec: Component = run.codec
    if isinstance(codec, ImageCodec):
        labels = requested_labels(run.family, run.spec, sampler, count)
        names = run.spec.class_names or tuple(map(str, range(run.spec.classes or 0)))
        return [""] * count if labels is None else [str(names[label]) for label in labels]
    if is_unprompted(run.model()):
        typed = sampler.prompts or (sampler.prompt,)
        return [typed[number % MOST_PROMPTS % len(typed)] for number in range(count)]
    return [""] * count


def make_payloads(run: Run, samples: np.ndarray, sampler: Component = None) -> list[Payload]:
    """Return samples in model space as payloads: texts, pictures, rows of tables, points, or the
    file that the codec writes for each, such as a sound.

    Args:
      run: run that drew the samples.
      samples: samples in model space.
      sampler: sampler whose prompts are cut from texts; None keeps whole texts.
    """
    codec: Component = run.codec
    if isinstance(codec, ImageCodec):
        pictures = (png_bytes(image) for image in codec.decode(samples))
        return [Payload(content=content, media_type=PNG) for content in pictures]
    if sampler is not None and is_unprompted(run.model()):
        answers = split_answers(samples, encode_options(sampler, codec), codec).responses
        return [Payload(text=mend(answer)) for answer in answers]
    if run.spec.vocabulary is not None:
        texts = [codec.decode(before_end(codec, row)) for row in np.asarray(samples)]
        if all(isinstance(text, str) for text in texts):
            return [Payload(text=mend(text)) for text in texts]
    if isinstance(codec, TableCodec):
        cells = codec.format(codec.decode(samples))
        rows = zip(*cells.values(), strict=True)
        return [Payload(data=dict(zip(cells, map(_plain, row), strict=True))) for row in rows]
    if isinstance(codec, PointsCodec):
        return [Payload(data=point) for point in codec.decode(samples).tolist()]
    return [_write_one(codec, samples[i : i + 1]) for i in range(len(samples))]


def _plain(cell: Json) -> Json:
    return cell.item() if isinstance(cell, np.generic) else cell


def _write_one(codec: Component, sample: np.ndarray) -> Payload:
    """Return the file that the codec writes for a sample [1, ...]."""
    with tempfile.TemporaryDirectory(prefix="genjax_store_") as folder:
        path = Path(codec.write(sample, Path(folder) / "sample"))
        path = path.with_suffix(SOUND) if path.with_suffix(SOUND).exists() else path
        return Payload(content=path.read_bytes(), media_type=_guess_type(path.name))


def _guess_type(name: str) -> str:
    """Return the media type of a file, the same on every system for what codecs write."""
    known = TYPES.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0]
    return known or "application/octet-stream"
