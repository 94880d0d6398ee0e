"""Bach's chorales with their four voices told apart, in sixteenths."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from genjax import checks
from genjax.data.audio.voices import VoiceCodec
from genjax.data.compressed import open_gzip
from genjax.data.dataset import Dataset
from genjax.data.sources.chorales import PARTS, join_pieces
from genjax.data.stand_in import part_folder
from genjax.data.text.dataset import token_dataset
from genjax.data.text.documents import hash_user_files
from genjax.data.text.layouts import Packed
from genjax.errors import UserError
from genjax.serial.json_text import parse


@checks.frozen
class ChoraleVoices:
    """Reads the JSB chorales as tokens of four voices a sixteenth: 229 pieces for training, 76 for
    validation, 77 for test, the split of Boulanger-Lewandowski et al.
    (https://arxiv.org/abs/1206.6392).

    Attributes:
      root: folder of jsb_16th_separated.json.gz; None for the folder music of $GENJAX_DATA, or
        generated stand-ins if that is not set.
      codec: how a step becomes tokens, with or without its chord.
      layout: how pieces become rows; the longest has 2,561 tokens, or 3,201 with chords.
    """

    root: str | None = None
    codec: VoiceCodec = VoiceCodec()
    layout: Any = Packed(1024)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: the file is missing or damaged.
        """
        path = Path(part_folder("music", self.root)) / "jsb_16th_separated.json.gz"
        fingerprint = hash_user_files([path])
        try:
            with open_gzip(path) as file:
                stored = parse(file.read(), str(path))
            corpora = {
                part: join_pieces([self.codec.encode(piece) for piece in stored[name]], self.codec)
                for part, name in PARTS.items()
            }
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds no chorales: {type(error).__name__} {error}") from error
        titles = {part: f"{path}, {part}" for part in corpora}
        return token_dataset(corpora, self.codec, self.layout, [fingerprint], titles)
