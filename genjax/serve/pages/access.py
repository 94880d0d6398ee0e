"""Access to the pages depends on tokens, of the store or in a file, and on signed sessions."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadData, URLSafeTimedSerializer

from genjax.errors import UserError
from genjax.store.access.principal import Principal
from genjax.store.access.roles import BUILT_IN
from genjax.store.access.tokens import SHORTEST, hash_token

LONGEST_NAME = 100
AGE = 7 * 24 * 3600  # lifetime of a session in seconds
SALT = "genjax.pages"
KNOWN_BY = 16  # characters of the digest by which a session names its token


@dataclass(frozen=True)
class Token:
    """A token of a person who may log in; only its hash is stored.

    Attributes:
      name: name of the person, for the history of records.
      role: name of a built-in role: reader, annotator, trainer or admin.
      digest: SHA-256 of the token, see ``hash_token``.
    """

    name: str
    role: str
    digest: str

    def __post_init__(self) -> None:
        if self.role not in BUILT_IN:
            raise UserError(f"role must be one of {', '.join(BUILT_IN)}, got {self.role!r}", "role")
        if not re.fullmatch(rf"\S{{1,{LONGEST_NAME}}}", self.name):
            rule = f"1 to {LONGEST_NAME} characters without blanks"
            raise UserError(f"name must be {rule}, got {self.name!r:.120}", "name")
        if not re.fullmatch("[0-9a-f]{64}", self.digest):
            raise UserError("digest must be a SHA-256 in hexadecimal", "digest")

    @property
    def key(self) -> str:
        """Return the name by which a session identifies the token."""
        return self.digest[:KNOWN_BY]

    @property
    def principal(self) -> Principal:
        """Return who the token lets in."""
        return Principal(self.name, BUILT_IN[self.role], token=self.key)


def read_tokens(path: str | Path) -> tuple[Token, ...]:
    """Read the tokens of a file with lines of role, name and SHA-256; "#" starts a comment.

    Raises:
      UserError: the file cannot be read, or a line is invalid; the message names the line.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"tokens {path} cannot be read: {why}", "tokens") from None
    found = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"tokens {path}, line {number}"
        if len(words) != 3:
            raise UserError(f"{where} must be a role, a name and a SHA-256", "tokens")
        try:
            found.append(Token(words[1], words[0], words[2]))
        except UserError as error:
            raise UserError(f"{where}: {error}", "tokens") from None
    if not found:
        raise UserError(f"tokens {path} must have at least one line", "tokens")
    return tuple(found)


def find_token(tokens: Sequence[Token], typed: str) -> Token | None:
    """Return the token that was typed, or None."""
    if len(typed) < SHORTEST:
        return None
    digest = hash_token(typed)
    return next((one for one in tokens if hmac.compare_digest(one.digest, digest)), None)


@dataclass(frozen=True)
class Session:
    """A session, as stored in a cookie.

    Attributes:
      csrf: secret that every form must send back.
      key: id of the token; None before the login.
    """

    csrf: str
    key: str | None = None


def new_session(principal: Principal | None = None) -> Session:
    """Make a session with a new secret."""
    return Session(secrets.token_urlsafe(24), None if principal is None else principal.token)


def seal(secret: bytes, session: Session) -> str:
    """Sign a session for its cookie."""
    return str(URLSafeTimedSerializer(secret, SALT).dumps([session.csrf, session.key]))


def unseal(secret: bytes, cookie: str) -> Session | None:
    """Return the session of a cookie; None if it is too old or its signature is invalid."""
    try:
        csrf, key = URLSafeTimedSerializer(secret, SALT).loads(cookie, max_age=AGE)
    except (BadData, ValueError, TypeError):
        return None
    return Session(csrf, key)


def is_same(one: str, other: str) -> bool:
    """Compare two secrets in a time that does not depend on their contents."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
