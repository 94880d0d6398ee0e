"""What a store tells of itself: usage, feedback over time, drift, on SQLite and PostgreSQL."""

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from genjax import __main__ as command_line
from genjax.errors import UserError
from genjax.store import schema
from genjax.store.maintenance import copy_store, hash_store
from genjax.store.monitoring.measured import Measured
from genjax.store.monitoring.otlp import make_metrics
from genjax.store.monitoring.prices import Price, read_prices
from genjax.store.monitoring.ratings import average, read_ratings, share
from genjax.store.monitoring.requests import add_requests, forget_user
from genjax.store.monitoring.usage import count_future, read_usage
from genjax.store.opening import open_store
from genjax.store.records import Feedback, Payload, Prompt, Response, Run
from genjax.store.rows import make_ids
from tests.store.test_records_contract import (  # noqa: F401  (fixtures)
    make_place,
    server,
    store,
    url,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


def measured(status=200, run="r", **more):
    given = {"time": NOON, "route": "/v1/completions", "status": status, "run": run} | more
    return Measured(id=make_ids(1)[0], **given)


def add(store, *found):  # noqa: F811
    with store.writing() as connection:
        return add_requests(connection, found)


def fill(store):  # noqa: F811
    """A hundred answers of one run within a second, others by another user, some refused."""
    store.add(Run(id="r", origin="real", name="gpt"), Run(id="s", origin="real", name="vae"))
    for i in range(1, 101):
        add(store, measured(tokens_in=10, tokens_out=20, milliseconds=float(i), first_ms=i / 10))
    add(store, measured(run="s", user="ann", time=NOON + timedelta(days=1), milliseconds=5.0,
                        route="/v1/images/generations"))  # fmt: skip
    add(store, measured(429, user="ann"), measured(429), measured(500, "s", milliseconds=9000.0))
    add(store, measured(404, None, route="other", milliseconds=1.0), measured(499, user="bob"))


def test_usage_counts_by_run_user_day_and_route(store):  # noqa: F811
    fill(store)
    by = {kind: {one.key: one for one in read_usage(store, kind)} for kind in
          ("run", "user", "day", "route")}  # fmt: skip
    gpt = by["run"]["gpt"]
    assert (gpt.requests, gpt.tokens_in, gpt.tokens_out) == (103, 1000, 2000)
    assert gpt.whole_ms == (50.0, 95.0) and gpt.first_ms == (5.0, 9.5)  # of answers alone
    assert gpt.errors == {429: 2, 499: 1} and gpt.error_rate == pytest.approx(2 / 103)
    assert by["run"]["vae"].errors == {500: 1} and by["run"]["vae"].whole_ms == (5.0, 5.0)
    assert by["run"]["-"].errors == {404: 1} and by["run"]["-"].whole_ms == (None, None)
    assert {key: one.requests for key, one in by["user"].items()} == {"-": 103, "ann": 2, "bob": 1}
    assert {key: one.requests for key, one in by["day"].items()} == {
        "2026-03-02": 105, "2026-03-03": 1,
    }  # fmt: skip
    assert by["route"]["/v1/images/generations"].requests == 1
    since = read_usage(store, "day", since=NOON + timedelta(hours=1))
    assert [one.key for one in since] == ["2026-03-03"]
    assert [one.requests for one in read_usage(store, "day", until=NOON)] == []


def test_cost_is_that_of_the_prices_given(store, tmp_path):  # noqa: F811
    fill(store)
    prices = read_prices(["gpt=2,3,0.5"])
    cost = {one.key: one.cost for one in read_usage(store, "run", prices=prices)}
    seconds = sum(range(1, 101)) / 1000
    assert cost["gpt"] == pytest.approx((2 * 1000 + 3 * 2000) / 1e6 + 0.5 * seconds)
    assert cost["vae"] is None and cost["-"] == 0  # no price; refused before any run
    (tmp_path / "prices.json").write_text('{"*": {"second": 1}, "gpt": {"in": 2, "out": 3}}')
    prices = read_prices([str(tmp_path / "prices.json")])
    assert prices == {"*": Price(0, 0, 1), "gpt": Price(2, 3, 0)}
    days = {one.key: one.cost for one in read_usage(store, "day", prices=prices)}
    assert days["2026-03-02"] == pytest.approx(0.008 + 9) and days["2026-03-03"] == 0.005


@pytest.mark.parametrize(
    "price",
    ["gpt", "gpt=1", "gpt=1,2,3,4", "gpt=a,b", "gpt=-1,2", "gpt=nan,1", "gpt=1,inf", "=1,2", "",
     "{}", "gpt=1e13,0"],
)  # fmt: skip
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(UserError) as error:
        read_prices([price])
    assert error.value.field == "price" and "price" in str(error.value)


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', '{"a": {"in": "x"}}', '{"a": {"cost": 1}}',
                                     '{"a": {"in": true}}', '{"a": {"in": NaN}}'])  # fmt: skip
