"""The context holds the store and the services behind the pages."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from genjax.errors import UserError
from genjax.serve.pages.access import Token
from genjax.serve.pages.protocols import Answers, Chat
from genjax.store.index.index import Index
from genjax.store.store import Store


@dataclass(frozen=True)
class Pages:
    """The store and the services behind the pages, and who may see them.

    Attributes:
      store: store of records, open.
      tokens: tokens of those who may log in; at least one.
      index: search index of the store; None leaves out search.
      chat: chat with runs; None leaves out chat and asking two runs.
      answers: answering from documents; None leaves it out.
      secret: key that signs sessions; a new key logs everybody out.
    """

    store: Store
    tokens: tuple[Token, ...]
    index: Index | None = None
    chat: Chat | None = None
    answers: Answers | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def __post_init__(self) -> None:
        if not self.tokens:
            raise UserError("tokens must have at least one, got none", "tokens")
        if len({token.key for token in self.tokens}) < len(self.tokens):
            raise UserError("tokens must be another for each line, two are the same", "tokens")
        if len(self.secret) < 16:
            raise UserError("secret must have at least 16 bytes", "secret")
