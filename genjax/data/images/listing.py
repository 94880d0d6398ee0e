"""List folders with sizes and times of change, to notice cheaply that something has changed."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genjax.data.splits import digest


@dataclass(frozen=True)
class Listing:
    """Everything below some folders.

    Attributes:
      lines: path, size and time of change of each file, separated by NUL, sorted; folders end
        in "/".
      began: time at which listing began, in nanoseconds.
    """

    lines: tuple[str, ...]
    began: int

    @functools.cached_property
    def digest(self) -> str:
        return digest(["\0\0".join(self.lines).encode("utf-8", "surrogateescape")])

    @functools.cached_property
    def times(self) -> dict[str, str]:
        """Size and time of each path, as in ``lines``."""
        return {path: rest for path, _, rest in (line.partition("\0") for line in self.lines)}

    def find_recent(self, nanoseconds: int) -> list[str]:
        """Return the files that were changed less than so long before listing began."""
        least = self.began - nanoseconds
        sized = ((path, rest.split("\0")) for path, rest in self.times.items())
        return [path for path, parts in sized if len(parts) == 2 and int(parts[1]) > least]


def list_trees(roots: Sequence[Path], closed: bool) -> Listing:
    """List folders and all below them, following links, each folder once.

    Args:
      roots: the folders.
      closed: whether links that lead out of their root are listed, but not followed.
    """
    began, lines = time.time_ns(), []
    for root in roots:
        home = os.path.realpath(root)
        todo, seen = [str(root)], {home}
        while todo:
            folder = todo.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        path = entry.path
                        if entry.is_dir():
                            real = os.path.realpath(path) if entry.is_symlink() else ""
                            out = closed and real and not Path(real).is_relative_to(home)
                            if not out and real not in seen:
                                todo.append(path)
                            seen |= {real} - {""}
                            lines.append(f"{path}/\0folder")
                            continue
                        try:
                            found = entry.stat()
                        except OSError:  # a broken link
                            found = entry.stat(follow_symlinks=False)
                        lines.append(f"{path}\0{found.st_size}\0{found.st_mtime_ns}")
            except OSError as error:
                lines.append(f"{folder}/\0{error.errno}")
    lines.sort()
    return Listing(tuple(lines), began)
