"""The actions of the audit trail, of retention, and of forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tyro

from genjax import checks
from genjax.cli.store.action import Action
from genjax.cli.store.options import Asked, Options
from genjax.errors import UserError

SHOWN = 50  # flaws


@checks.frozen
class AnchorOptions(Options):
    """Append the newest link of the audit trail to a file, which is best kept elsewhere.

    Attributes:
      to: the file.
    """

    to: str = ""

    def __post_init__(self) -> None:
        checks.some(self, "to")


@checks.frozen
class VerifyOptions(Options):
    """Compare the audit trail with itself, the history and the records.

    Attributes:
      anchor: a file of anchors to compare it with, too.
    """

    anchor: str | None = None


@checks.frozen
class TrailOptions(Options):
    """Show the newest links of the audit trail.

    Attributes:
      limit: the most links to show.
    """

    limit: int = 20

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "limit")


@checks.frozen
class RuleOptions(Options):
    """Add a rule that says which records are erased, and when.

    Attributes:
      kind: the kind of record; any by default.
      origin: the origin of the records.
      days: the least age in days, by the time of the record.
      tag: a tag of the records.
      filter: a filter on the records.
      dependants: erase records that need these along with them; otherwise these are kept.
      all: let the rule match every record.
    """

    kind: str | None = None
    origin: Asked = "any"
    days: float | None = None
    tag: str | None = None
    filter: str = ""
    dependants: bool = False
    all: bool = False


@checks.frozen
class RetainOptions(Options):
    """Show what the rules reach, and erase it with --do.

    Attributes:
      do: erase it.
      trust_clock: believe a clock that is far from the newest change of the store.
      exports: take the records out of exports and data sets, too.
    """

    do: bool = False
    trust_clock: bool = False
    exports: bool = False


@checks.frozen
class ForgetOptions(Options):
    """Erase a person or records for good, wherever they are.

    Attributes:
      user: the person to forget.
      by: the name that the history records for who erases; the login name by default.
      exports: take the records out of exports and data sets, too.
      dry_run: only show what would go.
      index: an index that the store does not know of. May be given several times.
    """

    user: str | None = None
    by: str | None = None
    exports: bool = False
    dry_run: bool = False
    index: tyro.conf.UseAppendAction[tuple[str, ...]] = ()


def _anchor(action: str, words: Sequence[str], options: AnchorOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.audit.anchors import anchor

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        head = anchor(store, options.to)
    print(f"link      {head.link:,} {head.hash}\nanchor    {options.to}")


def _verify(action: str, words: Sequence[str], options: VerifyOptions) -> None:
    from datetime import timedelta

    from genjax.store.access.entering import open_as
    from genjax.store.audit.anchors import check_anchors
    from genjax.store.audit.verifying import verify

    with open_as(words[0], token=options.token, read_only=True) as store:
        store.access.require_all()
        found = verify(store)
        anchored = check_anchors(store, options.anchor) if options.anchor is not None else []
        for link, behind in found.jumps:
            by = timedelta(microseconds=behind)
            print(f"note: the clock was {by} behind the link before at link {link:,}")
        flaws = sorted({*found.flaws, *anchored})
        for flaw in flaws[:SHOWN]:
            print(flaw.what)
        if len(flaws) > SHOWN:
            print(f"and {len(flaws) - SHOWN:,} more")
        if flaws:
            raise UserError(
                f"store {store.place}: the audit trail does not hold from link "
                f"{max(flaws[0].link, 1):,} on: {len(flaws):,} flaws",
                "store",
            )
        print(f"links     {found.links:,}\nrecords   {found.records:,} as their links left them")


def _show(action: str, words: Sequence[str], options: TrailOptions) -> None:
    import json

    import sqlalchemy as sa

    from genjax.store import schema
    from genjax.store.access.entering import open_as
    from genjax.store.rows import to_time

    table = schema.audit
    query = sa.select(table, table.c.count.label("items_"))
    query = query.order_by(table.c.link.desc()).limit(options.limit)
    with open_as(words[0], token=options.token, read_only=True) as store:
        store.access.require_all()
        with store.reading() as connection:
            for row in reversed(connection.execute(query).all()):
                who = (
                    "erased"
                    if row.salt is None
                    else row.user + (f" ({row.token})" * bool(row.token))
                )
                said = json.dumps(row.details, ensure_ascii=False) if row.details else ""
                what = said or (f"{row.items_:,} records" if row.items_ else "")
                print(f"{row.link} {to_time(row.time):%Y-%m-%d %H:%M:%S} {who} {row.action} {what}")


def _retain(action: str, words: Sequence[str], options: Options) -> None:
    from dataclasses import asdict

    from genjax.store.access.entering import open_as
    from genjax.store.audit.retention import Rule, add_rule, list_rules, remove_rule, retain

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        match options:
            case RuleOptions():
                own = asdict(options).items()
                given = {name: one for name, one in own if name not in ("user", "token")}
                add_rule(store, Rule(words[1], **given))
            case RetainOptions():
                retain(
                    store,
                    options.do,
                    trust_clock=options.trust_clock,
                    exports=options.exports,
                )
                if not options.do:
                    print("note: nothing was erased: --do erases")
            case _ if action == "retain remove":
                remove_rule(store, words[1])
            case _:
                for rule in list_rules(store):
                    said = (f"{name}={one}" for name, one in asdict(rule).items() if one)
                    print(" ".join(said))


def _forget(action: str, words: Sequence[str], options: ForgetOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.audit.forgetting import forget

    opened = open_as(words[0], token=options.token, user=options.by, read_only=options.dry_run)
    with opened as store:
        store.access.require_all()
        done = forget(
            store,
            user=options.user,
            ids=words[1:],
            exports=options.exports,
            dry_run=options.dry_run,
            indexes=options.index,
        )
        if done is not None and done.copies and not options.exports:
            print("note: exports are as they were: --exports takes the records out of them")


ACTIONS: Mapping[str, Action] = {
    "audit verify": Action("STORE", "whether the audit trail holds", VerifyOptions, _verify),
    "audit anchor": Action(
        "STORE", "its newest link into a file that is kept elsewhere", AnchorOptions, _anchor
    ),
    "audit show": Action("STORE", "who did what, and when", TrailOptions, _show),
    "retain add": Action("STORE NAME", "a rule on what is erased, and when", RuleOptions, _retain),
    "retain list": Action("STORE", "the rules", Options, _retain),
    "retain remove": Action("STORE NAME", "remove a rule", Options, _retain),
    "retain run": Action("STORE", "what the rules reach; --do erases it", RetainOptions, _retain),
    "forget": Action(
        "STORE ...",
        "erase records, or with --user a person, wherever they are",
        ForgetOptions,
        _forget,
    ),
}
