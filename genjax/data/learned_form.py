"""Open another data set in the form that a run was trained on: its tokens, table or classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax.checks import Component
from genjax.data.codecs import PointsCodec
from genjax.data.dataset import Batch, Codec, Dataset, Spec, Split
from genjax.data.sources.mixture import EndToEnd
from genjax.data.splits import Arrays, Lazy
from genjax.data.text.dataset import get_tokenizer, set_codec
from genjax.data.text.documents import TextRows
from genjax.data.text.wrapped import AroundText
from genjax.errors import UserError

ALL = "all"  # the split that holds every example of a set


@runtime_checkable
class OpensAs(Protocol):
    """A source that normally fits a codec to its training examples, but can use a given one."""

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """Open the source in the form of a run: with its sizes, encoded by its codec."""
        ...


@runtime_checkable
class SplitsText(Protocol):
    """A source of documents, which ``split`` divides and ``layout`` turns into rows."""

    split: Any
    layout: Any


@dataclass(frozen=True)
class Undivided:
    """Puts all documents in the split "all", and in "train", which a source must have."""

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        return {"train": texts, ALL: texts}


@dataclass(frozen=True)
class Relabelled:
    """A split whose labels are renumbered as in a run.

    Attributes:
      whole: the split.
      places: the run's number for each label, [K] int32.
    """

    whole: Split
    places: np.ndarray

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: np.ndarray) -> Batch:
        batch = self.whole.batch(indices)
        return batch | {"label": self.places[batch["label"]]} if "label" in batch else batch


def open_in_form(source: Component, spec: Spec, codec: Codec, split: str) -> Dataset:
    """Open a source in the form that a run was trained on, without fitting anything to it.

    All texts use the held-out layout, so that each token is predicted once. The split "all", which
    holds every example, exists when it is requested.

    Args:
      source: source of the examples.
      spec: spec of the run's data.
      codec: codec of the run.
      split: split to evaluate on.

    Raises:
      UserError: the set cannot be brought into that form; the message says what differs.
    """
    source = _read_whole(set_codec(source, codec), split == ALL)
    opened = source.open_as(spec, codec) if isinstance(source, OpensAs) else source.open()
    splits = dict(opened.splits)
    if split == ALL and ALL not in splits:
        splits[ALL] = _join(splits)
    splits = {name: _with_codec(part, codec) for name, part in splits.items()}
    _check_form(opened, spec, codec)
    splits = _relabel(splits, opened.spec, spec)
    form = dataclasses.replace(
        spec, shape=opened.spec.shape, mean=opened.spec.mean, packed=opened.spec.packed
    )
    return dataclasses.replace(
        opened, splits=splits, codec=codec, spec=form if spec.vocabulary is not None else spec
    )


def _read_whole(source: Component, undivided: bool) -> Any:
    """Return a source whose training text is laid out like held-out text.

    Args:
      source: source of the examples.
      undivided: whether nothing is held out.
    """
    changed: dict[str, Any] = {}
    if isinstance(source, SplitsText):
        changed["layout"] = source.layout.held_out
        if undivided:
            changed["split"] = Undivided()
    if getattr(source, "packed", None) is True:
        changed["packed"] = False
    for name in ("source", "sources"):
        inner = getattr(source, name, None)
        if dataclasses.is_dataclass(inner):
            changed[name] = _read_whole(inner, undivided)
        elif isinstance(inner, tuple):
            changed[name] = tuple(_read_whole(one, undivided) for one in inner)
    return dataclasses.replace(source, **changed) if changed else source


def _join(splits: Mapping[str, Split]) -> Split:
    """Join all splits into one.

    Raises:
      UserError: their batches differ, for example because training rows are packed.
    """
    parts = tuple(splits.values())
    forms = [
        {name: rows.shape[1:] for name, rows in part.batch(np.zeros(1, np.int64)).items()}
        for part in parts
    ]
    if any(form != forms[0] for form in forms):
        raise UserError(
            f"split must be one of {', '.join(splits)}, got {ALL!r}: their rows have different "
            "forms",
            "split",
        )
    return EndToEnd(parts)


def _with_codec(split: Split, codec: Codec) -> Split:
    """Return a split whose points are standardised like the run's; other splits unchanged."""
    if isinstance(split, EndToEnd):
        return EndToEnd(tuple(_with_codec(part, codec) for part in split.parts))
    if isinstance(split, Arrays | Lazy) and isinstance(codec, PointsCodec):
        return dataclasses.replace(split, codec=codec)
    return split


def _check_form(opened: Dataset, spec: Spec, codec: Component) -> None:
    """Refuse data that the run cannot read, and say what differs."""
    found = opened.spec
    tokens = spec.vocabulary is not None
    mine, other = (found.shape, found.source_length or 0), (spec.shape, spec.source_length or 0)
    fits = (
        mine[0][0] <= other[0][0] and mine[1] <= other[1]
        if tokens and found.vocabulary is not None
        else mine == other
    )
    for name, here, learned in (
        ("entry", found.entry, spec.entry),
        ("shape", list(mine[0]) if not fits else 0, list(other[0]) if not fits else 0),
        ("condition", found.condition, spec.condition),
        ("image", found.image, spec.image),
        ("preferences", found.preferences, spec.preferences),
        ("source_vocabulary", found.source_vocabulary, spec.source_vocabulary),
    ):
        if here != learned:
            raise UserError(
                f"the set does not fit the run: its {name} is {here}, but the run was trained on "
                f"{learned}",
                f"data.{name}",
            )
    if tokens or isinstance(codec, AroundText):
        if get_tokenizer(opened.codec) != get_tokenizer(codec):
            raise UserError(
                "the set does not fit the run: its codec makes other tokens; leave out the codec "
                "of the data",
                "data.codec",
            )
        return
    if isinstance(codec, PointsCodec):
        return
    for field in dataclasses.fields(codec):
        here, learned = getattr(opened.codec, field.name, None), getattr(codec, field.name)
        if here != learned:
            raise UserError(
                f"the set does not fit the run: its {field.name} is {here}, but the run was "
                f"trained on {learned}",
                f"data.{field.name}",
            )


def _relabel(splits: Mapping[str, Split], found: Spec, spec: Spec) -> dict[str, Split]:
    """Return the splits with labels renumbered as in the run, by the names of the classes.

    Raises:
      UserError: the run does not know a class, or the numbers of classes differ.
    """
    if spec.classes is None or found.classes is None:
        return dict(splits)
    mine, names = spec.class_names, found.class_names
    if mine is None or names is None:
        if found.classes != spec.classes:
            raise UserError(
                f"the set has {found.classes} classes, but the run was trained on {spec.classes}",
                "data.classes",
            )
        return dict(splits)
    if mine == names:
        return dict(splits)
    strange = [name for name in names if name not in mine]
    if strange:
        raise UserError(
            f"the run was not trained on the class {strange[0]!r} of the set; it knows "
            f"{', '.join(mine)}",
            "data.classes",
        )
    places = np.array([mine.index(name) for name in names], np.int32)
    return {name: Relabelled(part, places) for name, part in splits.items()}
