"""Bach's chorales in equal time steps."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genjax import checks
from genjax.data.audio.music import ChoraleCodec
from genjax.data.audio.voices import VoiceCodec
from genjax.data.compressed import open_gzip
from genjax.data.dataset import Dataset
from genjax.data.stand_in import part_folder
from genjax.data.tally import Tally
from genjax.data.text.corpus import Corpus, token_dtype
from genjax.data.text.dataset import token_dataset
from genjax.data.text.documents import hash_user_files
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.serial.json_text import parse

Resolution = Literal["quarter", "16th"]
PARTS = {"train": "train", "validation": "valid", "test": "test"}


@checks.frozen
class Chorales:
    """Reads the JSB chorales as tokens: 229 pieces for training, 76 for validation, 77 for test.

    The split is that of Boulanger-Lewandowski et al. (https://arxiv.org/abs/1206.6392). The
    log-likelihood per step is the sum over all tokens of a piece except its end, divided by the
    number of ``codec.step`` in it. It includes the first step, which others leave out (when each
    step is modelled from the steps before it).

    Attributes:
      root: folder of jsb_quarter.json.gz or jsb_16th.json.gz; None for the folder music of
        $GENJAX_DATA, or generated stand-ins if that is not set.
      resolution: "quarter", as in published likelihoods, or "16th" notes.
      layout: how pieces become rows; the longest has 789 tokens in quarters and 3,168 in 16ths.
      quarters_per_minute: tempo at which samples are played.
    """

    root: str | None = None
    resolution: Resolution = "quarter"
    layout: Any = Documents(800)
    quarters_per_minute: float = 90.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "quarters_per_minute")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: the file is missing or damaged.
        """
        path = Path(part_folder("music", self.root)) / f"jsb_{self.resolution}.json.gz"
        fingerprint = hash_user_files([path])
        codec = ChoraleCodec(
            steps_per_quarter=1 if self.resolution == "quarter" else 4,
            quarters_per_minute=self.quarters_per_minute,
        )
        try:
            with open_gzip(path) as file:
                stored = parse(file.read(), str(path))
            corpora = {part: _corpus(stored[name], codec) for part, name in PARTS.items()}
        except (
            OSError,
            EOFError,
            zlib.error,
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
        ) as error:
            raise UserError(f"{path} holds no chorales: {type(error).__name__} {error}") from error
        titles = {part: f"{path}, {part}" for part in corpora}
        data = token_dataset(corpora, codec, self.layout, [fingerprint], titles)
        left = Tally()
        for part, name in PARTS.items():
            twice = sum(len(frame) - len(set(frame)) for piece in stored[name] for frame in piece)
            left.add(part, {"notes of two voices at once read as one": twice})
        return dataclasses.replace(data, remarks=left.remarks(path.name))


def _corpus(pieces: list[list[list[int]]], codec: ChoraleCodec) -> Corpus:
    return join_pieces([codec.encode(piece) for piece in pieces], codec)


def join_pieces(pieces: list[np.ndarray], codec: ChoraleCodec | VoiceCodec) -> Corpus:
    """Return the corpus of pieces of tokens, with the codec's end after each."""
    documents = [np.append(piece, np.int32(codec.end)) for piece in pieces]
    starts = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return Corpus(
        np.concatenate(documents).astype(token_dtype(codec.vocabulary)), starts.astype(np.int64)
    )
