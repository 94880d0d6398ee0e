"""Folk tunes in ABC notation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genjax import checks
from genjax.data.audio.abc import AbcTunes, reduce_tune, split_tunes
from genjax.data.dataset import Dataset
from genjax.data.stand_in import part_folder
from genjax.data.tally import Tally
from genjax.data.text.dataset import text_dataset
from genjax.data.text.documents import StoredTexts, decode_file
from genjax.data.text.layouts import Packed
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError


@checks.frozen
class Tunes:
    """Reads files of tunes in ABC notation (.abc); each tune is a document of characters.

    Of the header the metre, key, unit, tempo, parts and voice are kept; titles, numbers, sources
    and remarks are left out. A tune whose notes are those of an earlier one, whatever its title,
    chords and bars, is left out and counted, so that no held-out tune was trained on.

    Attributes:
      root: a file or a folder; None for music/nottingham_abc of $GENJAX_DATA, or generated
        stand-ins if that is not set.
      codec: codec of the text; without a vocabulary it is fitted to the training tunes.
      layout: how tunes become rows.
      split: how tunes are split.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    root: str | None = None
    codec: AbcTunes = AbcTunes(unknown="token")
    layout: Any = Packed(512)
    split: Any = ByDocuments(test=0.1, validation=0.1)
    cache: str | None = None

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: there are no files or no tunes, or the encoding is not UTF-8.
        """
        root = Path(part_folder("music/nottingham_abc", self.root)).expanduser()
        paths = [root] if root.is_file() else sorted(root.glob("*.abc"))
        if not paths:
            raise UserError(f"there is no file *.abc in {root}", "root")
        left, documents, known = Tally(), [], set()
        for path in paths:
            twice = 0
            for tune in split_tunes("".join(decode_file(path))):
                notes = reduce_tune(tune.text)
                if notes in known:
                    twice += 1
                else:
                    known.add(notes)
                    documents.append((f"{tune.title} in {path.name}", tune.text))
            left.add(path.name, {"tunes that occur before left out": twice})
        if not documents:
            raise UserError(f"{root} holds no tunes in ABC notation: each begins with a line X:")
        texts = StoredTexts(str(root), tuple(documents))
        return text_dataset(
            self.split.split(texts), self.codec, self.layout, self.cache, left, str(root)
        )
