"""Read training sets made by ``genjax data prepare``, by name; synthetic ones only on request."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset, Origin
from genjax.data.images.decode import decode
from genjax.data.images.files import number_words, spelt_alike
from genjax.data.splits import Arrays, dataset, digest
from genjax.data.stream import permutation
from genjax.data.synthetic import REAL, SYNTHETIC, refuse_synthetic
from genjax.data.tables.tables import TableTexts
from genjax.data.tally import Tally
from genjax.data.text.codecs import Characters
from genjax.data.text.dataset import text_dataset
from genjax.data.text.documents import Piece, TextRows
from genjax.data.text.layouts import RandomWindows
from genjax.errors import UserError, unknown_name
from genjax.serial.json_text import parse

FOLDER = "prepared"  # the folder of all prepared sets
MANIFEST = "manifest.json"
FORMAT = 1  # version of the manifest
TRAIN = "train"  # the split that every set has
MIXED = 2**63 + 2**33  # Philox stream that chooses synthetic records


@checks.frozen
class Synthetic:
    """Mixes synthetic records into the training split of a real set.

    Attributes:
      name: name or folder of the synthetic set.
      share: fraction of all training records that are synthetic.
    """

    name: str
    share: float = 0.5

    def __post_init__(self) -> None:
        checks.inside(self, 0, 1, "share")


@checks.frozen
class PreparedTexts:
    """Reads the texts of a prepared set, with its splits.

    Attributes:
      name: name of the set below prepared/, or its folder.
      column: column of the text.
      synthetic: synthetic records to mix in; None for none.
      codec: codec of the text; without a vocabulary it is fitted to the training text.
      layout: how documents become rows.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    name: str
    column: str = "text"
    synthetic: Synthetic | None = None
    codec: Component = Characters()
    layout: Any = RandomWindows()
    cache: str | None = None

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: the set is missing, damaged or synthetic.
        """
        real = Prepared.find(self.name, REAL)
        left = Tally()
        parts: dict[str, TextRows] = {
            split: real.read_texts(split, self.column, left) for split in real.splits
        }
        origins = [real.origin]
        if self.synthetic is not None:
            made = Prepared.find(self.synthetic.name, SYNTHETIC)
            more, rows = made.read_texts("train", self.column, left), made.count_rows("train")
            parts["train"] = MixedTexts(parts["train"], more, rows, self.synthetic)
            origins.append(made.origin)
        data = text_dataset(parts, self.codec, self.layout, self.cache, left, self.name)
        return dataclasses.replace(data, origins=tuple(origins))


@checks.frozen
class PreparedImages:
    """Reads the images of a prepared set into memory, with its splits; all must have one size.

    Attributes:
      name: name of the set below prepared/, or its folder.
      column: column of the image files.
      label: column of the classes; None for images without.
      channels: 1 (grey) or 3 (RGB).
      synthetic: synthetic records to mix in; None for none.
    """

    name: str
    column: str = "image"
    label: str | None = None
    channels: int = 3
    synthetic: Synthetic | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(
                f"channels must be 1 (grey) or 3 (RGB), got {self.channels}", "channels"
            )

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, H, W, C] and, with labels,
        ``label`` int32 [B].

        Raises:
          UserError: the set is missing, damaged or synthetic, or its images differ in size.
        """
        real = Prepared.find(self.name, REAL)
        records = {split: real.read_records(split, self._columns) for split in real.splits}
        origins = [real.origin]
        if self.synthetic is not None:
            made = Prepared.find(self.synthetic.name, SYNTHETIC)
            chosen = _chosen(self.synthetic, real.count_rows("train"), made.count_rows("train"))
            more = [
                r for i, r in enumerate(made.read_records("train", self._columns)) if i in chosen
            ]
            self._check_labels(records, more)
            records["train"] = [*records["train"], *more]
            origins.append(made.origin)
        images = {split: self._read_images(split, rows) for split, rows in records.items()}
        names = self._read_classes(records)
        labels, classes = number_words(names) if self.label else (None, None)
        splits, begin = {}, 0
        for split, raw in images.items():
            codec = ImageCodec(*images["train"].shape[1:])
            label = None if labels is None else labels[begin : begin + len(raw)]
            splits[split] = Arrays("image", raw, label, codec)
            begin += len(raw)
        contents = [origin.fingerprint for origin in origins] + [repr(self)]
        data = dataset(
            splits, classes=classes, fingerprint=digest(part.encode() for part in contents)
        )
        spec = dataclasses.replace(data.spec, class_names=tuple(sorted(set(names))) or None)
        return dataclasses.replace(data, spec=spec, origins=tuple(origins))

    @property
    def _columns(self) -> list[str]:
        return [self.column] + ([] if self.label is None else [self.label])

    def _read_classes(self, records: Mapping[str, list[dict[str, Any]]]) -> list[str]:
        """Return the class of each record, one split after another; [] without labels."""
        if self.label is None:
            return []
        found = [row[self.label] for rows in records.values() for row in rows]
        if absent := sum(name is None for name in found):
            raise UserError(
                f"{absent:,} images of {self.name} have no {self.label}: prepare the set with the "
                "stage Missing to drop them"
            )
        return [spelt_alike(str(name)) for name in found]

    def _check_labels(
        self, real: Mapping[str, list[dict[str, Any]]], made: list[dict[str, Any]]
    ) -> None:
        """Raise ``UserError`` if a synthetic record has a class that no real one has."""
        if self.label is not None:
            known = {str(row[self.label]) for rows in real.values() for row in rows}
            strange = sorted({str(row[self.label]) for row in made} - known)
            if strange:
                raise UserError(
                    f"a synthetic image has the class {strange[0]!r}, which no image of "
                    f"{self.name} has"
                )

    def _read_images(self, split: str, rows: list[dict[str, Any]]) -> np.ndarray:
        """Decode the images of a split to uint8 [N, H, W, C]."""
        if not all(isinstance(row[self.column], bytes) for row in rows):
            raise UserError(
                f"the column {self.column!r} of {self.name} must hold image files", self.column
            )
        found = []
        for number, row in enumerate(rows, 1):
            try:
                found.append(decode(row[self.column], None, self.channels))
            except Exception as error:  # Pillow's readers raise almost anything on a damaged file
                why = (str(error) or type(error).__name__).splitlines()[0]
                raise UserError(
                    f"image {number:,} of {self.name}, {split}, cannot be decoded: {why}; prepare "
                    "it with the stage Images",
                    self.column,
                ) from error
        if len({image.shape for image in found}) != 1:
            raise UserError(
                f"the images of {self.name}, {split}, must have one size: prepare them again"
            )
        return np.stack(found)


