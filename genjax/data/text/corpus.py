"""Tokenise documents once, and keep the tokens in a memory-mapped cache."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax.checks import Component
from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.data.text.codecs import TextCodec, Unencodable
from genjax.data.text.documents import Piece, TextRows
from genjax.errors import UserError
from genjax.machine import disk

FORMAT = 3  # of the cache; raised when the cached content would change
NOTED = 20_000_000  # characters that take long enough to report progress


@dataclass(frozen=True)
class Corpus:
    """Tokens of documents, one after another, each followed by the codec's ``end`` if it has one.

    Attributes:
      tokens: tokens [N] uint16 or uint32, in memory or on disk.
      starts: index of the first token of each document, then N, [D + 1] int64.
      text_characters: number of characters of the text.
      text_bytes: number of bytes of the text in UTF-8.
      domain: index in ``domains`` of each document [D] int32; None if domains are unknown.
      domains: names of the domains.
      unknown: number of tokens outside the vocabulary.
    """

    tokens: np.ndarray
    starts: np.ndarray
    text_characters: int = 0
    text_bytes: int = 0
    domain: np.ndarray | None = None
    domains: tuple[str, ...] = ()
    unknown: int = 0

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.starts) - 1

    def document(self, number: int) -> np.ndarray:
        """Return the tokens [M] int32 of a document."""
        return self.tokens[self.starts[number] : self.starts[number + 1]].astype(np.int32)

    def documents(self, places: np.ndarray) -> np.ndarray:
        """Return the document int64 of each token at ``places``, in the same shape."""
        return np.searchsorted(self.starts, places, side="right") - 1


def token_dtype(vocabulary: int) -> type[np.generic]:
    """Return uint16 if it can hold the tokens, else uint32."""
    return np.uint16 if vocabulary <= 2**16 else np.uint32


def fit_codec(codec: Component, texts: TextRows, cache: Path) -> Any:
    """Return ``codec`` fitted to ``texts``, from the cache if it was fitted to them before.

    The cache also keeps the vocabulary stable on one machine, because training WordPiece and
    Unigram is not deterministic.
    """
    if codec.is_fitted:
        return codec
    path = cache / f"codec-{_key(texts, codec)}.json"
    found = _load_codec(path, codec)
    if found is not None:
        return found
    made = codec.fit(piece.text for piece in _log_progress(texts, "reading"))
    if not made.is_fitted:
        raise UserError(f"{texts.title} holds no text")
    text = json.dumps(
        {"format": FORMAT} | {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    )
    part = _part(path)
    with _Writing(cache):
        try:
            part.write_text(text, encoding="utf-8")
            try:
                os.link(part, path)  # the first of several processes wins
            except OSError:  # the path is taken by a damaged file, or the disk has no hard links
                if _load_codec(path, codec) is None:
                    part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return _load_codec(path, codec) or made


def _load_codec(path: Path, codec: Component) -> Any:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("format") != FORMAT:
            return None
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        return dataclasses.replace(codec, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
        return None


def tokenise(texts: TextRows, codec: TextCodec, cache: Path) -> Corpus:
    """Return the tokens of ``texts``, from the cache if possible; the text is streamed.

    Raises:
      UserError: there is no text, text outside the vocabulary (the message names the character and
        its document), or no disk space.
    """
    folder = cache / f"tokens-{_key(texts, codec)}"
    if folder.exists():
        found = _load_corpus(folder)
        if found is not None:
            return found
        note(f"the token cache {folder} is damaged or of another version: writing it again")
    part = _part(folder)
    with _Writing(cache):
        part.mkdir()
        try:
            _write(part, texts, codec)
            if folder.exists() and _load_corpus(folder) is None:
                shutil.rmtree(folder)
            try:
                part.rename(folder)  # so that the cache is never incomplete
            except OSError:
                if _load_corpus(folder) is None:  # no other process has written it meanwhile
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    found = _load_corpus(folder)
    if found is None:
        raise UserError(f"the token cache {folder} was changed while it was written; try again")
    return found


def _key(texts: TextRows, codec: Component) -> str:
    return digest(
        f"{part}\n".encode("utf-8", "surrogatepass")
        for part in (FORMAT, texts.fingerprint, repr(codec))
    )


def _part(path: Path) -> Path:
    """Return a temporary path for writing ``path``, unique among all processes and hosts."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


