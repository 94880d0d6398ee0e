"""Who may see and change what: tokens with a role, and signed sessions in a cookie."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from itsdangerous import BadData, URLSafeTimedSerializer

from genjax.errors import UserError

Role: TypeAlias = Literal["reader", "admin"]
ROLES = ("reader", "admin")
SHORTEST = 16  # characters of a token
LONGEST_NAME = 100
AGE = 7 * 24 * 3600  # seconds that a session lasts
SALT = "genjax.pages"
KNOWN_BY = 16  # characters of a digest that a session names its token by


@dataclass(frozen=True)
class Token:
    """Who may log in. Only the hash of what they type is kept.

    Attributes:
      name: of the person, for the history of records.
      role: "reader" sees everything, "admin" may also write.
      digest: the SHA-256 of the token, see ``hash_token``.
    """

    name: str
    role: Role
    digest: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UserError(f"role must be one of {', '.join(ROLES)}, got {self.role!r}", "role")
        if not re.fullmatch(rf"\S{{1,{LONGEST_NAME}}}", self.name):
            rule = f"1 to {LONGEST_NAME} characters without blanks"
            raise UserError(f"name must be {rule}, got {self.name!r:.120}", "name")
        if not re.fullmatch("[0-9a-f]{64}", self.digest):
            raise UserError("digest must be a SHA-256 in hexadecimal", "digest")

    @property
    def key(self) -> str:
        """What a session names the token by."""
        return self.digest[:KNOWN_BY]


def make_token() -> str:
    """Make a token of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """The SHA-256 of a token, as files of tokens keep it.

    Raises:
      UserError: it is too short to be safe.
    """
    if len(token) < SHORTEST:
        raise UserError(f"token must have at least {SHORTEST} characters", "token")
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: str | Path) -> tuple[Token, ...]:
    """The tokens of a file with lines of role, name and SHA-256; "#" begins a comment.

    Raises:
      UserError: it cannot be read, or a line is wrong; the message says which.
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
            found.append(Token(words[1], cast(Role, words[0]), words[2]))
        except UserError as error:
            raise UserError(f"{where}: {error}", "tokens") from None
    if not found:
        raise UserError(f"tokens {path} must have at least one line", "tokens")
    return tuple(found)


def find_token(tokens: Sequence[Token], typed: str) -> Token | None:
    """The token that was typed, if there is one."""
    if len(typed) < SHORTEST:
        return None
    digest = hash_token(typed)
    return next((one for one in tokens if hmac.compare_digest(one.digest, digest)), None)


@dataclass(frozen=True)
class Session:
    """What a cookie holds.

    Attributes:
      csrf: a secret that every form must send back.
      key: of the token; None before the login.
    """

    csrf: str
    key: str | None = None


def new_session(token: Token | None = None) -> Session:
    """Make a session with a new secret."""
    return Session(secrets.token_urlsafe(24), None if token is None else token.key)


def seal(secret: bytes, session: Session) -> str:
    """Sign a session for its cookie."""
    return str(URLSafeTimedSerializer(secret, SALT).dumps([session.csrf, session.key]))


def unseal(secret: bytes, cookie: str) -> Session | None:
    """The session of a cookie; None if it is too old or was not signed here."""
    try:
        csrf, key = URLSafeTimedSerializer(secret, SALT).loads(cookie, max_age=AGE)
    except (BadData, ValueError, TypeError):
        return None
    return Session(csrf, key)


def is_same(one: str, other: str) -> bool:
    """Compare two secrets in a time that says nothing about them."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
