"""The context holds the store and the services behind the pages."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from genjax.errors import UserError
from genjax.serve.pages.access import Token, find_token
from genjax.serve.pages.protocols import Answers, Chat
from genjax.store.access.principal import Principal
from genjax.store.access.rates import Rates
from genjax.store.access.tokens import authenticate, find_principal
from genjax.store.index.index import Index
from genjax.store.store import Store


@dataclass(frozen=True)
class Pages:
    """The store and the services behind the pages, and who may see them.

    Attributes:
      store: store of records, open.
      tokens: tokens of those who may log in besides the users of the store's own tokens.
      index: search index of the store; None leaves out search.
      chat: chat with runs; None leaves out chat and asking two runs.
      answers: answering from documents; None leaves it out.
      secret: key that signs sessions; a new key logs everybody out.
      stored: whether the tokens of the store let in.
      rates: most requests a minute of a token.
    """

    store: Store
    tokens: tuple[Token, ...] = ()
    index: Index | None = None
    chat: Chat | None = None
    answers: Answers | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    stored: bool = False
    rates: Rates = field(default_factory=lambda: Rates(0))

    def __post_init__(self) -> None:
        if not self.tokens and not self.stored:
            raise UserError("tokens must have at least one, got none", "tokens")
        if len({token.key for token in self.tokens}) < len(self.tokens):
            raise UserError("tokens must be another for each line, two are the same", "tokens")
        if len(self.secret) < 16:
            raise UserError("secret must have at least 16 bytes", "secret")

    def let_in(self, typed: str) -> Principal | None:
        """Return who a token lets in, or None."""
        if (token := find_token(self.tokens, typed)) is not None:
            return token.principal
        return self._ask_store(authenticate, typed)

    def recall(self, key: str) -> Principal | None:
        """Return the principal of a session, or None if its token is no longer valid."""
        for token in self.tokens:
            if token.key == key:
                return token.principal
        return self._ask_store(find_principal, key)

    def _ask_store(self, find: Callable[[Store, str], Principal], text: str) -> Principal | None:
        try:
            return find(self.store, text) if self.stored else None
        except UserError as error:
            if error.field != "token":
                raise
            return None
