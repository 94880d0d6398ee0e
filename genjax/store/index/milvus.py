"""Milvus by URL, and Milvus Lite in a file ``*.db``, which one process opens at a time.

Keywords are ranked by Milvus's BM25 with k1 1.5 and b 0.75, over words that are stemmed here
(Snowball), as Milvus Lite does not stem. Vectors are found by a FLAT index below ``EXACT`` rows,
which is exact, and by HNSW above, once ``maintain`` has built it.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.store.index.engine import EXACT, Ability, Ranked, Row, State, missing_package
from genjax.store.index.facts import TEXT, Every, Except, Some, Test, Where, as_member

ENTRIES, STATE = "genjax_entries", "genjax_index_state"
K1, B = 1.5, 0.75
LONGEST = 65_000  # bytes of a text that Milvus keeps; words beyond are not found
LITE = ".db"
# What LIKE takes for signs of its own, and what stands for it where "contains" looks.
SIGNS = str.maketrans({"%": "\ue001", "_": "\ue002", "\\": "\ue003"})
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_WORD = re.compile(r"\w+")


class Milvus:
    """An engine over two collections."""

    name = "Milvus"
    abilities: frozenset[Ability] = frozenset({"filter", "keyword"})
    deepest = 16_384  # the server's own limit
    parallel = False

    def __init__(self, url: str, language: str = "english") -> None:
        try:
            import pymilvus
            import snowballstemmer
        except ModuleNotFoundError as error:
            raise missing_package(str(error.name), url) from None
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # errors are raised, too
        self._milvus: Any = pymilvus
        self._lite = url.endswith(LITE)
        self._stem = functools.cache(snowballstemmer.stemmer(language).stemWord)
        if self._lite:
            Path(url).expanduser().parent.mkdir(parents=True, exist_ok=True)
            url = str(Path(url).expanduser())
        with self._explain():
            self._client = pymilvus.MilvusClient(url)
            for name in (ENTRIES, STATE):
                if self._client.has_collection(name):
                    self._client.load_collection(name)

    def read_state(self) -> State | None:
        """See ``Engine``."""
        with self._explain():
            if not all(map(self._client.has_collection, (STATE, ENTRIES))):
                return None
            rows = self._client.query(STATE, filter='id == "one"', output_fields=["state"])
        return State.from_json(rows[0]["state"] if rows else "", STATE)

    def write_state(self, state: State) -> None:
        """See ``Engine``."""
        kinds = self._milvus.DataType
        with self._explain():
            if not self._client.has_collection(STATE):
                schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=10)
                schema.add_field("state", kinds.VARCHAR, max_length=10_000)
                schema.add_field("vector", kinds.FLOAT_VECTOR, dim=2)  # Milvus wants one
                self._make_collection(STATE, schema, {"vector": ("FLAT", "IP", {})})
            row = {"id": "one", "state": state.to_json(), "vector": [0.0, 0.0]}
            self._client.upsert(STATE, [row])

    def create(self, dimension: int) -> None:
        """See ``Engine``."""
        kinds = self._milvus.DataType
        with self._explain():
            if self._client.has_collection(ENTRIES):
                self._client.drop_collection(ENTRIES)
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=512)
            schema.add_field("text", kinds.VARCHAR, max_length=65_535)
            schema.add_field(
                "stems",
                kinds.VARCHAR,
                max_length=65_535,
                enable_analyzer=True,
                analyzer_params={"tokenizer": "standard"},
            )
            schema.add_field("words", kinds.SPARSE_FLOAT_VECTOR)
            schema.add_field("facts", kinds.JSON)
            schema.add_field("plain", kinds.JSON)  # where "contains" looks
            schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dimension)
            bm25 = self._milvus.Function(
                name="bm25",
                function_type=self._milvus.FunctionType.BM25,
                input_field_names=["stems"],
                output_field_names=["words"],
            )
            schema.add_function(bm25)
            indexes: dict[str, tuple[str, str, dict[str, float]]] = {
                "vector": ("FLAT", "IP", {}),
                "words": ("SPARSE_INVERTED_INDEX", "BM25", {"bm25_k1": K1, "bm25_b": B}),
            }
            self._make_collection(ENTRIES, schema, indexes)

    def write(self, rows: Sequence[Row]) -> None:
        """See ``Engine``."""
        made = [
            {
                "id": row.id,
                "text": _cut(row.text),
                "stems": _cut(self._stem_words(row.text)),
                "facts": dict(row.facts),
                "plain": {
                    name: fact.translate(SIGNS)
                    for name, fact in row.facts.items()
                    if fact[0] in "sl"
                },
                "vector": row.vector.tolist(),
            }
            for row in rows
        ]
        with self._explain():
            self._client.upsert(ENTRIES, made)

    def remove(self, ids: Sequence[str]) -> None:
        """See ``Engine``."""
        with self._explain():
            for start in range(0, len(ids), 1000):
                # The client's own list of ids is spliced without quoting.
                names = ", ".join(map(_quote, ids[start : start + 1000]))
                self._client.delete(ENTRIES, filter=f"id in [{names}]")

    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        params = {"metric_type": "IP", "params": {"ef": max(128, 2 * k)}}
        return self._search("vector", vector.tolist(), params, where, k)

    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        stems = self._stem_words(text)
        if not stems:
            return []
        found = self._search("words", _cut(stems), {"metric_type": "BM25"}, where, k)
        return [(name, abs(score)) for name, score in found]  # Milvus Lite gives its negative

    def count(self) -> int:
        """See ``Engine``."""
        with self._explain():
            found = self._client.query(ENTRIES, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    def size(self) -> int:
        """See ``Engine``: Milvus does not say."""
        return 0

    def tidy(self, keep: timedelta) -> None:
        """See ``Engine``; what was replaced is cleaned by the server's own rules."""
        with self._explain():
            self._client.flush(ENTRIES)
            named = self._client.describe_index(ENTRIES, index_name="vector") or {}
            if self.count() >= EXACT and named.get("index_type") == "FLAT":
                self._client.release_collection(ENTRIES)
                self._client.drop_index(ENTRIES, "vector")
                params = self._client.prepare_index_params()
                params.add_index(
                    "vector",
                    index_name="vector",
                    index_type="HNSW",
                    metric_type="IP",
                    params={"M": 20, "efConstruction": 300},
                )
                self._client.create_index(ENTRIES, params)
                self._client.load_collection(ENTRIES)

    def purge(self) -> None:
        """See ``Engine``; a server cleans its disk by its own rules, after some hours."""
        with self._explain():
            if not self._lite:
                self._client.flush(ENTRIES)
                self._client.compact(ENTRIES)
                return
            state = self.read_state()
            assert state is not None
            fields = ["id", "text", "stems", "facts", "plain", "vector"]
            pages = self._client.query_iterator(ENTRIES, output_fields=fields, batch_size=1000)
            rows: list[dict[str, Any]] = []
            while page := pages.next():
                rows += ({name: row[name] for name in fields} for row in page)
            pages.close()
            self.write_state(replace(state, complete=False))  # a killed one is built again
            self.create(state.dimension)
            for first in range(0, len(rows), 1000):
                self._client.upsert(ENTRIES, rows[first : first + 1000])
            self._client.drop_collection(STATE)
            self.write_state(state)
            self.tidy(timedelta(0))

    def close(self) -> None:
        """See ``Engine``."""
        self._client.close()

    def _make_collection(
        self, name: str, schema: Any, indexes: dict[str, tuple[str, str, dict[str, float]]]
    ) -> None:
        params = self._client.prepare_index_params()
        for field, (kind, metric, numbers) in indexes.items():
            params.add_index(
                field, index_name=field, index_type=kind, metric_type=metric, params=numbers
            )
        self._client.create_collection(
            name, schema=schema, index_params=params, consistency_level="Strong"
        )

    def _search(
        self, field: str, wanted: Any, params: dict[str, Any], where: Where | None, k: int
    ) -> Ranked:
        with self._explain():
            found = self._client.search(
                ENTRIES,
                data=[wanted],
                anns_field=field,
                filter="" if where is None else write_expression(where),
                limit=k,
                search_params=params,
                output_fields=["id"],
            )
        return [(hit["id"], float(hit["distance"])) for hit in found[0]]

    def _stem_words(self, text: str) -> str:
        return " ".join(self._stem(word) for word in _WORD.findall(text.lower()))

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except (self._milvus.MilvusException, OSError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            hint = " (one process at a time opens a file of Milvus Lite)" if self._lite else ""
            raise UserError(f"index: Milvus refuses: {reason}{hint}", "index") from None


def write_expression(where: Where) -> str:
    """Return the tests in Milvus's language, values as quoted literals.

    Raises:
      UserError: a text is to contain a sign that LIKE takes for its own.
    """
    if isinstance(where, Every):
        return " and ".join(f"({write_expression(part)})" for part in where.parts) or "id != ''"
    if isinstance(where, Some):
        return " or ".join(f"({write_expression(part)})" for part in where.parts) or "id == ''"
    if isinstance(where, Except):
        return f"not ({write_expression(where.part)})"
    return _write_test(where)


def _write_test(test: Test) -> str:
    if test.field == TEXT:
        if test.op == "present":
            return "id != ''"
        if test.op == "contains":
            if test.value != test.value.translate(SIGNS):
                raise UserError(
                    "filter: Milvus cannot look for %, _ or \\ within text, got "
                    f"{test.value[:40]!r}",
                    "filter",
                )
            return f"text like {_quote(f'%{test.value}%')}"
        return f"text {_spell(test.op)} {_quote(test.value)}"
    name = _quote(test.field)
    there = f"exists facts[{name}]"
    if test.op == "present":
        return there
    if test.op == "contains":
        like = _quote(f"s%{test.value.translate(SIGNS)}%")
        return f"({there}) and plain[{name}] like {like}"
    if test.op == "has":
        like = _quote(f"l%{as_member(test.value).translate(SIGNS)}%")
        return f"({there}) and plain[{name}] like {like}"
    return f"({there}) and facts[{name}] {_spell(test.op)} {_quote(test.value)}"


def _spell(op: str) -> str:
    return "==" if op == "=" else op


def _quote(text: str) -> str:
    return f'"{text.translate(ESCAPES)}"'


def _cut(text: str) -> str:
    """Return the text as far as Milvus keeps it."""
    coded = text.encode()
    return text if len(coded) <= LONGEST else coded[:LONGEST].decode(errors="ignore")
