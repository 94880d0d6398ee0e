"""A principal is who works on a store: a name, a role, and the scopes of a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from genjax.errors import UserError
from genjax.store.access.roles import ACTIONS, Role, Rule

SCOPES: Mapping[str, tuple[str, ...]] = {
    "read": ("read", "export", "train"),
    "write": ("read", "judge", "tag", "add", "change", "delete", "erase"),
    "generate": ("generate",),
    "manage": ACTIONS,
}


@dataclass(frozen=True)
class Principal:
    """Who works on a store.

    Attributes:
      name: name of the user, for the history.
      role: role of the user.
      scopes: names of ``SCOPES`` to which a token narrows the role; None for all of the role.
      token: id of the token; "" without one.
      rate: most requests a minute; None for the limit of the server.
    """

    name: str
    role: Role
    scopes: tuple[str, ...] | None = None
    token: str = ""
    rate: int | None = None

    def may(self, *actions: str) -> bool:
        """Return whether one of the actions is allowed, on some records."""
        return any(self.in_scope(action) and self.role.allows(action) for action in actions)

    def in_scope(self, action: str) -> bool:
        """Return whether the scopes of the token include an action."""
        return self.scopes is None or any(action in SCOPES[scope] for scope in self.scopes)

    def rules(self, action: str) -> tuple[Rule, ...]:
        """Return the rules that allow an action."""
        if not self.in_scope(action):
            return ()
        return tuple(rule for rule in self.role.rules if rule.allows(action))

    def allows(
        self, action: str, kind: str, origin: str, tags: Iterable[str], datasets: Set[str]
    ) -> bool:
        """Return whether an action on a record is allowed."""
        found = tuple(tags)
        return any(rule.covers(kind, origin, found, datasets) for rule in self.rules(action))

    def require(self, *actions: str) -> None:
        """Refuse one who may do none of the actions.

        Raises:
          UserError: the field is "role".
        """
        if not self.may(*actions):
            raise UserError(f"role {self.role.name} may not {' or '.join(actions)} here", "role")
