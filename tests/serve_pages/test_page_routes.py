"""What each page shows and does, over a small real store."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import anyio
import pytest

pytest.importorskip("itsdangerous", reason="the pages are an extra: pip install '.[serve]'")
pytest.importorskip("lancedb", reason="the store is an extra: pip install '.[store]'")

from starlette.testclient import TestClient

from benchmarks.screenshots import SHOTS, TOKENS, ScriptedChat, make_context
from genjax.errors import UserError
from genjax.serve.pages.charts import draw_chart
from genjax.serve.pages.context import Pages
from genjax.serve.pages.protocols import Options
from genjax.store.opening import open_store
from genjax.store.records import Document, Feedback, Payload, Prompt, Response, Session
from tests.serve_pages.scripted import find_texts, read_csrf, submit, visit


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Pages that no test changes."""
    context = make_context(tmp_path_factory.mktemp("pages"))
    yield context
    context.index.close()
    context.store.close()


@pytest.fixture
def context(tmp_path):
    """Pages that a test changes."""
    with open_store(str(tmp_path / "own.db"), create=True, user="ann") as store:
        yield Pages(store, TOKENS, None, ScriptedChat())


def select(store, filter="", **options):
    return list(store.select(filter, origin="any", **options))


def add_answers(store, texts=("One.", "Two."), prompt="Say a number."):
    """A prompt with answers of runs that nobody knows."""
    (asked,) = store.add(Prompt(origin="real", payload=Payload(text=prompt)))
    answers = [
        Response(origin="synthetic", generator="unknown", prompt=asked, payload=Payload(text=text))
        for text in texts
    ]
    return asked, store.add(*answers)


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_every_page_opens_for_readers_too(shared, shot):
    for token in ("a token of an admin", "a token of a reader"):
        answer = visit(shared, token).get(shot.path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?! src=)|\son\w+=|\sstyle=|javascript:", answer.text)
    assert 'method="post" action="/record' not in answer.text  # a reader is shown no such form


def test_a_store_without_records_says_so_on_every_page(context):
    visitor = visit(context)
    said = {
        "/": "The store is empty",
        "/chat": "Say something",
        "/compare": "No two answers",
        "/images": "has a picture",
        "/sessions": "no session yet",
        "/search": "no search index",
        "/evaluate": "No record passes",
        "/usage": "Nothing was answered",
    }
    for path, sentence in said.items():
        answer = visitor.get(path)
        assert answer.status_code == 200 and sentence in answer.text, path


def test_what_is_absent_says_so(tmp_path):
    with open_store(str(tmp_path / "own.db"), create=True) as store:
        visitor = visit(Pages(store, TOKENS))
        assert "No run is served here" in visitor.get("/chat").text
        assert "takes two, but 0 runs are served" in visitor.get("/compare").text
        assert submit(visitor, "/chat", {"message": "Hello"}).status_code == 400
        assert submit(visitor, "/compare", {"message": "Hello"}).status_code == 400


def test_chat_streams_and_stores_what_was_said(context):
    visitor = visit(context)
    fields = {"message": "Hello,\r\nsea", "model": "meadow", "seed": "3", "temperature": "0.5"}
    answer = submit(visitor, "/chat", fields)
    assert find_texts(answer.text) == ["Hello,\nsea", "In the fields they say: Hello,\nsea "]
    (session,) = select(context.store, kind="session")
    (prompt,) = select(context.store, kind="prompt")
    (drawn,) = select(context.store, kind="response")
    assert session.name == "Hello, sea" and prompt.session == session.id
    assert (drawn.prompt, drawn.seed, drawn.generator) == (prompt.id, 3, "unknown")
    assert drawn.sampler == {"temperature": 0.5, "seed": 3} and drawn.milliseconds is not None
    again = visitor.get(f"/chat/answer?id={prompt.id}")  # reloaded: the same, drawn once
    assert find_texts(again.text) == find_texts(answer.text)
    assert context.store.count(kind="response", origin="any") == 1
    submit(visitor, "/chat", {"message": "More", "after": drawn.id, "model": "meadow"})
    more = select(context.store, "parent!=null", kind="prompt")
    assert [(one.parent, one.session) for one in more] == [(drawn.id, session.id)]
    assert context.store.history(drawn.id)[0].user == "ann"


