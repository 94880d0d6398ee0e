"""Collect the images of a folder with their splits, masks, captions and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from genjax.checks import Component
from genjax.data.dataset import Batch, Split
from genjax.data.images.captions import READ, read_said
from genjax.data.images.decode import note, suffixes
from genjax.data.images.folders import Found, find_files, pair_masks
from genjax.data.tally import format_counts
from genjax.errors import UserError

APART = "test_root/"  # precedes the names of files in a separate test folder
KEEP, SKIP, APPLY = MASKS = ("keep", "skip", "apply")

T = TypeVar("T")


@dataclass(frozen=True)
class Pictures:
    """The images of a folder.

    Attributes:
      found: names and splits.
      places: path of each image.
      masks: path of the mask of each image that has one.
      captions: caption of each image that has one.
      labels: label of each image whose record has one.
      remarks: lines on what was skipped.
    """

    found: Found
    places: Mapping[str, Path]
    masks: Mapping[str, Path]
    captions: Mapping[str, str]
    labels: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    def beside(self, test: Pictures) -> Pictures:
        """Add the images of ``test`` as the test split.

        Raises:
          UserError: there is a test split already.
        """
        parts = self.found.parts or ("train",) * len(self.found.names)
        if "test" in parts:
            raise UserError(
                "test_root must be None, as the root has a test folder: leave one of them out",
                "test_root",
            )
        names = dict(zip(test.found.names, test.found.inside, strict=True))

        def join(ours: Mapping[str, T], theirs: Mapping[str, T]) -> dict[str, T]:
            return {**ours, **{APART + names[n]: value for n, value in theirs.items()}}

        found = Found(
            (*self.found.names, *(APART + name for name in names.values())),
            (*self.found.inside, *names.values()),
            (*parts, *("test" for _ in names)),
        )
        return Pictures(
            found,
            join(self.places, test.places),
            join(self.masks, test.masks),
            join(self.captions, test.captions),
            join(self.labels, test.labels),
            (*self.remarks, *test.remarks),
        )


def collect(
    root: Path, *, splits: bool, closed: bool, masks: str, caption: str | None, texts: bool
) -> Pictures:
    """Collect the images of a folder, except those that are masks or conditions of others.

    Args:
      root: the folder.
      splits: whether folders may be splits.
      closed: whether links that lead out of the root are skipped.
      masks: "keep" treats masks as images.
      caption: field of the captions, see ``read_said``.
      texts: whether captions are needed.

    Raises:
      UserError: see ``find_files`` and ``read_said``.
    """
    found = find_files(
        root, suffixes(), "images", splits=splits, closed=closed, besides=READ if texts else ()
    )
    said = read_said(root, found.names, caption)
    masked = (
        {} if masks == KEEP else {image: mask for mask, image in pair_masks(found.names).items()}
    )
    left = Counter({"masks": len(masked)})
    for other, (image, column) in said.others.items():
        if "mask" in column.lower() and masks != KEEP:
            masked[image] = other
        left[f"images named as {column!r} of others"] += 1
    apart = {*masked.values(), *said.others}
    left["masks"] = len(set(masked.values()) - set(said.others))
    found = found.without(apart)
    if not found.names:
        raise UserError(f"{root} holds masks and conditions, but not their images", str(root))
    remarks = [f"{root}: {line}" for line in (format_counts(said.left),) if line]
    if apart:
        remarks.append(f"{root}: {len(apart):,} files are not examples: {format_counts(left)}")
    for remark in remarks:
        note(remark)
    return Pictures(
        found,
        {name: root / name for name in found.names},
        {image: root / mask for image, mask in masked.items()},
        said.captions,
        said.labels,
        tuple(remarks),
    )


@dataclass(frozen=True)
class WithCondition:
    """A split with the embedded caption of each example.

    Attributes:
      whole: split of images and labels.
      condition: embedded captions float32 [N, D]; zeros without a caption.
    """

    whole: Split
    condition: np.ndarray

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: np.ndarray) -> Batch:
        return self.whole.batch(indices) | {"condition": self.condition[indices]}


def embed_captions(
    names: tuple[str, ...], captions: Mapping[str, str], text: Component, root: str
) -> np.ndarray:
    """Return the embedded caption [N, D] float32 of each image; zeros without a caption.

    Raises:
      UserError: no image has a caption, or a caption has no words; the message names the image.
    """
    missing = [name for name in names if name not in captions]
    if len(missing) == len(names):
        raise UserError(
            f"no image of {root} has a caption: add metadata.jsonl with a file_name and a text "
            "each, or a text file with the name of each image, or set text=None",
            "text",
        )
    if missing:
        note(
            f"{root}: {len(missing):,} of {len(names):,} images have no caption, {missing[0]} first"
        )
    found = np.zeros((len(names), text.width), np.float32)
    for row, name in enumerate(names):
        if name in captions:
            try:
                found[row] = text.embed(captions[name])
            except UserError as error:
                raise UserError(f"the caption of {name}: {error}", "text") from None
    return found