@dataclass(frozen=True)
class MixedTexts:
    """Real texts, followed by some of the synthetic ones, chosen by a permutation.

    Attributes:
      real: real texts.
      made: synthetic texts.
      rows: number of synthetic texts in the set.
      how: fraction of synthetic texts.
    """

    real: TextRows
    made: TextRows
    rows: int
    how: Synthetic

    @property
    def title(self) -> str:
        return f"{self.real.title} with a share of {self.how.share:g} of {self.made.title}"

    @functools.cached_property
    def fingerprint(self) -> str:
        parts = (self.real.fingerprint, self.made.fingerprint, str(self.how.share))
        return digest(part.encode() for part in parts)

    def iterate_pieces(self) -> Iterator[Piece]:
        real = 0
        for piece in self.real.iterate_pieces():
            # Empty texts are skipped, and do not count in the share.
            real += 1
            yield piece
        chosen = _chosen(self.how, real, self.rows)
        for number, piece in enumerate(self.made.iterate_pieces()):
            if number in chosen:
                yield piece


def _read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Read the manifest of a prepared set.

    Raises:
      UserError: the manifest is missing, damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(
            f"there is no prepared set {name}; make it: python -m genjax data prepare "
            f"{Path(name).name}"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if not isinstance(manifest, dict):
        raise UserError(f"{path} is damaged: it is not a JSON object")
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path} has format {manifest.get('format')}, this genjax reads {FORMAT}")
    if missing := {"name", "origin", "fingerprint", "shards"} - manifest.keys():
        raise UserError(f"{path} is damaged: it has no {', '.join(sorted(missing))}")
    return manifest


