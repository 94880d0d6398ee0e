"""Write the usage of a store as metrics of OpenTelemetry, in OTLP's JSON.

The names are those of version 1.37 of the conventions for generative AI, which are still in
development. A file has one object with ``resourceMetrics``; numbers of 64 bits are texts in it, as
the JSON mapping of Protocol Buffers wants.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.machine import disk
from genjax.store import schema
from genjax.store.formats.otlp import VERSION, write_attributes
from genjax.store.formats.turns import Object
from genjax.store.monitoring.usage import BATCH, FAILED, bound, join_runs
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
SCALES = (1, 1, 1e3, 1e3)  # of tokens, and of milliseconds in a second
Key = tuple[tuple[str, str], ...]
Columns: TypeAlias = "tuple[array[float], array[float], array[float], array[float]]"
Read: TypeAlias = "tuple[dict[tuple[str, int, str | None], Columns], tuple[int, int], int]"


def _write_histogram(
    bounds: Sequence[float], values: np.ndarray, attributes: Key, span: tuple[int, int]
) -> Object:
    """Return values [N], counted between bounds, as a point of a histogram."""
    places = np.searchsorted(bounds, values, side="left")  # a value at a bound is below it
    counts = np.bincount(places, minlength=len(bounds) + 1)
    return {
        "attributes": write_attributes(dict(attributes)),
        "startTimeUnixNano": str(span[0]),
        "timeUnixNano": str(span[1]),
        "count": str(len(values)),
        "sum": float(values.sum()),
        "bucketCounts": [str(count) for count in counts],
        "explicitBounds": list(bounds),
        "min": float(values.min()),
        "max": float(values.max()),
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
    if path.is_dir() or not path.name:
        raise UserError(f"otlp must be a file, got {out}", "otlp")
    with disk.explain_full_disk("nothing was written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.write_atomically(path) as part:
            part.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    return count


def make_metrics(
    store: Store, since: datetime | None, until: datetime | None
) -> tuple[Object, int]:
    """Return the requests of a time as an object with ``resourceMetrics``, and their number."""
    groups: dict[str, dict[Key, array[float]]] = {name: {} for name in METRICS}
    found, span, count = _read(store, since, until)
    for of, columns in found.items():
        for name, more, values in _measure(columns):
            if values:
                key: Key = tuple(sorted((_describe(*of) | more).items()))
                groups[name].setdefault(key, array("d")).extend(values)
    metrics = [
        {
            "name": name,
            "unit": METRICS[name][0],
            "description": METRICS[name][1],
            "histogram": {
                "aggregationTemporality": CUMULATIVE,
                "dataPoints": [
                    _write_histogram(METRICS[name][2], np.array(values), key, span)
                    for key, values in sorted(points.items())
                ],
            },
        }
        for name, points in groups.items()
        if points
    ]
    resource = {"service.name": "genjax", "semconv_version": VERSION}
    schema_url = f"https://opentelemetry.io/schemas/{VERSION}"
    scope = {"scope": {"name": "genjax"}, "metrics": metrics, "schemaUrl": schema_url}
    about = {"attributes": write_attributes(resource)}
    whole: Object = {"resource": about, "scopeMetrics": [scope], "schemaUrl": schema_url}
    return {"resourceMetrics": [whole]}, count


def _describe(route: str, status: int, run: str | None) -> dict[str, str]:
    found = {
        "gen_ai.operation.name": OPERATIONS.get(route, "generate_content"),
        "gen_ai.provider.name": "genjax",
    }
    if run is not None:
        found["gen_ai.request.model"] = run
    if status >= FAILED:
        found["error.type"] = str(status)
    return found


def _measure(columns: Columns) -> list[tuple[str, dict[str, str], array[float]]]:
    """Return the values of requests: the metric, attributes of its own, and the numbers."""
    read, drawn, whole, first = columns
    return [
        ("gen_ai.client.token.usage", {"gen_ai.token.type": "input"}, read),
        ("gen_ai.client.token.usage", {"gen_ai.token.type": "output"}, drawn),
        ("gen_ai.client.operation.duration", {}, whole),
        ("gen_ai.server.request.duration", {}, whole),
        ("gen_ai.server.time_to_first_token", {}, first),
    ]


def _read(store: Store, since: datetime | None, until: datetime | None) -> Read:
    """Read the numbers of requests by route, status and run: tokens read and drawn, and seconds of
    the whole and to the first token; and the span of time in nanoseconds, and how many they are.
    """
    table = schema.requests
    joined, name = join_runs()
    numbers = ("tokens_in", "tokens_out", "milliseconds", "first_ms")
    columns = (table.c.route, table.c.status, name, table.c.time, *(table.c[n] for n in numbers))
    query = sa.select(*columns).select_from(joined).where(bound(since, until))

    def read(connection: sa.Connection) -> Read:
        found: dict[tuple[str, int, str | None], Columns] = {}
        start, end, count = 2**63, 0, 0
        streamed = connection.execution_options(stream_results=True).execute(query)
        for rows in streamed.partitions(BATCH):
            count += len(rows)
            for route, status, run, time, *values in rows:
                start, end = min(start, time), max(end, time + round(1e3 * (values[2] or 0)))
                kept = found.setdefault(
                    (route, status, run), (array("d"), array("d"), array("d"), array("d"))
                )
                for one, value, scale in zip(kept, values, SCALES, strict=True):
                    if value is not None:
                        one.append(value / scale)
        return found, (1000 * min(start, end), 1000 * end), count

    return store.browse(read)
