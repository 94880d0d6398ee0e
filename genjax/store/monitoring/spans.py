"""Times as users type them: a date, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from genjax.errors import UserError

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_AGO = re.compile(r"(\d{1,6})([mhd])", re.ASCII)


def read_moment(text: str | None, name: str) -> datetime | None:
    """Read ``2026-11-20``, ``2026-11-20T08:00``, or ``30d``, ``12h``, ``5m`` for that long ago.

    Args:
      text: what was typed; None for no time.
      name: name of the option, for the error.

    Raises:
      UserError: it is none of these.
    """
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - int(ago[1]) * UNITS[ago[2]]
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        rule = "a date or time of ISO 8601, or as 30d, 12h or 5m ago"
        raise UserError(f"{name} must be {rule}, got {text!r:.60}", name) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
