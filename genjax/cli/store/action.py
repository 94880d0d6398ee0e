"""An action of ``genjax store``: its words, its options, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from genjax.cli.store.options import Options


@dataclass(frozen=True)
class Action:
    """An action of ``genjax store``.

    Attributes:
      words: words before the options, such as "STORE ID..."; "..." alone means further words.
      what: what it does, in one line.
      options: class of its options.
      run: runs it, with its name, words and options; imports packages of the store when called.
      instead: for an action that runs another one: takes all that follows its name, and provides
        the arguments of the other action, whose name is the first.
    """

    words: str
    what: str
    options: type[Options]
    run: Callable[[str, Sequence[str], Any], None]
    instead: Callable[[Sequence[str]], AbstractContextManager[Sequence[str]]] | None = None

    @property
    def least(self) -> int:
        """Return the smallest number of words."""
        return len(self.words.replace(" ...", "").split())

    @property
    def open_ended(self) -> bool:
        """Whether there may be more words."""
        return "..." in self.words
