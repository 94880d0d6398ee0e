"""Write a file that DVC reads beside an export: its hash, and the state it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.machine import disk
from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.store import Store

PART = 2**20  # bytes read at once
PAST = "past"  # the setting of a store that holds a state of another


def note_past(connection: sa.Connection, place: str, state: str, fingerprint: str) -> None:
    """Record in a store that it holds a state of another."""
    said = {"store": place, "state": state, "fingerprint": fingerprint}
    connection.execute(schema.settings.insert().values(name=PAST, value=json.dumps(said)))


def read_past_of(store: Store) -> dict[str, Json]:
    """Return the place of a store, and the name and fingerprint of the state that it holds."""
    table = schema.settings
    query = sa.select(table.c.value).where(table.c.name == PAST)
    with store.reading() as connection:
        found = connection.execute(query).scalar()
    return {"store": store.place} if found is None else dict(json.loads(found))


def write_dvc(store: Store, out: str | Path) -> Path:
    """Write OUT.dvc beside an exported file or folder, as ``dvc add`` does; return its path.

    The file is YAML, of which JSON is a part: DVC reads and rewrites it.

    Raises:
      UserError: the export does not exist, or the file cannot be written.
    """
    path = Path(out).expanduser()
    if not path.exists():
        raise UserError(f"out {path} does not exist", "out")
    found = _describe_folder(path) if path.is_dir() else _describe_file(path)
    entry: dict[str, Json] = {**found, "hash": "md5", "path": path.name}
    lines = ["outs:", *_lines(entry, "- ", "  "), "meta:", "  genjax:"]
    lines += _lines(read_past_of(store), "    ", "    ")
    return disk.write(path.with_name(f"{path.name}.dvc"), "\n".join(lines) + "\n")


def _lines(values: dict[str, Json], first: str, others: str) -> list[str]:
    starts = [first, *[others] * (len(values) - 1)]
    return [
        f"{start}{name}: {value if isinstance(value, int) else json.dumps(value)}"
        for start, (name, value) in zip(starts, values.items(), strict=True)
    ]


def _describe_file(path: Path) -> dict[str, Json]:
    return {"md5": _hash(path), "size": path.stat().st_size}


def _describe_folder(path: Path) -> dict[str, Json]:
    """Describe a folder by the hash of the JSON list of its files, as DVC does."""
    files = sorted(one for one in path.rglob("*") if one.is_file())
    listed = [{"md5": _hash(one), "relpath": one.relative_to(path).as_posix()} for one in files]
    listed.sort(key=lambda one: one["relpath"])
    digest = hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False)
    size = sum(one.stat().st_size for one in files)
    return {"md5": f"{digest.hexdigest()}.dir", "size": size, "nfiles": len(files)}


def _hash(path: Path) -> str:
    hashed = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(PART):
            hashed.update(part)
    return hashed.hexdigest()
