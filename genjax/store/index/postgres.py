"""PostgreSQL with pgvector, in the database of the records or another.

Vectors are compared one by one below ``EXACT`` rows and wherever a filter is given, else found by
HNSW once ``maintain`` has built it. Keywords are PostgreSQL's full text, ranked by ``ts_rank_cd``
over its length + 1: that is not BM25 and has no k1 or b.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.store.index.engine import EXACT, Ability, Ranked, Row, State, missing_package
from genjax.store.index.facts import TEXT, Every, Except, Some, Test, Where, as_member

ENTRIES, STATE = "genjax_entries", "genjax_index_state"
HNSW = "genjax_entries_vector"
WORDS = 200_000  # characters of a text that are searched for words: a tsvector is at most 1 MB


class Postgres:
    """An engine over two tables of a database; processes may write and read at once."""

    name = "PostgreSQL"
    abilities: frozenset[Ability] = frozenset({"filter", "keyword"})
    deepest = 2**31 - 1
    parallel = False

    def __init__(self, url: str, language: str = "english") -> None:
        try:
            import psycopg
            from pgvector.psycopg import register_vector
        except ModuleNotFoundError as error:
            raise missing_package(str(error.name), "postgresql://") from None
        plain = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
        self._driver, self._language = psycopg, language
        try:
            self._connection = psycopg.connect(plain, autocommit=True)
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(self._connection)
        except psycopg.Error as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"index: PostgreSQL cannot be opened: {reason}", "index") from None

    def read_state(self) -> State | None:
        """See ``Engine``."""
        if self._fetch("SELECT to_regclass(%s)", [STATE])[0][0] is None:
            return None
        if self._fetch("SELECT to_regclass(%s)", [ENTRIES])[0][0] is None:
            return None
        rows = self._fetch(f"SELECT state FROM {STATE}")
        return State.from_json(rows[0][0] if rows else "", STATE)

    def write_state(self, state: State) -> None:
        """See ``Engine``."""
        with self._connection.transaction():
            self._run(
                f"CREATE TABLE IF NOT EXISTS {STATE} (one int PRIMARY KEY, state text NOT NULL)"
            )
            self._run(
                f"INSERT INTO {STATE} VALUES (1, %s) "
                "ON CONFLICT (one) DO UPDATE SET state = excluded.state",
                [state.to_json()],
            )

    def create(self, dimension: int) -> None:
        """See ``Engine``."""
        with self._connection.transaction():
            self._run(f"DROP TABLE IF EXISTS {ENTRIES}")
            self._run(
                f'CREATE TABLE {ENTRIES} (id text COLLATE "C" PRIMARY KEY, text text NOT NULL, '
                f"facts jsonb NOT NULL, vector vector({int(dimension)}) NOT NULL, "
                "words tsvector NOT NULL)"
            )
            self._run(f"CREATE INDEX ON {ENTRIES} USING gin (words)")

    def write(self, rows: Sequence[Row]) -> None:
        """See ``Engine``."""
        from psycopg.types.json import Jsonb

        values = [
            (r.id, r.text, Jsonb(dict(r.facts)), r.vector, self._language, r.text[:WORDS])
            for r in rows
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {ENTRIES} VALUES "
                "(%s, %s, %s, %s, to_tsvector(%s::regconfig, %s)) "
                "ON CONFLICT (id) DO UPDATE SET text = excluded.text, facts = excluded.facts, "
                "vector = excluded.vector, words = excluded.words",
                values,
            )

    def remove(self, ids: Sequence[str]) -> None:
        """See ``Engine``."""
        self._run(f"DELETE FROM {ENTRIES} WHERE id = ANY(%s)", [list(ids)])

    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        passing, values = _write_where(where)
        with self._connection.transaction():
            # Behind a filter HNSW would look through its nearest rows alone, and find too few.
            if where is not None or k > 500 or self.count() < EXACT:
                self._run("SET LOCAL enable_indexscan = off")
            else:
                self._run(f"SET LOCAL hnsw.ef_search = {min(max(2 * k, 100), 1000)}")
            return self._fetch(
                f"SELECT id, -(vector <#> %s) FROM {ENTRIES} WHERE {passing} "
                "ORDER BY vector <#> %s LIMIT %s",
                [vector, *values, vector, k],
            )

    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        passing, values = _write_where(where)
        lexemes = "unnest(tsvector_to_array(to_tsvector(%s::regconfig, %s)))"
        return self._fetch(
            # Any of the words, not all; each is quoted by the server.
            f"WITH query AS (SELECT string_agg(quote_literal(word), ' | ')::tsquery AS words "
            f"FROM {lexemes} AS word) "
            f"SELECT id, ts_rank_cd({ENTRIES}.words, query.words, 2) AS score "
            f"FROM {ENTRIES}, query WHERE {ENTRIES}.words @@ query.words AND {passing} "
            "ORDER BY score DESC, id LIMIT %s",
            [self._language, text[:WORDS], *values, k],
        )

    def count(self) -> int:
        """See ``Engine``."""
        return int(self._fetch(f"SELECT count(*) FROM {ENTRIES}")[0][0])

    def size(self) -> int:
        """See ``Engine``: of the table and its indexes."""
        return int(self._fetch("SELECT pg_total_relation_size(%s)", [ENTRIES])[0][0])

    def tidy(self, keep: timedelta) -> None:
        """See ``Engine``; the server forgets what was replaced whatever ``keep`` is."""
        self._run(f"VACUUM ANALYZE {ENTRIES}")
        if self.count() >= EXACT:
            self._run(
                f"CREATE INDEX IF NOT EXISTS {HNSW} ON {ENTRIES} "
                "USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 128)"
            )

    def purge(self) -> None:
        """See ``Engine``; the statistics of the planner hold words, too."""
        self._run(f"VACUUM (FULL, ANALYZE) {ENTRIES}")
        for statement in ("VACUUM FULL pg_catalog.pg_statistic", "CHECKPOINT"):
            with contextlib.suppress(self._driver.errors.InsufficientPrivilege):
                self._connection.execute(statement)

    def close(self) -> None:
        """See ``Engine``."""
        self._connection.close()

    def _run(self, sql: str, values: Sequence[Any] = ()) -> Any:
        try:
            return self._connection.execute(sql, values or None)
        except self._driver.Error as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"index: PostgreSQL refuses: {reason}", "index") from None

    def _fetch(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        found: list[Any] = self._run(sql, values).fetchall()
        return found


def _write_where(where: Where | None) -> tuple[str, list[str]]:
    """Return the tests as SQL with places for values, and the values."""
    values: list[str] = []
    return ("true" if where is None else _write(where, values)), values


def _write(where: Where, values: list[str]) -> str:
    if isinstance(where, Every):
        return " AND ".join(f"({_write(part, values)})" for part in where.parts) or "true"
    if isinstance(where, Some):
        return " OR ".join(f"({_write(part, values)})" for part in where.parts) or "false"
    if isinstance(where, Except):
        return f"NOT ({_write(where.part, values)})"
    return _write_test(where, values)


def _write_test(test: Test, values: list[str]) -> str:
    def fact() -> str:
        if test.field == TEXT:
            return f"{ENTRIES}.text"
        values.append(test.field)
        return "(facts ->> %s::text)"

    def bind(value: str) -> str:
        values.append(value)
        return "%s"

    if test.op == "present":
        return f"{fact()} IS NOT NULL"
    if test.op == "contains" and test.field == TEXT:
        found = f"strpos({fact()}, {bind(test.value)}) > 0"
    elif test.op == "contains":
        first = f"starts_with({fact()}, 's')"
        found = f"{first} AND strpos(substr({fact()}, 2), {bind(test.value)}) > 0"
    elif test.op == "has":
        first = f"starts_with({fact()}, 'l')"
        found = f"{first} AND strpos({fact()}, {bind(as_member(test.value))}) > 0"
    else:
        found = f'{fact()} COLLATE "C" {test.op} {bind(test.value)}'
    return f"coalesce({found}, false)"
