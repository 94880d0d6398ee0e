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


SECRET = "zanzibarquokka"


def fill_secrets(store):
    """Records of every kind that anybody sees, the same tagged private with a secret word in
    every field, and references from the first to the second; returns the ids of both.
    """

    def make(one, tags, word):
        shared = {"tags": tags, "metadata": {"word": word, "deep": {"word": [word]}}}
        said = Payload(text=f"{word} said", data={"word": word}, content=word.encode(),
                       media_type="text/plain")  # fmt: skip
        drawn = {"origin": "synthetic", "generator": f"{one}-run", **shared}
        real = {"origin": "real", **shared}
        return [
            Run(id=f"{one}-run", name=word, path=word, config=word, fingerprint=word, **real),
            Checkpoint(id=f"{one}-checkpoint", run=f"{one}-run", path=word, **real),
            Session(id=f"{one}-session", name=word, user=word, **real),
            Prompt(id=f"{one}-prompt", session=f"{one}-session", role="user", payload=said, **real),
            Response(id=f"{one}-response", prompt=f"{one}-prompt", run=f"{one}-run", payload=said,
                     **drawn),
            Response(id=f"{one}-other", prompt=f"{one}-prompt", payload=said, **drawn),
            Document(id=f"{one}-document", name=word, source=word, hash=word, payload=said, **real),
            Chunk(id=f"{one}-chunk", document=f"{one}-document", payload=said, **real),
            Entity(id=f"{one}-entity", name=word, type=word, **real),
            Relation(id=f"{one}-relation", subject=f"{one}-entity", object=f"{one}-document",
                     predicate=word, **real),
            Feedback(id=f"{one}-feedback", target=f"{one}-response", name=word, user=word,
                     label=word, rationale=word, value=0.75, source_id=word, **real),
            DataSet(id=f"{one}-dataset", name=word, fingerprint=word, manifest={"word": word},
                    parents=(f"{one}-response",), **real),
        ]  # fmt: skip

    hidden = make("hidden", ("private", SECRET), SECRET)
    shown = make("shown", ("public",), "plain")
    public = {"tags": ("public",)}
    mixed = [  # shown records that lead to hidden ones
        Prompt(id="mixed-prompt", origin="real", session="hidden-session", parent="hidden-response",
               payload=Payload(text="plain follow-up"), **public),
        Response(id="mixed-response", origin="synthetic", generator="hidden-run", run="hidden-run",
                 prompt="mixed-prompt", parents=("hidden-checkpoint", "shown-checkpoint"),
                 payload=Payload(text="plain answer"), **public),
        Session(id="mixed-session", origin="real", parents=("hidden-document",), **public),
    ]  # fmt: skip
    lost = [  # public by their tags, and hidden with what they are about
        Response(id="hidden-answer", origin="synthetic", generator="unknown",
                 prompt="hidden-prompt", payload=Payload(text=SECRET), **public),
        Response(id="hidden-quote", origin="synthetic", generator="unknown", prompt="shown-prompt",
                 parents=("hidden-chunk",), payload=Payload(text=SECRET), **public),
        Feedback(id="hidden-vote", origin="real", target="shown-response", against="hidden-answer",
                 rationale=SECRET, value=1.0, name=SECRET, **public),
        Feedback(id="hidden-score", origin="real", target="hidden-response", value=0.5,
                 rationale=SECRET, **public),
        Chunk(id="hidden-part", origin="real", document="hidden-document",
              payload=Payload(text=SECRET), **public),
    ]  # fmt: skip
    store.add(*hidden, *shown, *mixed, *lost)
    store.update("hidden-document", name=f"{SECRET} renamed")
    store.update("shown-document", source="plain now")
    return [one.id for one in (*shown, *mixed)], [one.id for one in (*hidden, *lost)]


# fmt: off
def make_injections():
    """300 inputs that ask for more than the typist may see."""
    ids = ("{id}", "shown-prompt", "hidden", "*", "%", "_", "0", "NULL", "../{id}", "{id}\r\nX")
    tables = ("main.records", "public.records", "tokens", "main.tokens", "sqlite_master",
              "pg_catalog.pg_class", "temp.records", "history", "outbox", "settings")
    forms = ("' UNION SELECT id FROM {} --", 'x"; DELETE FROM {}; --', "id IN (SELECT 1 FROM {})",
             "') OR EXISTS (SELECT 1 FROM {}) --", "/**/UNION/**/SELECT/**/text/**/FROM/**/{}")
    sql = [form.format(table) for table in tables for form in forms]
    fields = ("text", "tags", "name", "prompt", "session", "parents", "generator", "run", "target",
              "rationale", "source", "metadata.word", "metadata.deep.word", "manifest.word", "blob",
              "against", "subject", "object", "document", "hash")
    words = ("z", "private", "{id}", '"hidden-session"', "quokka")
    filters = [f"{field}{':' if i % 2 else '='}{word}" for field in fields
               for i, word in enumerate(words)]
    filters += [f"not ({one})" for one in filters[::4]] + [f"{f}!=null" for f in fields]
    filters += ["score.z>0", "score.private>0", "score>0", "id!=x or tags:private", "deleted=null"]
    templates = ["{{ visit.context.store.url }}", "{% for r in visit.store.engine %}{% endfor %}",
                 "{{ visit.context.store.get('hidden-prompt', 'any') }}", "${visit}",
                 "{{ config }}", "<%= visit %>", "{{ ''.__class__.__mro__ }}"]
    headers = ["x\r\nSet-Cookie: genjax_session=admin", "x\nAuthorization: Bearer admin", "\0",
               "admin'--", "Bearer ", "\ud800", "é" * 300, "a" * 5000]
    orders = [f"-{field}" for field in ("deleted", "text", "prompt", "generator", "records.id",
                                        "(SELECT 1)", "time; DROP TABLE records", "seq")]
    every = [*filters, *templates, *headers, *orders, *ids, *sql]
    every += [f'text:"{one}"' for one in sql[:20]] + [f"{one} or true" for one in ids]
    every += [f"tags:{chr(97 + i)}" for i in range(26)]
    every += [f'name:"{word}" {one}' for word in words for one in ids[:4]]
    found = list(dict.fromkeys(every))
    assert len(found) >= 300
    return found[:300]
