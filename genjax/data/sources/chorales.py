"""Bach's chorales in equal steps."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genjax import checks
from genjax.data.audio.music import ChoraleCodec
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
    """The JSB chorales as tokens: 229 pieces to train on, 76 to validate and 77 to test on.

    The split is that of Boulanger-Lewandowski et al. (https://arxiv.org/abs/1206.6392). A
    likelihood a step is the sum over all tokens of a piece but its end, over the number of
    ``codec.step`` in it. Where others leave the first step out (a model of each step from the steps
    before it), it is counted here.

    Attributes:
      root: the folder of jsb_quarter.json.gz or jsb_16th.json.gz; None takes the folder music of
        $GENJAX_DATA; where that is not set, generated stand-ins are read.
      resolution: "quarter", which published likelihoods are of, or "16th" notes.
      layout: how pieces become rows; the longest has 789 tokens in quarters and 3,168 in 16ths.
      quarters_per_minute: how fast samples are played.
    """

    root: str | None = None
    resolution: Resolution = "quarter"
    layout: Any = Documents(800)
    quarters_per_minute: float = 90.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "quarters_per_minute")

    def open(self) -> Dataset:
        """Batches of ``tokens`` and what else the layout gives.

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
    documents = [np.append(codec.encode(piece), np.int32(codec.end)) for piece in pieces]
    starts = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return Corpus(
        np.concatenate(documents).astype(token_dtype(codec.vocabulary)), starts.astype(np.int64)
    )
