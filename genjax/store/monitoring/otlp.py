"""Write the usage of a store as metrics of OpenTelemetry, in OTLP's JSON.

The names are those of version 1.37 of the conventions for generative AI, which are still in
development. A file has one object with ``resourceMetrics``; numbers of 64 bits are texts in it, as
the JSON mapping of Protocol Buffers wants.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from genjax.machine import disk
from genjax.store import schema
from genjax.store.formats.otlp import VERSION, write_attributes
from genjax.store.formats.turns import Object
from genjax.store.monitoring.usage import FAILED, bound, join_runs
from genjax.store.store import Store

TOKENS = tuple(4.0**i for i in range(14))  # bounds that the conventions ask for
SECONDS = tuple(0.01 * 2**i for i in range(14))
FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
METRICS: Mapping[str, tuple[str, str, Sequence[float]]] = {  # unit, description and bounds
    "gen_ai.client.token.usage": ("{token}", "Tokens that a request used", TOKENS),
    "gen_ai.client.operation.duration": ("s", "Time of an operation", SECONDS),
    "gen_ai.server.request.duration": ("s", "Time of a whole answer", SECONDS),
    "gen_ai.server.time_to_first_token": ("s", "Time to the first token of an answer", FIRST),
}
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
Key = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    """Values that are counted between bounds."""

    bounds: Sequence[float]
    values: list[float] = field(default_factory=list)

    def write(self, attributes: Key, start: int, end: int) -> Object:
        counts = [0] * (len(self.bounds) + 1)
        for value in self.values:
            counts[bisect.bisect_left(self.bounds, value)] += 1
        return {
            "attributes": write_attributes(dict(attributes)),
            "startTimeUnixNano": str(start),
            "timeUnixNano": str(end),
            "count": str(len(self.values)),
            "sum": math.fsum(self.values),
            "bucketCounts": [str(count) for count in counts],
            "explicitBounds": list(self.bounds),
            "min": min(self.values),
            "max": max(self.values),
        }


def write_metrics(
    store: Store, out: str | Path, since: datetime | None, until: datetime | None
) -> int:
    """Write the requests of a time as metrics to a file; return their number.

    Raises:
      UserError: the file cannot be written.
    """
    found, count = make_metrics(store, since, until)
    path = Path(out).expanduser()
    with disk.explain_full_disk("nothing was written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.write_atomically(path) as part:
            part.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    return count


def make_metrics(
    store: Store, since: datetime | None, until: datetime | None
) -> tuple[Object, int]:
    """Return the requests of a time as an object with ``resourceMetrics``, and their number."""
    groups: dict[str, dict[Key, _Histogram]] = {name: {} for name in METRICS}
    start, end, count = 0, 0, 0
    for row in _read(store, since, until):
        nanoseconds = 1000 * row["time"]
        start = min(start, nanoseconds) if count else nanoseconds
        end = max(end, nanoseconds + round(1e6 * (row["milliseconds"] or 0)))
        count += 1
        for name, more, value in _measure(row):
            key: Key = tuple(sorted((_describe(row) | more).items()))
            group = groups[name]
            group.setdefault(key, _Histogram(METRICS[name][2])).values.append(value)
    metrics = [
        {
            "name": name,
            "unit": METRICS[name][0],
            "description": METRICS[name][1],
            "histogram": {
                "aggregationTemporality": CUMULATIVE,
                "dataPoints": [one.write(key, start, end) for key, one in sorted(found.items())],
            },
        }
        for name, found in groups.items()
        if found
    ]
    resource = {"service.name": "genjax", "semconv_version": VERSION}
    schema_url = f"https://opentelemetry.io/schemas/{VERSION}"
    scope = {"scope": {"name": "genjax"}, "metrics": metrics, "schemaUrl": schema_url}
    about = {"attributes": write_attributes(resource)}
    whole: Object = {"resource": about, "scopeMetrics": [scope], "schemaUrl": schema_url}
    return {"resourceMetrics": [whole]}, count


def _describe(row: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "gen_ai.operation.name": OPERATIONS.get(row["route"], "generate_content"),
        "gen_ai.provider.name": "genjax",
    }
    if row["run_name"] is not None:
        found["gen_ai.request.model"] = row["run_name"]
    if row["status"] >= FAILED:
        found["error.type"] = str(row["status"])
    return found


def _measure(row: Mapping[str, Any]) -> list[tuple[str, dict[str, str], float]]:
    """Return the values of a request: the metric, attributes of its own, and the number."""
    found: list[tuple[str, dict[str, str], float]] = []
    for column, kind in (("tokens_in", "input"), ("tokens_out", "output")):
        if row[column] is not None:
            more = {"gen_ai.token.type": kind}
            found.append(("gen_ai.client.token.usage", more, float(row[column])))
    if row["milliseconds"] is not None:
        seconds = row["milliseconds"] / 1e3
        found.append(("gen_ai.client.operation.duration", {}, seconds))
        found.append(("gen_ai.server.request.duration", {}, seconds))
    if row["first_ms"] is not None:
        found.append(("gen_ai.server.time_to_first_token", {}, row["first_ms"] / 1e3))
    return found


def _read(store: Store, since: datetime | None, until: datetime | None) -> list[dict[str, Any]]:
    table = schema.requests
    joined, name = join_runs()
    query = sa.select(*table.c, name.label("run_name")).select_from(joined)
    with store.reading() as connection:
        rows = connection.execute(query.where(bound(since, until))).mappings()
        return [dict(row) for row in rows]
