"""Roles say which actions on which records are allowed, by rules that can be written in a line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.serial.json_text import Json, parse
from genjax.store.records import KINDS

ACTIONS = (
    "read",
    "export",
    "train",
    "judge",
    "tag",
    "add",
    "change",
    "delete",
    "erase",
    "generate",
    "manage",
)
ORIGINS = ("real", "synthetic")
EVERY = "*"
BUT = "!"  # before a word that a rule leaves out
FIELDS = {"kind": "kinds", "origin": "origins", "dataset": "datasets", "tag": "tags"}


@checks.frozen
class Rule:
    """Allows actions on records; each field is a list of words.

    "*" stands for every word, and "!WORD" leaves a word out: ``tags=("!private",)`` covers all
    records without that tag, ``tags=("public", "draft")`` those with at least one of both.

    Attributes:
      actions: allowed actions, see ``ACTIONS``.
      kinds: kinds of the records.
      origins: origins of the records.
      datasets: names or ids of data sets. A record belongs to those that were made from it.
      tags: tags of the records.
    """

    actions: tuple[str, ...]
    kinds: tuple[str, ...] = (EVERY,)
    origins: tuple[str, ...] = (EVERY,)
    datasets: tuple[str, ...] = (EVERY,)
    tags: tuple[str, ...] = (EVERY,)

    def __post_init__(self) -> None:
        known = {"actions": ACTIONS, "kinds": tuple(KINDS), "origins": ORIGINS}
        for name in ("actions", *FIELDS.values()):
            words = getattr(self, name)
            if not words:
                raise UserError(f"{name} must have at least one word, got none", name)
            for word in words:
                bare = word.removeprefix(BUT)
                if not bare or (bare == EVERY and word != EVERY):
                    raise UserError(f"{name} must be words, * or !WORD, got {word!r:.60}", name)
                if name in known and bare != EVERY and bare not in known[name]:
                    raise unknown_name(name.removesuffix("s"), bare, known[name])

    def allows(self, action: str) -> bool:
        """Return whether an action is allowed, on some records."""
        return passes(self.actions, {action})

    def covers(self, kind: str, origin: str, tags: Iterable[str], datasets: Set[str]) -> bool:
        """Return whether a record is one of those that the rule is about."""
        return (
            passes(self.kinds, {kind})
            and passes(self.origins, {origin})
            and passes(self.tags, set(tags))
            and passes(self.datasets, datasets)
        )

    def to_json(self) -> dict[str, Json]:
        """Return the rule as JSON, without fields that limit nothing."""
        fields = {"actions": self.actions} | {n: getattr(self, n) for n in FIELDS.values()}
        return {
            name: list(words)
            for name, words in fields.items()
            if name == "actions" or words != (EVERY,)
        }

    def __str__(self) -> str:
        limits = [
            f"{short}={','.join(getattr(self, name))}"
            for short, name in FIELDS.items()
            if getattr(self, name) != (EVERY,)
        ]
        return " ".join((",".join(self.actions), *limits))


def passes(words: Sequence[str], values: Set[str]) -> bool:
    """Return whether values pass a rule's words: none is left out, and one is wanted."""
    wanted, left_out = split_words(words)
    return not (left_out & values) and (not wanted or bool(wanted & values))


def split_words(words: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the words of which a record needs one, empty for any, and those it must not have."""
    left_out = frozenset(word[1:] for word in words if word.startswith(BUT))
    wanted = frozenset(word for word in words if not word.startswith(BUT))
    return (frozenset() if EVERY in wanted else wanted), left_out


@dataclass(frozen=True)
class Role:
    """A name and its rules; an action on a record is allowed if one rule allows it."""

    name: str
    rules: tuple[Rule, ...]

    def allows(self, action: str) -> bool:
        """Return whether an action is allowed, on some records."""
        return any(rule.allows(action) for rule in self.rules)


BUILT_IN: Mapping[str, Role] = {
    role.name: role
    for role in (
        Role("reader", (Rule(("read",)),)),
        Role("annotator", (Rule(("read", "judge", "tag")),)),
        Role("trainer", (Rule(("read", "export", "train", "add", "generate")),)),
        Role("admin", (Rule((EVERY,)),)),
    )
}


def parse_rule(text: str) -> Rule:
    """Parse a rule such as ``read,judge kind=prompt,response tag=!private``, or one in JSON.

    Raises:
      UserError: the rule is invalid.
    """
    if text.lstrip().startswith("{"):
        return read_rule(parse(text, "rule"))
    try:
        actions, *limits = shlex.split(text) or [""]
    except ValueError:
        raise UserError(f"rule must have closed quotes, got {text!r:.100}", "rule") from None
    found: dict[str, tuple[str, ...]] = {"actions": tuple(filter(None, actions.split(",")))}
    for limit in limits:
        name, equals, words = limit.partition("=")
        if name not in FIELDS or not equals:
            form = "ACTIONS [kind=..] [origin=..] [dataset=..] [tag=..]"
            raise UserError(f"rule must be {form}, got {limit!r:.60}", "rule")
        found[FIELDS[name]] = tuple(filter(None, words.split(",")))
    return Rule(**found)


def read_rule(value: Json) -> Rule:
    """Return the rule of a JSON object, as ``Rule.to_json`` writes it.

    Raises:
      UserError: it is not a rule.
    """
    if not isinstance(value, Mapping) or "actions" not in value:
        raise UserError(f"rule must be an object with actions, got {value!r:.100}", "rule")
    fields: dict[str, tuple[str, ...]] = {}
    for name, words in value.items():
        if name not in ("actions", *FIELDS.values()):
            raise unknown_name("field of a rule", name, ("actions", *FIELDS.values()))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"rule: {name} must be a list of words, got {words!r:.60}", "rule")
        fields[name] = tuple(str(word) for word in words)
    return Rule(**fields)


def hash_rules(rules: Sequence[Rule]) -> str:
    """Return a text that differs for different rules."""
    return json.dumps([rule.to_json() for rule in rules], sort_keys=True)
