"""The actions on records, sets and indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genjax.cli.store.action import Action
from genjax.cli.store.options import (
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


def _run(name: str, words: Sequence[str], options: Options) -> None:
    from genjax.cli.store.actions import run_action

    run_action(name, words, options)


ACTIONS: Mapping[str, Action] = {
    name: Action(words, what, options, _run)
    for name, words, what, options in (
        ("init", "STORE", "make a store", InitOptions),
        (
            "import",
            "STORE ...",
            "JSON lines, JSON or Parquet; or --sql URL --query QUERY",
            ImportOptions,
        ),
        (
            "ingest",
            "STORE FILE...",
            "documents of text, Markdown, HTML, PDF or JSON lines, in chunks",
            IngestOptions,
        ),
        ("add", "STORE RECORD...", "records as JSON objects", Options),
        ("search", "STORE QUERY", "find records by words and meaning", SearchOptions),
        ("show", "STORE ...", "what there is; records, and conversations of sessions", ShowOptions),
        ("lineage", "STORE ID", "where a record comes from, and what was made from it", Options),
        ("export", "STORE OUT", "training sets, traces, or records as they are", ExportOptions),
        (
            "dataset",
            "STORE NAME",
            "drawn texts or pictures as a synthetic data set",
            DatasetOptions,
        ),
        ("score", "STORE", "score responses by a reward", ScoreOptions),
        ("prefer", "STORE", "prefer responses of high scores to those of low ones", PreferOptions),
        ("categorise", "STORE", "label texts or pictures by a classifier's run", CategoriseOptions),
        (
            "agreement",
            "STORE",
            "whether raters agree, and what else preferences follow",
            AgreementOptions,
        ),
        (
            "tag",
            "STORE ...",
            "add and remove tags of records, or name the state of the store",
            TagOptions,
        ),
        (
            "delete",
            "STORE ID...",
            "hide records; --undo shows them again, --erase removes them for good",
            DeleteOptions,
        ),
        ("check", "STORE", "find what is damaged", CheckOptions),
        ("rebuild", "STORE", "build the search index again", IndexOptions),
        ("maintain", "STORE", "let the index follow the records", IndexOptions),
        ("migrate", "STORE", "bring a store to the schema of this genjax", Options),
        ("backup", "STORE FOLDER", "a copy that is compared with the store", Options),
        ("restore", "STORE FOLDER", "fill an empty store from a backup", CopyOptions),
        ("copy", "STORE TARGET", "all records to an empty store", CopyOptions),
    )
}
