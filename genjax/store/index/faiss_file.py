"""FAISS in memory, saved to one file: the fastest vector search, without filters or keywords.

Rows are compared one by one; from ``EXACT`` rows on ``maintain`` builds HNSW, which is valid until
the next change. One process writes at a time.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.machine import disk
from genjax.store.index.engine import EXACT, Ability, Ranked, Row, State, missing_package
from genjax.store.index.facts import Where

LINKS, WIDTH = 32, 128  # of HNSW: links of a row, rows that are looked at


class Faiss:
    """An engine over the arrays of one file, which is written whenever its state changes."""

    name = "FAISS"
    abilities: frozenset[Ability] = frozenset()
    deepest = 2**31 - 1
    parallel = False

    def __init__(self, path: str) -> None:
        try:
            import faiss
        except ModuleNotFoundError:
            raise missing_package("faiss-cpu", f"faiss:{path}") from None
        self._faiss: Any = faiss
        self._path = Path(path).expanduser()
        self._state: State | None = None
        self._rows: dict[str, np.ndarray] = {}
        self._built: tuple[list[str], Any] | None = None  # ids and an index of their rows
        if self._path.exists():
            self._read()

    def read_state(self) -> State | None:
        """See ``Engine``."""
        return self._state

    def write_state(self, state: State) -> None:
        """See ``Engine``; the rows are saved with it."""
        self._state = state
        self._save()

    def create(self, dimension: int) -> None:
        """See ``Engine``."""
        self._rows, self._built = {}, None

    def write(self, rows: Sequence[Row]) -> None:
        """See ``Engine``."""
        self._rows |= {row.id: row.vector for row in rows}
        self._built = None

    def remove(self, ids: Sequence[str]) -> None:
        """See ``Engine``."""
        for name in ids:
            self._rows.pop(name, None)
        self._built = None

    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        if self._built is None:
            self._built = self._build(links=0)
        names, index = self._built
        if not names:
            return []
        wide = self._faiss.SearchParametersHNSW(efSearch=max(WIDTH, 2 * k))
        params = wide if isinstance(index, self._faiss.IndexHNSWFlat) else None
        scores, places = index.search(vector[None], min(k, len(names)), params=params)
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return [(names[i], score) for i, score in found if i >= 0]

    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """See ``Engine``; it is not called, as there is no keyword search."""
        raise UserError(f"mode must be 'vector': {self.name} has no keyword search", "mode")

    def count(self) -> int:
        """See ``Engine``."""
        return len(self._rows)

    def size(self) -> int:
        """See ``Engine``; the size of the file."""
        return self._path.stat().st_size if self._path.exists() else 0

    def tidy(self, keep: timedelta) -> None:
        """See ``Engine``; replaced data are not kept."""
        if len(self._rows) >= EXACT:
            self._built = self._build(LINKS)
        self._save()

    def purge(self) -> None:
        """See ``Engine``; an index of removed rows is built again when it is needed."""
        self._built = None
        self._save()

    def close(self) -> None:
        """See ``Engine``; this saves unsaved rows."""
        if self._state is not None:
            self._save()

    def _build(self, links: int) -> tuple[list[str], Any]:
        """Return an index of all rows: HNSW with so many links, or with 0 one that compares all."""
        dimension = self._state.dimension if self._state else 1
        if links:
            index = self._faiss.IndexHNSWFlat(dimension, links, self._faiss.METRIC_INNER_PRODUCT)
        else:
            index = self._faiss.IndexFlatIP(dimension)
        names = sorted(self._rows)
        if names:
            index.add(np.stack([self._rows[name] for name in names]))
        return names, index

    def _save(self) -> None:
        assert self._state is not None
        names = sorted(self._rows)
        content = io.BytesIO()
        np.savez(
            content,
            state=np.array(self._state.to_json()),
            ids=np.array([name.encode().hex() for name in names], str),
            vectors=np.array([self._rows[name] for name in names], np.float32),
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        disk.write(self._path, content.getvalue())

    def _read(self) -> None:
        try:
            with np.load(self._path, allow_pickle=False) as kept:
                names = [bytes.fromhex(str(name)).decode() for name in kept["ids"]]
                self._rows = dict(zip(names, kept["vectors"], strict=True))
                self._state = State.from_json(str(kept["state"]), str(self._path))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"index: {self._path} is damaged: {error}: genjax store rebuild", "index"
            ) from None
