"""Alerts: they fire once, last, end and are acknowledged, whatever the clock does."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from genjax import __main__ as command_line
from genjax.errors import UserError
from genjax.serve.metrics import Metrics
from genjax.store import followers
from genjax.store.monitoring.alerts import acknowledge, check_alerts, list_alerts
from genjax.store.monitoring.measured import Measured
from genjax.store.monitoring.requests import add_requests
from genjax.store.monitoring.rule import Rule
from genjax.store.monitoring.rules import add_rule, list_rules, remove_rule
from genjax.store.monitoring.watching import keep_watching
from genjax.store.opening import open_store
from genjax.store.records import Entity, Feedback, Prompt, Run
from genjax.store.rows import make_ids
from tests.store import test_drift
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    make_place,
    server,
    store,
    url,
)
from tests.store.words import Words

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def add(store, count, status=200, at=NOON, **more):  # noqa: F811
    found = [
        Measured(one, at - timedelta(minutes=1), "/v1/completions", status, **more)
        for one in make_ids(count)
    ]
    with store.writing() as connection:
        add_requests(connection, found)


def check(store, at=NOON, **more):  # noqa: F811
    return {one.kept.name: one for one in check_alerts(store, at=at, **more)}


def test_an_alert_fires_once_lasts_and_ends(store):  # noqa: F811
    add_rule(store, "failing", Rule("errors", above=0.1, hours=1))
    assert check(store)["failing"].value is None  # too few requests to say anything
    add(store, 30)
    assert not check(store)["failing"].lasts
    add(store, 10, 500)
    first = check(store)["failing"]
    assert first.is_new and first.value == 0.25 and "25.0%" in first.said
    add(store, 10, 429)
    again = check(store)["failing"]
    assert again.lasts and not again.is_new
    (alert,) = list_alerts(store)
    assert alert.value == 0.4 and alert.ended is None and alert.user is None
    silent = check(store, at=NOON + 30 * HOUR)["failing"]  # too few: neither ends nor begins
    assert silent.lasts and silent.value is None
    add(store, 30, at=NOON + 50 * HOUR)
    assert not check(store, at=NOON + 50 * HOUR)["failing"].lasts
    (alert,) = list_alerts(store)
    assert alert.ended is not None and list_alerts(store, lasting=True) == []
    assert check(store)["failing"].is_new  # the clock jumped back: it is seen, as a new one
    assert len(list_alerts(store)) == 2


def test_a_client_that_left_is_no_failure(store):  # noqa: F811
    add_rule(store, "failing", Rule("errors", above=0.1, hours=1))
    add(store, 30)
    add(store, 30, 499)
    assert check(store)["failing"].value == 0


def test_latency_and_cost_are_watched(store):  # noqa: F811
    store.add(Run(id="r", origin="real", name="gpt"))
    add_rule(store, "slow", Rule("latency", above=100, hours=1))
    add_rule(store, "dear", Rule("cost", above=1, price=("gpt=1000,2000",)))
    add_rule(store, "unpriced", Rule("cost", above=1, price=("vae=1,2",)))
    add(store, 90, milliseconds=50.0, run="r", tokens_in=5, tokens_out=2)
    found = check(store)
    assert found["slow"].value == 50 and not found["slow"].lasts
    assert found["dear"].value == pytest.approx(90 * (5 * 1000 + 2 * 2000) / 1e6)
    assert found["unpriced"].value is None and "price" in found["unpriced"].said
    add(store, 10, milliseconds=500.0, run="r", tokens_in=500)
    found = check(store)
    assert found["slow"].lasts and found["dear"].lasts
    assert check(store, at=NOON + 25 * HOUR)["dear"].value == 0


def test_a_falling_score_is_found_and_chance_is_not(store):  # noqa: F811
    (one,) = store.add(Prompt(origin="real"))

    def judge(values, at):
        store.add(
            *(Feedback(origin="real", target=one, name="good", value=v, time=at) for v in values)
        )

    add_rule(store, "worse", Rule("score", score="good", hours=24))
    judge([0.0, 1.0] * 40, NOON - 60 * HOUR)
    assert check(store)["worse"].value is None
    judge([1.0, 0.0] * 9 + [0.0] * 4, NOON - 2 * HOUR)
    assert check(store)["worse"].value == 0  # 0.41 of 22 may be chance
    judge([0.0] * 40, NOON - HOUR)
    found = check(store)["worse"]
    assert found.is_new and 0 < found.value < 0.4 and "0.5 → 0.1452" in found.said
    with pytest.raises(UserError) as error:
        Rule("score")
    assert error.value.field == "score"


def test_an_index_and_a_store_that_are_behind(store):  # noqa: F811
    add_rule(store, "late", Rule("behind", above=5))
    store.add(Entity(origin="real", name="a"))
    assert check(store)["late"].value == 0  # no index follows
    followers.trim(store, "index", 1)
    store.add(*(Entity(origin="real", name="a") for _ in range(6)))
    assert check(store)["late"].value == 6 and check(store, waiting=9)["late"].value == 9
    assert check(store)["late"].lasts and len(list_alerts(store)) == 1


def test_drift_is_compared_once_for_each_window(store):  # noqa: F811
    test_drift.fill(store, 120)  # all on 2 March at noon
    test_drift.fill(store, 120, later=3, label="b")
    opened = []
    add_rule(store, "moved", Rule("drift", hours=24, before=3))
    day = datetime(2026, 3, 6, 9, tzinfo=UTC)

    def open_words():
        opened.append(1)
        return Words()

    found = check(store, at=day, open_encoder=open_words)["moved"]
    assert found.is_new and found.value == 1 and "label category (a 100.0% → 0.0%)" in found.said
    again = check(store, at=day + 5 * HOUR)["moved"]
    assert again.lasts and again.value is None and not again.is_new
    (kept,) = list_rules(store)
    assert kept.seen == int(datetime(2026, 3, 6, tzinfo=UTC).timestamp() * 1e6)
    empty = check(store, at=day + 24 * HOUR)["moved"]  # of a day without records
    assert empty.lasts and empty.value is None and "94" in empty.said
    assert len(list_alerts(store)) == 1 and len(opened) == 1


def test_two_checkers_at_once_fire_one_alert(store, url):  # noqa: F811
    add_rule(store, "failing", Rule("errors", above=0.1, hours=1))
    add(store, 30, 500)
    ready = threading.Barrier(4)
    new = []

    def run():
        with open_store(url) as own:
            ready.wait(30)
            new.append(check(own)["failing"].is_new)

    threads = [threading.Thread(target=run) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(new) == [False, False, False, True] and len(list_alerts(store)) == 1


def test_rules_are_added_acknowledged_and_removed(store, url):  # noqa: F811
    rule = Rule("cost", above=2, price=("gpt=1,2", "*=0,0"))
    add_rule(store, "dear", rule)
    (kept,) = list_rules(store)
    assert kept.rule == rule and kept.user == "ann"
    add_rule(store, "failing", Rule("errors", hours=1))
    add(store, 30, 500)
    check(store)
    with open_store(url, user="bob") as other:
        acknowledge(other, "failing")
    acknowledge(store, list_alerts(store)[0].id)
    assert list_alerts(store)[0].user == "bob"  # the first who did
    for act, name in ((remove_rule, "fail"), (acknowledge, "dear"), (acknowledge, "")):
        with pytest.raises(UserError) as error:
            act(store, name)
        assert error.value.field in ("rule", "alert")
    for name in ("dear", "", " ", "a\0b", "x" * 300):
        with pytest.raises(UserError) as error:
            add_rule(store, name, Rule())
        assert error.value.field == "rule"
    remove_rule(store, "failing")
    assert [one.name for one in list_rules(store)] == ["dear"]
    assert list_alerts(store)[0].ended is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"on": "nothing"}, "on"),
        ({"above": -1.0}, "above"),
        ({"above": float("nan")}, "above"),
        ({"hours": 0.0}, "hours"),
        ({"hours": float("inf")}, "hours"),
        ({"before": 0}, "before"),
        ({"least": 1}, "least"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.9}, "alpha"),
        ({"on": "cost"}, "price"),
        ({"price": ("gpt=1,2",)}, "price"),
        ({"on": "cost", "price": ("gpt",)}, "price"),
        ({"score": "good"}, "score"),
        ({"on": "score", "score": ""}, "score"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(options, field):
    with pytest.raises(UserError) as error:
        Rule(**options)
    assert error.value.field == field and field in str(error.value)


def test_a_check_that_fails_does_not_end_the_checks(tmp_path, caplog):
    path = tmp_path / "talk.db"
    metrics, results = Metrics(), []

    def report(found):
        results.append(found)
        seen = None if found is None else {o.kept.name: (o.lasts, o.value) for o in found}
        metrics.show_alerts(seen)

    def wait(holds):
        until = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < until
            time.sleep(0.01)

    with (
        open_store(str(path), create=True) as store,  # noqa: F811
        keep_watching(store, 0.02, lambda: 7, report),
    ):
        add_rule(store, "late", Rule("behind", above=5))
        wait(lambda: results and results[-1] and results[-1][0].lasts)
        assert b'genjax_alert{rule="late"} 1.0' in metrics.write()
        assert b'genjax_alert_value{rule="late"} 7.0' in metrics.write()
        path.rename(tmp_path / "away.db")
        store.engine.dispose()
        (tmp_path / "talk.db").mkdir()
        wait(lambda: results[-1] is None)
        (tmp_path / "talk.db").rmdir()
        (tmp_path / "away.db").rename(path)
        wait(lambda: results[-1] is not None)
        remove_rule(store, "late")
        wait(lambda: results[-1] == [])
        wait(lambda: b"late" not in metrics.write())
    assert b'genjax_alert_checks_total{result="failed"}' in metrics.write()
    assert "not checked" in caplog.text and threading.active_count() < 50


def test_the_command_adds_checks_lists_and_removes(store, capsys):  # noqa: F811
    place = store.url.render_as_string(False).removeprefix("sqlite:///")

    def run(*words):
        code = command_line.main(["store", *words])
        said = capsys.readouterr()
        return code, said.out if code == 0 else said.err

    rule = ["alert", "add", place, "failing", "--on", "errors", "--above", "0.1", "--hours", "1"]
    assert run(*rule) == (0, "rule      failing\n")
    add(store, 30, 500, at=datetime.now(UTC))
    assert run("alert", "check", place)[1].splitlines()[1].split()[:2] == ["failing", "ALERT"]
    assert run("alert", "check", place)[1].splitlines()[1].split()[:2] == ["failing", "lasts"]
    (read,) = json.loads(run("alert", "check", place, "--json")[1])
    assert read["value"] == 1.0 and read["lasts"] is True
    assert run("alert", "acknowledge", place, "failing", "--user", "eva") == (0, "")
    said = run("alert", "list", place)[1].splitlines()
    assert said[1].split() == ["failing", "errors", "0.1", "1", "ann"] or "failing" in said[1]
    assert "lasts, acknowledged by eva: 100.0% of 30 requests" in said[2]
    (read,) = json.loads(run("alert", "list", place, "--json")[1])
    assert read["acknowledged_by"] == "eva" and read["ended"] is None
    assert run(*rule)[0] == 2 and run("alert", "add", place, "x", "--above", "-1")[0] == 2
    assert run("alert", "remove", place, "failing")[0] == 0
    code, said = run("alert", "remove", place, "failing")
    assert code == 2 and said.count("\n") == 1 and "rule" in said