def test_the_runs_record_is_named_where_there_is_one(shared):
    from genjax.serve.pages.chat import find_run

    assert find_run(shared.store, "harbour") == "run-h"
    assert find_run(shared.store, "nobody") is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"message": " \n"}, "message"),
        ({"message": "x", "model": "other"}, "model"),
        ({"message": "x", "temperature": "warm"}, "temperature"),
        ({"message": "x", "temperature": "-1"}, "temperature"),
        ({"message": "x", "seed": "1.5"}, "seed"),
        ({"message": "x", "max_tokens": "0"}, "max_tokens"),
        ({"message": "x\0"}, "message"),
        ({"message": "x", "after": "nobody"}, "nobody"),
        ({"message": "x", "from": "documents"}, "documents"),
    ],
)
def test_a_wrong_message_is_refused_in_one_sentence(context, fields, named):
    answer = submit(visit(context), "/chat", fields)
    (said,) = re.findall(r'role="alert">(.*?)</p>', answer.text)
    assert answer.status_code in (400, 404) and named in said and "Traceback" not in answer.text
    assert context.store.count(origin="any") == 0


def test_what_others_wrote_into_metadata_breaks_no_page(context):
    wrong = (None, 3, "x", [], {}, {"model": 3}, {"model": "meadow", "seed": "x"})
    visitor = visit(context)
    for asked in wrong:
        (one,) = context.store.add(
            Prompt(origin="real", payload=Payload(text="x"), metadata={"asked": asked})
        )
        for path in (f"/chat?id={one}", f"/chat/answer?id={one}"):
            answer = visitor.get(path)
            assert answer.status_code in (200, 404), (asked, path)
            assert answer.text.rstrip().endswith("</html>"), (asked, path)
    (one,) = context.store.add(Prompt(origin="real", payload=Payload(text="x")))
    for number, kept in enumerate(
        (None, 3, "x", [3], [{}], [{"text": "t", "start": -5, "end": 99}])
    ):
        context.store.add(
            Response(
                id=f"a{number}", origin="synthetic", generator="unknown", prompt=one,
                payload=Payload(text="t"),
                metadata={"sources": kept, "faults": kept, "stopped": kept, "model": kept},
            )
        )  # fmt: skip
        assert visitor.get(f"/chat?id=a{number}").status_code == 200


