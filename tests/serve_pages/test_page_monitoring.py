"""The pages of usage and alerts, and the dashboard of what /metrics shows."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("itsdangerous", reason="the pages are an extra: pip install '.[serve]'")

from benchmarks.screenshots import TOKENS
from genjax.serve.metrics import Metrics
from genjax.serve.pages.context import Pages
from genjax.store.monitoring.alerts import check_alerts, list_alerts
from genjax.store.monitoring.measured import Measured
from genjax.store.monitoring.requests import add_requests
from genjax.store.monitoring.rule import Rule
from genjax.store.monitoring.rules import add_rule
from genjax.store.opening import open_store
from genjax.store.rows import make_ids
from tests.serve_pages.scripted import PAYLOADS, submit, visit

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"


@pytest.fixture
def context(tmp_path):
    with open_store(str(tmp_path / "own.db"), create=True, user="ann") as store:
        yield Pages(store, TOKENS)


def add(store, count, status=200, **more):
    found = [
        Measured(one, datetime.now(UTC), "/v1/completions", status, **more)
        for one in make_ids(count)
    ]
    with store.writing() as connection:
        add_requests(connection, found)


def test_usage_shows_requests_with_percentiles_and_errors(context):
    add(context.store, 40, tokens_in=3, tokens_out=5, milliseconds=80.0, first_ms=8.0)
    add(context.store, 2, 429)
    page = visit(context).get("/usage").text
    row = re.search(r"<tr><th scope=\"row\"><bdi>/v1/completions</bdi>.*?</tr>", page)[0]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == [
        "42", "120", "200", "8 / 8", "80 / 80", "429: 2",
    ]  # fmt: skip
    assert page.count("<svg") == 2 + 5 and "95 % of answers within" in page
    assert "Nothing was answered" not in page and "<script>" not in page


def test_alerts_are_listed_and_acknowledged_by_an_admin(context):
    assert "No alert so far" in visit(context).get("/alerts").text
    add_rule(context.store, "failing", Rule("errors", above=0.1, hours=1))
    add(context.store, 30, 500)
    check_alerts(context.store)
    reader = visit(context, "a token of a reader")
    page = reader.get("/alerts").text
    assert "100.0% of 30 requests" in page and "lasts" in page and 'action="/alerts"' not in page
    (alert,) = list_alerts(context.store)
    assert submit(reader, "/alerts", {"id": alert.id}).status_code == 403
    assert list_alerts(context.store)[0].user is None
    admin = visit(context)
    assert alert.id in admin.get("/alerts").text
    assert "ann" in submit(admin, "/alerts", {"id": alert.id}).text
    assert list_alerts(context.store)[0].user == "ann"
    assert submit(admin, "/alerts", {"id": "nobody"}).status_code == 400


def test_markup_in_rules_and_routes_is_shown_as_text(context):
    for number, text in enumerate(PAYLOADS):
        add_rule(context.store, text, Rule("score", score=text))
        add(context.store, 1, 500, user=text)
        with context.store.writing() as connection:
            (one,) = make_ids(1)
            add_requests(connection, [Measured(one, datetime.now(UTC), text, 400 + number)])
    add_rule(context.store, "behind<b>", Rule("behind"))
    check_alerts(context.store, waiting=3)
    for path in ("/alerts", "/usage"):
        page = visit(context).get(path)
        assert page.status_code == 200
        assert not re.search(r"<(img|svg onload|iframe|math|base|b)[ >/]", page.text)
        assert page.text.count("<script") == 1 and "behind<b>" not in page.text


FUNCTIONS = {"rate", "increase", "sum", "max", "histogram_quantile", "clamp_min"}
TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(\.\d+)?)|(?P<name>[a-zA-Z_]\w*)|(?P<range>\[[^\]]*\])"
    r"|(?P<match>\{[^}]*\})|(?P<sign>[()+\-*/,]|==|>=|<=|>|<))"
)
LABEL = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')


class Expression:
    """Reads an expression of PromQL, as far as the dashboard needs it."""

    def __init__(self, text):
        self.text, self.at, self.metrics = text, 0, []
        self.tokens, at = [], 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            assert found, f"{text[at:]!r} cannot be read"
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self.read_sum()
        assert self.at == len(self.tokens), self.tokens[self.at :]

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else (None, None)

    def take(self, *wanted):
        token = self.peek()
        assert token[0] in wanted or token[1] in wanted, (token, wanted)
        self.at += 1
        return token[1]

    def read_sum(self):
        self.read_one()
        while self.peek()[1] in {"+", "-", "*", "/", ">", "<", "==", ">=", "<="}:
            self.at += 1
            self.read_one()

    def read_one(self):
        kind, word = self.peek()
        self.take("number", "name", "(")
        if kind == "number":
            return
        if word == "(":
            self.read_sum()
            self.take(")")
        elif word in FUNCTIONS:
            self.read_call(word)
        else:
            self.read_metric(word)

    def read_call(self, function):
        labels = self.read_by()
        self.take("(")
        if function == "histogram_quantile":
            assert 0 < float(self.take("number")) < 1
            self.take(",")
        first = self.at
        self.read_sum()
        if function == "clamp_min":
            self.take(",")
            self.take("number")
        self.take(")")
        ranged = any(kind == "range" for kind, _ in self.tokens[first : first + 3])
        assert ranged == (function in {"rate", "increase"}), self.text
        return labels or self.read_by()

    def read_by(self):
        if self.peek()[1] != "by":
            return None
        self.take("by")
        self.take("(")
        found = [self.take("name")]
        while self.peek()[1] == ",":
            self.take(",")
            found.append(self.take("name"))
        self.take(")")
        self.metrics.append(("by", found, ""))
        return found

    def read_metric(self, name):
        labels = []
        if self.peek()[0] == "match":
            inner = self.take("match")[1:-1]
            labels = [name for name, _, _ in LABEL.findall(inner)]
            assert LABEL.sub("", inner).strip(", ") == "", inner
        if self.peek()[0] == "range":
            assert re.fullmatch(r"\[(\d+[smhd]|\$__rate_interval)\]", self.take("range"))
        self.metrics.append(("metric", labels, name))


def list_metrics():
    """The names of all samples that /metrics may print, with their labels."""
    metrics = Metrics()
    metrics.requests.labels("/v1/completions", 200).inc()
    metrics.whole.labels("/v1/completions").observe(1)
    metrics.tokens.labels("read").inc()
    metrics.show_alerts({"late": (True, 1.0)})
    found = {}
    for line in metrics.write().decode().splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{")
            name = name.split()[0]
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', rest))
    return found


def test_every_expression_of_the_dashboard_names_a_metric_that_is_printed():
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    known = list_metrics()
    used = set()
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            read = Expression(target["expr"])
            names = [name for what, _, name in read.metrics if what == "metric"]
            assert names
            there = set.union(*(known[name] for name in names))  # KeyError: no such metric
            for what, labels, name in read.metrics:
                allowed = there if what == "by" else known[name]
                assert set(labels) <= allowed | {"job", "instance"}, target["expr"]
            used |= set(names)
            legend = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert set(legend) <= there
    ends = ("_created", "_sum", "_count", "_bucket", "_total")
    bases = {re.sub(f"({'|'.join(ends)})$", "", name) for name in known}
    shown = {re.sub(f"({'|'.join(ends)})$", "", name) for name in used}
    assert shown == bases  # and every metric is shown


def test_the_dashboard_has_what_grafana_asks_for():
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert re.fullmatch(r"[\w-]{1,40}", board["uid"]) and board["schemaVersion"] >= 36
    assert board["id"] is None and board["title"] and board["time"]["from"]
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) >= 10
    covered = set()
    for panel in board["panels"]:
        assert panel["type"] in {"timeseries", "stat", "table", "row", "state-timeline"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24 and place["h"] >= 1
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered
        covered |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert (
            panel["title"] and panel["description"] and "unit" in panel["fieldConfig"]["defaults"]
        )
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(set(letters)) == len(letters)


@pytest.mark.parametrize(
    "text",
    ["sum(", "rate(genjax_requests_total)", "sum(rate(x[5m])", "x{a=1}", "x[5x]", "sum by x (y)",
     "histogram_quantile(2, x)", "x y", "unknown(x)", "sum(x[5m])"],
)  # fmt: skip
def test_a_wrong_expression_is_found(text):
    with pytest.raises((AssertionError, KeyError)):
        Expression(text)
