"""Tokenise documents once, and keep the tokens in a memory-mapped cache."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import secrets
import shutil
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
from genjax.data.text.encoding import encode_pieces
from genjax.data.text.writing import TokenFolder, hold_part
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
    """Return the tokens of ``texts``, from the cache if possible; the text is streamed, and
    encoded on all cores. If the process is killed, the next one continues.

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
    with _Writing(cache), hold_part(folder) as part:
        _write(part, texts, codec)
        if folder.exists() and _load_corpus(folder) is None:
            shutil.rmtree(folder)
        try:
            part.rename(folder)  # so that the cache is never incomplete
        except OSError:
            if _load_corpus(folder) is None:  # no other process has written it meanwhile
                raise
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
    written = TokenFolder(folder, token_dtype(codec.vocabulary))
    try:
        counts = written.counts
        if counts.pieces:
            note(f"tokenising {texts.title} from character {counts.characters:,} on")
        pieces = itertools.islice(_log_progress(texts, "tokenising (once)"), counts.pieces, None)
        with contextlib.closing(encode_pieces(pieces, codec)) as encoded:
            for piece, ids in encoded:
                _write_piece(written, piece, ids, codec)
                written.save()
        if not len(written):
            raise UserError(f"{texts.title} holds no text")
        written.close()
    finally:
        written.abandon()
    header = {
        "format": FORMAT,
        "tokens": len(written),
        "documents": written.documents,
        "characters": counts.characters,
        "bytes": counts.bytes,
        "unknown": counts.unknown,
        "title": texts.title,
        "domains": counts.domains,
    }
    (folder / "header.json").write_text(json.dumps(header), encoding="utf-8")


def _write_piece(
    written: TokenFolder, piece: Piece, ids: np.ndarray | None, codec: TextCodec
) -> None:
    """Write the tokens of a piece; without them encode it here.

    Raises:
      UserError: the text is outside the vocabulary; the message names its document.
    """
    counts, text = written.counts, piece.text
    if text:
        if not counts.within:
            written.begin_document(piece.domain)
        try:
            ids = codec.encode(text) if ids is None else ids
        except Unencodable as error:
            raise error.shift(counts.within, piece.document) from None
        written.append(ids)
        if codec.unknown_token is not None:
            counts.unknown += int((ids == codec.unknown_token).sum())
        counts.within += len(text)
        counts.characters += len(text)
        counts.bytes += len(text.encode("utf-8", "surrogatepass"))
    if piece.ends:
        if counts.within and codec.end is not None:
            written.append(np.array([codec.end], np.int32))
        counts.within = 0
    counts.pieces += 1


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
