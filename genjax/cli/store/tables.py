"""Print tables, whose cells may come from strangers."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads, or that there are none."""
    if not rows:
        print("nothing was found")
        return
    rows = [[clean(cell) for cell in row] for row in rows]
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = (f"{cell:<{size}}" for cell, size in zip(row, wide, strict=True))
        print("  ".join(cells).rstrip())


def clean(text: str) -> str:
    """Replace characters that would control a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
