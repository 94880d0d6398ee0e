"""The pages in a browser: wide and narrow, dark, by the keyboard alone, and without scripts."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="pip install '.[test]' brings it")
pytest.importorskip("lancedb", reason="the store is an extra: pip install '.[store]'")
pytest.importorskip("uvicorn", reason="the server is an extra: pip install '.[serve]'")

from playwright import sync_api as playwright
from starlette.applications import Starlette

from benchmarks.screenshots import (
    ADMIN,
    CHROMIUM,
    DESKTOP,
    PHONE,
    SHOTS,
    TOKENS,
    ScriptedChat,
    make_context,
    serve,
)
from genjax.serve.pages.context import Pages
from genjax.serve.pages.routes import make_pages
from genjax.store.monitoring.alerts import check_alerts
from genjax.store.monitoring.measured import Measured
from genjax.store.monitoring.requests import add_requests
from genjax.store.monitoring.rule import Rule
from genjax.store.monitoring.rules import add_rule
from genjax.store.records import Document, Payload, Prompt, Session
from tests.contrast import CONTRAST

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium"
)
LONG = "Donaudampfschifffahrtsgesellschaft" * 40
PATHS = (
    *(shot.path for shot in SHOTS),
    "/alerts",
    "/chat",
    "/compare",
    "/record?id=long",
    "/session?id=long-session",
    "/sessions?filter=%28%28",
    "/evaluate?kind=all&filter=" + LONG,
    "/search?q=Donaudampfschifffahrtsgesellschaft",
    "/nowhere",
)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    context = make_context(tmp_path_factory.mktemp("browser"), delay=0.05)
    context.store.add(
        Document(id="long", origin="real", name=LONG, source=LONG, tags=(LONG,),
                 metadata={LONG: LONG}, payload=Payload(text=LONG)),
        Session(id="long-session", origin="real", name=LONG, user=LONG),
        Prompt(origin="real", session="long-session", role=LONG, payload=Payload(text=LONG)),
    )  # fmt: skip
    add_rule(context.store, LONG[:150], Rule("behind"))
    check_alerts(context.store, waiting=3)
    request = Measured("one", datetime.now(UTC), f"/v1/{LONG[:90]}", 429, user=LONG)
    with context.store.writing() as connection:
        add_requests(connection, [request])
    yield context
    context.index.close()
    context.store.close()


@pytest.fixture(scope="module")
def address(context):
    with serve(Starlette(routes=make_pages(context))) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def log_in(browser, address, size=DESKTOP, **options):
    """A page of a visitor, and the list of all that its console complains of."""
    visitor = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    page, said = visitor.new_page(), []
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{address}/login")
    page.fill("#token", ADMIN)
    page.click("main button")
    assert page.locator("nav a").count() == 8
    return page, said


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(DESKTOP, "light"), (PHONE, "light"), (PHONE, "dark"), ((320, 600), "light")],
)
def test_every_page_fits_is_legible_and_the_console_is_quiet(browser, address, size, scheme):
    page, said = log_in(browser, address, size, color_scheme=scheme)
    for path in PATHS:
        page.goto(address + path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        scrolled, shown = page.evaluate(widths)
        assert scrolled <= shown, (path, scrolled, shown)
        assert page.evaluate(CONTRAST) == [], path
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
            ".filter((one) => !one.labels.length && !one.ariaLabel).length"
        )
        assert unnamed == 0 and page.locator("h1").count() == 1, path
    refused = [one for one in said if "status of 40" not in one]  # of the bad addresses above
    assert not refused and len(said) == 3
    page.context.close()


def press_until(page, selector, key="Tab", most=60):
    """Press a key until an element has the focus."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached by {key}")


def test_the_keyboard_alone_leads_from_the_login_to_a_rating(browser, address, context):
    page = browser.new_context().new_page()
    page.goto(f"{address}/")
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.type(ADMIN)
    page.keyboard.press("Enter")
    page.wait_for_selector("nav")
    press_until(page, "nav a[href='/search']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search")
    press_until(page, "#q")
    page.keyboard.type("rocks and ships")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")
    press_until(page, ".hit[href$='document-1']")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"  # the focus is seen
    page.keyboard.press("Enter")
    page.wait_for_url("**/record?id=document-1")
    press_until(page, ".star[value='4']")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Rated 4")
    assert page.url.endswith("/record?id=document-1")
    (said,) = context.store.select('target="document-1"', kind="feedback")
    assert (said.name, said.value, said.user) == ("rating", 4.0, "ann")
    page.context.close()


def test_everything_can_be_read_and_said_without_scripts(browser, address, context):
    page, said = log_in(browser, address, java_script_enabled=False)
    for shot in SHOTS:
        page.goto(address + shot.path)
        assert page.locator("h1").is_visible() and len(page.inner_text("main")) > 50
    page.goto(f"{address}/chat")
    page.fill("#message", "Without scripts")
    page.select_option("select[name=model]", "meadow")
    page.click("text=Send")
    page.wait_for_load_state("load")
    answer = page.locator(".turn.answer .text")
    assert answer.inner_text().strip() == "In the fields they say: Without scripts"
    page.click(".star[value='3']")
    assert "3 of 5 by 1" in page.inner_text(".stars legend")
    assert not said
    page.context.close()


def test_an_answer_streams_and_who_leaves_stops_it(browser, address, context):
    page, said = log_in(browser, address)
    words = " ".join(f"word{i}" for i in range(60))
    page.goto(f"{address}/chat")
    page.fill("#message", words)
    page.click("text=Send", no_wait_after=True)
    page.wait_for_selector(".turn.answer .text:has-text('word3')")
    assert "word59" not in page.inner_text(".turn.answer .text")
    page.goto(f"{address}/sessions")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        kept = list(context.store.select("metadata.stopped!=null", kind="response", origin="any"))
        if kept:
            break
        time.sleep(0.05)
    (kept,) = kept
    assert "word3" in kept.payload.text and "word59" not in kept.payload.text
    assert kept.metadata["stopped"] == "the reader left"
    page.goto(f"{address}/chat?id={kept.id}")
    assert "Stopped early" in page.inner_text(".turn.answer") and not said
    page.context.close()


def test_a_login_is_kept_by_the_browser_but_not_shown_to_scripts(browser, address):
    page, _ = log_in(browser, address)
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    page.click("text=Log out")
    page.goto(f"{address}/evaluate")
    assert "/login?next=" in page.url
    page.context.close()


def test_scripts_in_texts_do_not_run(browser, tmp_path):
    from tests.serve_pages.scripted import PAYLOADS

    context = make_context(tmp_path)
    ids = context.store.add(
        *(Document(origin="real", name=text, payload=Payload(text=text)) for text in PAYLOADS)
    )
    pages = Pages(context.store, TOKENS, None, ScriptedChat())
    with serve(Starlette(routes=make_pages(pages))) as address:
        page, said = log_in(browser, address)
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda one: said.append(one.url) if address not in one.url else None)
        page.goto(f"{address}/evaluate?kind=document")
        assert page.locator(".ticks li").count() == 2 + len(PAYLOADS)
        for one in ids[::6]:
            page.goto(f"{address}/record?id={one}")
        assert not said
        page.context.close()
    context.index.close()
    context.store.close()
