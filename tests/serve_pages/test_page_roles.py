"""Every role on every page: what it shows, what it lets do, and what it never tells."""

import dataclasses
import re
from urllib.parse import quote, urlencode

import pytest

pytest.importorskip("itsdangerous", reason="the pages are an extra: pip install '.[serve]'")

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from benchmarks.screenshots import ScriptedAnswers, ScriptedChat
from genjax.errors import UserError
from genjax.serve.pages.context import Pages
from genjax.serve.pages.routes import OPEN, READ, WRITE, make_pages
from genjax.serve.pages.visit import COOKIE, Page
from genjax.store.access.rates import Rates
from genjax.store.access.role_table import add_role
from genjax.store.access.roles import ACTIONS, parse_rule
from genjax.store.access.tokens import create_token, revoke_tokens
from genjax.store.opening import open_store
from genjax.store.searching import open_search, rebuild
from tests.serve_pages.scripted import submit, visit
from tests.store.access_cases import SECRET, fill_secrets, make_injections
from tests.store.test_records_contract import make_place, server  # noqa: F401

OWN = ("read tag=public", "judge,tag tag=public")
CHATTER = ("read tag=!private", "generate", "add")
ROLES = {
    "reader": (), "annotator": ("judge", "tag"), "trainer": ("generate",), "own": ("judge", "tag"),
    "chatter": ("generate",), "admin": ("judge", "tag", "generate", "manage"),
}  # fmt: skip


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
)
def served(request, tmp_path_factory):
    """Pages over a store with secrets, and a token of each role."""
    folder = tmp_path_factory.mktemp("pages")
    place = make_place(request.param, request, folder)
    with open_store(place, create=True, blobs=str(folder / "blobs"), user="ann") as store:
        shown, hidden = fill_secrets(store)
        with store.writing() as connection:
            add_role(connection, "own", [parse_rule(rule) for rule in OWN])
            add_role(connection, "chatter", [parse_rule(rule) for rule in CHATTER])
        index = open_search(store, str(folder / "index"))
        rebuild(store, index)
        tokens = {name: create_token(store, f"{name}-user", name)[0] for name in ROLES}
        context = Pages(store, (), index, ScriptedChat(), ScriptedAnswers(), stored=True)
        yield context, tokens, shown, hidden
        index.close()


def test_every_page_declares_its_actions(served):
    context, *_ = served
    for route in make_pages(context):
        assert isinstance(route, Route)
        page = getattr(route.endpoint, "__self__", None)
        (method,) = set(route.methods or ()) - {"HEAD"} if len(route.methods) <= 2 else ("*",)
        if isinstance(page, Page):
            assert ((method, route.path) in OPEN) == (not page.actions), route.path
            assert set(page.actions) <= set(ACTIONS)
        else:
            assert route.path in ("/static/{name}", "/{path:path}")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_on_pages_what_it_may(served, role):
    context, tokens, *_ = served
    visitor = visit(context, tokens[role])
    front = visitor.get("/").text
    assert f"({role})" in front
    forms = {
        "/record/feedback": {"id": "shown-response", "name": "good", "value": "1"},
        "/record/tags": {"id": "shown-response", "tag": "seen"},
        "/compare/pair": {"left": "shown-response", "right": "shown-other", "choice": "left"},
        "/evaluate/confirm": {"id": "shown-response", "scope": "ticked", "action": "tag",
                              "tag": "x"},
        "/evaluate/apply": {"id": "shown-response", "scope": "ticked", "action": "tag",
                            "tag": "x", "count": "1"},
        "/chat": {"message": "hello", "model": "meadow"},
        "/compare": {"message": "hello", "one": "meadow", "other": "harbour"},
        "/alerts": {"id": "nothing"},
    }  # fmt: skip
    assert set(forms) == set(WRITE)
    for path, fields in forms.items():
        before = context.store.newest_change()
        answer = submit(visitor, path, fields)
        allowed = bool(set(WRITE[path].actions) & set(ROLES[role]))
        if allowed:
            wanted = (400, 404) if path == "/alerts" else (200,)
            assert answer.status_code in wanted, (path, answer.text[-400:])
        else:
            assert answer.status_code == 403 and f"role {role} may not" in answer.text
            assert context.store.newest_change() == before
        if role in ("own", "chatter"):
            assert SECRET not in answer.text and "hidden-" not in answer.text
    for path in READ:
        path = path.replace("{digest:path}", "0" * 64)
        assert visitor.get(path).status_code in (200, 400, 404), path


