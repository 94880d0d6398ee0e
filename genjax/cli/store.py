"""``genjax store``: its actions and their options; what they need is imported when one runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from genjax import checks
from genjax.errors import UserError, unknown_name

USAGE = """usage: genjax store ACTION STORE ... [--user NAME]

  init       STORE              make a store
  import     STORE FILE...      JSON lines, JSON or Parquet; or --sql URL --query QUERY
  add        STORE RECORD...    records as JSON objects
  search     STORE QUERY        find records by words and meaning
  show       STORE [ID...]      what there is; records, and conversations of sessions
  lineage    STORE ID           where a record comes from, and what was made from it
  export     STORE OUT          training sets, traces, or records as they are
  score      STORE              score responses by a reward
  tag        STORE ID...        add and remove tags
  delete     STORE ID...        hide records; --undo shows them again, --erase removes them for good
  check      STORE              find what is damaged
  rebuild    STORE              build the search index again
  maintain   STORE              let the index follow the records
  migrate    STORE              bring a store to the schema of this genjax
  backup     STORE FOLDER       a copy that is compared with the store
  restore    STORE FOLDER       fill an empty store from a backup
  copy       STORE TARGET       all records to an empty store

STORE is a path (SQLite) or a URL: postgresql://... See docs/store.md."""

Asked = Literal["real", "synthetic", "any"]
Words = Sequence[str]


@checks.frozen
class Options:
    """Work on a store.

    Attributes:
      user: who writes, for the history; who is logged in by default.
    """

    user: str | None = None


@checks.frozen
class InitOptions(Options):
    """Make a store.

    Attributes:
      blobs: the folder or bucket of large payloads; beside a SQLite file by default.
    """

    blobs: str | None = None


@checks.frozen
class ImportOptions(Options):
    """Import records; what is there already is left out.

    Attributes:
      sql: the URL of a database to query instead of files.
      query: what it is asked; columns are members of rows.
      origin: of records that do not say it.
      generator: of synthetic ones: the id of a run, or "unknown".
    """

    sql: str | None = None
    query: str | None = None
    origin: Literal["real", "synthetic"] = "real"
    generator: str | None = None

    def __post_init__(self) -> None:
        if (self.sql is None) != (self.query is None):
            raise UserError("sql and query go together: give both or neither", "sql")


@checks.frozen
class SearchOptions(Options):
    """Search a store.

    Attributes:
      index: the folder or URL of the index; beside a SQLite file by default.
      encoder: of the index's vectors.
      mode: by meaning, words or both.
      filter: of what is found, as "kind=response score>0.5".
      origin: of what is found.
      limit: of what is found.
    """

    index: str | None = None
    encoder: str = "wordllama"
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    filter: str = ""
    origin: Asked = "real"
    limit: int = 10


@checks.frozen
class IndexOptions(Options):
    """Let the index follow the store.

    Attributes:
      index: the folder or URL of the index; beside a SQLite file by default.
      encoder: of the index's vectors.
    """

    index: str | None = None
    encoder: str = "wordllama"


@checks.frozen
class ShowOptions(Options):
    """Show records.

    Attributes:
      filter: of what is listed.
      kind: of what is listed.
      origin: of what is shown.
      limit: of what is listed.
      history: who changed a record, and when.
    """

    filter: str | None = None
    kind: str | None = None
    origin: Asked = "real"
    limit: int = 20
    history: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "limit")


@checks.frozen
class ExportOptions(Options):
    """Export records.

    Attributes:
      form: "sft" of prompts and completions, "preferences" of pairs, "prompts" alone, "messages"
        of conversations, "texts" of documents, "otlp" of traces, "records" as they are.
      filter: of responses, feedback, prompts, sessions, documents or any record, as the form is.
      origin: of every record that a row needs.
      dedup: leave out rows that are, or nearly are, another.
      name: note the set in the store by this name.
    """

    form: Annotated[
        Literal["sft", "preferences", "prompts", "messages", "texts", "otlp", "records"],
        tyro.conf.arg(name="as"),
    ] = "records"
    filter: str = ""
    origin: Asked = "real"
    dedup: bool = False
    name: str | None = None


@checks.frozen
class ScoreOptions(Options):
    """Score responses.

    Attributes:
      reward: the run of a reward model or a Python function as "module:function".
      name: of the score.
      filter: of the responses.
      origin: of the responses.
    """

    reward: str = ""
    name: str = "reward"
    filter: str = ""
    origin: Asked = "real"

    def __post_init__(self) -> None:
        checks.some(self, "reward", "name")


@checks.frozen
class TagOptions(Options):
    """Tag records.

    Attributes:
      add: tags.
      remove: tags.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@checks.frozen
class DeleteOptions(Options):
    """Hide records.

    Attributes:
      undo: show hidden ones again.
      erase: remove them for good.
    """

    undo: bool = False
    erase: bool = False

    def __post_init__(self) -> None:
        if self.undo and self.erase:
            raise UserError("undo and erase exclude each other", "undo")


@checks.frozen
class CheckOptions(Options):
    """Check a store.

    Attributes:
      repair: remove blobs that no record has.
    """

    repair: bool = False


@checks.frozen
class CopyOptions(Options):
    """Copy a store, or fill one.

    Attributes:
      blobs: the folder or bucket of the new store's large payloads.
    """

    blobs: str | None = None


ACTIONS: dict[str, tuple[type[Options], str]] = {  # options, and the words that come before
    "init": (InitOptions, "STORE"),
    "import": (ImportOptions, "STORE ..."),
    "add": (Options, "STORE RECORD..."),
    "search": (SearchOptions, "STORE QUERY"),
    "show": (ShowOptions, "STORE ..."),
    "lineage": (Options, "STORE ID"),
    "export": (ExportOptions, "STORE OUT"),
    "score": (ScoreOptions, "STORE"),
    "tag": (TagOptions, "STORE ID..."),
    "delete": (DeleteOptions, "STORE ID..."),
    "check": (CheckOptions, "STORE"),
    "rebuild": (IndexOptions, "STORE"),
    "maintain": (IndexOptions, "STORE"),
    "migrate": (Options, "STORE"),
    "backup": (Options, "STORE FOLDER"),
    "restore": (CopyOptions, "STORE FOLDER"),
    "copy": (CopyOptions, "STORE TARGET"),
}


def store_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax store ACTION STORE``."""
    if target not in ACTIONS:
        raise unknown_name("action of store", target, ACTIONS)
    kind, needed = ACTIONS[target]
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    rest = list(arguments[len(words) :])
    if {"-h", "--help"} & set(rest):
        print(f"usage: genjax store {target} {needed} [options]\n\n{USAGE}\n")
    options: Any = tyro.cli(kind, args=rest, prog=f"genjax store {target} {needed}")
    least = len(needed.replace(" ...", "").split())
    if len(words) < least or ("..." not in needed and len(words) > least):
        raise UserError(
            f"store {target} needs {needed} before its options, got {len(words)} words", target
        )
    try:
        from genjax.cli.store_actions import run_action

        run_action(target, words, options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("genjax"):
            raise
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"store: the package {error.name} is missing: {cure}", "store") from None
