"""The actions on alerts of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import tyro

from genjax import checks
from genjax.cli.store.action import Action
from genjax.cli.store.options import Options
from genjax.cli.store.tables import clean, print_table
from genjax.store.monitoring.rule import Rule


@checks.frozen
class AlertOptions(Options):
    """Add a rule of an alert.

    Attributes:
      rule: the rule.
    """

    rule: Annotated[Rule, tyro.conf.arg(name="")] = Rule()


@checks.frozen
class ShownOptions(Options):
    """Show the rules of alerts, or check them.

    Attributes:
      json: print JSON instead of a table.
    """

    json: bool = False


def _add(name: str, words: Sequence[str], options: AlertOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.rules import add_rule

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        add_rule(store, words[1], options.rule)
    print(f"rule      {words[1]}")


def _remove(name: str, words: Sequence[str], options: Options) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.rules import remove_rule

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        remove_rule(store, words[1])


def _acknowledge(name: str, words: Sequence[str], options: Options) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.alerts import acknowledge

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        acknowledge(store, words[1])


def _list(name: str, words: Sequence[str], options: ShownOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.alerts import list_alerts
    from genjax.store.monitoring.rules import list_rules

    with open_as(words[0], token=options.token, user=options.user, read_only=True) as store:
        store.access.require_all()
        rules, alerts = list_rules(store), list_alerts(store)
    if options.json:
        found = [
            {
                "id": one.id,
                "rule": one.rule,
                "time": one.time.isoformat(),
                "value": one.value,
                "said": one.said,
                "ended": None if one.ended is None else one.ended.isoformat(),
                "acknowledged_by": one.user,
            }
            for one in alerts
        ]
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    shown = [
        (one.name, one.rule.on, f"{one.rule.above:g}", f"{one.rule.hours:g}", one.user)
        for one in rules
    ]
    print_table(("rule", "on", "above", "hours", "by"), shown)
    for one in alerts:
        state = "lasts" if one.ended is None else f"ended {one.ended:%Y-%m-%d %H:%M}"
        seen = f", acknowledged by {one.user}" if one.user else ""
        print(clean(f"{one.time:%Y-%m-%d %H:%M}  {one.rule}  {state}{seen}: {one.said}"))


def _check(name: str, words: Sequence[str], options: ShownOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.monitoring.alerts import check_alerts
    from genjax.store.monitoring.watching import open_default_encoder

    with open_as(words[0], token=options.token, user=options.user) as store:
        store.access.require_all()
        found = check_alerts(store, open_encoder=open_default_encoder)
    if options.json:
        rows = [
            {"rule": o.kept.name, "value": o.value, "said": o.said, "lasts": o.lasts} for o in found
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    states = {(True, True): "ALERT", (True, False): "lasts", (False, False): "-"}
    lines = [(one.kept.name, states[one.lasts, one.is_new], one.said) for one in found]
    print_table(("rule", "", "what was seen"), lines)


ACTIONS: Mapping[str, Action] = {
    "alert add": Action(
        "STORE RULE", "watch errors, latency, cost, scores, drift", AlertOptions, _add
    ),
    "alert list": Action("STORE", "rules, and what they found", ShownOptions, _list),
    "alert check": Action("STORE", "check all rules now, as a server does", ShownOptions, _check),
    "alert remove": Action("STORE RULE", "watch it no longer", Options, _remove),
    "alert acknowledge": Action("STORE RULE", "note who has seen an alert", Options, _acknowledge),
}
