"""``genjax store``: its actions and their options; packages are imported when an action runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from genjax.cli.parsing import explain_options, explain_store
from genjax.cli.store import access, audit, growth, monitoring, privacy, records
from genjax.cli.store.action import Action
from genjax.errors import UserError, unknown_name

ACTIONS: Mapping[str, Action] = {
    **records.ACTIONS,
    **access.ACTIONS,
    **audit.ACTIONS,
    **growth.ACTIONS,
    **monitoring.ACTIONS,
    **privacy.ACTIONS,
}


def describe_actions() -> str:
    """Return the page of ``genjax store --help``."""
    wide = max(map(len, ACTIONS))
    far = max(len(action.words) for action in ACTIONS.values())
    lines = [
        f"  {name:<{wide}} {action.words:<{far}}  {action.what}" for name, action in ACTIONS.items()
    ]
    head = "usage: genjax store ACTION STORE ... [--user NAME]"
    foot = "STORE is a path (SQLite) or a URL: postgresql://... See docs/store.md."
    return "\n".join((head, "", *lines, "", foot))


def store_command(target: str, arguments: Sequence[str]) -> None:
    """Run ``genjax store ACTION STORE``; some actions have a name of two words."""
    if arguments and f"{target} {arguments[0]}" in ACTIONS:
        target, arguments = f"{target} {arguments[0]}", arguments[1:]
    if target not in ACTIONS:
        raise unknown_name("action of store", target, ACTIONS)
    action = ACTIONS[target]
    if action.instead is not None and not {"-h", "--help"} & set(arguments):
        with explain_store(), action.instead(arguments) as (other, *rest):
            store_command(other, rest)
        return
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    rest = list(arguments[len(words) :])
    if {"-h", "--help"} & set(rest):
        print(f"genjax store {target} {action.words} [options]\n")
    with explain_options():
        options: Any = tyro.cli(
            action.options, args=rest, prog=f"genjax store {target} {action.words}"
        )
    if len(words) < action.least or (not action.open_ended and len(words) > action.least):
        raise UserError(
            f"store {target} needs {action.words} before its options, got {len(words)} words",
            target,
        )
    with explain_store():
        action.run(target, words, options)
