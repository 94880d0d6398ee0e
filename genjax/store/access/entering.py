"""Open a store as the user of a token, from a file or the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from genjax.errors import UserError
from genjax.store.access.tokens import authenticate, open_for
from genjax.store.opening import open_store
from genjax.store.store import Store

VARIABLE = "GENJAX_TOKEN"


def read_token(path: str | None) -> str | None:
    """Return the token in a file, or that of the environment; None if there is none.

    Raises:
      UserError: the file cannot be read, or is empty; the message does not show the token.
    """
    if path is None:
        return os.environ.get(VARIABLE) or None
    try:
        token = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise UserError(f"token must be a readable file, got {path:.200}", "token") from None
    if not token:
        raise UserError(f"token must be in the file {path}, which is empty", "token")
    return token


def open_as(url: str, create: bool = False, *, token: str | None = None, **options: Any) -> Store:
    """Open a store, as the user of a token if there is one; without one, with all rights.

    Args:
      url: path or URL of the store, see ``open_store``.
      create: whether to create a missing store; no token is known there.
      token: file with the token; None for the one in GENJAX_TOKEN.
      options: further options of ``open_store``.

    Raises:
      UserError: the store cannot be opened, or the token is unknown, expired or revoked.
    """
    typed = read_token(token)
    store = open_store(url, create and typed is None, **options)
    if typed is None:
        return store
    try:
        return open_for(store, authenticate(store, typed))
    except UserError:
        store.close()
        raise