@dataclass(frozen=True)
class Prepared:
    """A prepared set on disk.

    Attributes:
      folder: folder of the set.
      manifest: content of its manifest.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def find(cls, name: str, kind: str) -> Prepared:
        """Find a set by name or folder, and check its files against its manifest.

        Raises:
          UserError: the set is missing, has the other kind, or its files have changed.
        """
        folder = Path(name).expanduser()
        if not (folder / MANIFEST).exists():
            folder = Path(FOLDER) / name
        manifest = _read_manifest(folder, name)
        if manifest["origin"] != kind:
            raise UserError(_wrong_kind(name, manifest["origin"]))
        for shard in manifest["shards"]:
            path = folder / shard["name"]
            if not path.exists():
                raise UserError(f"{folder} lacks {shard['name']}: prepare it again")
            if hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
                raise UserError(f"{path} has changed since it was prepared: prepare it again")
        return cls(folder, manifest)

    @property
    def splits(self) -> list[str]:
        """The splits of the set, "train" first."""
        found = {shard["split"] for shard in self.manifest["shards"]}
        if TRAIN not in found:
            raise UserError(
                f"{self.folder} must have a split {TRAIN}, but only has {', '.join(sorted(found))}"
            )
        return [TRAIN, *sorted(found - {TRAIN})]

    @property
    def origin(self) -> Origin:
        """Where its records come from."""
        name, fingerprint, kind = (
            self.manifest[field] for field in ("name", "fingerprint", "origin")
        )
        return Origin(
            name, fingerprint, kind, self.manifest.get("generator"), str(self.folder / MANIFEST)
        )

    def count_rows(self, split: str) -> int:
        return sum(shard["rows"] for shard in self.manifest["shards"] if shard["split"] == split)

    def list_paths(self, split: str) -> tuple[Path, ...]:
        """Return the files of a split."""
        return tuple(
            self.folder / shard["name"]
            for shard in self.manifest["shards"]
            if shard["split"] == split
        )

    def read_texts(self, split: str, column: str, left: Tally) -> TableTexts:
        """Return the texts of a split; ``left`` counts skipped ones."""
        synthetic = self.manifest["origin"] == SYNTHETIC
        return TableTexts(
            self.folder,
            self.list_paths(split),
            column,
            domain="source",
            synthetic=synthetic,
            left=left,
        )

    def read_records(self, split: str, columns: list[str]) -> list[dict[str, Any]]:
        """Read columns of the records of a split.

        Raises:
          UserError: a column is missing, or a file of a real set is synthetic.
        """
        import pyarrow.parquet as pq

        found: list[dict[str, Any]] = []
        for path in self.list_paths(split):
            schema = pq.read_schema(path)
            if self.manifest["origin"] == REAL:
                refuse_synthetic(schema, path.name)
            for column in columns:
                if column not in schema.names:
                    raise unknown_name(f"column of {self.folder}", column, schema.names)
            found += pq.read_table(path, columns=columns).to_pylist()
        return found


def _wrong_kind(name: str, origin: str) -> str:
    if origin == SYNTHETIC:
        return (
            f"{name} is synthetic: mix it into a real set with synthetic=Synthetic({name!r}, "
            "share=...)"
        )
    return f"{name} is not synthetic: use it as data, not in Synthetic"


def _chosen(how: Synthetic, real: int, rows: int) -> set[int]:
    """Choose synthetic records, from ``rows``, so that they have their share besides ``real`` ones.

    Raises:
      UserError: there are too few.
    """
    count = round(real * how.share / (1 - how.share))
    if count > rows:
        raise UserError(
            f"a share of {how.share:g} besides {real:,} real records needs {count:,} synthetic "
            f"ones, but {how.name} has {rows:,}",
            "share",
        )
    return set(permutation(0, MIXED, rows)[:count].tolist())
