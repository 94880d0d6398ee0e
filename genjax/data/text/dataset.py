"""What every source of text does: fit the codec, tokenise, lay out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import ChatCodec, ChatTemplate
from genjax.data.dataset import Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.storage import cache_folder
from genjax.data.tally import UNKNOWN_TOKENS, Tally
from genjax.data.text.codec_parts import (
    HasFile,
    HasTokenBytes,
    HasTokenKinds,
    get_inner_codec,
    get_mask,
)
from genjax.data.text.corpus import Corpus, fit_codec, tokenise
from genjax.data.text.documents import TextRows
from genjax.data.text.layouts import RowLayout

MISSING = object()  # of a field that a source does not have


def get_tokenizer(codec: Component) -> Any:
    """What makes the tokens of a codec, which may be one of conversations; not the file that
    it was read from.
    """
    tokens = get_inner_codec(codec)
    read = isinstance(tokens, HasFile) and tokens.file is not None and tokens.is_fitted
    return dataclasses.replace(tokens, file=None) if read else tokens


def set_codec(source: Component, codec: Component) -> Any:
    """A source whose text, and that of sources within it, is read by ``codec`` unless its own has a
    vocabulary.

    Conversations that no template is given for take that of ``codec``, where it has one. Pairs of
    sentences take a codec of pairs, side by side.
    """
    changed: dict[str, Any] = {}
    for side in ("source", "target"):
        part, known = getattr(source, f"{side}_codec", None), getattr(codec, side, None)
        if part is not None and known is not None and not part.is_fitted:
            changed[f"{side}_codec"] = get_tokenizer(known)
    for name in ("codec", "template", "source", "sources"):
        part = getattr(source, name, MISSING)
        if name == "codec" and part is not None and not getattr(part, "is_fitted", True):
            changed[name] = get_tokenizer(codec)
        elif name == "template" and part is None and isinstance(codec, ChatCodec):
            changed[name] = codec.template
        elif name == "source" and dataclasses.is_dataclass(part):
            changed[name] = set_codec(part, codec)
        elif name == "sources" and isinstance(part, tuple):
            inner = tuple(set_codec(one, codec) for one in part)
            changed |= {} if inner == part else {name: inner}
    return dataclasses.replace(source, **changed) if changed else source


def note_template(codec: Component, other: Any, name: str) -> None:
    """Say where data have another chat template than a run that they are for, or none.

    Args:
      codec: of the data.
      other: the codec of that run.
      name: its directory.
    """
    if not isinstance(codec, ChatCodec):
        if isinstance(other, ChatCodec):
            note(f"the chat template of {name} is not kept: the data are not conversations")
        return
    alpaca = ", Alpaca's," if codec.template == ChatTemplate() else ""
    if not isinstance(other, ChatCodec):
        note(f"{name} has no chat template: that of the data{alpaca} is used")
    elif other.template != codec.template:
        note(f"the chat template of the data{alpaca} is used, not that of {name}, which differs")


def open_as(source: Component, codec: Component, base: str | None) -> Dataset:
    """A source opened with the tokens and the chat template of another run, where it has none of
    its own.

    Args:
      codec: of that run.
      base: its directory, to note what is taken from it and what is not; None is silent.
    """
    spoken = set_codec(source, codec)
    found: Dataset = spoken.open()
    if base is not None and spoken is not source:
        note(f"text is in the tokens of {base}")
    if base is not None:
        note_template(found.codec, codec, base)
    return found


def text_dataset(
    parts: Mapping[str, TextRows],
    codec: Component,
    layout: RowLayout,
    cache: str | None,
    left: Tally | None = None,
    title: str = "the text",
) -> Dataset:
    """The ``Dataset`` of documents, whose codec is fitted to "train". Its splits have the
    ``corpus`` that they are of.

    Args:
      left: what the reading of the documents counts; kept next to the tokens, and said each time.
      title: what a person calls all documents.

    Raises:
      UserError: a part without text, or text outside the vocabulary.
    """
    folder = cache_folder(cache)
    codec = fit_codec(codec, parts["train"], folder)
    corpora = {name: tokenise(texts, codec, folder) for name, texts in parts.items()}
    contents = [f"{name} {texts.fingerprint}" for name, texts in sorted(parts.items())]
    titles = {name: texts.title for name, texts in parts.items()}
    data = token_dataset(corpora, codec, layout, contents, titles)
    if left is None:
        return data
    for name, corpus in corpora.items():
        left.add(f"the tokens of {name}", {UNKNOWN_TOKENS: corpus.unknown})
    left.keep(folder / f"reading-{digest(part.encode() for part in contents)}.json")
    return dataclasses.replace(data, remarks=left.remarks(title))


def token_dataset(
    corpora: Mapping[str, Corpus],
    codec: Component,
    layout: RowLayout,
    contents: list[str],
    titles: Mapping[str, str],
) -> Dataset:
    """The ``Dataset`` of documents that are tokens already; ``contents`` tell whether they
    have changed.
    """
    splits = {
        name: (layout if name == "train" else layout.held_out).split(corpus, codec, titles[name])
        for name, corpus in corpora.items()
    }
    shape = (layout.length + 1,)
    mean = np.zeros(shape, np.float32)
    token_bytes = codec.token_bytes if isinstance(codec, HasTokenBytes) else None
    token_kinds = codec.token_kinds if isinstance(codec, HasTokenKinds) else None
    spec = Spec(
        "tokens",
        shape,
        mean,
        vocabulary=codec.vocabulary,
        packed=layout.packed,
        prefixed=layout.prefixed,
        token_bytes=None if token_bytes is None else tuple(token_bytes.tolist()),
        token_kinds=None if token_kinds is None else tuple(token_kinds.tolist()),
        mask_token=get_mask(codec),
    )
    parts = (part.encode("utf-8", "surrogatepass") for part in (*contents, repr(codec)))
    return Dataset(splits, spec, codec, digest(parts))
