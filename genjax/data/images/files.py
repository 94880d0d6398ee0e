"""Shared by all sources of files: listing a folder, labels from folder names, held-out files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from genjax.data.images.decode import note
from genjax.data.splits import digest
from genjax.errors import UserError

LEFT_BY_SYSTEMS = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # ignored silently
HIDDEN, BROKEN, LOOP, OUTSIDE = "hidden", "broken link", "looping link", "link that leads out"
SPECIAL, UNREADABLE = "pipe, socket or device", "unreadable folder"
MANY = "folder that has too many names"
PLURAL = {
    BROKEN: "broken links",
    LOOP: "looping links",
    OUTSIDE: "links that lead out",
    SPECIAL: "pipes, sockets or devices",
    UNREADABLE: "unreadable folders",
    MANY: "folders that have too many names",
}
# Most names of one folder through links: folders that link to each other have infinitely many.
MOST_NAMES = 100
KINDS = 8  # kinds that a line names; the rest are summed
MAGIC = re.compile(r"[*?\[]")


def place_pattern(pattern: str) -> tuple[Path | None, str]:
    """Split an absolute pattern, such as "/data/*.txt" or "~/books/**/*.txt", into a folder and the
    pattern below it; for a relative pattern return None and the pattern.
    """
    whole = os.path.expanduser(pattern)
    if not os.path.isabs(whole):
        return None, pattern
    parts = Path(whole).parts
    plain = next((i for i, part in enumerate(parts) if MAGIC.search(part)), len(parts) - 1)
    plain = min(plain, len(parts) - 1)
    return Path(*parts[:plain]), "/".join(parts[plain:])


class Entry(NamedTuple):
    """A file below a folder, or an entry that is skipped with all its content.

    Attributes:
      name: path below the folder, with "/" on every system.
      fault: why the entry is skipped, such as "broken link"; "" if it can be read.
      linked: whether a link leads to it.
    """

    name: str
    fault: str = ""
    linked: bool = False

    @property
    def kind(self) -> str:
        """The kind reported for a skipped file: its fault, or else its suffix."""
        return self.fault or PurePosixPath(self.name).suffix.lower() or "without a suffix"


class Fitting(NamedTuple):
    """The files of a folder that match a pattern.

    Attributes:
      names: paths below the folder, sorted.
      broken: paths of matching links that lead nowhere.
      recased: paths that would match if case were ignored.
      others: all other entries where the pattern looks.
    """

    names: list[str]
    broken: list[str]
    recased: list[str]
    others: list[Entry]


def entries(
    root: Path,
    below: str = "",
    depth: int | None = None,
    *,
    hidden: bool = False,
    closed: bool = False,
) -> Iterator[Entry]:
    """Yield the files below a folder in any order, following links.

    A link to one of its own parent folders is not followed. A folder reachable under several names
    is listed under each.

    Args:
      root: the folder.
      below: folder inside it to start from.
      depth: levels of folders to list, including the first; None for all.
      hidden: whether to include files and folders whose name starts with ".".
      closed: whether to skip links that lead out of the root, as in untrusted archives.

    Raises:
      UserError: a name is not in UTF-8.
    """
    home = os.path.realpath(root)
    times: Counter[tuple[int, int]] = Counter()
    start = [root, *(root / below).parents[: len(PurePosixPath(below).parts)], root / below]
    todo = [(below, frozenset(map(_identity, start)), 1, False)]
    while todo:
        folder, above, level, linked = todo.pop()
        try:
            with os.scandir(root / folder) as scan:
                found = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            yield Entry(folder, UNREADABLE)
            continue
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            check_name(entry.path)
            link = entry.is_symlink()
            if entry.name.lower() in LEFT_BY_SYSTEMS or (entry.name.startswith(".") and not hidden):
                yield Entry(name, HIDDEN)
            elif link and not os.path.exists(entry.path):  # such as links to each other
                yield Entry(name, BROKEN)
            elif closed and link and not Path(os.path.realpath(entry.path)).is_relative_to(home):
                yield Entry(name, OUTSIDE)
            elif entry.is_dir():
                if depth is not None and level == depth:
                    continue
                itself = _identity(Path(entry.path))
                times[itself] += 1
                if itself in above or times[itself] > MOST_NAMES:
                    yield Entry(name, LOOP if itself in above else MANY)
                else:
                    todo.append((name, above | {itself}, level + 1, linked or link))
            else:
                yield Entry(name, "" if entry.is_file() else SPECIAL, linked or link)


def list_files(
    root: Path,
    suffixes: Collection[str],
    things: str,
    *,
    classes: bool = True,
    closed: bool = False,
    besides: Collection[str] = (),
) -> list[str]:
    """List the files below ``root`` that have one of the suffixes: sorted paths, with "/" on every
    system, without hidden files.

    One line reports how many other files there are, and of which kinds.

    Args:
      root: the folder.
      suffixes: suffixes in lower case; case is ignored.
      things: name of the files in messages, such as "images".
      classes: whether the folders directly under the root are labels, each of which must have
        files.
      closed: whether links that lead out of the root are skipped.
      besides: names and suffixes of further files that are read, so not counted as skipped.

    Raises:
      UserError: the folder is missing, has no such file, has a label without files, or a name is
        not in UTF-8.
    """
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder" if root.exists() else f"there is no folder {root}", str(root)
        )
    names: list[str] = []
    linked = False
    loops: set[str] = set()
    # By the folder directly under the root.
    passed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries(root, closed=closed):
        loops |= {entry.name} if entry.fault == LOOP else set()
        if not entry.fault and os.path.splitext(entry.name)[1].lower() in suffixes:
            names.append(entry.name)
            linked |= entry.linked
        elif entry.fault or not {PurePosixPath(entry.name).name, entry.kind} & set(besides):
            passed[_top(entry)][entry.kind] += 1
    counts = sum(passed.values(), Counter[str]())
    if not names:
        known = f" ({', '.join(sorted(suffixes))})" if len(suffixes) <= KINDS else ""
        instead = f"; it has {format_counts(counts)}" if counts else ""
        raise UserError(f"{root} holds no {things}{known}{instead}", str(root))
    if classes and all("/" in name for name in names):
        tops = {name.split("/")[0] for name in names}
        _check_classes(root, things, passed, tops | loops | {""})
    note_passed_over(str(root), len(names), counts)
    twice = len(names) - len({_identity(root / name) for name in names}) if linked else 0
    if twice:
        note(
            f"{root}: links give {twice:,} files a second name; one name may be held out while "
            "the other is trained on"
        )
    return sorted(names)


def _check_classes(
    root: Path, things: str, passed: Mapping[str, Counter[str]], known: Collection[str]
) -> None:
    """Refuse a class, a folder directly under the root, that has no readable file.

    Args:
      root: the folder.
      things: name of the files in messages.
      passed: kinds of skipped files in each class.
      known: folders that are not empty classes.
    """
    there = {
        entry.name for entry in os.scandir(root) if entry.is_dir() and not _is_hidden(entry.name)
    }
    for top in sorted((there | set(passed)) - set(known)):
        what = format_counts(passed.get(top, Counter())) or "it is empty"
        raise UserError(
            f'class "{top}" of {root} has no readable {things}: {what}; convert its files, '
            f"or move it out of {root}",
            str(root / top),
        )


def fitting(root: Path, pattern: str) -> Fitting:
    """Find the files below a folder that match a pattern such as "books/*.txt.gz" or "**/*.png",
    following links.

    Hidden files match if a part of the pattern starts with ".".

    Raises:
      ValueError: the pattern is not valid.
      UserError: a name is not in UTF-8.
    """
    from fsspec.utils import glob_translate

    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    pattern = "/".join(parts)
    plain = next(
        (place for place, part in enumerate(parts[:-1]) if MAGIC.search(part)), len(parts) - 1
    )
    below = "/".join(parts[:plain])
    found = Fitting([], [], [], [])
    if not parts:
        raise ValueError("it is empty")
    if not MAGIC.search(pattern):
        if not (root / pattern).is_dir() and os.path.lexists(root / pattern):
            (found.names if (root / pattern).is_file() else found.broken).append(pattern)
        return found
    written, loose = (re.compile(glob_translate(pattern), flag) for flag in (0, re.IGNORECASE))
    if not (root / below).is_dir():
        return found
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    for entry in entries(root, below, None if "**" in parts else len(parts) - plain, hidden=hidden):
        if not entry.fault and written.match(entry.name):
            found.names.append(entry.name)
            continue
        found.others.append(entry)
        if entry.fault == BROKEN and written.match(entry.name):
            found.broken.append(entry.name)
        elif not entry.fault and loose.match(entry.name):
            found.recased.append(entry.name)
    for names in found[:3]:
        names.sort()
    return found


def format_counts(counts: Mapping[str, int]) -> str:
    """Format counts of kinds, the most frequent first, such as "2 .txt, 1 broken link"."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [
        f"{count:,} {PLURAL.get(kind, kind) if count > 1 else kind}"
        for kind, count in order[:KINDS]
    ]
    rest = sum(count for _, count in order[KINDS:])
    return ", ".join([*shown, f"{rest:,} of other kinds"] if rest else shown)


