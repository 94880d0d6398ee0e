"""Print tables."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads, or that there are none."""
    if not rows:
        print("nothing was found")
        return
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = (f"{cell:<{size}}" for cell, size in zip(row, wide, strict=True))
        print("  ".join(cells).rstrip())
