"""The user's own text: files, and columns of tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset
from genjax.data.images.files import (
    fitting,
    format_counts,
    note_passed_over,
    place_pattern,
)
from genjax.data.stand_in import part_folder
from genjax.data.tables.delimited import check_dialect
from genjax.data.tables.tables import KINDS, TableTexts, detect_kind
from genjax.data.text.codecs import Characters
from genjax.data.text.dataset import text_dataset
from genjax.data.text.documents import FileTexts, Unit
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.splits import ByCharacters
from genjax.errors import UserError

DEFAULTS = ("*.txt", "*.jsonl")  # default patterns, for which case is ignored


@checks.frozen
class TextFiles:
    """Reads text files, plain or compressed (".gz"); hidden files are skipped.

    Attributes:
      root: a file or a folder; None for the folder text of $GENJAX_DATA, or generated stand-ins if
        that is not set.
      pattern: pattern of the files in the folder, such as "books/*.txt.gz", "**/*.txt" or
        "/data/*.txt"; the default also matches ".TXT".
      unit: what counts as a document: "files", "lines", or "paragraphs", which end at an empty
        line.
      encoding: encoding of the files.
      codec: codec of the text; without a vocabulary it is fitted to the training text.
      layout: how documents become rows.
      split: how documents are split.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
    """

    root: str | None = None
    pattern: str = DEFAULTS[0]
    unit: Unit = "files"
    encoding: str = "utf-8"
    codec: Component = Characters()
    layout: Any = RandomWindows()
    split: Any = ByCharacters()
    cache: str | None = None

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: there are no files or no text, the encoding is wrong (the message names file
            and byte), or text is outside the vocabulary.
        """
        folder, pattern = _locate(self.root, self.pattern)
        texts = FileTexts(folder, _files(folder, pattern), self.unit, self.encoding)
        return text_dataset(
            self.split.split(texts), self.codec, self.layout, self.cache, texts.left, texts.title
        )

    def check_domains(self) -> None:
        """Refuse a folder directly below the root, a domain, none of whose files match."""
        folder, pattern = _locate(self.root, self.pattern)
        if folder.is_file():
            return
        found = fitting(folder, pattern)
        tops = {name.split("/")[0] for name in found.names if "/" in name}
        for top in sorted(
            {entry.name.split("/")[0] for entry in found.others if "/" in entry.name} - tops
        ):
            what = format_counts(
                Counter(entry.kind for entry in found.others if entry.name.startswith(f"{top}/"))
            )
            if all("/" in name for name in found.names):
                raise UserError(
                    f"the domain {top!r} of {folder} has no file that matches {self.pattern!r}: "
                    f"{what}; convert its files, or move the folder away",
                    "pattern",
                )


@checks.frozen
class TextTables:
    """Reads a column of JSONL, CSV, TSV or Parquet files; each row is a document.

    Attributes:
      root: a file or a folder; None for the folder text of $GENJAX_DATA, or generated stand-ins if
        that is not set.
      pattern: pattern of the files in the folder, such as "**/*.parquet"; all but Parquet may be
        compressed (".jsonl.gz").
      column: column of the text.
      encoding: encoding of JSONL, CSV and TSV, and of bytes in Parquet.
      codec: codec of the text; without a vocabulary it is fitted to the training text.
      layout: how documents become rows.
      split: how documents are split.
      cache: folder for tokens; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
      domain: column of the kind of text, for ``DomainPerplexity``; None for the folder of the file
        directly below the root, or else the file.
      delimiter: character between values of CSV and TSV; None for a tab in .tsv and a comma
        otherwise.
      quote: character around values of CSV and TSV that contain the delimiter; "" for none; None
        for none in .tsv and double quotes otherwise.
      escape: character of CSV and TSV that makes the next one literal; None for none.
    """

    root: str | None = None
    pattern: str = DEFAULTS[1]
    column: str = "text"
    encoding: str = "utf-8"
    codec: Component = Characters()
    layout: Any = RandomWindows()
    split: Any = ByCharacters()
    cache: str | None = None
    domain: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None

    def __post_init__(self) -> None:
        check_dialect(self.delimiter, self.quote, self.escape)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``tokens`` and the other entries of the layout.

        Raises:
          UserError: there are no files or no text, a column is missing, a row is damaged, or text
            is outside the vocabulary.
        """
        folder, pattern = _locate(self.root, self.pattern)
        paths = _files(folder, pattern)
        for path in paths:
            detect_kind(path)
        texts = TableTexts(
            folder,
            paths,
            self.column,
            self.encoding,
            self.domain,
            delimiter=self.delimiter,
            quote=self.quote,
            escape=self.escape,
        )
        return text_dataset(
            self.split.split(texts), self.codec, self.layout, self.cache, texts.left, texts.title
        )


def _locate(root: str | None, pattern: str) -> tuple[Path, str]:
    """Return the folder of the texts and the pattern below it; an absolute pattern has its own
    folder.
    """
    folder, below = place_pattern(pattern)
    return (Path(part_folder("text", root)), pattern) if folder is None else (folder, below)


def _files(folder: Path, pattern: str) -> tuple[Path, ...]:
    """Return the files of ``folder`` that match ``pattern``, sorted, following links; ``folder``
    may also be a single file.

    A default pattern ignores case. One line reports how many other files there are.
    """
    if folder.is_file():
        return (folder,)
    if not folder.is_dir():
        raise UserError(f"there is no file or folder {folder}", str(folder))
    try:
        found = fitting(folder, pattern)
    except ValueError as error:
        raise UserError(
            f"pattern must be a pattern for files of {folder}, got {pattern!r}: {error}", "pattern"
        ) from None
    names = sorted(found.names + found.recased) if pattern in DEFAULTS else found.names
    recased = () if pattern in DEFAULTS else found.recased
    if not names:
        kinds = sorted(
            {path.suffix for path in folder.iterdir() if path.suffix in (".txt", ".gz", *KINDS)}
        )
        hint = f"; it holds files that end in {', '.join(kinds)}" if kinds else ""
        hint = f"; {recased[0]} would in another case" if recased else hint
        raise UserError(f"no file of {folder} matches {pattern!r}{hint}", "pattern")
    counts = Counter(entry.kind for entry in found.others if entry.name not in set(names))
    note_passed_over(str(folder), len(names), counts, recased)
    return tuple(folder / name for name in names)
