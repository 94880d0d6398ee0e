"""Encrypt and decrypt the values of a store, and name its users by keyed hashes.

An encrypted value names its key: ``<key id>:<Fernet token>`` of the JSON ``[column, value]``. So a
rotation may be killed at any moment and finds the rest by looking, and while it runs, readers and
writers fetch keys again as soon as they meet one that they do not know.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store.privacy.cleaning import Cleaner
from genjax.store.privacy.keys import SIZE, VARIABLE, Key, derive, read_keys
from genjax.store.privacy.plan import Plan, read_plan
from genjax.store.records import Feedback, Record, Session

SEALED = re.compile("[0-9a-f]{8}:")
KNOWN = re.compile(r"p-[0-9a-f]{32}")  # form of a pseudonym
GONE = "erased"  # stands for a user who was forgotten
CHECK = 8  # last characters of a pseudonym, by which the store knows its own


class Unreadable(UserError):
    """An encrypted value is damaged, or its key is missing."""


@dataclass(frozen=True)
class _State:
    """Keys and secrets, replaced as one."""

    plan: Plan = Plan()
    keys: Mapping[str, Key] = field(default_factory=dict, repr=False)
    multi: Any = field(default=None, repr=False)  # MultiFernet, the key that encrypts first
    names: bytes = field(default=b"", repr=False)
    users: bytes = field(default=b"", repr=False)
    digests: Any = field(default=None, repr=False)  # AESSIV


class Guard:
    """The keys of an open store, and what is done with them. It may be used by several threads."""

    def __init__(self, plan: Plan, keys: Sequence[Key] | None = None) -> None:
        self._lock = threading.Lock()
        self._state = _State(plan)
        self.sealed = plan.columns  # of one store always the same
        if plan.key:
            self._state = _load(plan, keys)

    @property
    def plan(self) -> Plan:
        """Return the protection as it was last read."""
        return self._state.plan

    @property
    def names(self) -> bytes:
        """Return the secret of the names of blobs and records; b"" without a key."""
        return self._state.names

    def follow(self, connection: sa.Connection) -> None:
        """Take over what changed in the settings; a transaction that writes begins with it.

        Raises:
          UserError: the store has a new key, which is not given here.
        """
        plan = read_plan(connection)
        if plan != self._state.plan:
            with self._lock:
                self._state = _load(plan) if plan.key else _State(plan)

    def find_key(self, name: str) -> Key | None:
        """Return a key by its id; keys are read again once if it is unknown."""
        if name not in self._state.keys and self._state.plan.key:
            with self._lock:
                self._state = _load(self._state.plan)
        return self._state.keys.get(name)

    @property
    def cleaner(self) -> Cleaner | None:
        """Return what removes personal data from new records; None for nothing."""
        mode = self._state.plan.anonymise
        return None if mode == "none" else Cleaner(mode)

    def clean_text(self, text: str) -> str:
        """Return a text without personal data, as the plan says."""
        cleaner = self.cleaner
        return text if cleaner is None else cleaner.text(text)

    def clean(self, record: Record, texts: bool = True) -> Record:
        """Return a new record without personal data, and with a pseudonym, as the plan says.

        Args:
          record: the record.
          texts: whether its texts are cleaned; otherwise they have been.
        """
        cleaner = self.cleaner
        if cleaner is not None and texts:
            record = cleaner.record(record)
        if self.plan.pseudonyms and isinstance(record, Session | Feedback):
            if record.user:
                record = dataclasses.replace(record, user=self.name_user(record.user))
            if isinstance(record, Feedback) and record.source_kind == "HUMAN" and record.source_id:
                record = dataclasses.replace(record, source_id=self.name_user(record.source_id))
        return record

    @property
    def key(self) -> Key:
        """Return the key that encrypts."""
        return self._state.keys[self._state.plan.key]

    def seal(self, column: str, value: Any) -> str:
        """Encrypt a value of a column."""
        state = self._state
        plain = json.dumps([column, value], ensure_ascii=False, separators=(",", ":"))
        return f"{state.plan.key}:{state.multi.encrypt(plain.encode()).decode()}"

    def open(self, column: str, sealed: Any) -> Any:
        """Decrypt a value of a column.

        Raises:
          Unreadable: it is damaged, of another column, or of a key that is missing.
        """
        from cryptography.fernet import InvalidToken

        if not isinstance(sealed, str) or not SEALED.match(sealed):
            raise Unreadable(f"{column}: a value is damaged: it is not encrypted", column)
        name, _, token = sealed.partition(":")
        if self.find_key(name) is None:
            lack = f"which {VARIABLE} lacks"
            raise Unreadable(f"{column}: a value needs key {name}, {lack}", column)
        try:
            found, value = json.loads(self._state.multi.decrypt(token.encode("ascii", "replace")))
        except (InvalidToken, ValueError):
            raise Unreadable(
                f"{column}: a value is damaged: it cannot be decrypted", column
            ) from None
        if found != column:
            raise Unreadable(f"{column}: a value is damaged: it was encrypted as {found}", column)
        return value

    def seal_digest(self, digest: str) -> str:
        """Encrypt the hash of a blob, the same way each time, so that it can be compared."""
        return str(self._state.digests.encrypt(bytes.fromhex(digest), None).hex())

    def open_digest(self, sealed: Any) -> str:
        """Decrypt the hash of a blob.

        Raises:
          Unreadable: it is damaged.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return str(self._state.digests.decrypt(bytes.fromhex(sealed), None).hex())
        except (InvalidTag, ValueError, TypeError):
            raise Unreadable("blob: the name of a blob is damaged", "blob") from None

    def name_writer(self, user: str) -> str:
        """Return the name under which the store keeps a user: a pseudonym, if the plan says so."""
        return self.name_user(user) if self.plan.pseudonyms else user

    def name_user(self, user: str) -> str:
        """Return the pseudonym of a user, and one of this store as it is."""
        key = self._state.users
        if user == GONE:
            return user
        found = user[2:-CHECK]
        if KNOWN.fullmatch(user) and hmac.compare_digest(_check(key, found), user[-CHECK:]):
            return user
        named = hmac.digest(key, user.encode(), "sha256").hex()[: 32 - CHECK]
        return f"p-{named}{_check(key, named)}"