class _Writing:
    """Turns disk errors while writing to the cache into one clear line."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def __enter__(self) -> None:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._explain_error(error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise self._explain_error(error) from error

    def _explain_error(self, error: OSError) -> UserError:
        if (number := disk.full_disk_errno(error)) is not None:
            kept = "the token cache is unchanged: make room, or choose another folder as `cache`"
            return disk.refusal(self._cache, kept, number)
        why = f"({error.strerror or error}); choose another folder as `cache`"
        return UserError(f"cannot write the token cache in {self._cache} {why}", str(self._cache))


def _log_progress(texts: TextRows, doing: str) -> Iterator[Piece]:
    """Yield the pieces, and print one line if reading takes long."""
    characters, noted = 0, False
    for piece in texts.iterate_pieces():
        characters += len(piece.text)
        if characters > NOTED and not noted:
            note(f"{doing} {texts.title}")
            noted = True
        yield piece


def _write(folder: Path, texts: TextRows, codec: TextCodec) -> None:
    starts, domain = array("q"), array("i")
    domains: dict[str, int] = {}
    characters = text_bytes = unknown = 0
    end = [] if codec.end is None else [codec.end]
    with _GrowingArray(folder / "tokens.npy", np.dtype(token_dtype(codec.vocabulary))) as tokens:
        within = 0  # characters of this document encoded so far
        for text, document, ends, name in _log_progress(texts, "tokenising (once)"):
            if text:
                if not within:
                    starts.append(len(tokens))
                    domain.append(domains.setdefault(name, len(domains)))
                try:
                    ids = codec.encode(text)
                except Unencodable as error:
                    raise error.shift(within, document) from None
                tokens.append(ids)
                unknown += (
                    0 if codec.unknown_token is None else int((ids == codec.unknown_token).sum())
                )
                within += len(text)
                characters += len(text)
                text_bytes += len(text.encode("utf-8", "surrogatepass"))
            if ends:
                if within:
                    tokens.append(np.array(end, np.int32))
                within = 0
        count = len(tokens)
    if not count:
        raise UserError(f"{texts.title} holds no text")
    np.save(folder / "starts.npy", np.array([*starts, count], np.int64))
    np.save(folder / "domain.npy", np.array(domain, np.int32))
    header = {"format": FORMAT, "tokens": count, "documents": len(starts), "characters": characters}
    more = {"bytes": text_bytes, "unknown": unknown, "title": texts.title, "domains": list(domains)}
    (folder / "header.json").write_text(json.dumps(header | more), encoding="utf-8")


def _load_corpus(folder: Path) -> Corpus | None:
    """Return the corpus in ``folder``; None if it is incomplete or of another version."""
    try:
        header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            return None
        tokens = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
        starts = np.load(folder / "starts.npy", mmap_mode="r", allow_pickle=False)
        domain = np.load(folder / "domain.npy", mmap_mode="r", allow_pickle=False)
        if tokens.shape != (header["tokens"],) or starts.shape != (header["documents"] + 1,):
            return None
        if domain.shape != (header["documents"],):
            return None
        domains = tuple(header["domains"])
        known = None if domains == ("",) else domain
        return Corpus(
            tokens, starts, header["characters"], header["bytes"], known, domains, header["unknown"]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


class _GrowingArray:
    """An .npy file [N] that is written sequentially; numpy's header leaves room for the final N."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._path, self._dtype, self._count = path, dtype, 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> _GrowingArray:
        self._file = self._path.open("wb")
        self._body = self._write_header()
        return self

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self._dtype).tobytes())
        self._count += len(values)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._file.seek(0)
            assert self._write_header() == self._body, "the header has grown into the array"
            self._file.close()
        else:  # flushing the buffer might fail, and the file is discarded anyway
            with contextlib.suppress(OSError):
                self._file.close()

    def _write_header(self) -> int:
        """Write the header and return its length."""
        shape = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count,),
        }
        np.lib.format.write_array_header_1_0(self._file, shape)
        return self._file.tell()