def note_passed_over(
    title: str, taken: int, counts: Mapping[str, int], recased: Collection[str] = ()
) -> None:
    """Print one line about skipped files, if there are any.

    Args:
      title: name of the folder or source.
      taken: number of files that are not skipped.
      counts: numbers of skipped files by kind.
      recased: skipped files that would match if case were ignored.
    """
    over = sum(counts.values())
    if over:
        hint = (
            f"; {len(recased):,} would match in another case, such as {min(recased)}"
            if recased
            else ""
        )
        note(f"{title}: {over:,} of {taken + over:,} files skipped: {format_counts(counts)}{hint}")


def folder_labels(names: Sequence[str]) -> tuple[np.ndarray | None, int | None]:
    """Return labels [N] int32 and the number of classes if the folders directly under the root are
    classes, else None and None.
    """
    tops = [name.split("/")[0] if "/" in name else None for name in names]
    found = [spelt_alike(top) for top in tops if top is not None]
    if None in tops or len(set(found)) < 2:
        return None, None
    return number_words(found)


def name_words(words: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct words in the order in which ``number_words`` numbers them."""
    return tuple(sorted(set(map(spelt_alike, words))))


def number_words(words: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return labels [N] int32, the alphabetical positions of the words, and the number of classes.

    Words that differ only in the Unicode spelling of accents are equal.
    """
    alike = [spelt_alike(word) for word in words]
    number = {word: i for i, word in enumerate(sorted(set(alike)))}
    return np.array([number[word] for word in alike], np.int32), len(number)


def split_rows(
    root: str, names: Sequence[str], fraction: float, things: str
) -> dict[str, np.ndarray]:
    """Return the rows [M] of "train" and, unless ``fraction`` is 0, of "test".

    The choice depends only on each file's path below the root, so adding files moves no other file.

    Raises:
      UserError: there is only one file, which cannot be in both.
    """
    place = np.array([_hash_position(name) for name in names])  # [N] in [0, 1)
    if fraction == 0:
        return {"train": np.arange(len(names))}
    if len(names) < 2:
        raise UserError(f"{root} holds one usable {things}; test_fraction=0 trains on it alone")
    test = place < fraction
    test[place.argmin()] = True  # at least one file is held out
    if test.all():
        test[place.argmax()] = False
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def _hash_position(name: str) -> float:
    """Map a path to [0, 1), the same on every file system."""
    return int(digest([spelt_alike(name).encode()])[:13], 16) / 16**13


def spelt_alike(name: str) -> str:
    """Return a name with its accents in the same Unicode spelling on every file system."""
    return unicodedata.normalize("NFC", name)


def _identity(path: Path) -> tuple[int, int]:
    """Return what identifies a folder under any name."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def _top(entry: Entry) -> str:
    """Return the folder directly under the root that contains an entry, or that the entry is; ""
    for a file of the root.
    """
    top, _, rest = entry.name.partition("/")
    folder = entry.fault in (UNREADABLE, MANY) or (
        entry.fault in (BROKEN, OUTSIDE) and not PurePosixPath(top).suffix
    )
    return top if rest or folder else ""


def check_name(path: str) -> None:
    """Raise ``UserError`` if a name is not in UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the name of the file {path!r} must be in UTF-8: rename it", repr(path)
        ) from error
