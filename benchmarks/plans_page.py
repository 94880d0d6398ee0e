"""The page of ``benchmarks.plans``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def write_page(found: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    return ""
