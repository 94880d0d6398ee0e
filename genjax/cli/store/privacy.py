"""The actions on keys and on what a store protects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from genjax import checks
from genjax.cli.store.action import Action
from genjax.cli.store.options import Options


@checks.frozen
class PrivacyOptions(Options):
    """Show what a store protects, and change what can be changed.

    Attributes:
      index: what of encrypted texts the search index holds.
      anonymise: how personal data is removed from new records.
      pseudonyms: whether users are named by keyed hashes: "on" or "off".
    """

    index: Literal["nothing", "redacted", "redacted-names", "plain"] | None = None
    anonymise: Literal["none", "rules", "presidio"] | None = None
    pseudonyms: Literal["on", "off"] | None = None


def _run(name: str, words: Sequence[str], options: Any) -> None:
    if name == "key":
        from genjax.store.privacy.keys import VARIABLE, write_key

        print(f"key       {write_key(words[0])}, first in {words[0]}")
        print(
            f"          give it as {VARIABLE}=file:{words[0]}, and keep a copy elsewhere: without "
            "it nothing that it encrypts can be read"
        )
        return
    from genjax.store.access.entering import open_as

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        if name == "rotate":
            from genjax.store.privacy.rotation import rotate

            done = rotate(store)
            print(f"key       {done.key}\nrows      {done.rows:,}\nblobs     {done.blobs:,}")
            print("          the old key is needed by older backups alone")
            return
        _change(store, options)


def _change(store: Any, options: PrivacyOptions) -> None:
    from genjax.store.privacy.changing import change_plan

    wanted: Mapping[str, Any] = {
        name: value
        for name, value in (
            ("index", options.index),
            ("anonymise", options.anonymise),
            ("pseudonyms", None if options.pseudonyms is None else options.pseudonyms == "on"),
        )
        if value is not None
    }
    plan = store.guard.plan
    if wanted:
        plan = change_plan(store, dataclasses.replace(plan, **wanted))
    print("\n".join(plan.describe()) or "nothing is encrypted, anonymised or named by hashes")
    if plan.pseudonyms and "pseudonyms" in wanted:
        cure = f"genjax store forget {store.place} --user NAME"
        print(f"note: records of before keep the names of users: {cure}")
    if "index" in wanted:
        print(f"note: genjax store rebuild {store.place} brings the index to this")


ACTIONS: Mapping[str, Action] = {
    "key": Action("FILE", "put a new key first into a file that only you can read", Options, _run),
    "rotate": Action("STORE", "encrypt everything with the newest key", Options, _run),
    "privacy": Action("STORE", "what is encrypted, indexed, anonymised", PrivacyOptions, _run),
}
