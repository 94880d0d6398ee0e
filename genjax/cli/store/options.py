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
      user: the name that the history records; the login name by default.
      token: a file with a token of the store, whose role then holds; GENJAX_TOKEN by default.
    """

    user: str | None = None
    token: str | None = None


@checks.frozen
class InitOptions(Options):
    """Make a store.

    Attributes:
      blobs: the folder or bucket for large payloads; beside a SQLite file by default.
      encrypt: what to encrypt: "fields" for all texts and metadata or names of fields, and "blobs".
        The key comes from GENJAX_STORE_KEY.
      index: what of encrypted texts the search index holds: nothing, the texts without personal
        data that patterns find, also without names, or the plain texts.
      anonymise: how personal data is removed from new records: by patterns, by these and a model
        of names, or not.
      pseudonyms: whether to name users by keyed hashes.
    """

    blobs: str | None = None
    encrypt: tuple[str, ...] = ()
    index: Literal["nothing", "redacted", "redacted-names", "plain"] = "nothing"
    anonymise: Literal["none", "rules", "presidio"] = "none"
    pseudonyms: bool = False

    def __post_init__(self) -> None:
        if self.index != "nothing" and not self.encrypt:
            raise UserError("index is about encrypted texts: give encrypt as well", "index")


@checks.frozen
class ImportOptions(Options):
    """Import records, skipping those that the store already has.

    Attributes:
      sql: the URL of a database to query instead of files.
      query: the SQL query; its columns become the fields of each row.
      origin: the origin of records that do not state one.
      generator: what made synthetic records: the id of a run, or "unknown".
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
      chunk_tokens: the most tokens in a chunk.
      overlap: the most tokens that a chunk repeats from the one before it.
      tokenizer: the tokenizer that counts them: "wordllama", or the path of a tokenizer.json.
      encoding: the files' encoding, if it is neither UTF-8 nor the one they declare.
      field: the field of a JSON row that holds its text.
      origin: the origin of the documents.
      generator: what made synthetic records: the id of a run, or "unknown".
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
      encoder: the encoder that makes the index's vectors.
      mode: "vector" searches by meaning, "keyword" by words, "hybrid" by both.
      filter: a filter on the results, such as "kind=response score>0.5".
      origin: the origin of the results.
      limit: the most results to show.
      offset: the number of results to skip.
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
    """Bring the index up to date with the store.

    Attributes:
      index: the folder or URL of the index; beside a SQLite file by default.
      encoder: the encoder that makes the index's vectors.
      language: the language whose word stems a new index uses.
      forget: an index that no longer exists; the outbox stops keeping changes for it. May be
        given several times.
    """

    index: str | None = None
    encoder: str = "wordllama"
    language: str = "english"
    forget: tyro.conf.UseAppendAction[tuple[str, ...]] = ()


@checks.frozen
class ShowOptions(Options):
    """Show records.

    Attributes:
      filter: a filter on the records to list.
      kind: the kind of record to list.
      origin: the origin of the records to show.
      limit: the most records to list.
      history: show who changed a record, and when.
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
      filter: a filter on the responses, feedback, prompts, sessions, documents or records that
        the form exports.
      origin: the origin of every record that a row needs.
      dedup: leave out exact and near duplicates of other rows.
      name: a name under which the store records the exported set.
      dvc: write OUT.dvc beside the export, which DVC reads, with the state's fingerprint.
      from_replica: read from a replica that the store's URL names, which may be a little old.
    """

    form: Annotated[
        Literal["sft", "preferences", "prompts", "messages", "texts", "otlp", "records"],
        tyro.conf.arg(name="as"),
    ] = "records"
    filter: str = ""
    origin: Asked = "real"
    dedup: bool = False
    name: str | None = None
    from_replica: bool = False
    dvc: bool = False


@checks.frozen
class DatasetOptions(Options):
    """Write drawn texts or pictures as a synthetic data set, as ``sample --as-dataset`` does.

    Attributes:
      filter: a filter on the responses.
      out: the folder; prepared/NAME by default.
    """

    filter: str = ""
    out: str | None = None


@checks.frozen
class ScoreOptions(Options):
    """Score responses.

    Attributes:
      reward: the run of a reward model or a Python function as "module:function".
      name: the name of the score.
      filter: a filter on the responses.
      origin: the origin of the responses.
      fill: leave out responses that a person has scored under this name.
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
    """Prefer the response with the highest score to the one with the lowest, for each prompt.

    Attributes:
      name: the name of the score.
      margin: the amount by which the higher score must exceed the lower.
      origin: the origin of the responses.
      fill: leave out prompts for which a person has preferred one response to another.
    """

    name: str = "reward"
    margin: float = 0.0
    origin: Asked = "real"
    fill: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "margin")


@checks.frozen
class CategoriseOptions(Options):
    """Label texts or images with a trained classifier.

    Attributes:
      run: the run directory of the classifier.
      name: the name of the labels.
      filter: a filter on the records.
      kind: the kind of record; any by default.
      origin: the origin of the records.
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
    """Report whether raters agree, and whether preferences follow length or position.

    Attributes:
      filter: a filter on the feedback.
      origin: the origin of the responses.
    """

    filter: str = ""
    origin: Asked = "real"


@checks.frozen
class TagOptions(Options):
    """Tag records, or name the present state of the store.

    Attributes:
      add: the tags to add.
      remove: the tags to remove.
      state: the name of the state; then neither ids nor tags are given.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    state: str | None = None

    def __post_init__(self) -> None:
        if self.state is not None and (self.add or self.remove):
            raise UserError("state names the whole store: it goes without add and remove", "state")


@checks.frozen
class DeleteOptions(Options):
    """Hide records.

    Attributes:
      undo: show hidden ones again.
      erase: remove the records permanently.
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
      repair: remove blobs that no record refers to.
      fast: compare the sizes of blobs instead of reading them.
    """

    repair: bool = False
    fast: bool = False


@checks.frozen
class CopyOptions(Options):
    """Copy a store to a new store or an existing one.

    Attributes:
      blobs: the folder or bucket for the new store's large payloads.
    """

    blobs: str | None = None
