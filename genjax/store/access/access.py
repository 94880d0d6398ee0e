"""What a principal sees of a store, and what it may write there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.access.principal import Principal
from genjax.store.access.roles import EVERY
from genjax.store.access.views import WHOLE, compile_views, restrict
from genjax.store.filters import All, Any_, Compare, Filter, Not
from genjax.store.records import Feedback, Record, fields_of
from genjax.store.rows import load, name_kind, split

WRITING = ("judge", "tag", "add", "change", "delete", "erase", "manage")
T = TypeVar("T")
JUDGED = frozenset({"value", "label", "rationale", "valid"})  # what a person may say again
Sets = Mapping[str, frozenset[str]]  # of records, the names and ids of their data sets


@dataclass(frozen=True)
class Access:
    """The rights of a principal in a store.

    Attributes:
      principal: who works on the store; None for one who may do everything, as on the command
        line of a file of one's own.
      dialect: dialect of the database; needed only with a principal.
      purposes: actions that must all be allowed on what is read, besides "read".
      wall: role of PostgreSQL whose row security holds as well; None for none.
    """

    principal: Principal | None = None
    dialect: sa.Dialect | None = None
    purposes: tuple[str, ...] = ()
    wall: str | None = None

    @cached_property
    def views(self) -> Mapping[str, str] | None:
        """Return the expressions that begin each statement; None if everything is shown."""
        if self.principal is None:
            return None
        assert self.dialect is not None
        place = "main" if self.dialect.name == "sqlite" else self.dialect.default_schema_name
        several = tuple(self.principal.rules(action) for action in ("read", *self.purposes))
        return compile_views(several, self.dialect, place or "public")

    def read_for(self, purpose: str) -> Access:
        """Return the same rights, by which only what an action is allowed on is read.

        Raises:
          UserError: the action is not allowed at all; the field is "role".
        """
        if self.principal is None:
            return self
        self.require(purpose)
        return dataclasses.replace(self, purposes=(*self.purposes, purpose))

    @property
    def token(self) -> str | None:
        """The id of the principal's token, for the audit trail; None without one."""
        return self.principal.token or None if self.principal is not None else None

    def require(self, *actions: str) -> None:
        """Refuse a principal that may do none of the actions.

        Raises:
          UserError: the field is "role".
        """
        if self.principal is not None:
            self.principal.require(*actions)

    def require_all(self) -> None:
        """Refuse a principal that may not manage the store, or does not see all of it.

        Raises:
          UserError: the field is "role".
        """
        self.require("manage")
        self.require_whole()

    def require_whole(self) -> None:
        """Refuse a principal that does not see all of the store.

        Raises:
          UserError: the field is "role".
        """
        if self.principal is not None and self.views is not None:
            name = self.principal.role.name
            raise UserError(f"role {name} may not do this: it sees a part of the store", "role")

    def limit(
        self, opened: contextlib.AbstractContextManager[sa.Connection], writes: bool = False
    ) -> contextlib.AbstractContextManager[sa.Connection]:
        """Let a connection read only what the principal may see."""
        return opened if self.principal is None else self._limit(opened, writes)

    def limit_read(self, read: Callable[[sa.Connection], T]) -> Callable[[sa.Connection], T]:
        """Return a function that reads only what the principal may see."""

        def limited(connection: sa.Connection) -> T:
            self._restrict(connection, writes=False)
            return read(connection)

        return read if self.principal is None else limited

    @contextlib.contextmanager
    def _limit(
        self, opened: contextlib.AbstractContextManager[sa.Connection], writes: bool
    ) -> Iterator[sa.Connection]:
        with opened as connection:
            self._restrict(connection, writes)
            yield connection

    def _restrict(self, connection: sa.Connection, writes: bool) -> None:
        if self.principal is not None and writes and not self.principal.may(*WRITING):
            raise UserError(f"role {self.principal.role.name} may not write here", "role")
        if not writes:
            self.require("read")
        if self.views is None:
            return
        if not writes and connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL jit = off")  # slower for these views
            if self.wall is not None:
                connection.exec_driver_sql(f'SET LOCAL ROLE "{self.wall}"')
        restrict(connection, self.views, writes)

    def sees_blob(self, connection: sa.Connection, digest: str) -> bool:
        """Return whether the principal sees a record with some bytes."""
        if self.principal is None:
            return True
        query = sa.select(schema.records.c.id).where(schema.records.c.blob == digest).limit(1)
        return connection.execute(query).first() is not None

    def permit(self, connection: sa.Connection, action: str, ids: Sequence[str]) -> None:
        """Refuse an action on records that the principal may not see, or not act on so.

        Raises:
          UserError: one does not exist for the principal (the field is "id"), or may not be acted
            on (it is "role").
        """
        if self.principal is None:
            return
        records = load(connection, ids)
        if missing := set(ids) - {record.id for record in records}:
            raise UserError(f"id: record {min(missing)!r:.80} does not exist", "id")
        self.check(connection, action, records)

    def check(self, connection: sa.Connection, action: str, records: Sequence[Record]) -> None:
        """Refuse an action that is not allowed on one of the records.

        Raises:
          UserError: the field is "role".
        """
        if (who := self.principal) is None:
            return
        sets = _find_sets(connection, who, action, records)
        judged = []
        for record in records:
            if action == "add" and _is_own(who, record) and not _allows(who, action, record, sets):
                judged.append(record)
            else:
                _require(who, action, record, sets)
        if judged:
            self._check_targets(connection, who, judged)

    def check_table(
        self,
        connection: sa.Connection,
        kind: str,
        rows: Set[tuple[str, tuple[str, ...]]],
        blobs: Set[str],
    ) -> None:
        """Refuse to add records of a kind with these origins and tags, or bytes, see ``check``.

        Raises:
          UserError: the field is "role", or "blob".
        """
        if (who := self.principal) is None:
            return
        for origin, tags in sorted(rows):
            if not who.allows("add", kind, origin, tags, frozenset()):
                raise UserError(f"role {who.role.name} may not add this {origin} {kind}", "role")
        for blob in sorted(blobs):
            if not self.sees_blob(connection, blob):
                raise UserError(f"blob {blob:.64} is not stored", "blob")

    def check_change(self, connection: sa.Connection, before: Record, after: Record) -> None:
        """Refuse a change that is not allowed on the record as it was, or as it becomes.

        Raises:
          UserError: the field is "role".
        """
        if (who := self.principal) is None:
            return
        old, new = fields_of(before), fields_of(after)
        changed = {name for name, value in new.items() if old[name] != value}
        if _is_own(who, before) and _is_own(who, after) and changed <= JUDGED and who.may("judge"):
            self._check_targets(connection, who, [before])
            return
        for record in (before, after):
            sets = _find_sets(connection, who, "change", [record])
            if not changed <= {"tags"} or not _allows(who, "tag", record, sets):
                _require(who, "change", record, sets)

    def _check_targets(
        self, connection: sa.Connection, who: Principal, judged: Sequence[Record]
    ) -> None:
        named = {one for r in judged if isinstance(r, Feedback) for one in (r.target, r.against)}
        targets = load(connection, sorted(one for one in named if one is not None))
        sets = _find_sets(connection, who, "judge", targets)
        for target in targets:
            _require(who, "judge", target, sets)

    def make_filter(self) -> Filter:
        """Return a filter for search indexes that passes at least what the principal may see.

        It lacks what no index has, such as data sets: hits still need to be looked up.
        """
        parts: list[Filter] = []
        for action in ("read", *self.purposes):
            some: list[Filter] = []
            for rule in self.principal.rules(action) if self.principal else ():
                terms: list[Filter] = []
                for field, op, words in (
                    ("kind", "=", rule.kinds),
                    ("origin", "=", rule.origins),
                    ("tags", ":", rule.tags),
                ):
                    terms += _compare(field, op, words)
                some.append(All(tuple(terms)))
            if All(()) not in some:
                parts.append(Any_(tuple(some)))
        return All(tuple(parts))


