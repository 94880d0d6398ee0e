"""Who gets in and who may write; escaping of everything; changes of many records at once."""

import dataclasses
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from importlib import resources
from urllib.parse import urlencode

import pytest

pytest.importorskip("itsdangerous", reason="the pages are an extra: pip install '.[serve]'")

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from benchmarks.screenshots import ADMIN, READER, TOKENS, ScriptedChat
from genjax.errors import UserError
from genjax.serve.pages.access import Token, read_tokens
from genjax.serve.pages.context import Pages
from genjax.serve.pages.routes import OPEN, READ, WRITE, make_pages
from genjax.serve.pages.visit import COOKIE, LARGEST
from genjax.store.access.tokens import hash_token, make_token
from genjax.store.changing import change_all
from genjax.store.opening import open_store
from genjax.store.records import (
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
from tests.serve_pages.scripted import PAYLOADS, find_texts, read_csrf, submit, visit

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def context(tmp_path):
    with open_store(str(tmp_path / "own.db"), create=True, user="ann") as store:
        yield Pages(store, TOKENS, None, ScriptedChat())


def add_documents(store, count):
    return store.add(
        *(
            Document(
                origin="real", payload=Payload(text=f"text {i}"), tags=("old",) if i % 2 else ()
            )
            for i in range(count)
        )
    )


def test_strangers_are_sent_to_the_login_and_back(context):
    visitor = visit(context, None)
    for path in READ:
        path = path.replace("{digest:path}", "0" * 64)
        answer = visitor.get(path, follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/login"), path
    page = visitor.get("/search?q=a+b&origin=any")
    fields = {"csrf": read_csrf(page.text), "token": ADMIN}
    fields["next"] = html.unescape(re.search(r'name="next" value="([^"]*)"', page.text)[1])
    assert str(visitor.post("/login", data=fields).url).endswith("/search?q=a+b&origin=any")
    for path in WRITE:
        assert visit(context, None).post(path).status_code == 401


@pytest.mark.parametrize("typed", ["", "wrong", "x" * 43, ADMIN + "x", "\0" * 20, "🌊" * 20])
def test_a_wrong_token_lets_nobody_in(context, typed):
    visitor = visit(context, None)
    answer = submit(visitor, "/login", {"token": typed}, page="/login")
    assert (
        answer.status_code == 403 and typed[:4] not in re.sub("<[^>]*>", "", answer.text)
    ) or not typed
    assert visitor.get("/", follow_redirects=False).status_code == 303


def test_a_cookie_is_closed_to_scripts_and_to_other_secrets(context):
    visitor = visit(context, None)
    page = visitor.get("/login")
    kept = page.headers["set-cookie"]
    assert "HttpOnly" in kept and "SameSite=lax" in kept and "Secure" not in kept
    secure = TestClient(Starlette(routes=make_pages(context)), base_url="https://page.example")
    assert "Secure" in secure.get("/login").headers["set-cookie"]
    cookie = visit(context).cookies[COOKIE]
    signed, _, signature = cookie.rpartition(".")
    # Not its last character, whose two lowest bits are padding: another one may mean the same.
    altered = f"{signed}.{'b' if signature[0] == 'a' else 'a'}{signature[1:]}"
    for one in (altered, "", "x.y.z", cookie * 2):
        other = TestClient(Starlette(routes=make_pages(context)), cookies={COOKIE: one})
        assert other.get("/", follow_redirects=False).status_code == 303
    restarted = Pages(context.store, TOKENS)  # another secret
    other = TestClient(Starlette(routes=make_pages(restarted)), cookies={COOKIE: cookie})
    assert other.get("/", follow_redirects=False).status_code == 303
    withdrawn = Pages(context.store, TOKENS[1:], secret=context.secret)
    other = TestClient(Starlette(routes=make_pages(withdrawn)), cookies={COOKIE: cookie})
    assert other.get("/", follow_redirects=False).status_code == 303
    same = Pages(context.store, TOKENS, secret=context.secret)
    other = TestClient(Starlette(routes=make_pages(same)), cookies={COOKIE: cookie})
    assert other.get("/", follow_redirects=False).status_code == 200


def test_logging_out_ends_the_session(context):
    visitor = visit(context)
    before = read_csrf(visitor.get("/").text)
    submit(visitor, "/logout", {})
    assert visitor.get("/", follow_redirects=False).status_code == 303
    assert read_csrf(visitor.get("/login").text) != before


@pytest.mark.parametrize("path", WRITE)
def test_a_form_without_its_secret_writes_nothing(context, path):
    (one,) = add_documents(context.store, 1)
    visitor = visit(context)
    fields = {"id": one, "tag": "bad", "name": "rating", "value": "1", "message": "x",
              "action": "tag", "count": "1", "choice": "left"}  # fmt: skip
    before = context.store.count(origin="any")
    for csrf in (None, "", "wrong", read_csrf(visit(context).get("/").text), "ü"):
        pairs = fields if csrf is None else fields | {"csrf": csrf}
        assert visitor.post(path, data=pairs).status_code == 403
    assert context.store.count(origin="any") == before and not context.store.get(one).tags


@pytest.mark.parametrize("path", WRITE)
def test_readers_write_nothing(context, path):
    (one,) = add_documents(context.store, 1)
    fields = {"id": one, "tag": "bad", "name": "rating", "value": "1", "message": "x",
              "action": "tag", "count": "1", "choice": "left"}  # fmt: skip
    answer = submit(visit(context, READER), path, fields)
    assert answer.status_code == 403 and "role reader may not" in answer.text
    assert context.store.count(origin="any") == 1 and not context.store.get(one).tags


def test_a_reader_draws_no_answer(context):
    asked = Prompt(
        origin="real", payload=Payload(text="x"), metadata={"asked": {"model": "meadow"}}
    )
    (one,) = context.store.add(asked)
    assert visit(context, READER).get(f"/chat/answer?id={one}").status_code == 403
    assert context.store.count(origin="any") == 1


def test_forms_that_are_none_are_refused(context):
    visitor = visit(context)
    csrf = read_csrf(visitor.get("/").text)
    assert visitor.post("/chat", json={"csrf": csrf, "message": "x"}).status_code == 415
    assert visitor.post("/chat", content=b"x" * (LARGEST + 1), headers=FORM).status_code == 413
    assert visitor.post("/chat", content=b"a=1&" * 20_001, headers=FORM).status_code == 413
    raw = urlencode({"csrf": csrf}).encode() + b"&message=%ff%fe&model=meadow\xff"
    assert visitor.post("/chat", content=raw, headers=FORM).status_code in (200, 400)
    for path in ("/search", "/nowhere"):
        assert visitor.post(path).status_code in (403, 404, 405, 415)
    assert visitor.put("/chat").status_code in (404, 405)


def test_pages_can_be_mounted_below_a_path(context):
    app = Starlette(routes=[Mount("/below", routes=make_pages(context))])
    visitor = TestClient(app)
    page = visitor.get("/below/evaluate?kind=document")
    assert page.url.path == "/below/login"
    fields = {"csrf": read_csrf(page.text), "token": ADMIN, "next": "/evaluate?kind=document"}
    page = visitor.post("/below/login", data=fields)
    assert page.url.path == "/below/evaluate" and page.status_code == 200
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
    assert len(links) > 10 and all(link.startswith("/below/") for link in links)
    assert visitor.get("/below/static/style.css").status_code == 200


class Marks(HTMLParser):
    """Collects what a page could run or load, and the names of its elements."""

    def __init__(self):
        super().__init__()
        self.names, self.bad = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        for name, value in attrs:
            runs = name.startswith(("on", "data-hx", "style", "srcdoc"))
            leads = name in ("href", "src", "action", "hx-post", "hx-get", "formaction")
            if runs or (leads and not re.match(r"[/#](?!/)", value or "")):
                self.bad.append((tag, name, value))

    handle_startendtag = handle_starttag


def read_marks(page):
    marks = Marks()
    marks.feed(page)
    return marks


def fill_with(store, text):
    """A record of every kind that a page shows, each of its fields the text."""
    shared = {"origin": "real", "tags": (text,), "metadata": {text: text}}
    store.add(
        Session(id=f"s{text}", name=text, user=text, **shared),
        Run(id=f"r{text}", name=text, path=text, config=text, **shared),
        Prompt(id=f"p{text}", session=f"s{text}", role=text,
            payload=Payload(text, {text: text}), **shared),
        Response(
            id=f"a{text}", origin="synthetic", generator=f"r{text}", run=f"r{text}", tags=(text,),
            prompt=f"p{text}", payload=Payload(text), sampler={text: text},
            metadata={
                "model": text, "stopped": text,
                "sources": [{"id": text, "text": text, "start": 0, "end": 5}],
                "faults": [{"start": 0, "end": 4, "why": text}],
            },
        ),
        Response(
            id=f"b{text}", origin="synthetic", generator="unknown", prompt=f"p{text}",
            payload=Payload(content=b"x", media_type="image/png"), tags=(text,),
        ),
        Document(id=f"d{text}", name=text, source=text, hash=text, payload=Payload(text), **shared),
        Feedback(
            id=f"f{text}", target=f"a{text}", against=f"b{text}", name=text, user=text, label=text,
            rationale=text, source_id=text, value=1.0, **shared,
        ),
        Entity(id=f"e{text}", name=text, type=text, **shared),
        Relation(id=f"l{text}", subject=f"e{text}", object=f"d{text}", predicate=text, **shared),
    )  # fmt: skip


PLAIN = "plain words"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Records of every kind for each payload, and the same of plain words."""
    with open_store(str(tmp_path_factory.mktemp("hostile") / "own.db"), create=True) as store:
        for text in (*PAYLOADS, PLAIN):
            fill_with(store, text)
        yield visit(Pages(store, TOKENS, None, ScriptedChat()))


def list_pages(text, every):
    """The pages about those records: those that show most of them, or every one."""
    yield from (
        f"/record?{urlencode({'id': f'{kind}{text}'})}"
        for kind in "srpabdfel"[:: 1 if every else 4]
    )
    yield f"/chat?{urlencode({'id': f'a{text}'})}"
    yield f"/session?{urlencode({'id': f's{text}'})}"
    yield f"/compare/pair?{urlencode({'left': f'a{text}', 'right': f'b{text}'})}"
    yield from (
        f"/lineage?{urlencode({'id': f'{kind}{text}'})}" for kind in ("sbdl" if every else "b")
    )


@pytest.mark.parametrize("text", PAYLOADS, ids=range(len(PAYLOADS)))
def test_markup_in_any_field_is_shown_as_text(hostile, text):
    every = text in PAYLOADS[:3]
    for path, same in zip(list_pages(text, every), list_pages(PLAIN, every), strict=True):
        answer = hostile.get(path)
        marks = read_marks(answer.text)
        assert answer.status_code == 200 and not marks.bad, (path, marks.bad)
        assert marks.names == read_marks(hostile.get(same).text).names, path
    page = hostile.get(f"/record?{urlencode({'id': f'd{text}'})}").text
    assert find_texts(page)[0] == text


@pytest.mark.parametrize(
    "path", ["/sessions", "/images", "/usage", "/evaluate?kind=all", "/", "/chat"]
)
def test_markup_in_lists_is_shown_as_text(hostile, path):
    answer = hostile.get(path)
    marks = read_marks(answer.text)
    assert answer.status_code == 200 and not marks.bad and marks.names.count("script") == 1
    assert path == "/" or any(html.escape(text)[:10] in answer.text for text in PAYLOADS)


ECHOES = [(path, name) for path, names in {
    "/evaluate": ("filter", "kind", "origin", "after", "done"),
    "/images": ("filter", "origin"),
    "/search": ("q", "filter", "mode"),
    "/sessions": ("filter", "after"),
    "/usage": ("days", "score"),
    "/login": ("next",),
}.items() for name in names]  # fmt: skip


@pytest.mark.parametrize(("path", "name"), ECHOES)
def test_markup_that_was_typed_is_shown_as_text(hostile, path, name):
    for text in PAYLOADS[:: 1 if (path, name) == ("/evaluate", "filter") else 5]:
        answer = hostile.get(f"{path}?{urlencode({name: text})}")
        marks = read_marks(answer.text)
        assert answer.status_code in (200, 400) and not marks.bad, (text, marks.bad)
        assert marks.names.count("script") == 1 and "iframe" not in marks.names


def test_an_answer_is_escaped_while_it_streams(context):
    text = "</div></article><script>alert(1)</script>"
    answer = submit(visit(context), "/chat", {"message": text, "model": "harbour"})
    assert find_texts(answer.text)[1] == f"By the sea one would say: {text} "
    assert read_marks(answer.text).names.count("script") == 1


BULK = {"kind": "document", "origin": "any", "filter": "", "scope": "all", "action": "tag"}


def confirm(visitor, fields):
    """Look at what will change, and read the form that does it."""
    page = submit(visitor, "/evaluate/confirm", fields)
    assert page.status_code == 200, page.text
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    form = page.text.partition('action="/evaluate/apply"')[2]
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
    return page.text, [(name, html.unescape(value)) for name, value in hidden if name != "csrf"]


def test_many_records_are_tagged_by_a_filter(context):
    ids = add_documents(context.store, 120)
    visitor = visit(context)
    page, form = confirm(visitor, BULK | {"filter": "tags:old", "tag": "new"})
    assert "60 records will change" in page
    assert not context.store.count("tags:new")
    done = submit(visitor, "/evaluate/apply", form)
    assert "Done: 60 records" in done.text and context.store.count("tags:new") == 60
    assert context.store.get(ids[1]).tags == ("old", "new") and not context.store.get(ids[0]).tags
    assert context.store.history(ids[1])[-1].user == "ann"
    _, form = confirm(visitor, BULK | {"tag": "old", "action": "untag"})
    submit(visitor, "/evaluate/apply", form)
    assert not context.store.count("tags:old") and context.store.count("tags:new") == 60


def test_ticked_records_are_scored_and_labelled(context):
    ids = add_documents(context.store, 9)
    visitor = visit(context)
    fields = [*(BULK | {"scope": "ticked", "action": "score"}).items(), ("name", "good")]
    ticked = [("id", ids[2]), ("id", ids[5]), ("id", ids[2])]
    for value in ("0.5", "0.75"):  # said again, the later holds
        page, form = confirm(visitor, [*fields, ("value", value), *ticked])
        assert "2 records will change" in page
        submit(visitor, "/evaluate/apply", form)
    assert context.store.count("score.good=0.75", kind="document") == 2
    assert context.store.count("score.good=0.5") == 0 and context.store.count(kind="feedback") == 2
    label = BULK | {"action": "label", "name": "topic", "label": "sea", "filter": 'text:"8"'}
    _, form = confirm(visitor, label)
    submit(visitor, "/evaluate/apply", form)
    (said,) = context.store.select("name=topic", kind="feedback")
    assert (said.target, said.label, said.value, said.user) == (ids[8], "sea", None, "ann")


def test_what_changed_since_it_was_confirmed_is_refused(context):
    add_documents(context.store, 4)
    visitor = visit(context)
    _, form = confirm(visitor, BULK | {"tag": "new"})
    add_documents(context.store, 1)
    answer = submit(visitor, "/evaluate/apply", form)
    assert answer.status_code == 409 and "5 records are meant now, 4 were confirmed" in answer.text
    assert not context.store.count("tags:new")


def test_bulk_changes_are_all_or_none(context):
    ids = add_documents(context.store, 3)
    context.store.update(ids[1], tags=tuple(f"t{i}" for i in range(50)))
    visitor = visit(context)
    long = "x" * 2_001  # longer than a tag may be
    for fields in (
        BULK | {"tag": long},
        BULK | {"tag": "  "},
        BULK | {"action": "erase", "tag": "x"},
        BULK | {"action": "score", "name": "n", "value": "", "label": "x"},
        BULK | {"action": "label", "name": "n", "value": "1"},
        BULK | {"action": "score", "name": "n", "value": "nan"},
        BULK | {"tag": "x", "filter": "tags:nothing"},
        BULK | {"tag": "x", "scope": "ticked"},
        BULK | {"tag": "x", "scope": "ticked", "id": "nobody"},
        BULK | {"tag": "x", "kind": "other"},
        BULK | {"tag": "x", "filter": "nothing=1"},
    ):
        answer = submit(visitor, "/evaluate/apply", fields | {"count": "3"})
        assert answer.status_code in (400, 404, 409), fields
    assert [len(record.tags) for record in context.store.select(kind="document")] == [0, 50, 0]
    assert context.store.count(kind="feedback") == 0


def test_files_of_tokens_are_read_line_by_line(tmp_path):
    token = make_token()
    path = tmp_path / "tokens"
    path.write_text(f"# who may\n\nadmin ann {hash_token(token)}  # me\nreader ben {'0' * 64}\n")
    assert read_tokens(path) == (
        Token("ann", "admin", hash_token(token)),
        Token("ben", "reader", "0" * 64),
    )
    for line in ("owner ann " + "0" * 64, "admin ann short", "admin ann", "", "admin a b c"):
        path.write_text(line)
        with pytest.raises(UserError) as error:
            read_tokens(path)
        assert error.value.field == "tokens"
    path.write_bytes(b"\xff\xfe")
    for place in (path, tmp_path / "missing", tmp_path):
        with pytest.raises(UserError) as error:
            read_tokens(place)
        assert error.value.field == "tokens"
    with pytest.raises(UserError) as error:
        hash_token("too short")
    assert error.value.field == "token"


def test_pages_need_tokens_and_a_secret(context):
    for field, values in (("tokens", {"tokens": ()}), ("tokens", {"tokens": TOKENS * 2}),
                          ("secret", {"secret": b"short"})):  # fmt: skip
        with pytest.raises(UserError) as error:
            Pages(**({"store": context.store, "tokens": TOKENS} | values))
        assert error.value.field == field
    assert "secret" not in repr(context) or context.secret.hex() not in repr(context)


def test_the_vendored_script_is_the_one_that_was_published():
    folder = resources.files("genjax.serve.pages") / "static"
    said = (folder / "htmx.txt").read_text(encoding="utf-8")
    digest = hashlib.sha256((folder / "htmx.min.js").read_bytes()).hexdigest()
    assert f"SHA-256 {digest}" in said and "Permission to use, copy" in said
    version = re.search(r"htmx (\S+),", said)[1]
    assert f'version="{version}"' in (folder / "htmx.min.js").read_text(encoding="utf-8")


def test_every_write_is_known_to_these_tests():
    assert len(WRITE) == 8 and len(OPEN) == 3 and json.dumps(sorted(READ))


def test_a_bulk_change_is_what_single_ones_are(context):
    store = context.store
    ids = add_documents(store, 6)
    _, form = confirm(visit(context), BULK | {"tag": "new"})
    submit(visit(context), "/evaluate/apply", form)
    pending = [one.record for one in store.read_outbox(after=6)]
    (single,) = add_documents(store, 1)
    store.update(single, tags=("new",))
    bulk, alone = (store.history(one)[-1] for one in (ids[0], single))
    assert (
        (bulk.action, bulk.fields)
        == (alone.action, alone.fields)
        == ("update", {"tags": [None, ["new"]]})
    )
    assert sorted(pending) == sorted(ids)
    one = store.get(ids[1])
    with store.writing() as connection:
        same = change_all(store, connection, ids, lambda record: record)
        assert same == 0 and store.get(ids[1]) == one
    with pytest.raises(UserError), store.writing() as connection:
        change_all(store, connection, ids, lambda record: dataclasses.replace(record, tags=("",)))
    assert store.get(ids[1]) == one
