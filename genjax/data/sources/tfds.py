"""Read TensorFlow Datasets without TensorFlow."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax import checks
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.images.decode import check_size, decode, fit, note
from genjax.data.splits import (
    Arrays,
    Lazy,
    Raw,
    Stored,
    array_fingerprint,
    dataset,
    digest,
    hold_out,
)
from genjax.data.stand_in import pictures
from genjax.data.storage import cache_folder, data_folder, files_fingerprint
from genjax.errors import UserError, unknown_name
from genjax.serial import json_text, trust
from genjax.serial.trust import Untrusted, exclude_current_folder

CLASS_KEYS = ("type", "pythonClassName", "python_class_name")  # in a features.json
NOTED = 20_000  # number of images from which decoding is announced
CHUNK = 1_024  # records read at once
DEFAULT_TEST = (
    0.1  # of the training examples, for a set that has neither a test nor a validation split
)


@checks.frozen
class TFDS:
    """Reads images, with class labels if there are any, of a set that TensorFlow Datasets has
    prepared as array_record.

    "test" is the set's own test split, or else its validation split, or else a fixed tenth of the
    training examples.

    Attributes:
      name: name of the set in TFDS, optionally with "/config" and ":version".
      root: folder of prepared sets; None for $GENJAX_DATA/tfds, or if GENJAX_DATA is not set, for
        the default of TFDS: $TFDS_DATA_DIR or ~/tensorflow_datasets. If mnist, fashion_mnist or
        cifar10 is in neither, generated stand-ins replace it.
      validation: number of training examples held out as "validation", the same in every run.
      size: (height, width) to which images are resized and cropped in the middle; None requires
        that the set declares one size.
      memory_gb: up to this size the decoded images are held in memory; larger sets are decoded as
        needed.
      cache: whether images decoded into memory are also stored in ~/.cache/genjax
        ($XDG_CACHE_HOME/genjax), so that the next start is fast.
    """

    name: str = "mnist"
    root: str | None = None
    validation: int = 0
    size: tuple[int, int] | None = None
    memory_gb: float = 2.0
    cache: bool = True

    def __post_init__(self) -> None:
        check_size(self.size)
        checks.at_least(self, 0, "validation", "memory_gb")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, H, W, C] and, with labels,
        ``label`` int32 [B].

        Raises:
          UserError: the set does not exist, is not prepared, is damaged or has no images.
        """
        root = data_folder("tfds", self.root)
        drawn = pictures(self.name) if root is None and not _is_in_default(self.name) else None
        if drawn is not None:
            return self._draw_stand_in(drawn)
        builder = load_builder(self.name, root)
        info = builder.info
        image, label = features(info)
        shape = _shape(info, image, self.size)
        codec = ImageCodec(*shape)
        names = [name for name in ("train", "validation", "test") if name in info.splits]
        if "train" not in names:
            raise UserError(
                f"{self.name} has no split named train; it has {', '.join(info.splits)}"
            )
        if self.validation and "validation" in names and "test" in names:
            raise UserError(
                f"validation must be 0 for {self.name}, which has its own validation split",
                "validation",
            )

        fingerprint = hash_splits(info, names)
        counts = {name: info.splits[name].num_examples for name in names}
        in_memory = sum(counts.values()) * int(np.prod(shape)) <= self.memory_gb * 2**30
        splits: dict[str, Stored] = {}
        for name in names:
            reader = TfdsReader(
                records(builder, name, image), image, label, self.size, shape, info.full_name
            )
            if in_memory:
                images, labels = self._decode_split(
                    reader, counts[name], f"{fingerprint}-{name}-{shape}"
                )
                splits[name] = Arrays("image", images, labels, codec)
            else:
                splits[name] = Lazy("image", reader, np.arange(counts[name]), codec)
        if "test" not in splits and "validation" in splits:
            splits["test"] = splits.pop("validation")
        elif "test" not in splits:
            splits["train"], splits["test"] = hold_out(
                splits["train"], max(1, int(counts["train"] * DEFAULT_TEST))
            )
        if self.validation:
            splits["train"], splits["validation"] = hold_out(splits["train"], self.validation)
        classes = info.features[label].num_classes if label else None
        called = tuple(info.features[label].names or ()) or None if label else None
        return dataset(splits, classes=classes, fingerprint=fingerprint, class_names=called)

    def _draw_stand_in(self, drawn: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Dataset:
        splits: dict[str, Arrays] = {}
        for name, (images, labels) in drawn.items():
            if self.size is not None:
                images = np.stack([fit(image, self.size) for image in images])
            splits[name] = Arrays("image", images, labels, ImageCodec(*images.shape[1:]))
        whole: dict[str, Stored] = dict(splits)
        if self.validation:
            whole["train"], whole["validation"] = hold_out(whole["train"], self.validation)
        return dataset(whole, classes=10, fingerprint=array_fingerprint(splits))

    def _decode_split(self, reader: TfdsReader, count: int, key: str) -> Raw:
        """Return all ``count`` images uint8 [N, H, W, C] and labels [N] of a split, from the cache
        if possible.
        """
        path = cache_folder() / f"{digest([key.encode()])}.npz"
        if self.cache:
            try:
                with np.load(path) as stored:
                    return stored["image"], stored.get("label")
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                pass
        if count > NOTED:
            note(
                f"decoding {count:,} images of {reader.title}"
                + (" (cached afterwards)" if self.cache else "")
            )
        images, labels = reader(np.arange(count))
        if self.cache:
            part = path.with_suffix(f".{os.getpid()}.part")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    np.savez(file, image=images, **({} if labels is None else {"label": labels}))  # type: ignore[arg-type]
                part.replace(path)  # so that the file is never incomplete
            except OSError:  # no disk space, or no permission: the cache only saves time
                part.unlink(missing_ok=True)
        return images, labels


@dataclass(frozen=True)
class TfdsReader:
    """Reads rows [B] of a split as images uint8 [B, H, W, C] and labels [B] int32 or None."""

    records: Sequence[Any]  # a TFDS data source that returns images as encoded files
    image: str
    label: str | None
    size: tuple[int, int] | None
    shape: tuple[int, int, int]
    title: str

    def __call__(self, rows: np.ndarray) -> Raw:
        images = np.empty((len(rows), *self.shape), np.uint8)
        labels = None if self.label is None else np.empty(len(rows), np.int32)
        for start in range(0, len(rows), CHUNK):
            for i, record in enumerate(self._fetch(rows[start : start + CHUNK].tolist()), start):
                try:
                    images[i] = decode(record[self.image], self.size, self.shape[-1])
                except Exception as error:  # PIL's readers raise almost anything on a damaged file
                    raise UserError(
                        f"{self.title}: image {rows[i]} cannot be decoded: {error}"
                    ) from error
                if self.label is not None and labels is not None:
                    labels[i] = record[self.label]
        return images, labels

    def _fetch(self, rows: list[int]) -> Sequence[dict[str, Any]]:
        try:
            return self.records.__getitems__(rows)  # type: ignore[attr-defined]
        except (RuntimeError, ValueError, OSError, IndexError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"{self.title}: its files are damaged, prepare it again ({reason})"
            ) from error


def _is_in_default(name: str) -> bool:
    """Return whether TFDS's own folder has a set of that name, complete or not."""
    own = os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    return (Path(own) / re.split("[/:]", name)[0]).exists()


def load_builder(name: str, root: str | None) -> Any:
    """Return the TFDS builder of a prepared set; if ``root`` is None, TFDS chooses the folder.

    Raises:
      UserError: the set does not exist, is not prepared, or can only be read by TensorFlow.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"reading {name} needs a package: pip install tensorflow-datasets ({error})"
        ) from error
    folder = root or str(tfds.core.constants.get_default_data_dir())
    build = f"tfds build {name} --data_dir={folder} --file_format=array_record"
    prepare = f"pip install 'genjax-train[prepare]' && {build}"
    _check_code(Path(folder) / re.split("[/:]", name)[0])
    try:
        with exclude_current_folder():
            builder = tfds.builder(name, data_dir=root)
    except tfds.core.registered.DatasetNotFoundError as error:
        found = {path.parents[1].name for path in Path(folder).glob("*/*/dataset_info.json")}
        known = found | set(tfds.list_builders(with_community_datasets=False))
        raise unknown_name("TFDS data set", name, known) from error
    except (
        AssertionError,
        RuntimeError,
        ValueError,
    ) as error:
        # The version or config does not exist.
        raise UserError(f"TFDS cannot open {name}: {_first_line(error)}") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged files raise almost anything
        raise UserError(
            f"{name} in {folder} is damaged, prepare it again ({_first_line(error)})", folder
        ) from error
    if not builder.is_prepared():
        raise UserError(f"{name} is not prepared in {folder}; prepare it once: {prepare}")
    try:
        builder.as_data_source(split="train" if "train" in builder.info.splits else None)
    except NotImplementedError as error:
        kind = builder.info.file_format.value
        raise UserError(
            f"{name} in {folder} is a {kind} copy, which only TensorFlow can read; "
            f"delete it or choose another root, then: {prepare}"
        ) from error
    except Exception as error:
        raise UserError(
            f"{name} in {folder} cannot be read: {_first_line(error)}", folder
        ) from error
    return builder


def _check_code(folder: Path) -> None:
    """Refuse feature classes from outside TFDS, because opening a set imports their modules.

    Raises:
      Untrusted: a features.json names such a class, and the user does not trust its module.
      UserError: a features.json is damaged.
    """
    for path in sorted(folder.rglob("features.json")):
        level = [json_text.parse(path.read_bytes(), str(path))]
        while level:
            tables = [one for one in level if isinstance(one, dict)]
            for name in (table[key] for table in tables for key in CLASS_KEYS if key in table):
                module = name.rpartition(".")[0] if isinstance(name, str) else ""
                if module.split(".")[0] == "tensorflow_datasets" or trust.is_named_by_user(module):
                    continue
                if isinstance(name, str):
                    raise Untrusted(
                        f"{path} names the code {name[:200]!r}, which is not run; "
                        f"if you trust it: --trust={module[:200]}",
                        str(path),
                    )
            lists = [one for one in level if isinstance(one, list)]
            level = [part for table in tables for part in table.values()]
            level += [part for one in lists for part in one]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def features(info: Any) -> tuple[str, str | None]:
    """Return the names of the image and label features, preferring "image" and "label"."""
    import tensorflow_datasets as tfds

    def first(kind: type, plain: str) -> str | None:
        names = [name for name, feature in info.features.items() if type(feature) is kind]
        return plain if plain in names else next(iter(names), None)

    image = first(tfds.features.Image, "image")
    if image is None:
        raise UserError(
            f"{info.full_name} holds no images; its features: {', '.join(info.features)}"
        )
    return image, first(tfds.features.ClassLabel, "label")


def _shape(info: Any, image: str, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Return [H, W, C] of the images that the model gets."""
    feature = info.features[image]
    height, width, channels = feature.shape
    if feature.np_dtype != np.uint8:
        raise UserError(f"{info.full_name} must have uint8 images, got {feature.np_dtype.__name__}")
    if size is None and None in (height, width):
        raise UserError(
            f"the images of {info.full_name} differ in size; set size=(height, width) to resize "
            "them",
            "size",
        )
    return (*(size or (height, width)), 1 if channels == 1 else 3)


def records(builder: Any, split: str, image: str) -> Sequence[Any]:
    """Return the records of a split with images still encoded, as TFDS's decoding is half as
    fast.
    """
    import tensorflow_datasets as tfds

    return builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})


def hash_splits(info: Any, splits: Sequence[str]) -> str:
    """Return a hash of the prepared files of ``splits``.

    Raises:
      UserError: some are missing.
    """
    try:
        return files_fingerprint(
            Path(path) for split in splits for path in info.splits[split].filepaths
        )
    except OSError as error:
        raise UserError(
            f"{info.full_name}: some of its files are missing, prepare it again ({error})"
        ) from error