def _compare(field: str, op: str, words: Sequence[str]) -> Iterator[Filter]:
    wanted = [word for word in words if not word.startswith("!")]
    if wanted and EVERY not in wanted:
        yield Any_(tuple(Compare(field, op, word) for word in wanted))  # type: ignore[arg-type]
    for word in words:
        if word.startswith("!"):
            yield Not(Compare(field, op, word[1:]))  # type: ignore[arg-type]


def _is_own(who: Principal, record: Record) -> bool:
    """Return whether a record is a judgement of the principal itself."""
    return (
        isinstance(record, Feedback)
        and record.source_kind == "HUMAN"
        and record.origin == "real"
        and record.user == who.name
        and record.source_id in (None, who.name)
    )


def _require(who: Principal, action: str, record: Record, sets: Sets) -> None:
    if not _allows(who, action, record, sets):
        role, kind = who.role.name, name_kind(record)
        tags = f" with tags {', '.join(record.tags)}" if record.tags else ""
        raise UserError(
            f"role {role} may not {action} this {record.origin} {kind}{tags:.100}", "role"
        )


def _allows(who: Principal, action: str, record: Record, sets: Sets) -> bool:
    mine = sets.get(record.id, frozenset())
    return who.allows(action, name_kind(record), record.origin, record.tags, mine)


def _find_sets(
    connection: sa.Connection, who: Principal, action: str, records: Sequence[Record]
) -> dict[str, frozenset[str]]:
    """Return the data sets of records, or nothing where no rule names any."""
    rules = [r for one in (action, "tag") for r in who.rules(one)]
    if all(rule.datasets == (EVERY,) for rule in rules):
        return {}
    sets, links, kept = schema.KINDS["dataset"], schema.links, schema.records
    joined = sets.join(kept, kept.c.id == sets.c.id).join(links, links.c.child == sets.c.id)
    member: dict[str, set[str]] = {}
    for part in split([record.id for record in records]):
        query = sa.select(links.c.parent, sets.c.id, sets.c.name).select_from(joined)
        query = query.where(links.c.parent.in_(part), kept.c.deleted.is_(None))
        itself = sa.select(sets.c.id, sets.c.id.label("own"), sets.c.name)
        for found in (query, itself.where(sets.c.id.in_(part))):
            for one, *names in connection.execute(found.execution_options(**{WHOLE: True})):
                member.setdefault(one, set()).update(name for name in names if name)
    return {one: frozenset(names) for one, names in member.items()}


FULL = Access()
