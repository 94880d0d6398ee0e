"""The actions of ``genjax store``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from genjax.cli.store.ingest import ingest
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
from genjax.errors import UserError
from genjax.runs.rewards import load_reward
from genjax.serial.json_text import parse
from genjax.store.access.entering import open_as, read_token
from genjax.store.audit.deeds import note_deed
from genjax.store.conversation import Turn, read_tree
from genjax.store.exporting import export
from genjax.store.formats.plain import read_plain, write_plain
from genjax.store.formats.writing import Export
from genjax.store.growth.dvc import write_dvc
from genjax.store.growth.states import tag_state
from genjax.store.importing import import_file, import_query
from genjax.store.judging import prefer, score
from genjax.store.lineage import read_lineage, show_lineage
from genjax.store.lookups import find_visible
from genjax.store.maintenance import (
    analyse,
    backup,
    check,
    check_backup,
    copy_store,
    read_backup_plan,
    restore,
)
from genjax.store.opening import migrate_store, open_store
from genjax.store.privacy.changing import check_plan
from genjax.store.privacy.plan import Plan, copy_plan, parse_encrypted
from genjax.store.records import KINDS, Record, Session
from genjax.store.rows import load, name_kind
from genjax.store.searching import find_index, follow, open_search, rebuild, search
from genjax.store.store import Store
from genjax.store.training.agreement import describe_store
from genjax.store.training.classifying import categorise_by_run
from genjax.store.training.datasets import write_dataset

MAY_BE_OLD = ("search", "show", "lineage", "agreement")  # actions that read from replicas
SHOWN = 100  # characters of a text in a list


def run_action(action: str, words: Sequence[str], options: Options) -> None:
    """Run one action on the store that the first word names."""
    place, *rest = words
    if action == "migrate":
        if read_token(options.token) is not None:
            raise UserError(
                "token: migrate takes no token, but the rights of the database", "token"
            )
        migrate_store(place)
        print(f"store     {place}")
        return
    plan = _read_plan(options) if isinstance(options, InitOptions) else Plan()
    if action == "restore":
        plan = read_backup_plan(check_backup(rest[0]))  # before a store is made
    creates = action in ("init", "restore")
    reads = action in ("search", "show", "lineage", "agreement", "backup", "copy")
    blobs = options.blobs if creates and isinstance(options, InitOptions | CopyOptions) else None
    opened = open_as(
        place,
        creates,
        token=options.token,
        blobs=blobs,
        user=options.user,
        read_only=reads,
        privacy=plan,
    )
    with opened as store:
        old = action in MAY_BE_OLD or (isinstance(options, ExportOptions) and options.from_replica)
        _run(action, store if old else store.fresh(), rest, options)


def _run(action: str, store: Store, words: Sequence[str], options: Options) -> None:
    group = GROUPS.get(action)
    if group is not None:
        group(action, store, words, options)
        return
    match action, options:
        case "import", ImportOptions():
            _import(store, words, options)
        case "ingest", IngestOptions():
            ingest(store, words, options)
        case "add", _:
            print("\n".join(store.add(*(_read(word) for word in words))))
        case "show", ShowOptions():
            _show(store, words, options)
        case "lineage", _:
            _show_lineage(store, words[0])
        case "search", SearchOptions():
            _search(store, words[0], options)
        case "rebuild" | "maintain", IndexOptions():
            _follow(action, store, options)


def _write_sets(action: str, store: Store, words: Sequence[str], options: Options) -> None:
    match action, options:
        case "export", ExportOptions():
            _export(store, words[0], options)
        case "dataset", DatasetOptions():
            manifest, count = write_dataset(store, words[0], options.filter, options.out)
            print(f"rows      {count:,}\n{manifest}")


def _show_lineage(store: Store, one: str) -> None:
    print(show_lineage(read_lineage(store, one)))
    below = read_lineage(store, one, down=True)
    if below.next:
        print(f"made from it\n{show_lineage(below)}")


def _judge(action: str, store: Store, words: Sequence[str], options: Options) -> None:
    match action, options:
        case "score", ScoreOptions():
            reward = load_reward(options.reward)
            found = score(
                store,
                options.name,
                reward,
                options.filter,
                origin=options.origin,
                source_id=options.reward,
                fill=options.fill,
            )
            print(f"scored    {found:,} responses")
        case "prefer", PreferOptions():
            pairs = prefer(
                store,
                options.name,
                margin=options.margin,
                origin=options.origin,
                fill=options.fill,
            )
            print(f"pairs     {pairs:,}")
        case "categorise", CategoriseOptions():
            _categorise(store, options)
        case "agreement", AgreementOptions():
            print("\n".join(describe_store(store, options.filter, options.origin)))
        case "tag", TagOptions():
            _tag(store, words, options)
        case "delete", DeleteOptions():
            act = store.undelete if options.undo else store.delete
            (store.erase if options.erase else act)(*words)


def _tag(store: Store, words: Sequence[str], options: TagOptions) -> None:
    if bool(words) == (options.state is not None):
        raise UserError("tag needs ids of records, or state and no ids", "tag")
    if options.state is None:
        store.tag(*words, add=options.add, remove=options.remove)
        return
    state = tag_state(store, options.state)
    print(f"state     {state.name}\nrecords   {state.records:,}\nprint     {state.fingerprint}")


def _categorise(store: Store, options: CategoriseOptions) -> None:
    done = categorise_by_run(
        store,
        options.run,
        options.filter,
        kind=options.kind,
        origin=options.origin,
        name=options.name,
    )
    print(f"labelled  {done.labelled:,} records")
    if done.unread:
        print(f"left out  {done.unread:,} that the classifier cannot read")


def _maintain(action: str, store: Store, words: Sequence[str], options: Options) -> None:
    match action, options:
        case "init", InitOptions():
            _refuse_other_plan(store, _read_plan(options))
            print(f"store     {store.place}")
            if store.blobs is not None:
                print(f"blobs     {store.blobs.url}")
            _describe(store)
        case "check", CheckOptions():
            _check(store, options)
        case "backup", _:
            count = backup(store, words[0])
            note_deed(store, action, {"out": words[0], "records": count})
            print(f"records   {count:,}\nbackup    {words[0]}")
        case "restore", _:
            count = restore(words[0], store)
            note_deed(store, action, {"from": words[0], "records": count})
            print(f"records   {count:,}\nstore     {store.place}")
        case "copy", CopyOptions():
            made = open_store(
                words[0],
                True,
                blobs=options.blobs,
                user=options.user,
                privacy=copy_plan(store.guard.plan),
            )
            with made as target:
                count = copy_store(store, target)
                for one in (store, target):
                    said = {"from": store.place, "to": target.place, "records": count}
                    note_deed(one, action, said)
                print(f"records   {count:,}\nstore     {target.place}")


def _search(store: Store, text: str, options: SearchOptions) -> None:
    index = open_search(store, options.index, options.encoder)
    try:
        found = search(
            store,
            index,
            text,
            filter=options.filter,
            origin=options.origin,
            mode=options.mode,
            limit=options.limit,
            offset=options.offset,
        )
    finally:
        index.close()
    ids = [hit.id for hit in found.hits]  # skips what was deleted since the index followed
    there = store.browse(lambda connection: load(connection, find_visible(connection, ids)))
    records = {record.id: record for record in there}
    for hit in found.hits:
        if (record := records.get(hit.id)) is not None:
            print(f"{hit.score:8.4f}  {hit.id}  {name_kind(record):<10}  {_excerpt(record)}")
    if found.behind:
        cure = f"genjax store maintain {store.place}"
        print(f"note: the index is {found.behind:,} records behind: {cure}")


def _follow(action: str, store: Store, options: IndexOptions) -> None:
    index = open_search(
        store, options.index, options.encoder, action == "rebuild", options.language
    )
    try:
        act, name = rebuild if action == "rebuild" else follow, find_index(store, options.index)
        done = act(store, index, name, options.forget)
    finally:
        index.close()
    analyse(store)
    print(f"index     {find_index(store, options.index)}")
    print(f"records   {done.upserted:,} written, {done.deleted:,} removed")


def _import(store: Store, words: Sequence[str], options: ImportOptions) -> None:
    if bool(words) == (options.sql is not None):
        raise UserError("import needs files, or sql and query", "import")
    made = (options.origin, options.generator)
    if options.sql is not None and options.query is not None:
        found = [("query", import_query(store, options.sql, options.query, *made))]
    else:
        found = ((word, import_file(store, word, *made)) for word in words)  # type: ignore[assignment]
    for word, one in found:
        known = f", {one.known:,} known already" if one.known else ""
        print(f"{word}: {one.added:,} records{known}")


def _read(word: str) -> Record:
    row = parse(word, "record")
    if not isinstance(row, dict) or "kind" not in row or "origin" not in row:
        raise UserError("record must be an object with kind and origin", "record")
    return read_plain(row, "record")


def _show(store: Store, words: Sequence[str], options: ShowOptions) -> None:
    for word in words:
        record = store.get(word, options.origin)
        print(json.dumps(write_plain(record), indent=2, ensure_ascii=False))
        if isinstance(record, Session):
            print("\n".join(_draw(read_tree(store, record.id, options.origin))))
        for change in store.history(word) if options.history else ():
            said = json.dumps(dict(change.fields), ensure_ascii=False) if change.fields else ""
            print(f"{change.time:%Y-%m-%d %H:%M:%S} {change.user} {change.action} {said}".rstrip())
    if words:
        return
    if options.filter is None and options.kind is None:
        _describe(store)
        for kind in KINDS:
            real = store.count(kind=kind)
            drawn = store.count(kind=kind, origin="synthetic")
            if real or drawn:
                print(f"{kind:<12}{real:>12,} real{drawn:>12,} synthetic")
        return
    for record in store.select(
        options.filter or "", kind=options.kind, origin=options.origin, limit=options.limit
    ):
        print(f"{record.id}  {name_kind(record):<10}  {_excerpt(record)}")


def _read_plan(options: InitOptions) -> Plan:
    plan = Plan(
        parse_encrypted(options.encrypt), options.index, options.anonymise, options.pseudonyms
    )
    check_plan(plan)
    return plan


def _refuse_other_plan(store: Store, wanted: Plan) -> None:
    """Refuse to make a store that is there already with another protection."""
    there = store.guard.plan
    asked = (wanted.encrypted, wanted.index, wanted.anonymise, wanted.pseudonyms)
    if wanted != Plan() and asked != (
        there.encrypted,
        there.index,
        there.anonymise,
        there.pseudonyms,
    ):
        cure = "genjax store privacy shows it, and changes what can be changed"
        raise UserError(
            f"encrypt: store {store.place} is there already, with its protection: {cure}", "encrypt"
        )


def _describe(store: Store) -> None:
    """Print what is encrypted and anonymised, and what that costs."""
    for line in store.guard.plan.describe():
        print(line)


def _draw(turns: Sequence[Turn]) -> list[str]:
    """Format a conversation, with each branch indented below the turn it follows."""
    lines = []
    left = [(turn, 0) for turn in reversed(turns)]
    while left:
        turn, depth = left.pop()
        role = getattr(turn.record, "role", "assistant") or "prompt"
        lines.append(f"{'  ' * depth}{role}: {_excerpt(turn.record)}")
        left += ((one, depth + 1) for one in reversed(turn.next))
    return lines


def _excerpt(record: Record) -> str:
    payload = getattr(record, "payload", None)
    text = getattr(payload, "text", None) or getattr(record, "name", None) or ""
    text = " ".join(str(text).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _export(store: Store, out: str, options: ExportOptions) -> None:
    wanted = Export(options.form, options.filter, options.origin)
    found = export(store, out, wanted, options.dedup, options.name)
    print(f"rows      {found.rows:,}\nout       {out}")
    if options.dvc:
        print(f"dvc       {write_dvc(store, out)}")
    if found.duplicates:
        print(f"left out  {found.duplicates:,} duplicates")
    if found.hidden:
        print(f"left out  {found.hidden:,} that need other records: --origin any")


def _check(store: Store, options: CheckOptions) -> None:
    faults = check(store, options.repair, options.fast)
    for fault in faults:
        print(f"{fault.about}: {fault.what}")
    if faults:
        raise UserError(f"store {store.place} has {len(faults):,} faults", "store")
    print(f"store     {store.place} is whole")


JUDGING = ("score", "prefer", "categorise", "agreement", "tag", "delete")
GROUPS = (
    dict.fromkeys(JUDGING, _judge)
    | dict.fromkeys(("export", "dataset"), _write_sets)
    | dict.fromkeys(("init", "check", "backup", "restore", "copy"), _maintain)
)