def make_plan(plan: Plan) -> Plan:
    """Return a plan with the newest key, and a new secret, if it needs a key and has none.

    Raises:
      UserError: no key is given.
    """
    import os

    if plan.key or not plan.needs_key:
        return plan
    newest = read_keys()[0]
    secret = _fernets([newest]).encrypt(os.urandom(SIZE)).decode()
    return dataclasses.replace(plan, key=newest.id, secret=secret)


def turn_plan(plan: Plan, newest: Key) -> Plan:
    """Return the plan of a store that encrypts with a new key from now on."""
    keys = {key.id: key for key in read_keys()}
    old = _fernets([keys[plan.key]]).decrypt(plan.secret.encode())
    secret = _fernets([newest]).encrypt(old).decode()
    older = tuple(name for name in (plan.key, *plan.older) if name != newest.id)
    return dataclasses.replace(plan, key=newest.id, older=older, secret=secret)


def _load(plan: Plan, given: Sequence[Key] | None = None) -> _State:
    from cryptography.fernet import InvalidToken
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    keys = {key.id: key for key in (read_keys() if given is None else given)}
    for name in (plan.key, *plan.older):
        if name not in keys:
            have = ", ".join(keys)
            raise UserError(f"key {name} is missing: {VARIABLE} has {have} alone", "key")
    first = keys[plan.key]
    rest = [key for key in keys.values() if key is not first]
    try:
        secret = _fernets([first]).decrypt(plan.secret.encode())
    except InvalidToken:
        raise UserError(f"key {plan.key} does not open the store's secret", "key") from None
    return _State(
        plan,
        keys,
        _fernets([first, *rest]),
        derive(secret, "names"),
        derive(secret, "users"),
        AESSIV(derive(secret, "digests")),
    )


def _fernets(keys: list[Key]) -> Any:
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key.fields) for key in keys])


def _check(key: bytes, named: str) -> str:
    return hmac.digest(key, b"pseudonym " + named.encode(), "sha256").hex()[:CHECK]
