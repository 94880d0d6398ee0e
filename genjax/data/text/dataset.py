"""The steps that all text sources share: fit the codec, tokenise, lay out rows."""

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

MISSING = object()  # marks a field that a source does not have


def get_tokenizer(codec: Component) -> Any:
    """Return the tokenizer inside a codec (a chat codec wraps one), without the name of its
    file.
    """
    tokens = get_inner_codec(codec)
    read = isinstance(tokens, HasFile) and tokens.file is not None and tokens.is_fitted
    return dataclasses.replace(tokens, file=None) if read else tokens


def set_codec(source: Component, codec: Component) -> Any:
    """Return a source that reads text, also in nested sources, by ``codec`` unless its own codec is
    fitted.

    Conversations without a template take the one of ``codec``, if it has one. Sentence pairs take
    each side of a pair codec for the same side.
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
    """Print a note if the chat template of the data differs from that of a run.

    Args:
      codec: codec of the data.
      other: codec of the run.
      name: directory of the run.
    """
    if not isinstance(codec, ChatCodec):
        if isinstance(other, ChatCodec):
            note(f"the chat template of {name} is not used: the data are not conversations")
        return
    alpaca = ", Alpaca's," if codec.template == ChatTemplate() else ""
    if not isinstance(other, ChatCodec):
        note(f"{name} has no chat template: the one of the data{alpaca} is used")
    elif other.template != codec.template:
        note(f"the chat template of the data{alpaca} is used; that of {name} differs")


def open_as(source: Component, codec: Component, base: str | None) -> Dataset:
    """Open a source with the tokens and the chat template of a run, unless it has its own.

    Args:
      source: source of text.
      codec: codec of the run.
      base: directory of the run, for notes on what is taken from it; None prints nothing.
    """
    spoken = set_codec(source, codec)
    found: Dataset = spoken.open()
    if base is not None and spoken is not source:
        note(f"text is encoded with the tokens of {base}")
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
    """Return the ``Dataset`` of documents, with the codec fitted to "train".

    Args:
      parts: documents of each split.
      codec: codec to fit.
      layout: layout of the rows.
      cache: folder of cached tokens; None for the default.
      left: counts from reading the documents; they are stored with the tokens and printed each
        time.
      title: name of the documents in messages.

    Raises:
      UserError: a split has no text, or text is outside the vocabulary.
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
    """Return the ``Dataset`` of tokenised documents; ``contents`` enter its fingerprint."""
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
