"""Another set in the form that a run has learned: its tokens, its table, its classes."""

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

ALL = "all"  # the split that holds all examples of a set that is judged on


@runtime_checkable
class OpensAs(Protocol):
    """A source that fits what it reads to its training examples, and can do without."""

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """The source in the form of a run: of its sizes, encoded by its codec."""
        ...


@runtime_checkable
class SplitsText(Protocol):
    """A source of documents, which ``split`` divides and ``layout`` makes rows of."""

    split: Any
    layout: Any


@dataclass(frozen=True)
class Undivided:
    """All documents, as the split "all" and as what the codec could be fitted to."""

    def split(self, texts: TextRows) -> Mapping[str, TextRows]:
        return {"train": texts, ALL: texts}


@dataclass(frozen=True)
class Relabelled:
    """A split whose labels are numbered as a run numbers them.

    Attributes:
      whole: the split.
      places: the run's number of each label [K] int32.
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
    """Open a source in the form that a run has learned. Nothing is fitted to it.

    Held-out layouts lay out all texts, so that each token is predicted once. The split "all", which
    holds every example, is there when it is requested.

    Args:
      source: of the examples.
      spec: what the run has learned.
      codec: of the run.
      split: that is to be judged.

    Raises:
      UserError: it cannot be brought into that form; the message says what differs.
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
    """A source whose training text, too, is laid out as held-out text is.

    Args:
      undivided: whether nothing of it is held out.
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
    """All splits as one.

    Raises:
      UserError: their batches differ, as where the training rows are packed.
    """
    parts = tuple(splits.values())
    forms = [
        {name: rows.shape[1:] for name, rows in part.batch(np.zeros(1, np.int64)).items()}
        for part in parts
    ]
    if any(form != forms[0] for form in forms):
        raise UserError(
            f"the splits of this set have rows of different forms: name one of {', '.join(splits)}",
            "split",
        )
    return EndToEnd(parts)


def _with_codec(split: Split, codec: Codec) -> Split:
    """A split whose points are standardised as the run's are; others as they are."""
    if isinstance(split, EndToEnd):
        return EndToEnd(tuple(_with_codec(part, codec) for part in split.parts))
    if isinstance(split, Arrays | Lazy) and isinstance(codec, PointsCodec):
        return dataclasses.replace(split, codec=codec)
    return split


def _check_form(opened: Dataset, spec: Spec, codec: Component) -> None:
    """Refuse what the run cannot read, with what differs."""
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
                f"the set does not fit the run: its {name} is {here}, but the run has learned "
                f"{learned}",
                f"data.{name}",
            )
    if tokens or isinstance(codec, AroundText):
        if get_tokenizer(opened.codec) != get_tokenizer(codec):
            raise UserError(
                "the set does not fit the run: its text is read in other tokens; leave the codec "
                "of the data out",
                "data.codec",
            )
        return
    if isinstance(codec, PointsCodec):
        return
    for field in dataclasses.fields(codec):
        here, learned = getattr(opened.codec, field.name, None), getattr(codec, field.name)
        if here != learned:
            raise UserError(
                f"the set does not fit the run: its {field.name} is {here}, but the run has "
                f"learned {learned}",
                f"data.{field.name}",
            )


def _relabel(splits: Mapping[str, Split], found: Spec, spec: Spec) -> dict[str, Split]:
    """The splits with labels as the run numbers them, by the names of the classes.

    Raises:
      UserError: a class that the run has not learned, or as many as it cannot have.
    """
    if spec.classes is None or found.classes is None:
        return dict(splits)
    mine, names = spec.class_names, found.class_names
    if mine is None or names is None:
        if found.classes != spec.classes:
            raise UserError(
                f"the set has {found.classes} classes, but the run has learned {spec.classes}",
                "data.classes",
            )
        return dict(splits)
    if mine == names:
        return dict(splits)
    strange = [name for name in names if name not in mine]
    if strange:
        raise UserError(
            f"the run has not learned the class {strange[0]!r} of the set; it knows "
            f"{', '.join(mine)}",
            "data.classes",
        )
    places = np.array([mine.index(name) for name in names], np.int32)
    return {name: Relabelled(part, places) for name, part in splits.items()}
