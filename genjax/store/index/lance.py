"""LanceDB: a folder or a URL of object storage.

Vectors are compared one by one below ``EXACT`` rows, and found by IVF_HNSW_SQ with refinement
above, once ``maintain`` has built it. Keywords are ranked by LanceDB's own BM25, whose constants
cannot be set: k1 1.2, b 0.75, over stemmed words without stop words. LanceDB never compacts by
itself: ``maintain`` does.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from genjax.errors import UserError
from genjax.store.index.engine import (
    EXACT,
    Ability,
    Ranked,
    Row,
    State,
    missing_package,
)
from genjax.store.index.facts import TEXT, Every, Except, Some, Test, Where, as_member

ENTRIES, STATE = "entries", "state"
OWN = ("kind", "origin", "time")  # facts with a column of their own, as they are filtered by most
# The distances of all hits, 128 at least, are computed again from the vectors themselves: more
# candidates do not raise recall@10 at 100,000 rows.
PROBES, REFINE, EF = 20, 1, 300


P = ParamSpec("P")
R = TypeVar("R")


def _explain(method: Callable[P, R]) -> Callable[P, R]:
    """Turn the library's errors into ``UserError``: a missing folder, a full disk."""

    @functools.wraps(method)
    def explained(*values: P.args, **options: P.kwargs) -> R:
        try:
            return method(*values, **options)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            raise UserError(
                f"index: LanceDB refuses: {reason}: genjax store rebuild makes it again", "index"
            ) from None

    return explained


