"""Read images prepared by TensorFlow Datasets as raw records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from genjax import checks
from genjax.data.images.decode import decode
from genjax.data.sources.tfds import features, load_builder, records
from genjax.data.storage import data_folder
from genjax.prepare.files import Files
from genjax.prepare.readers import Found, Reader
from genjax.prepare.stage import ARROW


@checks.frozen
class TfdsImages(Reader):
    """Reads the image files of a set that TensorFlow Datasets has prepared as array_record, with
    label and split.

    Attributes:
      name: name of the set in TFDS.
      root: folder of prepared sets; None for $GENJAX_DATA/tfds, or for the default of TFDS if
        GENJAX_DATA is not set.
    """

    name: str = "mnist"
    root: str | None = None

    def find_files(self) -> Files:
        info = self._builder().info
        paths = [Path(path) for split in info.splits for path in info.splits[split].filepaths]
        return Files(str(paths[0].parent), tuple(map(str, paths)))

    def fields(self, files: Files) -> pa.Schema:
        return pa.schema([("image", pa.large_binary()), ("label", ARROW), ("part", ARROW)])

    def read(self, files: Files, path: str, left: Counter[str] | None = None) -> Iterator[Found]:
        builder = self._builder()
        image, label = features(builder.info)
        for split, about in builder.info.splits.items():
            paths = [str(each) for each in about.filepaths]
            if path not in paths:
                continue
            begin = sum(about.shard_lengths[: paths.index(path)])
            source = records(builder, split, image)
            names = None if label is None else builder.info.features[label].names
            for number in range(about.shard_lengths[paths.index(path)]):
                record = source[begin + number]
                name = None if label is None or names is None else names[int(record[label])]
                yield _image(f"{number:09d}", record[image], name, split)

    def _builder(self) -> Any:
        return load_builder(self.name, data_folder("tfds", self.root))


def _image(place: str, content: bytes, label: str | None, split: str) -> Found:
    try:
        decode(content, None, 3)
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        return Found(place, {}, f"no image: {type(error).__name__}")
    return Found(place, {"image": content, "label": label, "part": split})
