"""The alerts page lists rules and what they found; an admin acknowledges."""

from __future__ import annotations

from starlette.responses import Response

from genjax.serve.pages.visit import Visit
from genjax.store.monitoring.alerts import acknowledge, list_alerts
from genjax.store.monitoring.rule import WATCHED
from genjax.store.monitoring.rules import list_rules


def show_alerts(visit: Visit) -> Response:
    """Show the rules and the newest alerts."""
    store = visit.store
    return visit.show(
        "alerts.html", rules=list_rules(store), alerts=list_alerts(store), watched=WATCHED
    )


def acknowledge_one(visit: Visit) -> Response:
    """Note that the visitor has seen an alert."""
    acknowledge(visit.store, visit.form.one("id"))
    return visit.go("/alerts")
