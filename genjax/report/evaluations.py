"""Read what ``genjax evaluate`` has written."""

from __future__ import annotations

from typing import Any

from etils import epath

from genjax.errors import UserError
from genjax.serial import stored

JUDGED = "judged"  # in eval.json: all evaluations, the newest last


def read_judged(path: epath.Path) -> list[dict[str, Any]]:
    """Read the evaluations in an eval.json, the newest last; [] if it is missing or damaged, as it
    is written again.
    """
    if not path.exists():
        return []
    try:
        found = stored.read_json(path, dict, "evaluate again")
    except UserError:
        return []
    judged = found.get(JUDGED, [found])
    return [one for one in judged if isinstance(one, dict)] if isinstance(judged, list) else []
