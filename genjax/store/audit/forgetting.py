"""Forget people and records: in the rows, the history, blobs, indexes, exports and files.

The rows go in one transaction, which leaves a list of what remains to be done in files. If the
process is killed then, the next ``forget`` does the rest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.audit import chain
from genjax.store.audit.closure import Closure, find_closure, find_learned, find_owned
from genjax.store.audit.copies import (
    Copy,
    clean_copy,
    clean_snapshot,
    find_copies,
    find_snapshots,
)
from genjax.store.audit.erasing import erase_rows, mend, scrub_raters
from genjax.store.audit.purging import list_indexes, purge_database, purge_index
from genjax.store.followers import name_index
from genjax.store.lookups import find_known
from genjax.store.records import UNKNOWN, Checkpoint, DataSet, Record, Run
from genjax.store.rows import insert, load
from genjax.store.store import Store

Say = Callable[[str], None]
MOST = 50  # lines of one sort


@dataclass(frozen=True)
class Plan:
    """What an erasure reaches.

    Attributes:
      closure: the records.
      names: names of people whose deeds are forgotten.
      learned: data sets, runs and checkpoints that come from the records.
      copies: files that were written from them, or may have been.
      snapshots: files of rows in run directories, with the id of their run.
      indexes: URLs of indexes.
    """

    closure: Closure
    names: tuple[str, ...]
    learned: tuple[Record, ...]
    copies: tuple[Copy, ...]
    snapshots: dict[str, str]
    indexes: tuple[str, ...]

    def describe(self) -> list[str]:
        """Return lines on what goes, what stays, and what has learned from it."""
        closure = self.closure
        lines = [f"erase     {count:,} {kind}" for kind, count in sorted(closure.kinds.items())]
        if closure.dependants:
            lines.append(f"of these  {len(closure.dependants):,} go along with those named")
        mended = (
            f"mend      {edge.child}: {edge.role} becomes "
            + (UNKNOWN if edge.role == "generator" else "nothing")
            for edge in closure.dangling
        )
        lines += shorten(mended)
        lines += [f"index     {url}" for url in map(name_index, self.indexes)]
        lines += [f"rows of   {path}" for path in self.snapshots]
        for copy in self.copies:
            lines.append(f"export    {copy.path}{'' if copy.sure else ' (it may hold them)'}")
        return lines + [f"learned   {one}" for one in map(_describe, self.learned)]


def shorten(lines: Iterable[str], most: int = MOST) -> list[str]:
    """Return the first lines, and how many more there are."""
    found = list(lines)
    more = len(found) - most
    return [*found[:most], f"  and {more:,} more"] if more > 0 else found


@dataclass
class Left:
    """What remains to be done of an erasure; kept in the store until all is done."""

    ids: list[str]
    names: list[str]
    blobs: list[str]
    indexes: list[str]
    snapshots: list[str]
    copies: list[dict[str, Any]]
    details: dict[str, Json]
    done: list[str] = field(default_factory=list)


def make_plan(
    connection: sa.Connection,
    ids: Iterable[str],
    names: Sequence[str] = (),
    indexes: Sequence[str] = (),
) -> Plan:
    """Return what an erasure of records, which exist, reaches; see ``forget``."""
    closure = find_closure(connection, ids)
    snapshots = find_snapshots(connection, closure.ids)
    learned = find_learned(connection, closure.ids)
    runs = [run for run in dict.fromkeys(snapshots.values()) if run not in learned]
    learned |= dict.fromkeys(runs, "run") | find_learned(connection, runs)
    known = load(connection, [one for one in learned if one not in closure.ids])
    copies = find_copies(connection, closure.ids, list(learned))
    return Plan(closure, tuple(names), tuple(known), tuple(copies), snapshots, tuple(indexes))


def forget(
    store: Store,
    *,
    user: str | None = None,
    ids: Sequence[str] = (),
    exports: bool = False,
    dry_run: bool = False,
    indexes: Sequence[str] = (),
    say: Say = print,
) -> Plan | None:
    """Erase records for good, and all that goes with them; return what was reached.

    An erasure that was stopped is finished first. Without a user and ids that is all.

    Args:
      store: the store.
      user: name of a person, whose sessions, prompts, answers to these, feedback and documents go;
        the history and the audit trail forget the name.
      ids: ids of records.
      exports: whether to take the records out of exports and data sets, too.
      dry_run: whether only to say what would go.
      indexes: URLs of indexes that the store does not know of.
      say: a function that gets a line on each step.

    Raises:
      UserError: a record or the user is unknown, or something cannot be written now.
    """
    if not dry_run:
        finish(store, say, indexes)
    if user is None and not ids:
        return None
    place = list_indexes(store, indexes)
    if dry_run:
        with store.reading() as connection:
            plan = make_plan(connection, _find(connection, user, ids), _names(user), place)
        for line in plan.describe():
            say(line)
        return plan
    with store.writing() as connection:
        plan = make_plan(connection, _find(connection, user, ids), _names(user), place)
        for line in plan.describe():
            say(line)
        erase_plan(connection, store, plan, exports)
    finish(store, say, indexes, again=False)
    return plan


def _names(user: str | None) -> tuple[str, ...]:
    return () if user is None else (user,)


def _find(connection: sa.Connection, user: str | None, ids: Sequence[str]) -> list[str]:
    """Return the existing records to begin with.

    Raises:
      UserError: one does not exist, or nothing is known of the user.
    """
    missing = sorted(set(ids) - find_known(connection, list(ids)))
    if missing:
        raise UserError(f"id: record {missing[0]!r:.80} does not exist", "id")
    if user is None:
        return list(dict.fromkeys(ids))
    owned = find_owned(connection, user) if user else []
    if not owned and not _has_acted(connection, user):
        raise UserError(f"user: nothing is known of {user!r:.80}", "user")
    return list(dict.fromkeys((*ids, *owned)))


def _has_acted(connection: sa.Connection, user: str) -> bool:
    return any(
        connection.execute(sa.select(table.c.user).where(table.c.user == user).limit(1)).first()
        for table in (schema.history, schema.audit)
    )


def erase_plan(
    connection: sa.Connection,
    store: Store,
    plan: Plan,
    exports: bool,
    action: str = "forget",
) -> None:
    """Erase the rows of a plan, and write down what remains to be done."""
    ids = plan.closure.ids
    mend(connection, ids, store.user)
    scrub_raters(connection, plan.names, store.user)
    by = chain.ERASED if store.user in plan.names else store.user
    blobs = erase_rows(connection, ids, by, action=action, names=plan.names)
    details: dict[str, Json] = {"records": len(ids)}
    details["learned"] = [_clear(_describe(one), plan.names) for one in plan.learned]
    left = Left(
        list(ids),
        list(plan.names),
        sorted(blobs),
        list(map(name_index, plan.indexes)),
        list(plan.snapshots),
        [copy.to_json() for copy in plan.copies] if exports else [],
        details,
    )
    link = chain.read_head(connection).link
    insert(connection, schema.erasures, [{"link": link, "left": vars(left)}])


def finish(store: Store, say: Say = print, indexes: Sequence[str] = (), again: bool = True) -> None:
    """Do what remains of erasures: in blobs, indexes, files, and the files of the database.

    Args:
      store: the store.
      say: a function that gets a line on each step.
      indexes: URLs of indexes, with the passwords that the store does not keep.
      again: whether to say that an erasure was stopped.
    """
    table = schema.erasures
    with store.reading() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.link)).all()
    for row in rows:
        if again:
            say(f"an erasure was stopped (link {row.link}): finishing it")
        left = Left(**row.left)
        _finish_files(store, row.link, left, say, indexes)
        # From here on nothing is left that names anybody, so that it may be in the files.
        _keep(store, row.link, Left([], [], [], [], [], [], left.details))
        purge_database(store)
        said = left.details
        with store.writing() as connection:
            by = chain.ERASED if store.user in left.names else store.user
            chain.note(connection, "forgotten", by, {"erasure": row.link, **said})
            connection.execute(table.delete().where(table.c.link == row.link))
        say(f"forgotten {said.get('records', 0):,} records")


def _finish_files(store: Store, link: int, left: Left, say: Say, indexes: Sequence[str]) -> None:
    _remove_blobs(store, set(left.blobs))
    # A password is not kept in the store.
    own = store.url.render_as_string(hide_password=False)
    known = {name_index(url): url for url in (own, *indexes)}
    for url in left.indexes:
        if url not in left.done:
            purge_index(known.get(url, url), left.ids)
            left.done.append(url)
            _keep(store, link, left)
    for path in left.snapshots:
        clean_snapshot(path, left.ids, left.names)
        say(f"rows of   {path}: the run cannot resume on them")
    for copy in left.copies:
        if copy["path"] in left.done:
            continue
        done = clean_copy(store, Copy(**copy), left.ids)
        if done:
            say(f"export    {done}")
            done_so_far: Any = left.details.setdefault("exports", [])
            done_so_far.append(_clear(done, left.names))
        left.done.append(copy["path"])
        _keep(store, link, left)


def _remove_blobs(store: Store, blobs: set[str]) -> None:
    """Remove unused blobs, and what killed writers have left of them."""
    store.remove_unused(blobs)
    if blobs and store.blobs is not None:
        for name in list(store.blobs.list()):
            digest, dot, _ = name.partition(".")
            if dot and digest in blobs:
                store.blobs.remove_file(name)


def _keep(store: Store, link: int, left: Left) -> None:
    table = schema.erasures
    with store.writing() as connection:
        connection.execute(table.update().where(table.c.link == link).values(left=vars(left)))


def _describe(one: Record) -> str:
    """Return the kind, name and place of what has learned."""
    if isinstance(one, Checkpoint):
        return f"checkpoint {one.id}, step {one.step} of {one.path or one.run}"
    if isinstance(one, Run):
        return f"run {one.id}, {one.path or one.name}"
    name = one.name if isinstance(one, DataSet) else ""
    return f"dataset {one.id}, {name}"


def _clear(text: str, names: Sequence[str]) -> str:
    for name in names:
        text = text.replace(name, chain.ERASED)
    return text
