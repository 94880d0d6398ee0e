"""Read texts prepared by TensorFlow Datasets without TensorFlow."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset
from genjax.data.sources.tfds import CHUNK, hash_splits, load_builder
from genjax.data.splits import digest
from genjax.data.storage import data_folder
from genjax.data.tally import EMPTY_TEXTS, Tally
from genjax.data.text.codecs import Characters
from genjax.data.text.dataset import text_dataset
from genjax.data.text.documents import Piece, TextRows
from genjax.data.text.layouts import RandomWindows
from genjax.errors import UserError, unknown_name


@checks.frozen
class TFDSText:
    """Reads a text feature of a set that TensorFlow Datasets has prepared as array_record; each
    example is a document.

    The splits are the set's own "train", "validation" and "test".

    Attributes:
      name: name of the set in TFDS, optionally with "/config" and ":version".
      root: folder of prepared sets; None for $GENJAX_DATA/tfds, or for the default of TFDS if
        GENJAX_DATA is not set.
      feature: name of the text feature; None for the first text feature.
      codec: codec of the text; without a vocabulary it is fitted to the training text.
      layout: how documents become rows.
      split: how to split a set that only has a training split; None holds out nothing.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    name: str = "tiny_shakespeare"
    root: str | None = None
    feature: str | None = None
    codec: Component = Characters()
    layout: Any = RandomWindows()
    split: Any = None
    cache: str | None = None

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: the set does not exist, is not prepared, is damaged or has no text.
        """
        builder = load_builder(self.name, data_folder("tfds", self.root))
        names = [name for name in ("train", "validation", "test") if name in builder.info.splits]
        if "train" not in names:
            raise UserError(
                f"{self.name} has no split named train; it has {', '.join(builder.info.splits)}"
            )
        feature = _feature(builder.info, self.feature)
        left = Tally()
        parts: dict[str, TextRows] = {
            name: RecordTexts(builder, name, feature, left) for name in names
        }
        if self.split is not None:
            if len(parts) > 1:
                raise UserError(
                    f"split must be None for {self.name}, which has its own: {', '.join(parts)}",
                    "split",
                )
            parts = dict(self.split.split(parts["train"]))
        return text_dataset(parts, self.codec, self.layout, self.cache, left, self.name)


@dataclass(frozen=True)
class RecordTexts:
    """The texts of one split of a prepared set."""

    builder: Any
    name: str
    feature: str
    left: Tally = field(default_factory=Tally, compare=False, repr=False)

    @property
    def title(self) -> str:
        return f"{self.builder.info.full_name}, {self.name}"

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest([hash_splits(self.builder.info, [self.name]).encode(), self.feature.encode()])

    def iterate_pieces(self) -> Iterator[Piece]:
        with self.left.reading(self.title) as left:
            yield from self._pieces(left)

    def _pieces(self, left: Counter[str]) -> Iterator[Piece]:
        records: Sequence[Any] = self.builder.as_data_source(self.name)
        for first in range(0, len(records), CHUNK):
            rows = range(first, min(first + CHUNK, len(records)))
            try:
                found = records.__getitems__(list(rows))  # type: ignore[attr-defined]
            except (RuntimeError, ValueError, OSError, IndexError) as error:
                reason = (str(error).splitlines() or [""])[0]
                raise UserError(
                    f"{self.title}: its files are damaged, prepare it again ({reason})"
                ) from error
            for row, record in zip(rows, found, strict=True):
                document = f"example {row:,} of {self.title}"
                try:
                    text = record[self.feature].decode("utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{document} is not utf-8: byte {error.start:,} cannot be decoded"
                    ) from None
                left[EMPTY_TEXTS] += not text
                yield Piece(text, document, True)


def _feature(info: Any, wanted: str | None) -> str:
    """Return the name of the text feature."""
    import tensorflow_datasets as tfds

    texts = [name for name, feature in info.features.items() if type(feature) is tfds.features.Text]
    if not texts:
        raise UserError(
            f"{info.full_name} holds no texts; its features: {', '.join(info.features)}"
        )
    if wanted is not None and wanted not in texts:
        raise unknown_name(f"text feature of {info.full_name}", wanted, texts)
    return wanted or texts[0]