class Lance:
    """An engine over a LanceDB folder; processes may write and read at once."""

    name = "LanceDB"
    abilities: frozenset[Ability] = frozenset({"filter", "keyword"})
    deepest = 2**17
    parallel = True

    def __init__(self, url: str, language: str = "english") -> None:
        try:
            import lancedb
        except ModuleNotFoundError:
            raise missing_package("lancedb", url) from None
        self._url, self._language = url, language.capitalize()
        self._tables: dict[str, Any] = {}
        self._connect(lancedb)

    @_explain
    def _connect(self, lancedb: Any) -> None:
        # A reader sees what another process wrote with its next search.
        self._db = lancedb.connect(self._url, read_consistency_interval=timedelta(0))
        self._open_tables()

    @_explain
    def read_state(self) -> State | None:
        """See ``Engine``."""
        if len(self._tables) < 2:
            self._open_tables()
        if len(self._tables) < 2:
            return None
        rows = self._tables[STATE].to_arrow().to_pylist()
        return State.from_json(rows[0]["state"] if rows else "", self._url)

    @_explain
    def write_state(self, state: State) -> None:
        """See ``Engine``."""
        self._make_table(STATE, pa.table({"state": [state.to_json()]}))

    @_explain
    def create(self, dimension: int) -> None:
        """See ``Engine``."""
        table = self._make_table(ENTRIES, _make_schema(dimension).empty_table())
        table.create_index("text", config=self._words())

    @_explain
    def write(self, rows: Sequence[Row]) -> None:
        """See ``Engine``."""
        table = self._tables[ENTRIES]
        new = _make_table(rows, table.schema)
        if table.count_rows() == 0:
            table.add(new)
        else:
            merge = table.merge_insert("id").when_matched_update_all()
            merge.when_not_matched_insert_all().execute(new)

    @_explain
    def remove(self, ids: Sequence[str]) -> None:
        """See ``Engine``."""
        for start in range(0, len(ids), 1000):
            names = ", ".join(map(_quote, ids[start : start + 1000]))
            self._tables[ENTRIES].delete(f"id IN ({names})")

    @_explain
    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        table = self._tables[ENTRIES]
        query = table.search(vector, vector_column_name="vector").distance_type("dot")
        # Without an index these change nothing.
        query = query.nprobes(PROBES).refine_factor(REFINE).ef(max(EF, REFINE * k))
        found = self._run(query, where, k, "_distance")
        return [(name, 1.0 - distance) for name, distance in found]

    @_explain
    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        from lancedb.query import MatchQuery

        words: Any = MatchQuery  # its defaults are unknown to type checkers
        query = self._tables[ENTRIES].search(words(text, "text"), query_type="fts")
        return self._run(query, where, k, "_score")

    @_explain
    def count(self) -> int:
        """See ``Engine``."""
        return int(self._tables[ENTRIES].count_rows())

    @_explain
    def size(self) -> int:
        """See ``Engine``: of data and indexes."""
        table = self._tables[ENTRIES]
        indexes = sum(index.size_bytes or 0 for index in table.list_indices())
        return int(table.stats()["total_bytes"]) + int(indexes)

    @_explain
    def tidy(self, keep: timedelta) -> None:
        """See ``Engine``; with ``keep`` 0 the words are indexed from nothing, so that those of
        erased texts are gone.
        """
        from lancedb.index import HnswSq

        table = self._tables[ENTRIES]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it warns of what keep = 0 intends
            table.optimize(cleanup_older_than=keep)
            if not keep:
                table.create_index("text", config=self._words(), replace=True)
            built = [index.name for index in table.list_indices() if "vector" in index.columns]
            if not built and table.count_rows() >= EXACT:
                table.create_index("vector", config=HnswSq(distance_type="dot"))
            if built and table.count_rows() < EXACT:
                table.drop_index(built[0])
            table.optimize(cleanup_older_than=keep)
            self._tables[STATE].optimize(cleanup_older_than=keep)

    @_explain
    def purge(self) -> None:
        """See ``Engine``; compaction alone would keep files with few removed rows."""
        for one in self._tables[ENTRIES].list_indices():
            self._language = (one.index_details or {}).get("language", self._language)
        table = self._make_table(ENTRIES, self._tables[ENTRIES].to_arrow())
        table.create_index("text", config=self._words(), replace=True)
        self.tidy(timedelta(0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for one in self._tables.values():  # what killed writers have left, too
                one.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def close(self) -> None:
        """See ``Engine``."""
        self._tables.clear()

    def _words(self) -> Any:
        from lancedb.index import FTS

        return FTS(language=self._language, stem=True, remove_stop_words=True)

    def _open_tables(self) -> None:
        there = self._db.list_tables().tables
        opened = {name: self._open_table(name) for name in (ENTRIES, STATE) if name in there}
        self._tables = {name: table for name, table in opened.items() if table is not None}

    def _open_table(self, name: str) -> Any:
        """Open a table; None while its writer has made its folder but no version of it."""
        try:
            return self._db.open_table(name)
        except ValueError as error:
            if "not found" not in str(error):
                raise
            return None

    def _make_table(self, name: str, table: pa.Table) -> Any:
        there = name in self._db.list_tables().tables
        mode = "overwrite" if there else "create"  # overwriting nothing warns
        self._tables[name] = self._db.create_table(name, table, mode=mode)
        return self._tables[name]

    def _run(self, query: Any, where: Where | None, k: int, score: str) -> Ranked:
        if where is not None:
            query = query.where(write_sql(where), prefilter=True)
        found = query.limit(k).select(["id", score]).to_arrow()
        names, scores = found["id"].to_pylist(), found[score].to_pylist()
        return list(zip(names, scores, strict=True))


def write_sql(where: Where) -> str:
    """Return the tests in DataFusion's SQL, values as quoted literals."""
    if isinstance(where, Every):
        return " AND ".join(f"({write_sql(part)})" for part in where.parts) or "true"
    if isinstance(where, Some):
        return " OR ".join(f"({write_sql(part)})" for part in where.parts) or "false"
    if isinstance(where, Except):
        return f"NOT ({write_sql(where.part)})"
    if where.field in (TEXT, *OWN):
        fact = where.field
    else:
        fact = f"json_get_string(facts, {_quote(where.field)})"
    if where.op == "present":
        return f"{fact} IS NOT NULL"
    return f"coalesce({_write_test(where, fact)}, false)"


def _write_test(test: Test, fact: str) -> str:
    value = _quote(test.value)
    if test.op == "contains" and test.field == TEXT:
        return f"strpos({fact}, {value}) > 0"
    if test.op == "contains":
        return f"starts_with({fact}, 's') AND strpos(substr({fact}, 2), {value}) > 0"
    if test.op == "has":
        return f"starts_with({fact}, 'l') AND strpos({fact}, {_quote(as_member(test.value))}) > 0"
    return f"{fact} {test.op} {value}"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _make_schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("text", pa.string()),
            *(pa.field(name, pa.string()) for name in OWN),
            pa.field("facts", pa.json_()),
            pa.field("vector", pa.list_(pa.float32(), dimension)),
        ]
    )


def _make_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    vectors = np.stack([row.vector for row in rows]).astype(np.float32)
    columns = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([row.text for row in rows], pa.string()),
        *(pa.array([row.facts.get(name) for row in rows], pa.string()) for name in OWN),
        pa.array([json.dumps(dict(row.facts), ensure_ascii=False) for row in rows], pa.json_()),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    ]
    return pa.Table.from_arrays(columns, schema=_make_schema(vectors.shape[1]))