def test_a_file_of_prices_that_has_none_is_refused(content, tmp_path):
    (tmp_path / "prices.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_prices([str(tmp_path / "prices.json")])
    assert error.value.field == "price"


def test_requests_of_a_wrong_clock_and_of_no_numbers_are_kept_apart(store):  # noqa: F811
    add(
        store,
        measured(time=datetime.now(UTC) + timedelta(days=400), milliseconds=math.nan),
        measured(time=datetime(1970, 1, 1, tzinfo=UTC), milliseconds=-5.0),
        measured(milliseconds=math.inf),
    )
    (one,) = read_usage(store, "run", prices={"*": Price(1, 1, 1)})
    assert one.requests == 3 and one.whole_ms == (None, None) and one.cost == 0
    assert count_future(store) == 1
    assert next(one.key for one in read_usage(store, "day")) == "1970-01-01"


def test_a_request_is_added_once_and_a_user_forgotten(store):  # noqa: F811
    one = measured(user="ann", tokens_in=3)
    assert add(store, one, one) == 1 and add(store, one) == 0
    with store.writing() as connection:
        assert forget_user(connection, "bob") == 0 and forget_user(connection, "ann") == 1
    (left,) = read_usage(store, "user")
    assert (left.key, left.tokens_in) == ("-", 3)


def test_requests_and_alerts_move_with_a_store(store, tmp_path):  # noqa: F811
    fill(store)
    with open_store(str(tmp_path / "other.db"), create=True, blobs=str(tmp_path / "b")) as other:
        copy_store(store, other)
        assert hash_store(other) == hash_store(store)
        assert read_usage(other, "user") == read_usage(store, "user")


def test_the_command_prints_a_table_and_json(store, capsys):  # noqa: F811
    fill(store)
    place = store.url.render_as_string(False).removeprefix("sqlite:///")
    assert command_line.main(["store", "usage", place, "--by", "route", "--price", "*=1,1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[:3] == ["route", "requests", "tokens"] and len(said) == 4
    assert "429: 2, 499: 1, 500: 1" in said[1] and "0.0030" in said[1]
    assert command_line.main(["store", "usage", place, "--json", "--since", "2026-03-03"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["key"] == "vae" and row["whole_ms"] == {"p50": 5.0, "p95": 5.0}
    assert command_line.main(["store", "usage", place, "--since", "1m"]) == 0
    assert "nothing was found" in capsys.readouterr().out
    for option in ("--since=yesterday", "--until=2026-13-01", "--price=gpt", "--since=999999999d"):
        assert command_line.main(["store", "usage", place, option]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and option[2:7] in said


def judge(store, target, value=None, label=None, time=NOON, name="helpful"):  # noqa: F811
    store.add(
        Feedback(
            origin="real", target=target, name=name, value=value, label=label, time=time, user="a"
        )
    )


def answer(store, text="b", run="r", **more):  # noqa: F811
    made = {"origin": "synthetic", "generator": run, "run": run}
    (prompt,) = store.add(Prompt(origin="real", payload=Payload(text="a")))
    return store.add(Response(prompt=prompt, payload=Payload(text=text), **made, **more))[0]


def test_feedback_over_time_has_intervals(store):  # noqa: F811
    store.add(Run(id="r", origin="real", name="gpt"))
    one = answer(store)
    for value in (0.0, 1.0, 1.0, 1.0):
        judge(store, one, value)
    judge(store, one, 0.25, time=NOON + timedelta(days=6))  # Sunday of the same week
    judge(store, one, 1.0, time=NOON + timedelta(days=7))
    judge(store, one, label="good", name="kind")
    judge(store, one, label="bad", name="kind")
    found = {(r.name, r.since): r for r in read_ratings(store)}
    week = found["helpful", "2026-03-02"]
    assert (week.run, week.count) == ("gpt", 5)
    assert week.mean.value == pytest.approx(0.65)
    half = 2.7764451 * np.std([0, 1, 1, 1, 0.25], ddof=1) / math.sqrt(5)  # Student's t, 4 degrees
    assert week.mean.high - week.mean.value == pytest.approx(half, rel=1e-6)
    assert (week.good.value, round(week.good.low, 4), round(week.good.high, 4)) == (
        0.6, 0.2307, 0.8824,
    )  # fmt: skip
    (alone,) = [r for r in found.values() if r.since == "2026-03-09"]
    assert alone.mean.low is None and alone.mean.value == 1.0
    assert found["kind", "2026-03-02"].labels["good"].value == 0.5
    assert [r.since for r in read_ratings(store, "month", names=["kind"])] == ["2026-03-01"]


def test_scores_that_are_no_numbers_are_counted_and_left_out(store):  # noqa: F811
    store.add(Run(id="r", origin="real", name="gpt"))
    one = answer(store)
    for value in (1.0, 0.0):
        judge(store, one, value)
    with store.writing() as connection:  # as another program may write them
        connection.execute(
            schema.KINDS["feedback"].update().where(schema.KINDS["feedback"].c.value == 0.0)
            .values(value=math.nan)
        )  # fmt: skip
    (week,) = read_ratings(store)
    assert (week.count, week.mean.value, week.mean.low, week.good.value) == (2, 1.0, None, 1.0)
    assert average([math.nan, math.inf]) is None and share(0, 4).low == pytest.approx(0, abs=1e-9)


MESSAGES = {  # names of fields in OTLP's JSON, and the messages within
    "resourceMetrics": {"resource": "resource", "scopeMetrics": "scopeMetrics", "schemaUrl": str},
    "resource": {"attributes": "attributes"},
    "scopeMetrics": {"scope": "scope", "metrics": "metrics", "schemaUrl": str},
    "scope": {"name": str},
    "metrics": {"name": str, "unit": str, "description": str, "histogram": "histogram"},
    "histogram": {"aggregationTemporality": int, "dataPoints": "dataPoints"},
    "dataPoints": {
        "attributes": "attributes", "startTimeUnixNano": "uint64", "timeUnixNano": "uint64",
        "count": "uint64", "sum": float, "bucketCounts": "uint64", "explicitBounds": float,
        "min": float, "max": float,
    },
    "attributes": {"key": str, "value": "value"},
    "value": {"stringValue": str},
}  # fmt: skip


def check_message(kind, value):
    """Compare JSON with the mapping of Protocol Buffers: names, and types of values."""
    for one in value if isinstance(value, list) else [value]:
        if kind == "uint64":
            assert isinstance(one, str) and one.isdecimal() and int(one) < 2**64
        elif isinstance(kind, type):
            assert isinstance(one, kind) and not isinstance(one, bool)
            assert kind is not float or math.isfinite(one)
        else:
            assert set(one) <= set(MESSAGES[kind]), (kind, set(one) - set(MESSAGES[kind]))
            for name, part in one.items():
                check_message(MESSAGES[kind][name], part)


def test_metrics_of_opentelemetry_are_those_of_its_mapping(store, tmp_path, capsys):  # noqa: F811
    fill(store)
    found, count = make_metrics(store, None, None)
    assert count == 106 and list(found) == ["resourceMetrics"]
    check_message("resourceMetrics", found["resourceMetrics"])
    (resource,) = found["resourceMetrics"]
    about = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
    assert about == {"service.name": "genjax", "semconv_version": "1.37.0"}
    (scope,) = resource["scopeMetrics"]
    points = {m["name"]: m["histogram"]["dataPoints"] for m in scope["metrics"]}
    assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"} <= set(points)
    for one in (point for several in points.values() for point in several):
        counts = [int(c) for c in one["bucketCounts"]]
        assert sum(counts) == int(one["count"]) and len(counts) == len(one["explicitBounds"]) + 1
        assert int(one["startTimeUnixNano"]) <= int(one["timeUnixNano"])
        assert one["min"] * int(one["count"]) <= one["sum"] + 1e-9
    tokens = {
        tuple(a["value"]["stringValue"] for a in point["attributes"]): point
        for point in points["gen_ai.client.token.usage"]
    }
    key = ("text_completion", "genjax", "gpt", "input")
    assert tokens[key]["sum"] == 1000 and tokens[key]["bucketCounts"][2] == "100"  # 4 to 16
    errors = {a["value"]["stringValue"] for p in points["gen_ai.client.operation.duration"]
              for a in p["attributes"] if a["key"] == "error.type"}  # fmt: skip
    assert errors == {"404", "500"}
    place = store.url.render_as_string(False).removeprefix("sqlite:///")
    out = str(tmp_path / "metrics.json")
    assert command_line.main(["store", "usage", place, "--otlp", out]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    pytest.importorskip("opentelemetry.proto")
    from google.protobuf import json_format
    from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

    read = json_format.Parse((tmp_path / "metrics.json").read_text(), MetricsData())
    assert read.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0].count > 0


def test_metrics_of_a_store_without_requests_are_empty(store):  # noqa: F811
    found, count = make_metrics(store, None, None)
    assert count == 0 and found["resourceMetrics"][0]["scopeMetrics"][0]["metrics"] == []


def test_no_table_of_requests_has_a_text():
    kinds = {c.name: c.type for c in schema.requests.c}
    texts = {name for name, kind in kinds.items() if isinstance(kind, sa.Text)}
    assert texts == {"id", "route", "run", "user", "record"}
