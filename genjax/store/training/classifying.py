"""Categories by a trained classifier, as feedback of kind MODEL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.images.decode import decode
from genjax.data.stream import pad_batches
from genjax.data.text.dataset import get_tokenizer, text_dataset
from genjax.data.text.documents import StoredTexts
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.families import classifier
from genjax.family import Batch, State
from genjax.runs.run import Run, load
from genjax.store.filters import All, Filter
from genjax.store.limits import check_text
from genjax.store.lookups import find_ids
from genjax.store.query import Query
from genjax.store.records import Feedback, Payload, Record, Wanted
from genjax.store.rows import load as load_records
from genjax.store.rows import split
from genjax.store.runs import name_record
from genjax.store.store import Store

ROWS = 64  # that are classified at once
PICTURE = "image/"


@dataclass(frozen=True)
class Categorised:
    """What a classifier did: labels that are new, and records that it cannot read."""

    labelled: int
    unread: int


def categorise_by_run(
    store: Store,
    run_dir: str,
    filter: Filter | str = All(()),
    *,
    kind: str | None = None,
    origin: Wanted = "real",
    name: str = "category",
) -> Categorised:
    """Label records by a classifier's run: their texts, or pictures where it is of pictures.

    The label is the most probable class, its value that probability; a record that this checkpoint
    has labelled under this name is left as it is.

    Args:
      run_dir: of the classifier.
      filter: of the records.
      kind: of the records; None of all that have such a payload.
      origin: of the records.
      name: of the feedback.

    Raises:
      UserError: the run is of another family, or the filter is wrong; then nothing is labelled.
    """
    check_text(name, "name", store.limits.name)
    classify = Classifier(load(run_dir))
    source = f"{run_dir}, step {classify.run.step}"
    with store.reading() as connection:
        ids = find_ids(connection, Query(filter, kind, origin), None)
    labelled = unread = 0
    for part in split(ids):
        with store.reading() as connection:
            records = load_records(connection, part)
        there, log_p = classify(store, records)
        mine = [one for one in records if _has_payload(one, classify.reads_texts)]
        unread += len(mine) - len(there)
        judged = [
            Feedback(
                id=name_record("category", f"{name}\n{source}\n{record.id}"),
                origin="real",
                target=record.id,
                name=name,
                value=float(np.exp(row.max())),
                source_kind="MODEL",
                source_id=source,
                label=classify.names[int(row.argmax())],
            )
            for record, row in zip(there, log_p, strict=True)
        ]
        labelled += store.add_new(judged)
    return Categorised(labelled, unread)


class Classifier:
    """A trained classifier of texts or of pictures."""

    def __init__(self, run: Run) -> None:
        if not isinstance(run.family, classifier.Classifier):
            kind = type(run.family).__name__
            raise UserError(f"run must be of a Classifier, {run.run_dir} is of a {kind}", "run")
        self.run = run
        self.reads_texts = run.spec.vocabulary is not None
        if not self.reads_texts and not isinstance(run.codec, ImageCodec):
            raise UserError(f"run must classify texts or pictures, {run.run_dir} does not", "run")
        self.names = run.spec.class_names or tuple(map(str, range(run.spec.classes or 0)))
        self._predict = jax.jit(_predict, static_argnums=0)

    def __call__(self, store: Store, records: Sequence[Record]) -> tuple[list[Record], np.ndarray]:
        """Those of some records that can be read, and their log-probabilities [N, classes]."""
        if self.reads_texts:
            return self._read_texts(records)
        found = [(record, image) for record, image in self._read_images(store, records)]
        if not found:
            return [], np.zeros((0, len(self.names)))
        images = np.stack([image for _, image in found])
        parts = [
            self._apply({"image": images[first : first + ROWS]})
            for first in range(0, len(images), ROWS)
        ]
        return [record for record, _ in found], np.concatenate(parts)

    def _apply(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-probabilities of a batch, filled up so that one size is compiled."""
        count = len(next(iter(batch.values())))
        full = {
            name: np.concatenate([value, np.repeat(value[-1:], ROWS - count, 0)])
            for name, value in batch.items()
        }
        placed = {name: jnp.asarray(value) for name, value in full.items()}
        return np.asarray(self._predict(self.run.family, self.run.eval_state, placed))[:count]

    def _read_texts(self, records: Sequence[Record]) -> tuple[list[Record], np.ndarray]:
        """Return a text of several rows gets the mean of their log-probabilities, as each was
        learned.
        """
        codec: Component = self.run.codec
        tokenizer = get_tokenizer(codec)
        there = [one for one in records if _has_payload(one, True) and _can_spell(tokenizer, one)]
        if not there:
            return [], np.zeros((0, len(self.names)))
        said = tuple((one.id, _text(one)) for one in there)
        with tempfile.TemporaryDirectory(prefix="genjax_store_") as folder:
            layout = Documents(int(self.run.spec.shape[0]) - 1)
            texts = {"train": StoredTexts("texts of the store", said)}
            rows: Component = text_dataset(texts, codec, layout, folder).splits["train"]
            found = np.zeros((len(there), len(self.names)))
            count = np.zeros(len(there))
            first = 0
            for batch in pad_batches(rows, ROWS, slice(None)):
                numbers = np.arange(first, min(first + ROWS, len(rows)))
                log_p = self._apply({n: v for n, v in batch.items() if n != "index"})[
                    : len(numbers)
                ]
                document = rows.documents(numbers)[:, 0]
                np.add.at(found, document, log_p)
                np.add.at(count, document, 1)
                first += ROWS
        kept = np.flatnonzero(count)
        mean = found[kept] / count[kept, None]
        return [there[number] for number in kept], mean

    def _read_images(
        self, store: Store, records: Sequence[Record]
    ) -> Iterator[tuple[Record, np.ndarray]]:
        codec: Component = self.run.codec
        for record in records:
            payload = _payload(record)
            if payload is None or not _has_payload(record, False):
                continue
            content = store.read_blob(payload)
            try:
                pixels = decode(content, (codec.height, codec.width), codec.channels)
            except Exception:  # of many types, as Pillow's readers do: it is no picture
                continue
            raw = np.rint(pixels / 255 * (codec.levels - 1)).astype(np.uint8)
            yield record, codec.encode(raw[None])[0]


def _predict(family: classifier.Classifier, state: State, batch: Batch) -> jax.Array:
    return classifier.predict(family, state, batch)


def _payload(record: Record) -> Payload | None:
    payload = getattr(record, "payload", None)
    return payload if isinstance(payload, Payload) else None


def _text(record: Record) -> str:
    payload = _payload(record)
    return (payload.text or "") if payload is not None else ""


def _has_payload(record: Record, text: bool) -> bool:
    """Return whether a record has a text, or a picture."""
    payload = _payload(record)
    if payload is None:
        return False
    if text:
        return bool(payload.text and payload.text.strip())
    return payload.blob is not None and (payload.media_type or "").startswith(PICTURE)


def _can_spell(tokenizer: Component, record: Record) -> bool:
    try:
        return len(tokenizer.encode(_text(record))) > 0
    except UserError:
        return False
