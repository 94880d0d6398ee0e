"""Opens an index by its URL, and an encoder by its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from genjax.errors import UserError
from genjax.store.index.encoders import WORDLLAMA, Encoder, WordLlama
from genjax.store.index.engine import Engine
from genjax.store.index.fusion import Fusion
from genjax.store.index.index import EngineIndex

OBJECT_STORAGE = ("s3", "gs", "az", "file")


def open_index(
    url: str,
    encoder: Encoder | None = None,
    *,
    fusion: Fusion | None = None,
    language: str = "english",
    rebuild: bool = False,
) -> EngineIndex:
    """Opens an index, or one that its first entries will make.

    Args:
      url: a folder or a URL of object storage (LanceDB), ``http://…`` or ``*.db`` (Milvus, Milvus
        Lite), ``postgresql://…`` (pgvector and full text), or ``faiss:PATH``.
      encoder: of its vectors; WordLlama by default.
      fusion: of a hybrid search; weighted z-scores by default.
      language: whose stems keywords are compared by; that which the index was made with holds.
      rebuild: take an index that another encoder built, to be rebuilt.

    Raises:
      UserError: the package of its engine is missing, it cannot be opened, or another encoder built
        it.
    """
    index = EngineIndex(open_engine(url, language), encoder or WordLlama(), fusion)
    if not rebuild:
        index.check_encoder(url)
    return index


def open_engine(url: str, language: str = "english") -> Engine:
    """Return the engine of a URL; packages of other engines are not imported."""
    if not url or "\0" in url:
        raise UserError(f"index must be a path or URL, got {url!r}", "index")
    if url.startswith("faiss:"):
        from genjax.store.index.faiss_file import Faiss

        return Faiss(url.removeprefix("faiss:"))
    if re.match(r"postgres(ql)?(\+\w+)?://", url):
        from genjax.store.index.postgres import Postgres

        return Postgres(url, language)
    if re.match(r"https?://", url) or url.endswith(".db"):
        from genjax.store.index.milvus import Milvus

        return Milvus(url, language)
    # Also "milvus:PATH" and the like, which would be the name of a folder.
    if (scheme := re.match(r"(\w[\w+.-]+):", url)) and scheme[1] not in OBJECT_STORAGE:
        known = ", ".join(f"{name}://" for name in ("http", "postgresql", *OBJECT_STORAGE))
        raise UserError(f"index must be a path, faiss:PATH or {known}, got {url!r}", "index")
    from genjax.store.index.lance import Lance

    return Lance(os.path.expanduser(url) if scheme is None else url, language)


def open_encoder(name: str = WORDLLAMA) -> Encoder:
    """Return an encoder: "wordllama", a run directory of a masked language model, or a folder of a
    BERT in Hugging Face's layout.

    Raises:
      UserError: it is none of these, or a package is missing.
    """
    if name == WORDLLAMA:
        return WordLlama()
    if not Path(name).expanduser().is_dir():
        raise UserError(
            f"encoder must be {WORDLLAMA!r}, a run directory or a folder of a BERT, got {name!r}",
            "encoder",
        )
    from genjax.store.index.neural import open_folder

    return open_folder(name)
