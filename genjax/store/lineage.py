"""Trace a record up to the raw files it comes from, and down to what was made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genjax.errors import UserError
from genjax.store.records import DataSet, Document, Feedback, Record
from genjax.store.references import find_edges
from genjax.store.rows import load, name_kind
from genjax.store.store import Store

MOST = 10_000  # most records of a tree


@dataclass(frozen=True)
class Node:
    """A record or raw file in a tree.

    Attributes:
      id: id of the record, or name of the file.
      kind: kind of the record, or "raw".
      role: name of the field that links it with the node above.
      what: a short description.
      next: nodes below it.
    """

    id: str
    kind: str
    role: str
    what: str
    next: tuple[Node, ...] = ()


def read_lineage(store: Store, one: str, down: bool = False, most: int = MOST) -> Node:
    """Return the tree of a record: what it was made from, or with ``down`` what was made from it.

    A record that is already in the tree is listed again, but without the nodes below it. If there
    are more than ``most`` records, the most distant are left out.

    Raises:
      UserError: there is no such record.
    """
    edges: dict[str, list[tuple[str, str]]] = {one: []}
    level = [one]
    with store.reading() as connection:
        while level and len(edges) < most:
            found: dict[str, list[tuple[str, str]]] = {}
            for edge in find_edges(connection, level, up=not down):
                here, there = (edge.parent, edge.child) if down else (edge.child, edge.parent)
                found.setdefault(here, []).append((edge.role, there))
            edges |= found
            beyond = {there for some in found.values() for _, there in some}
            level = sorted(beyond - edges.keys())[: most - len(edges)]
            edges |= {there: [] for there in level}
        records = {record.id: record for record in load(connection, list(edges))}
    if one not in records:
        raise UserError(f"id: record {one!r:.80} does not exist", "id")
    return _build(one, "", records, edges, set(), down)


def _build(
    one: str,
    role: str,
    records: Mapping[str, Record],
    edges: Mapping[str, list[tuple[str, str]]],
    seen: set[str],
    down: bool,
) -> Node:
    """Return the tree below one record, built from the leaves without recursion."""
    order: list[tuple[str, str, int]] = [(one, role, -1)]
    below: list[list[int]] = []
    for number, (this, _, above) in enumerate(order):  # the list grows in the loop
        below.append([])
        if above >= 0:
            below[above].append(number)
        if this not in seen:
            seen.add(this)
            order += (
                (other, how, number) for how, other in edges.get(this, ()) if other in records
            )
    built: dict[int, Node] = {}
    shown: set[str] = set()
    leaves = {
        number: [] if down else _raw(records[order[number][0]]) for number in range(len(order))
    }
    for number, (this, _, _) in enumerate(order):
        leaves[number] = [] if this in shown else leaves[number]
        shown.add(this)
    for number in reversed(range(len(order))):
        this, how, _ = order[number]
        record = records[this]
        beyond = (*(built[k] for k in below[number]), *leaves[number])
        built[number] = Node(this, name_kind(record), how, _describe(record), beyond)
    return built[0]


def _raw(record: Record) -> list[Node]:
    """Return the raw files of a record."""
    if isinstance(record, Document) and record.source is not None:
        return [Node(record.source, "raw", "source", record.hash or "")]
    inputs = (
        record.manifest.get("inputs") if isinstance(record, DataSet) and record.manifest else {}
    )
    if not isinstance(inputs, Mapping):
        return []
    return [Node(str(name), "raw", "inputs", str(digest)) for name, digest in inputs.items()]


def _describe(record: Record) -> str:
    """Return the origin of a record, its name if it has one, and for feedback also the rater."""
    if isinstance(record, Feedback):
        rater = record.user or record.source_id or record.source_kind
        return f"{record.origin}, {record.name} by {rater}"
    for name in ("name", "path", "predicate"):
        value = getattr(record, name, None)
        if isinstance(value, str) and value:
            return f"{record.origin}, {value}"
    return record.origin


def show_lineage(node: Node) -> str:
    """Format a tree, with the nodes of a record indented below it."""
    lines = []
    left = [(node, 0)]
    while left:
        one, depth = left.pop()
        role = f"{one.role}: " if one.role else ""
        lines.append(f"{'  ' * depth}{role}{one.kind} {one.id} ({one.what})")
        left += ((other, depth + 1) for other in reversed(one.next))
    return "\n".join(lines)
