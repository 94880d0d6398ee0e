"""A principal sees and changes what the rules of its role allow, whatever way it takes."""

import pytest
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.lineage import read_lineage
from genjax.store.opening import open_store
from genjax.store.records import UNKNOWN, references
from genjax.store.references import find_edges
from genjax.store.rows import load
from tests.store.access_cases import RULES, fill, find_shown, make_role, see
from tests.store.test_records_contract import make_place, server  # noqa: F401


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def drawn(request, tmp_path_factory):
    """A store of records drawn at random, and the records."""
    place = make_place(request.param, request, tmp_path_factory.mktemp("drawn"))
    with open_store(place, create=True, user="ann") as store:
        yield store, fill(store, count=300)


@pytest.mark.parametrize("rules", RULES, ids=" / ".join)
def test_a_role_sees_what_its_rules_say_and_nothing_refers_beyond(drawn, rules):
    store, made = drawn
    seen, expected = see(store, rules), find_shown(made, make_role(rules))
    assert 0 < len(expected) < len(made)
    assert {record.id for record in seen.select(origin="any")} == expected
    assert seen.count(origin="any") == len(expected)
    with seen.reading() as connection:
        for name, table in schema.metadata.tables.items():
            rows = connection.execute(sa.select(table)).mappings().all()
            if name in ("roles", "tokens", "settings"):
                assert not rows
            for row in rows:
                for column, value in row.items():
                    known = isinstance(value, str) and value in made
                    assert not known or value in expected, (name, column)
        for record in load(connection, list(made)):
            assert {one for _, one, _ in references(record)} <= expected
            assert record.generator == made[record.id].generator or record.generator == UNKNOWN
        for up in (True, False):
            assert all({e.child, e.parent} <= expected for e in find_edges(connection, made, up))
    for one in sorted(expected)[:20]:
        for down in (True, False):
            node = read_lineage(seen, one, down)
            left = [node]
            while left:
                at = left.pop()
                assert at.kind == "raw" or at.id in expected
                left += at.next
    hidden = sorted(set(made) - expected)
    for one in hidden[:20]:
        for read in (seen.get, lambda i, o: read_lineage(seen, i)):
            said = []
            for name in (one, "nobody"):
                with pytest.raises(UserError) as error:
                    read(name, "any")
                said.append(str(error.value).replace(name, ""))
            assert said[0] == said[1]
        assert seen.history(one) == []