def list_pages(one):
    """Every page about a record, or from one on."""
    yield from (f"{path}?{urlencode({'id': one})}" for path in (
        "/record", "/record/text", "/lineage", "/session", "/chat", "/chat/answer"))  # fmt: skip
    yield from (f"{path}?{urlencode({'after': one})}" for path in ("/sessions", "/images"))
    yield f"/evaluate?{urlencode({'kind': 'all', 'after': one})}"
    yield f"/compare/pair?{urlencode({'left': one, 'right': one})}"


def test_a_hidden_record_is_on_no_page_and_as_one_that_is_not_there(served):
    context, tokens, shown, hidden = served
    visitor = visit(context, tokens["own"])
    step = 6 if context.store.is_postgres else 2
    for one in hidden[::step]:
        absent = f"absent{one[6:]}"
        for path, other in zip(list_pages(one), list_pages(absent), strict=True):
            answer, same = visitor.get(path), visitor.get(other)
            assert (answer.status_code, answer.text.replace(one, "")) == (
                same.status_code, same.text.replace(absent, ""),
            ), path  # fmt: skip
            assert answer.status_code in (400, 404)
    for one in shown[::step]:
        for path in list_pages(one):
            text = visitor.get(path).text
            assert SECRET not in text and "hidden-" not in text, path
    for path in ("/", "/sessions", "/images", "/usage", "/compare", "/compare/next", "/chat",
                 "/evaluate?kind=all", f"/search?q={SECRET}&origin=any",
                 "/search?q=said&origin=any&mode=keyword"):  # fmt: skip
        text = visitor.get(path).text
        assert (SECRET in path or SECRET not in text) and "hidden-" not in text, path
    with context.store.reading() as connection:
        found = connection.exec_driver_sql("SELECT id, blob FROM records WHERE blob IS NOT NULL")
        blobs = {one: blob for one, blob in found}
    assert visitor.get(f"/blobs/{blobs['hidden-prompt']}").status_code == 404
    assert visitor.get(f"/blobs/{blobs['shown-prompt']}").status_code == 200


def test_nothing_typed_into_a_page_brings_more(served):
    context, tokens, _, hidden = served
    visitor = visit(context, tokens["own"])
    step = 15 if context.store.is_postgres else 2
    for number, text in enumerate(make_injections()[::step]):
        text = text.replace("{id}", "hidden-prompt").encode("utf-8", "replace").decode()
        where = (
            f"/search?{urlencode({'q': text, 'origin': 'any'})}",
            f"/search?{urlencode({'q': 'said', 'filter': text, 'origin': 'any'})}",
            f"/evaluate?{urlencode({'kind': 'all', 'filter': text})}",
            f"/sessions?{urlencode({'filter': text, 'after': text})}",
            f"/record?{urlencode({'id': text})}",
            f"/lineage?{urlencode({'id': text})}",
            f"/usage?{urlencode({'score': text, 'days': text})}",
            f"/blobs/{quote(text)}",
        )
        for path in (where[number % 8], where[(number + 3) % 8]):
            headers = {"X-Forwarded-For": quote(text), "HX-Request": "true" if number % 2 else "no"}
            answer = visitor.get(path, headers=headers)
            assert answer.status_code < 500, path
            said = re.sub(r'value="[^"]*"', "", answer.text)
            said = said.replace("hidden-prompt", "").replace("hidden-session", "")
            assert SECRET not in answer.text, path
            assert not [one for one in hidden if one in said], path
            assert "genjax_session=admin" not in str(answer.headers)
            assert "49" not in answer.headers.get("x-a", "")


def test_a_session_ends_with_its_token(served, monkeypatch):
    context, *_ = served
    store = context.store
    token, kept = create_token(store, "guest", "reader", days=1)
    visitor = visit(context, token)
    assert visitor.get("/", follow_redirects=False).status_code == 200
    foreign = TestClient(
        Starlette(routes=make_pages(dataclasses.replace(context, secret=b"x" * 32))),
        cookies={COOKIE: visitor.cookies[COOKIE]},
    )
    assert foreign.get("/", follow_redirects=False).status_code == 303
    revoke_tokens(store, kept.id)
    assert visitor.get("/", follow_redirects=False).status_code == 303
    assert visitor.get("/login").status_code == 200
    assert submit(visitor, "/login", {"token": token}, page="/login").status_code == 403


def test_a_visitor_is_told_to_wait(served):
    context, tokens, *_ = served
    visitor = visit(dataclasses.replace(context, rates=Rates(5)), tokens["reader"])
    found = [visitor.get("/chat") for _ in range(6)]
    assert found[-1].status_code == 429 and int(found[-1].headers["Retry-After"]) >= 1


def test_pages_need_somebody_who_may_log_in(served):
    with pytest.raises(UserError) as error:
        Pages(served[0].store)
    assert error.value.field == "tokens"
