"""Texts that a model draws next to texts of the data, as arrays [T] int64 of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.data.dataset import Spec
from genjax.data.text.codec_parts import HasEnd
from genjax.data.text.codecs import NOTHING, Words
from genjax.errors import UserError
from genjax.evaluation.judge import Subject
from genjax.samplers.options import encode_options

WORDS = Words(lower=False)  # what splits a text into words


def draw_texts(subject: Subject, count: int) -> list[np.ndarray]:
    """``count`` samples after their prompt and before their end."""
    family = subject.model.family
    request = encode_options(family.sampler, subject.model.codec)
    ends = (*request.ends, NOTHING)
    rows = subject.draw_samples(count).astype(np.int64)
    return [cut_at_end(row[len(request.get_prompt(i)) :], ends) for i, row in enumerate(rows)]


def data_texts(subject: Subject, count: int, split: str | None = None) -> list[np.ndarray]:
    """Return the predicted tokens of ``count`` rows evenly spaced over a split, by default the
    judged one; before their end, and of the first document of a packed row alone.
    """
    batch = subject.take_examples(count, split)
    real = batch["loss_mask"] > 0
    if "segment_ids" in batch:
        real &= batch["segment_ids"] == 1
    codec = subject.model.codec
    end = codec.end if isinstance(codec, HasEnd) else None
    ends = () if end is None else (end,)
    return [
        cut_at_end(row[mask].astype(np.int64), ends)
        for row, mask in zip(batch["tokens"], real, strict=True)
    ]


def match_lengths(
    one: Sequence[np.ndarray], other: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """As many texts of both, each as long as its counterpart: the longer one is cut; those of
    no token are left out.
    """
    pairs = [
        (a[: len(b)], b[: len(a)]) for a, b in zip(one, other, strict=False) if len(a) and len(b)
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def check_texts(evaluator: str, spec: Spec) -> None:
    """Refuse data that are not texts.

    Raises:
      UserError: the data are not texts, or texts that have a source.
    """
    if spec.entry != "tokens":
        raise UserError(f"{evaluator} needs texts, but the data are {spec.entry}")
    if spec.source_length is not None:
        raise UserError(
            f"{evaluator} judges what a model says of its own accord, but these texts have a source"
        )


def split_texts(codec: object, texts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return texts as arrays of words, a number for each: those that the codec's text splits into.

    Raises:
      UserError: the tokens represent no text.
    """
    found = [codec.decode(text) for text in texts]  # type: ignore[attr-defined]
    if not all(isinstance(text, str) for text in found):
        raise UserError(
            f"{type(codec).__name__} is not a codec of text: count its tokens (unit='tokens')"
        )
    numbers: dict[str, int] = {}
    return [
        np.array([numbers.setdefault(w, len(numbers)) for w in WORDS.split(text)], np.int64)
        for text in found
    ]


def cut_at_end(row: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """Return the tokens [M] of row [T] before the first of ``ends``."""
    stops = np.flatnonzero(np.isin(row, ends))
    return row[: stops[0]] if len(stops) else row
