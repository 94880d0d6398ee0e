"""The actions on named states, replicas and shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from genjax import checks
from genjax.cli.store.action import Action
from genjax.cli.store.options import Options
from genjax.errors import UserError, unknown_name

READ_ONLY = ("show", "lineage", "export", "dataset", "agreement")  # actions on a state


@checks.frozen
class DiffOptions(Options):
    """Compare two states.

    Attributes:
      limit: the most records to list.
    """

    limit: int = 100

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "limit")


def _list_states(name: str, words: Sequence[str], options: Options) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.growth.states import list_states

    with open_as(words[0], token=options.token, read_only=True, user=options.user) as store:
        store.access.require_all()
        for one in list_states(store):
            print(
                f"{one.name:<20} {one.time:%Y-%m-%d %H:%M:%S} {one.user:<12} {one.records:>12,} "
                f"{one.fingerprint}"
            )


def _diff(name: str, words: Sequence[str], options: DiffOptions) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.growth.differences import diff_states

    place, first, second = words
    with open_as(place, token=options.token, read_only=True, user=options.user) as store:
        store.access.require_all()
        found = diff_states(store, first, second)
    print(f"added     {len(found.added):,}")
    print(f"removed   {len(found.removed):,}")
    print(f"changed   {len(found.changed):,}")
    lines = [f"+ {one}  {kind}" for one, kind in found.added.items()]
    lines += [f"- {one}  {kind}" for one, kind in found.removed.items()]
    lines += [f"~ {one}  {', '.join(names)}" for one, names in found.changed.items()]
    print("\n".join(lines[: options.limit]), end="\n" * bool(lines[: options.limit]))
    if len(lines) > options.limit:
        print(f"... and {len(lines) - options.limit:,} more: --limit")
    for state, count in zip((first, second), found.erased, strict=True):
        if count:
            print(f"note: {count:,} records of {state} were erased since, and are not compared")


@contextlib.contextmanager
def _open_past(arguments: Sequence[str]) -> Iterator[Sequence[str]]:
    """Provide an action on a file with the records of a state, instead of that on the store."""
    from genjax.data.images.decode import note
    from genjax.store.access.entering import open_as, read_token
    from genjax.store.growth.past import open_state

    if len(arguments) < 3 or any(word.startswith("-") for word in arguments[:3]):
        raise UserError("store at needs STORE STATE ACTION before its options", "at")
    place, name, action, *rest = arguments
    if action not in READ_ONLY:
        error = unknown_name("action on a state", action, READ_ONLY)
        raise UserError(f"at: {error}; a state can only be read", "at")
    typed = any(word.partition("=")[0] == "--token" for word in rest)
    if typed or read_token(None) is not None:
        raise UserError("token: at takes none, but the rights of the database", "token")
    with open_as(place, read_only=True) as store, open_state(store, name) as opened:
        if opened.remark:
            note(f"note: {opened.remark}")
        yield (action, str(opened.path), *rest)


@checks.frozen
class RegisterOptions(Options):
    """Register the checkpoints of a run.

    Attributes:
      mlflow: "sqlite" for mlflow.db beside the run directory, or a URI such as
        sqlite:///mlflow.db or http://localhost:5000.
      model: the name of the registered model; that of the run directory by default.
      link: let the registry name the run directory instead of having a copy of its files.
    """

    mlflow: str = "sqlite"
    model: str | None = None
    link: bool = False


def _register(name: str, words: Sequence[str], options: RegisterOptions) -> None:
    from genjax.runs.tracking import Tracking
    from genjax.store.access.entering import open_as
    from genjax.store.growth.registry import register

    place, run_dir = words
    tracking = Tracking(uri=options.mlflow, model=options.model)
    with open_as(place, token=options.token, user=options.user) as store:
        store.access.require_all()
        for one in register(store, run_dir, tracking, options.link):
            print(f"step {one.step:<10,} {one.model} version {one.version}  {one.record}")


def _shard(name: str, words: Sequence[str], options: Options) -> None:
    from genjax.store.access.entering import open_as
    from genjax.store.growth.resharding import reshard, shard_store

    place, *servers = words
    with open_as(place, token=options.token, user=options.user) as store:
        store.access.require_all()
        spread = shard_store if name == "shard" else reshard
        for server, buckets in spread(store, servers).items():
            print(f"{server:<40} {buckets:>3} buckets")


def _refuse(name: str, words: Sequence[str], options: Options) -> None:
    raise UserError(f"store {name} needs STORE STATE ACTION", name)


ACTIONS: Mapping[str, Action] = {
    "states": Action("STORE", "the named states of a store", Options, _list_states),
    "diff": Action("STORE STATE STATE", "what differs between two states", DiffOptions, _diff),
    "at": Action(
        "STORE STATE ACTION ...",
        f"a state as it was, to read: {', '.join(READ_ONLY)}",
        Options,
        _refuse,
        _open_past,
    ),
    "register": Action(
        "STORE RUN",
        "register the checkpoints of a run in MLflow, and note them",
        RegisterOptions,
        _register,
    ),
    "shard": Action(
        "STORE SERVER...", "let a new store's records lie on PostgreSQL servers", Options, _shard
    ),
    "reshard": Action("STORE SERVER...", "move the records to these servers", Options, _shard),
}
