"""Pieces of music of samples and of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.checks import Component
from genjax.data.audio.music import ChoraleCodec
from genjax.data.audio.notes import Frame, find_frames
from genjax.data.audio.voices import VoiceCodec
from genjax.data.dataset import HasCorpus
from genjax.data.text.codec_parts import HasEnd
from genjax.data.text.codecs import cut_at_end
from genjax.errors import UserError
from genjax.evaluation.judge import Subject

SILENCE, FIRST = 127, 128  # of a step's code: no note, and the beginning of a piece


def draw_pieces(subject: Subject, count: int) -> list[np.ndarray]:
    """Draw ``count`` pieces in voices, [S, 4] each; some may have no step."""
    codec: Component = subject.model.codec
    pieces: list[np.ndarray] = codec.read_samples(subject.draw_samples(count))
    return pieces


def held_out_pieces(subject: Subject, split: str | None = None) -> list[np.ndarray]:
    """Return the pieces of a split, by default the evaluated one, in voices [S, 4] each."""
    codec: Component = subject.model.codec
    return [codec.decode(document) for document in _documents(subject, split or subject.split)]


def draw_steps(subject: Subject, count: int) -> list[list[Frame]]:
    """Draw ``count`` pieces as the notes of each step, whichever of both codecs the data have."""
    codec: Component = subject.model.codec
    rows = subject.draw_samples(count)
    return [read_steps(codec, cut_at_end(row, codec.end)) for row in rows]


def data_steps(subject: Subject, split: str | None = None) -> list[list[Frame]]:
    """Return the pieces of a split, by default the evaluated one, as the notes of each step."""
    codec: Component = subject.model.codec
    return [read_steps(codec, ids) for ids in _documents(subject, split or subject.split)]


def read_steps(codec: Component, ids: np.ndarray) -> list[Frame]:
    """Return the notes of each step of tokens [N].

    Raises:
      UserError: the codec is none of music.
    """
    if isinstance(codec, VoiceCodec):
        return find_frames(codec.decode(ids))
    if isinstance(codec, ChoraleCodec):
        return codec.decode(ids)
    raise UserError(
        f"the data must be music, a ChoraleCodec or a VoiceCodec, got a {type(codec).__name__}"
    )


def number_steps(pieces: Sequence[Sequence[Frame]]) -> list[np.ndarray]:
    """Return a number for each different chord of each piece, int64 [C], which a transposition of
    the piece does not change.

    A chord that sounds for several steps counts once. It is told by its intervals above its lowest
    note, and by how far that is from the lowest note of the chord before it.
    """
    return [np.array([_hash(code) for code in _codes(piece)], np.int64) for piece in pieces]


def _codes(piece: Sequence[Frame]) -> list[tuple[int, ...]]:
    codes: list[tuple[int, ...]] = []
    bass: int | None = None
    for number, frame in enumerate(piece):
        if number and frame == piece[number - 1]:
            continue
        if not frame:
            codes.append((SILENCE,))
            continue
        low = min(frame)
        codes.append((FIRST if bass is None else low - bass, *(note - low for note in frame)))
        bass = low
    return codes


def _hash(code: tuple[int, ...]) -> int:
    """Return a number from 0 to 2^61 - 2 of a code, the same in every process."""
    found = 0
    for part in code:
        found = (found * 1_000_003 + part + 200) % (2**61 - 1)
    return found


def _documents(subject: Subject, split: str) -> list[np.ndarray]:
    whole = subject.splits[split]
    if not isinstance(whole, HasCorpus):
        raise UserError(f"the {split} split has no pieces")
    corpus, codec = whole.corpus, subject.model.codec
    end = codec.end if isinstance(codec, HasEnd) else None
    return [cut_at_end(corpus.document(number), end) for number in range(len(corpus))]
