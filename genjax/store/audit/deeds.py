"""Record in the audit trail what was read from a store, or done to it as a whole."""

from __future__ import annotations

from collections.abc import Mapping

from genjax.data.images.decode import note as say
from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store.access.access import FULL
from genjax.store.audit.chain import note
from genjax.store.opening import open_store
from genjax.store.store import Store


def note_deed(store: Store, action: str, details: Mapping[str, Json]) -> None:
    """Add a link to the audit trail, also where the store was opened for reading only.

    If nobody may write to the store, this prints a note.
    """
    who = store.access.principal
    token = None if who is None else who.token or None
    store = store.for_(FULL)  # the trail is written for one who may only read, too
    try:
        _write(store, action, details, token)
    except UserError:
        try:
            url = store.url.render_as_string(hide_password=False)
            with open_store(url, user=store.user) as own:
                _write(own, action, details, token)
        except UserError as error:
            say(f"the audit trail does not know of this {action}: {error}")


def _write(store: Store, action: str, details: Mapping[str, Json], token: str | None) -> None:
    with store.writing() as connection:
        note(connection, action, store.user, details, token=token)
