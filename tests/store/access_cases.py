"""A store with records that a role may not see, and what each role should see of it."""

import itertools
import random

from genjax.store.access.access import Access
from genjax.store.access.principal import Principal
from genjax.store.access.roles import Role, parse_rule
from genjax.store.records import (
    Checkpoint,
    Chunk,
    DataSet,
    Document,
    Entity,
    Feedback,
    Payload,
    Prompt,
    Relation,
    Response,
    Run,
    Session,
)

RULES = (  # of roles that see a part
    ("read tag=!private",),
    ("read tag=public,draft",),
    ("read kind=prompt,response,feedback",),
    ("read kind=!run,!checkpoint origin=real", "read kind=run tag=public"),
    ("read dataset=first",),
    ("read dataset=!first kind=!dataset",),
    ("read origin=synthetic", "read kind=prompt tag=public"),
    ("read kind=document,chunk,entity,relation tag=!private", "read kind=feedback"),
    ("read kind=response,checkpoint", "read kind=dataset,document dataset=first tag=!draft"),
    ("read kind=nothing-but-sessions",),
)
TAGS = ("private", "public", "draft", 'o\'dd "%s" \\ : ? é')


def make_role(rules, name="part"):
    if rules == ("read kind=nothing-but-sessions",):
        rules = ("read kind=session",)
    return Role(name, tuple(map(parse_rule, rules)))


def see(store, rules, name="bob"):
    return store.for_(Access(Principal(name, make_role(rules)), store.engine.dialect))


def fill(store, seed=0, count=60):
    """Records of every kind that refer to each other at random; returns them by id."""
    draw = random.Random(seed)
    made: dict[str, object] = {}
    number = itertools.count()

    def some(*kinds):
        found = [r.id for r in made.values() if not kinds or isinstance(r, kinds)]
        return draw.choice(found) if found and draw.random() < 0.9 else None

    for _ in range(count):
        kind = draw.choice((Session, Prompt, Prompt, Response, Response, Document, Chunk, Feedback,
                            Feedback, Run, Checkpoint, DataSet, Entity, Relation))  # fmt: skip
        origin = draw.choice(("real", "synthetic"))
        runs = some(Run)
        shared = {
            "id": f"{kind.__name__.lower()}{next(number)}",
            "origin": origin,
            "generator": None if origin == "real" else (runs or "unknown"),
            "tags": tuple(tag for tag in TAGS if draw.random() < 0.3),
            "parents": tuple(dict.fromkeys(some() or "" for _ in range(draw.choice((0, 0, 1, 3))))),
        }  # fmt: skip
        own = {
            Session: lambda: {"name": "s"},
            Prompt: lambda: {"session": some(Session), "parent": some(Prompt, Response),
                             "payload": Payload(text="words")},
            Response: lambda: {"prompt": some(Prompt), "run": some(Run)},
            Document: lambda: {"name": "d"},
            Chunk: lambda: {"document": some(Document)},
            Feedback: lambda: {"target": some(), "against": some() if draw.random() < 0.3 else None,
                               "value": 1.0},
            Run: lambda: {"name": "r"},
            Checkpoint: lambda: {"run": some(Run)},
            DataSet: lambda: {"name": draw.choice(("first", "second"))},
            Entity: lambda: {"name": "e"},
            Relation: lambda: {"subject": some(), "object": some(), "predicate": "is"},
        }[kind]()  # fmt: skip
        needed = {Response: "prompt", Chunk: "document", Feedback: "target", Checkpoint: "run"}
        if kind is Relation and not (own["subject"] and own["object"]):
            continue
        if kind in needed and own[needed[kind]] is None:
            continue
        shared["parents"] = tuple(filter(None, shared["parents"]))
        record = kind(**shared, **own)
        made[record.id] = record
    store.add(*made.values())
    return made


def find_shown(made, role):
    """The ids of what a role sees, by the rules as docs tell them, one record at a time."""
    sets = {}
    for record in made.values():
        if isinstance(record, DataSet):
            names = {record.id, record.name}
            for one in (record.id, *record.parents):
                sets.setdefault(one, set()).update(names)
    levels = {Chunk: 1, Checkpoint: 1, Response: 2, Relation: 3, Feedback: 3}
    needs = {Chunk: ("document",), Checkpoint: ("run",), Response: ("prompt",),
             Relation: ("subject", "object"), Feedback: ("target", "against")}  # fmt: skip

    def is_shown(one):
        record = made[one]
        kind = type(record)
        about = [getattr(record, name) for name in needs.get(kind, ())]
        mine = sets.get(one, set())
        name = kind.__name__.lower()
        if not any(
            rule.allows("read") and rule.covers(name, record.origin, record.tags, mine)
            for rule in role.rules
        ):
            return False
        derived = [p for p in record.parents if isinstance(made[p], Document | Chunk)]
        about += derived if kind is Response else []
        return all(
            levels.get(type(made[other]), 0) < levels.get(kind, 0) and is_shown(other)
            for other in about
            if other is not None
        )

    return {one for one in made if is_shown(one)}
