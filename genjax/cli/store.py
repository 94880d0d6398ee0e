"""``genjax store``: its actions and their options; packages are imported when an action runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tyro

from genjax.cli.options import explain_store
from genjax.cli.store_options import (
    AgreementOptions,
    CategoriseOptions,
    CheckOptions,
    CopyOptions,
    DatasetOptions,
    DeleteOptions,
    ExportOptions,
    ImportOptions,
    IndexOptions,
    IngestOptions,
    InitOptions,
    Options,
    PreferOptions,
    ScoreOptions,
    SearchOptions,
    ShowOptions,
    TagOptions,
)
from genjax.errors import UserError, unknown_name

USAGE = """usage: genjax store ACTION STORE ... [--user NAME]

  init       STORE              make a store
  import     STORE FILE...      JSON lines, JSON or Parquet; or --sql URL --query QUERY
  ingest     STORE FILE...      documents of text, Markdown, HTML, PDF or JSON lines, in chunks
  add        STORE RECORD...    records as JSON objects
  search     STORE QUERY        find records by words and meaning
  show       STORE [ID...]      what there is; records, and conversations of sessions
  lineage    STORE ID           where a record comes from, and what was made from it
  export     STORE OUT          training sets, traces, or records as they are
  dataset    STORE NAME         drawn texts or pictures as a synthetic data set
  score      STORE              score responses by a reward
  prefer     STORE              prefer responses of high scores to those of low ones
  categorise STORE              label texts or pictures by a classifier's run
  agreement  STORE              whether raters agree, and what else preferences follow
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

ACTIONS: dict[str, tuple[type[Options], str]] = {  # options, and the words that come before
    "init": (InitOptions, "STORE"),
    "import": (ImportOptions, "STORE ..."),
    "ingest": (IngestOptions, "STORE FILE..."),
    "add": (Options, "STORE RECORD..."),
    "search": (SearchOptions, "STORE QUERY"),
    "show": (ShowOptions, "STORE ..."),
    "lineage": (Options, "STORE ID"),
    "export": (ExportOptions, "STORE OUT"),
    "dataset": (DatasetOptions, "STORE NAME"),
    "score": (ScoreOptions, "STORE"),
    "prefer": (PreferOptions, "STORE"),
    "categorise": (CategoriseOptions, "STORE"),
    "agreement": (AgreementOptions, "STORE"),
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
    """Run ``genjax store ACTION STORE``."""
    if target not in ACTIONS:
        raise unknown_name("action of store", target, ACTIONS)
    kind, needed = ACTIONS[target]
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    rest = list(arguments[len(words) :])
    if {"-h", "--help"} & set(rest):
        print(f"genjax store {target} {needed} [options]\n")
    options: Any = tyro.cli(kind, args=rest, prog=f"genjax store {target} {needed}")
    least = len(needed.replace(" ...", "").split())
    if len(words) < least or ("..." not in needed and len(words) > least):
        raise UserError(
            f"store {target} needs {needed} before its options, got {len(words)} words", target
        )
    with explain_store():
        from genjax.cli.store_actions import run_action

        run_action(target, words, options)
