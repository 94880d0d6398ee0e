"""Texts of samples and of the data, as arrays of tokens, int64 [T]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.data.dataset import Spec
from genjax.data.text.codec_parts import HasEnd
from genjax.data.text.codecs import NOTHING, Words
from genjax.errors import UserError
from genjax.evaluation.judge import Subject
from genjax.samplers.options import encode_options

WORDS = Words(lower=False)  # splits texts into words


def draw_texts(subject: Subject, count: int) -> list[np.ndarray]:
    """Draw ``count`` samples, without their prompt and end."""
    family = subject.model.family
    request = encode_options(family.sampler, subject.model.codec)
    ends = (*request.ends, NOTHING)
    rows = subject.draw_samples(count).astype(np.int64)
    return [cut_at_end(row[len(request.get_prompt(i)) :], ends) for i, row in enumerate(rows)]


def data_texts(subject: Subject, count: int, split: str | None = None) -> list[np.ndarray]:
    """Return the predicted tokens, before the end, of ``count`` rows evenly spaced over a split, by
    default the evaluated one; of packed rows, only the first document.
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
    """Pair texts of both, and cut the longer of each pair to the length of the other; pairs with an
    empty text are dropped.
    """
    pairs = [
        (a[: len(b)], b[: len(a)]) for a, b in zip(one, other, strict=False) if len(a) and len(b)
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def check_texts(evaluator: str, spec: Spec) -> None:
    """Refuse data that are not texts.

    Raises:
      UserError: the data are not texts, or have a source.
    """
    if spec.entry != "tokens":
        raise UserError(f"{evaluator} needs texts, but the data are {spec.entry}")
    if spec.source_length is not None:
        raise UserError(f"{evaluator} needs texts without a source")


def split_texts(codec: object, texts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Split decoded texts into words, and return arrays with a number for each word.

    Raises:
      UserError: the codec does not decode to text.
    """
    found = [codec.decode(text) for text in texts]  # type: ignore[attr-defined]
    if not all(isinstance(text, str) for text in found):
        raise UserError(
            f"unit must be 'tokens', as a {type(codec).__name__} does not decode to text", "unit"
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