class Failing(ScriptedChat):
    """Says two words, then fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    async def stream(self, model, messages, options):
        yield "two "
        yield "words"
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [(UserError("prompt is too long", "prompt"), "prompt is too long"), (OSError("x"), "log")],
)
def test_an_answer_that_fails_keeps_what_came(context, error, said):
    visitor = visit(Pages(context.store, TOKENS, None, Failing(error)))
    answer = submit(visitor, "/chat", {"message": "Hello"})
    assert answer.status_code == 200 and said in answer.text and "OSError" not in answer.text
    assert answer.text.count("</article>") == 2 and answer.text.rstrip().endswith("</html>")
    (kept,) = select(context.store, kind="response")
    assert kept.payload.text == "two words" and kept.metadata["stopped"] == "it failed"


def test_answers_from_documents_show_their_sources_and_faults(tmp_path):
    context = make_context(tmp_path)
    visitor = visit(context)
    answer = submit(visitor, "/chat", {"message": "What is it?", "from": "documents"})
    assert "<mark>warns ships of rocks</mark>" in answer.text
    assert '<mark class="fault">&#34;was invented in 1950</mark>' in answer.text
    assert "these words are not in the document" in answer.text
    (kept,) = select(context.store, "metadata.sources!=null", kind="response")
    assert kept.parents == ("document-1", "document-2") and len(kept.metadata["faults"]) == 1
    page = visitor.get(f"/chat?id={kept.id}").text  # and when it is read again
    assert "<mark>warns ships of rocks</mark>" in page and '<mark class="fault">' in page
    context.index.close()
    context.store.close()


class Endless(ScriptedChat):
    """Never ends an answer; ``drawing`` are the answers that are being drawn."""

    def __init__(self):
        super().__init__()
        self.drawing, self.left = 0, []

    async def stream(self, model, messages, options):
        self.drawing += 1
        try:
            while True:
                yield "word "
                await anyio.sleep(0.01)
        finally:
            self.drawing -= 1
            self.left.append(model)


def test_a_comparison_stops_drawing_when_the_reader_leaves(context):
    chat = Endless()
    visitor = visit(Pages(context.store, TOKENS, None, chat))
    content = urlencode({"csrf": read_csrf(visitor.get("/").text), "message": "Hello"}).encode()
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    headers = {
        "host": "testserver",
        "cookie": cookies,
        "content-type": "application/x-www-form-urlencoded",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/compare",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    messages = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        while chat.drawing < 2:
            await anyio.sleep(0.01)
        return {"type": "http.disconnect"}

    sent = []

    async def send(message):
        sent.append(message)

    async def ask():
        with anyio.fail_after(30):
            await visitor.app(scope, receive, send)

    anyio.run(ask)
    assert chat.drawing == 0 and len(chat.left) == 2 and sent[0]["status"] == 499
    assert not select(context.store)  # nothing is kept of it


def test_a_comparison_is_blind_until_the_vote(context):
    visitor = visit(context)
    lefts = []
    for number in range(12):
        page = submit(visitor, "/compare", {"message": f"Say {number}."})
        left, right = (re.search(f'name="{side}" value="(.*?)"', page.text)[1] for side in SIDES)
        shown = page.text.partition("<main")[2]
        assert "harbour" not in shown and "meadow" not in shown
        store = context.store
        models = [store.get(one, "any").metadata["model"] for one in (left, right)]
        assert sorted(models) == ["harbour", "meadow"]
        lefts.append(models[0])
        texts = [store.get(one, "any").payload.text for one in (left, right)]
        assert find_texts(page.text)[1:] == texts
        fields = {"left": left, "right": right, "choice": "right", "rationale": "better"}
        done = submit(visitor, "/compare/pair", fields)
        assert "You preferred the right one." in done.text and models[0] in done.text
        submit(visitor, "/compare/pair", fields | {"choice": "left"})  # counts once
        (vote,) = select(store, f'target="{right}"', kind="feedback")
        assert (vote.against, vote.name, vote.user) == (left, "preference", "ann")
        prompt = store.get(left, "any").prompt
        known = {"left": left, "right": right, "chosen": "right", "prompt": prompt}
        assert vote.metadata == known and vote.source_kind == "HUMAN"
    assert 0 < lefts.count("harbour") < 12
    assert context.store.count(kind="feedback") == 12


SIDES = ("left", "right")


def test_stored_pairs_are_judged_each_once_and_ties_prefer_nobody(tmp_path):
    context = make_context(tmp_path)
    visitor = visit(context)
    judged = 0
    while "/compare/pair" in str((page := visitor.get("/compare/next")).url):
        left, right = (re.search(f'name="{side}" value="(.*?)"', page.text)[1] for side in SIDES)
        submit(visitor, "/compare/pair", {"left": left, "right": right, "choice": "tie"})
        judged += 1
        assert judged < 50
    assert judged == 12
    ties = select(context.store, "name=preference", kind="feedback")
    assert {(one.against, one.value, one.label) for one in ties} == {(None, 0.0, "tie")}
    context.index.close()
    context.store.close()


def test_a_vote_is_of_two_answers_to_one_prompt(context):
    _, (one, other) = add_answers(context.store)
    asked, (third, _) = add_answers(context.store, prompt="Another.")
    visitor = visit(context)
    for pair in ((one, one), (one, third), (one, asked), (one, "nobody")):
        fields = {"left": pair[0], "right": pair[1], "choice": "left"}
        assert submit(visitor, "/compare/pair", fields).status_code in (400, 404)
        assert visitor.get(f"/compare/pair?left={pair[0]}&right={pair[1]}").status_code in (
            400,
            404,
        )
    fields = {"left": one, "right": other, "choice": "both"}
    assert submit(visitor, "/compare/pair", fields).status_code == 400
    assert context.store.count(kind="feedback") == 0


def test_blobs_are_sent_by_their_hash_alone(context):
    def add(content, media_type):
        payload = Payload(content=content, media_type=media_type)
        (one,) = context.store.add(Document(origin="real", payload=payload))
        return context.store.get(one).payload.blob

    visitor = visit(context)
    picture, page = add(b"\x89PNG", "image/png"), add(b"<script>alert(1)</script>", "text/html")
    drawing = add(b"<svg onload='alert(1)'/>", "image/svg+xml")
    answer = visitor.get(f"/blobs/{picture}")
    assert answer.content == b"\x89PNG" and answer.headers["content-type"] == "image/png"
    for digest in (page, drawing):
        answer = visitor.get(f"/blobs/{digest}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    blobs = context.store.blobs.url
    for path in (
        "../own.db",
        "..%2fown.db",
        "%2e%2e/own.db",
        f"{picture[:2]}/{picture}",
        picture.upper(),
        picture + "%00",
        "0" * 64,
        f"%2f{blobs}",
        "..%5c..%5cown.db",
        "....//own.db",
        "",
    ):
        assert visitor.get(f"/blobs/{path}").status_code == 404, path
    one = next(context.store.select(f'blob="{picture}"'))
    context.store.delete(one.id)
    assert visitor.get(f"/blobs/{picture}").status_code == 404


def test_a_rating_said_twice_is_the_later_one(context):
    _, (one, _) = add_answers(context.store)
    visitor = visit(context)
    fields = {"id": one, "name": "rating", "value": "2", "next": f"/record?id={one}"}
    page = submit(visitor, "/record/feedback", fields)
    assert str(page.url).endswith(f"/record?id={one}") and "2 of 5 by 1" in page.text
    part = submit(
        visitor, "/record/feedback", fields | {"value": "4"}, headers={"HX-Request": "true"}
    )
    assert part.text.lstrip().startswith("<form") and "4 of 5 by 1" in part.text
    (kept,) = select(context.store, kind="feedback")
    assert kept.value == 4 and context.store.history(kept.id)[1].fields["value"] == [2, 4]
    for wrong in (
        {"value": "many"},
        {"value": ""},
        {"name": " "},
        {"id": "nobody"},
        {"value": "1e999"},
    ):
        assert submit(visitor, "/record/feedback", fields | wrong).status_code in (400, 404)
    assert context.store.count(kind="feedback") == 1


def test_where_a_form_leads_stays_here(context):
    _, (one, _) = add_answers(context.store)
    visitor = visit(context)
    for place in ("//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example",
                  "javascript:alert(1)", "\n//evil.example", "///evil.example"):  # fmt: skip
        fields = {"id": one, "name": "rating", "value": "2", "next": place}
        answer = submit(visitor, "/record/feedback", fields, follow_redirects=False)
        assert answer.headers["location"] == "/", place


def test_a_record_shows_all_that_is_known_of_it(context):
    store = context.store
    asked, (one, other) = add_answers(store, ("One.", "Two."))
    store.update(one, payload=Payload(text="Three."), metadata={"lang": {"name": "de"}})
    store.add(
        Feedback(
            origin="real", target=one, against=other, name="preference", value=1.0,
            source_kind="LLM_JUDGE", source_id="judge-7", rationale="It is shorter.",
        )
    )  # fmt: skip
    visitor = visit(context)
    submit(visitor, "/record/tags", {"id": one, "tag": "good"})
    page = visitor.get(f"/record?id={one}").text
    for text in ("Three.", "LLM_JUDGE", "judge-7", "It is shorter.", "&#34;lang&#34;", "good",
                 f"/record?id={asked}", "&#34;One.&#34;", "preferred to"):  # fmt: skip
        assert text in page, text
    submit(visitor, "/record/tags", {"id": one, "tag": "good", "action": "remove"})
    assert store.get(one, "any").tags == ()
    up = visitor.get(f"/lineage?id={one}").text
    assert f"/record?id={asked}" in up
    assert f"/record?id={one}" in visitor.get(f"/lineage?id={asked}").text


def test_what_is_not_there_is_a_page_of_one_sentence(context):
    _, (one, _) = add_answers(context.store)
    context.store.delete(one)
    visitor = visit(context)
    for path in ("/record?id=nobody", f"/record?id={one}", "/record", "/session?id=nobody",
                 "/lineage?id=%00", "/record/text?id=nobody", "/chat?id=nobody", "/nowhere",
                 "/record/../../etc/passwd", "/static/../visit.py",
                 "/chat/answer?id=nobody"):  # fmt: skip
        answer = visitor.get(path)
        assert answer.status_code in (400, 404) and "Traceback" not in answer.text, path
    for path in ("/v1/nothing", "/metrics"):  # left to the app
        assert visitor.get(path).text == "Not Found"


@pytest.mark.parametrize(
    "path",
    [
        "/search?q=ships&mode=guess",
        "/search?q=ships&origin=all",
        "/search?q=ships&from=-1",
        "/search?q=ships&from=1e9",
        "/search?q=ships&filter=((",
        "/search?q=ships&filter=score>1",
        "/evaluate?kind=other",
        "/evaluate?filter=nothing=1",
        "/evaluate?filter=tokens=many",
        "/evaluate?after=nobody",
        "/evaluate?origin=a&origin=b",
        "/images?filter=:",
        "/images?origin=x",
        "/sessions?after=nobody",
        "/sessions?filter=%00",
        "/session?id=session-00&from=x",
        "/usage?days=0",
        "/usage?days=1000",
        "/usage?days=%D9%A3",
    ],
)
def test_bad_parameters_are_refused_in_one_sentence(shared, path):
    answer = visit(shared).get(path)
    (said,) = re.findall(r'role="alert">(.*?)</p>', answer.text)
    assert answer.status_code == 400 and said and "Traceback" not in answer.text


def test_search_finds_by_each_mode_and_says_how_far_the_index_is_behind(tmp_path):
    context = make_context(tmp_path)
    visitor = visit(context)
    for mode in ("hybrid", "vector", "keyword"):
        page = visitor.get(f"/search?q=rocks+and+ships&mode={mode}").text
        assert "/record?id=document-1" in page and "The index holds all" in page
        assert "answer-00" not in page  # synthetic ones are not asked for
    assert "<mark>rocks</mark>" in page
    found = visitor.get("/search?q=light&origin=synthetic&filter=kind%3Dresponse&mode=keyword").text
    assert "answer-00" in found
    first = visitor.get("/search?q=harbour+rain&origin=any").text
    second = visitor.get("/search?q=harbour+rain&origin=any&from=10").text
    ids = [
        set(re.findall(r'class="hit" href="/record\?id=([\w-]+)', page)) for page in (first, second)
    ]
    assert len(ids[0]) == 10 and ids[1] and not ids[0] & ids[1] and 'start="11"' in second
    context.store.delete("document-1")
    page = visitor.get("/search?q=rocks").text
    assert "1 record behind" in page and "1 hit was deleted since" in page
    context.index.close()
    context.store.close()


def test_sessions_are_paged_by_their_keys(context):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=number // 3) for number in range(10_000)]
    context.store.add(*(Session(origin="real", name=f"s{i}", time=t) for i, t in enumerate(times)))
    visitor = visit(context)
    seen, path = [], "/sessions"
    for _ in range(4):
        page = visitor.get(path).text
        seen += re.findall(r"<bdi>(s\d+)</bdi>", page)
        path = re.search(r'href="(/sessions\?after=[^"]+)">Older', page)[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 200
    assert {f"s{i}" for i in range(9_801, 10_000)} <= set(seen)
    last = [record.id for record in context.store.select(kind="session", limit=3)]
    page = visitor.get(f"/sessions?after={last[2]}").text
    assert len(re.findall(r"<bdi>(s\d+)</bdi>", page)) == 2 and "Older ones" not in page


def test_a_session_shows_its_branches_in_order(context):
    store = context.store
    (session,) = store.add(Session(origin="real", name="tree"))
    shared = {"origin": "real", "session": session, "role": "user"}
    store.add(Prompt(id="p1", payload=Payload(text="root"), **shared))
    for name in ("a", "b"):
        answer = Payload(text=f"answer {name}")
        store.add(
            Response(id=name, origin="synthetic", generator="unknown", prompt="p1", payload=answer)
        )
        store.add(
            Prompt(id=f"p-{name}", parent=name, payload=Payload(text=f"after {name}"), **shared)
        )
    page = visit(context).get(f"/session?id={session}").text
    assert find_texts(page) == ["root", "answer a", "after a", "answer b", "after b"]
    assert re.findall(r"Branch (\d) of 2", page) == ["1", "2"] and "5 turns" in page


def test_a_long_session_is_paged_and_deep_ones_do_not_recurse(context):
    store = context.store
    (session,) = store.add(Session(origin="real"))
    records = [
        Prompt(
            id=f"t{i:05d}", origin="real", session=session, parent=f"t{i - 1:05d}" if i else None,
            payload=Payload(text=f"turn {i}"),
        )
        for i in range(450)
    ]  # fmt: skip
    store.add(*records)
    visitor = visit(context)
    page = visitor.get(f"/session?id={session}").text
    assert find_texts(page)[-1] == "turn 199" and "from=200" in page
    assert find_texts(visitor.get(f"/session?id={session}&from=440").text)[-1] == "turn 449"
    assert visitor.get("/lineage?id=t00449").status_code == 200


def test_a_huge_text_is_cut_with_a_link_to_the_whole(context):
    text = "ab" * 500_000
    _, (one, _) = add_answers(context.store, (text, "Two."))
    visitor = visit(context)
    page = visitor.get(f"/record?id={one}").text
    assert len(page) < 60_000 and "All 1,000,000 characters" in page
    whole = visitor.get(f"/record/text?id={one}")
    assert whole.text == text and whole.headers["content-type"].startswith("text/plain")
    assert len(visitor.get("/evaluate").text) < 60_000


def test_usage_counts_by_day_run_and_user(shared):
    page = visit(shared).get("/usage").text
    totals = re.findall(r"<dd>(.*?)</dd>", page)
    answers = shared.store.count(kind="response", origin="any")
    tokens = sum(r.tokens or 0 for r in shared.store.select(kind="response", origin="any"))
    assert totals[:2] == [str(answers), str(tokens)] and answers == 30
    rows = dict(
        re.findall(r"<bdi>(harbour|meadow|ann)</bdi></th><td class=\"number\">(\d+)<", page)
    )
    assert rows == {"harbour": "18", "meadow": "12", "ann": "30"}
    today = f"{datetime.now(UTC):%m-%d}"
    assert re.search(rf'<bdi>{today}</bdi></th><td class="number">8<', page)
    assert "Mean of helpful a day" in page
    assert "Mean of rating a day" in visit(shared).get("/usage?score=rating").text
    assert page.count("<svg") == page.count("<table>") == 6


def test_bars_are_as_high_as_their_values():
    chart = draw_chart("x", "Day", "n", [("a", 2.0), ("b", None), ("c", -1.0), ("d", 0.0)])
    heights = {bar.label: bar.height for bar in chart.bars}
    assert heights["a"] == pytest.approx(2 * heights["c"], abs=0.2) and heights["d"] == 0
    assert [word for _, word in chart.ticks] == ["-1", "0", "1", "2"]
    assert not draw_chart("x", "Day", "n", []).bars


def test_options_refuse_what_no_sampler_takes():
    for field, value in (("temperature", -1.0), ("max_tokens", 0), ("seed", 2**31)):
        with pytest.raises(UserError) as error:
            Options(**{field: value})
        assert error.value.field == field


def test_the_python_of_the_docs_makes_an_app(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "pages.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(block, scope)
    visitor = TestClient(scope["app"])
    assert submit(visitor, "/login", {"token": scope["token"]}, page="/login").url.path == "/"
    scope["store"].close()
    pictures = re.findall(r"\]\((pages/\w+\.png)\)", page)
    sizes = [(Path(__file__).parents[2] / "docs" / name).stat().st_size for name in pictures]
    assert len(sizes) >= 10 and max(sizes) < 60_000
