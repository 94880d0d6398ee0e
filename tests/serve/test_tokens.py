"""The API lets in who has a token of the store, as far as the token's role goes."""

import functools
import json

import pytest

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.serve.app import make_app
from genjax.serve.limits import Limits
from genjax.serve.recording import Recorder
from genjax.serve.running import Listening, serve
from genjax.store.access.role_table import add_role
from genjax.store.access.roles import parse_rule
from genjax.store.access.tokens import authenticate, create_token, revoke_tokens
from genjax.store.opening import open_store
from genjax.store.records import Payload, Prompt, Session
from tests import serving

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def guarded(chat_run, tmp_path_factory):
    """A server whose store has tokens, and a token of each kind."""
    place = str(tmp_path_factory.mktemp("guarded") / "own.db")
    store = open_store(place, create=True)
    store.add(
        Session(id="11111111-1111-7111-8111-111111111111", origin="real", tags=("private",)),
        Prompt(id="hidden-prompt", origin="real", tags=("private",), payload=Payload(text="x")),
        Prompt(id="shown-prompt", origin="real", tags=("public",), payload=Payload(text="x")),
    )
    with store.writing() as connection:
        add_role(connection, "part", [parse_rule("read tag=public"), parse_rule("generate")])
    made = {
        "trainer": create_token(store, "tom", "trainer")[0],
        "reader": create_token(store, "ben", "reader")[0],
        "read": create_token(store, "ann", "admin", scopes=["read"])[0],
        "part": create_token(store, "bob", "part")[0],
        "slow": create_token(store, "eve", "trainer", scopes=["generate"], rate=2)[0],
        "gone": create_token(store, "old", "admin")[0],
    }
    revoke_tokens(store, "old")
    recorder = Recorder(open_store(place))
    find = functools.partial(authenticate, store)
    limits = Limits(batch=4, patience=5)
    with serving.Served([f"chat={chat_run}"], limits, recorder, "plain key", find=find) as served:
        yield served, made, store
    store.close()


def ask(served, token, body=None, path="/v1/chat/completions"):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    status, got, content = served.ask(path, body, headers)
    return status, {name.lower(): value for name, value in got.items()}, json.loads(content)


def test_a_token_goes_as_far_as_its_role(guarded):
    served, made, store = guarded
    for token, status in (
        (made["trainer"], 200), (made["slow"], 200), ("plain key", 200), (made["reader"], 403),
        (made["read"], 403), (made["gone"], 401), (made["trainer"][:-1], 401), (None, 401),
        ("", 401), ("x" * 43, 401), (made["trainer"] + "\t", 200), ("é" * 43, 401),
    ):  # fmt: skip
        found, headers, said = ask(served, token, CHAT)
        assert found == status, (token, said)
        if status == 401:
            assert headers["www-authenticate"] == "Bearer"
            assert said["error"]["code"] == "invalid_api_key"
        if token:
            assert token not in json.dumps(said)
    for path in ("/v1/models", "/v1/models/chat"):
        assert ask(served, None, path=path)[0] == 401
        assert ask(served, made["trainer"], path=path)[0] == 200
    assert ask(served, None, path="/healthz")[0] == 200
    _, _, said = ask(served, made["trainer"], CHAT | {"user": "somebody else"})
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM records").scalar() > 3
    session = "22222222-2222-7222-8222-222222222222"
    ask(served, made["trainer"], CHAT | {"user": "else", "metadata": {"session": session}})
    assert store.get(session).user == "tom"


def test_a_token_names_only_records_that_its_user_sees(guarded):
    served, made, store = guarded
    for parent, stored in (("shown-prompt", True), ("hidden-prompt", False), ("nobody", False)):
        status, _, said = ask(served, made["part"], CHAT | {"metadata": {"parent": parent}})
        assert (status, said["stored"]) == (200, stored)
    for session, stored in (
        ("11111111-1111-7111-8111-111111111111", False), ("some name", True),
    ):  # fmt: skip
        _, _, said = ask(served, made["part"], CHAT | {"metadata": {"session": session}})
        assert said["stored"] == stored
    assert not store.count("parent=hidden-prompt", kind="prompt")


def test_a_token_is_told_to_wait(guarded):
    served, made, _ = guarded
    found = [ask(served, made["slow"], CHAT) for _ in range(3)]
    assert found[0][2].get("stored", True)  # it may generate, and what it asks is kept
    status, headers, said = found[-1]
    assert status == 429 and 1 <= int(headers["retry-after"]) <= 30
    assert said["error"]["code"] == "rate_limit_exceeded"
    assert ask(served, made["trainer"], CHAT)[0] == 200


def test_nobody_listens_beyond_this_machine_without_tokens(chat_run, tmp_path, capsys):
    place = str(tmp_path / "bare.db")
    open_store(place, create=True).close()
    for host in ("0.0.0.0", "::"):
        for more in ([], ["--store", place]):
            options = ["--host", host, "--port", "0", "--check", *more]
            assert main(["serve", str(chat_run), *options]) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1 and "host" in said and "token" in said
    with pytest.raises(UserError) as error:
        serve([str(chat_run)], Limits(), Listening("0.0.0.0", 0, check=True))
    assert error.value.field == "host"
    (tmp_path / "key").write_text("a key of this server")
    key = ["--token", str(tmp_path / "key")]
    main(["serve", str(chat_run), "--host", "0.0.0.0", "--port", "0", "--check", *key])
    assert '"ok"' in capsys.readouterr().out
    with open_store(place) as store:
        token, _ = create_token(store, "bob", "reader")
    main(["serve", str(chat_run), "--host", "0.0.0.0", "--port", "0", "--check", "--store", place])
    out = capsys.readouterr().out
    assert '"ok"' in out and "with the token" not in out and token not in out


@pytest.mark.long
def test_no_request_of_the_described_form_fails_the_server(guarded):
    schemathesis = pytest.importorskip(
        "schemathesis", reason="requests by the description are made by: pip install schemathesis"
    )
    import hypothesis

    served, made, _ = guarded
    described = schemathesis.openapi.from_asgi("/openapi.json", make_app(served.service))
    described.base_url = served.url
    tried = set()
    headers = {"Authorization": f"Bearer {made['trainer']}"}

    for found in described.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(max_examples=8, deadline=None, database=None, derandomize=True,
                             suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def try_one(case):
            answer = case.call(base_url=served.url, headers=headers, timeout=60)
            tried.add((case.operation.label, answer.status_code))
            assert answer.status_code < 500, (case.operation.label, answer.text[:300])

        try_one()
    assert len({label for label, _ in tried}) >= 8
