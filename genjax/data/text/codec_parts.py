"""What only some codecs have, as protocols that ``isinstance`` checks."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from genjax.checks import Component


@runtime_checkable
class WrapsTokens(Protocol):
    """A codec of conversations or captions around one of plain text."""

    tokens: Component


@runtime_checkable
class HasSource(Protocol):
    """A codec of pairs of texts: the codec of what is translated."""

    source: Component


@runtime_checkable
class HasTarget(Protocol):
    """A codec of pairs of texts: the codec of what is written."""

    target: Component


@runtime_checkable
class HasFile(Protocol):
    """A codec that may have been read from a tokenizer's file."""

    file: str | None

    @property
    def is_fitted(self) -> bool: ...


@runtime_checkable
class HasEnd(Protocol):
    """A codec with a token that ends a text, or None."""

    @property
    def end(self) -> int | None: ...


@runtime_checkable
class HasMask(Protocol):
    """A codec with a token that hides another, or None."""

    @property
    def mask(self) -> int | None: ...


@runtime_checkable
class HasTokenBytes(Protocol):
    """A codec that knows the number of bytes [vocabulary] of each token's text, or None."""

    @property
    def token_bytes(self) -> np.ndarray | None: ...


@runtime_checkable
class HasTokenKinds(Protocol):
    """A codec that knows the kind [vocabulary] of each token, or None."""

    @property
    def token_kinds(self) -> np.ndarray | None: ...


def get_inner_codec(codec: Component) -> Component:
    """The codec of plain text within a codec, or the codec itself."""
    return codec.tokens if isinstance(codec, WrapsTokens) else codec


def get_mask(codec: Component) -> int | None:
    """Return the mask token of a codec; None if it has none."""
    return codec.mask if isinstance(codec, HasMask) else None
