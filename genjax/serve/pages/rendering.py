"""Templates are rendered here: all their values are escaped."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@functools.cache
def make_environment() -> Environment:
    """Build the environment of the templates beside this file."""
    environment = Environment(
        loader=PackageLoader("genjax.serve.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "when": show_time,
        "json": show_json,
        "count": show_count,
        "amount": show_amount,
        "tidy": show_value,
    }
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """Render a template to HTML."""
    return make_environment().get_template(template).render(values)


def show_time(time: datetime) -> str:
    """Format a time in UTC to the minute."""
    return time.strftime("%Y-%m-%d %H:%M")


def show_json(value: Any) -> str:
    """Format JSON for reading."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=dict)


def show_count(number: int, one: str, many: str | None = None) -> str:
    """Format a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def show_amount(number: float) -> str:
    """Format a number to three digits, whole numbers in full."""
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def show_value(value: Any) -> str:
    """Format the value of a field as a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(value)
