"""The server counts events for ``/metrics``."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("genjax_requests", "answers", ["path", "status"], registry=registry)
        self.tokens = Counter("genjax_tokens", "tokens", ["kind"], registry=registry)
        self.first = Histogram(
            "genjax_first_token_seconds",
            "from a request to its first token",
            registry=registry,
            buckets=SECONDS,
        )
        self.whole = Histogram(
            "genjax_request_seconds", "of an answer", ["path"], registry=registry, buckets=SECONDS
        )
        self.active = Gauge("genjax_slots_active", "texts being drawn", registry=registry)
        self.waiting = Gauge("genjax_waiting", "texts and jobs that wait", registry=registry)
        self.loaded = Gauge("genjax_models_loaded", "runs in memory", registry=registry)
        self.memory = Gauge("genjax_models_bytes", "bytes of the runs", registry=registry)
        self.prefixes = Gauge("genjax_prefix_hits", "prompts read in part", registry=registry)
        self.stored = Counter("genjax_exchanges_stored", "written in time", registry=registry)
        self.behind = Gauge("genjax_exchanges_behind", "wait for the store", registry=registry)
        self.lost = Gauge("genjax_exchanges_lost", "never written", registry=registry)
        self.alerts = Gauge("genjax_alert", "1 while an alert lasts", ["rule"], registry=registry)
        self.seen = Gauge("genjax_alert_value", "what a rule saw", ["rule"], registry=registry)
        self.checks = Counter("genjax_alert_checks", "of all rules", ["result"], registry=registry)
        self._rules: set[str] = set()

    def show_alerts(self, found: Mapping[str, tuple[bool, float | None]] | None) -> None:
        """Show for each rule whether its alert lasts, and what it saw; None if no check was
        possible.
        """
        self.checks.labels("failed" if found is None else "done").inc()
        if found is None:
            return
        for name, (lasts, value) in found.items():
            self.alerts.labels(name).set(lasts)
            if value is not None:
                self.seen.labels(name).set(value)
        for name in self._rules - set(found):
            self.alerts.remove(name)
            self.seen.labels(name)  # a rule may have seen nothing
            self.seen.remove(name)
        self._rules = set(found)

    def write(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self.registry)
