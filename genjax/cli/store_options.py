"""The options of each action of ``genjax store``."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from genjax import checks
from genjax.errors import UserError

Asked = Literal["real", "synthetic", "any"]


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
class IngestOptions(Options):
    """Cut files of text, Markdown, HTML, PDF or JSON lines into chunks to be searched and cited.

    Attributes:
      chunk_tokens: of a chunk at most.
      overlap: tokens that a chunk repeats of the one before it, at most.
      tokenizer: that counts them: "wordllama", or the path of a tokenizer.json.
      encoding: of the files, where it is neither UTF-8 nor what they say themselves.
      field: of rows of JSON, that holds their text.
      origin: of the documents.
      generator: of synthetic ones: the id of a run, or "unknown".
    """

    chunk_tokens: int = 200
    overlap: int = 40
    tokenizer: str = "wordllama"
    encoding: str | None = None
    field: str = "text"
    origin: Literal["real", "synthetic"] = "real"
    generator: str | None = None


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
      offset: how many of the first to pass over.
    """

    index: str | None = None
    encoder: str = "wordllama"
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    filter: str = ""
    origin: Asked = "real"
    limit: int = 10
    offset: int = 0


@checks.frozen
class IndexOptions(Options):
    """Let the index follow the store.

    Attributes:
      index: the folder or URL of the index; beside a SQLite file by default.
      encoder: of the index's vectors.
      language: whose stems words are compared by, when the index is made.
      forget: an index that is gone: the outbox keeps no changes for it any more. May be given
        several times.
    """

    index: str | None = None
    encoder: str = "wordllama"
    language: str = "english"
    forget: tyro.conf.UseAppendAction[tuple[str, ...]] = ()


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
class DatasetOptions(Options):
    """Write drawn texts or pictures as a synthetic data set, as ``sample --as-dataset`` does.

    Attributes:
      filter: of the responses.
      out: the folder; prepared/NAME by default.
    """

    filter: str = ""
    out: str | None = None


@checks.frozen
class ScoreOptions(Options):
    """Score responses.

    Attributes:
      reward: the run of a reward model or a Python function as "module:function".
      name: of the score.
      filter: of the responses.
      origin: of the responses.
      fill: leave out what a person has scored under this name.
    """

    reward: str = ""
    name: str = "reward"
    filter: str = ""
    origin: Asked = "real"
    fill: bool = False

    def __post_init__(self) -> None:
        checks.some(self, "reward", "name")


@checks.frozen
class PreferOptions(Options):
    """Prefer of the responses to each prompt that of the highest score to that of the lowest.

    Attributes:
      name: of the score.
      margin: by which the higher score must be above.
      origin: of the responses.
      fill: leave out prompts of which a person prefers one response to another.
    """

    name: str = "reward"
    margin: float = 0.0
    origin: Asked = "real"
    fill: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "margin")


@checks.frozen
class CategoriseOptions(Options):
    """Label texts or pictures by the run of a classifier.

    Attributes:
      run: the run directory of the classifier.
      name: of the labels.
      filter: of the records.
      kind: of the records; any by default.
      origin: of the records.
    """

    run: str = ""
    name: str = "category"
    filter: str = ""
    kind: str | None = None
    origin: Asked = "real"

    def __post_init__(self) -> None:
        checks.some(self, "run", "name")


@checks.frozen
class AgreementOptions(Options):
    """Say whether raters agree, and whether preferences follow length or place.

    Attributes:
      filter: of the feedback.
      origin: of the responses.
    """

    filter: str = ""
    origin: Asked = "real"


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
      fast: compare the sizes of blobs instead of reading them.
    """

    repair: bool = False
    fast: bool = False


@checks.frozen
class CopyOptions(Options):
    """Copy a store, or fill one.

    Attributes:
      blobs: the folder or bucket of the new store's large payloads.
    """

    blobs: str | None = None
