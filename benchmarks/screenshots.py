"""Take the screenshots of docs/pages.md, which show each web page with a small example store.

    python -m benchmarks.screenshots                  # writes docs/pages/*.png
    python -m benchmarks.screenshots --out elsewhere --all --dark

The answers are scripted, as the screenshots show the pages, not a model.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette

from genjax.data.pictures import png_bytes
from genjax.serve.pages.access import Token
from genjax.serve.pages.context import Pages
from genjax.serve.pages.protocols import Answer, Fault, Message, Options, Source
from genjax.serve.pages.routes import make_pages
from genjax.store.access.tokens import hash_token
from genjax.store.monitoring.alerts import check_alerts
from genjax.store.monitoring.measured import Measured
from genjax.store.monitoring.requests import add_requests
from genjax.store.monitoring.rule import Rule
from genjax.store.monitoring.rules import add_rule
from genjax.store.opening import open_store
from genjax.store.privacy.plan import Plan
from genjax.store.records import (
    DataSet,
    Document,
    Feedback,
    Payload,
    Prompt,
    Record,
    Response,
    Run,
    Session,
)
from genjax.store.rows import make_ids
from genjax.store.searching import follow, open_search
from genjax.store.store import Store

CHROMIUM = "/usr/bin/chromium"
ADMIN, READER = "a token of an admin", "a token of a reader"
TOKENS = (
    Token("ann", "admin", hash_token(ADMIN)),
    Token("ben", "reader", hash_token(READER)),
)
DESKTOP, PHONE = (1100, 760), (390, 780)
COLOURS = 64  # the number of colours in a screenshot
QUESTIONS = (
    ("What does a lighthouse do?", "It shows ships where the coast is, by a light that turns."),
    (
        "Schreibe einen Satz über den Herbst.",
        "Im Herbst färben sich die Blätter, und es wird kühl.",
    ),
    ("اكتب جملة عن البحر", "البحر هادئ في الصباح، والقوارب تعود إلى الميناء."),
    (
        "A haiku about rain",
        "Rain taps on the roof,\nthe gutter sings all night",
    ),
)
LIGHTHOUSE = (
    "A lighthouse is a tower with a strong light at its top. It warns ships of rocks and shows "
    "them the way into a harbour. The first ones burned wood; today most are electric."
)


class ScriptedChat:
    """A chat that streams scripted answers word by word."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay

    def models(self) -> Sequence[str]:
        """Return the names of the two runs in the store."""
        return ("harbour", "meadow")

    async def stream(
        self, model: str, messages: Sequence[Message], options: Options
    ) -> AsyncIterator[str]:
        """Yield the words of the last message, after an introduction that depends on the run."""
        manner = "By the sea one would say:" if model == "harbour" else "In the fields they say:"
        for word in f"{manner} {messages[-1].content}".split(" "):
            await asyncio.sleep(self.delay)
            yield word + " "


class ScriptedAnswers:
    """A source of one scripted answer, with a correct citation and a wrong one."""

    def answer(self, question: str, model: str | None, options: Options, store: Store) -> Answer:
        """Return the same answer to every question."""
        text = 'It "warns ships of rocks" [document-1], and "was invented in 1950" [document-1].'
        wrong = text.index('"was')
        fault = Fault(wrong, wrong + 21, "these words are not in the document")
        start = LIGHTHOUSE.index("warns")
        cited = Source("document-1", LIGHTHOUSE, start, start + len("warns ships of rocks"))
        return Answer(text, (cited, Source("document-2", "Harbours are safe for ships.")), (fault,))


def fill_store(store: Store) -> None:
    """Add sessions with a branch, pictures, documents and feedback of the last 12 days."""
    today = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    records: list[Record] = [
        DataSet(
            id="set-1", origin="real", name="sea texts", manifest={"inputs": {"sea.txt": "5d4"}}
        ),
        Run(id="run-h", origin="real", name="harbour", parents=("set-1",)),
        Run(id="run-m", origin="real", name="meadow", parents=("set-1",)),
        Document(
            id="document-1",
            origin="real",
            name="Lighthouses",
            source="sea.txt",
            payload=Payload(text=LIGHTHOUSE),
        ),
        Document(
            id="document-2",
            origin="real",
            name="Harbours",
            source="sea.txt",
            payload=Payload(text="Harbours are safe for ships."),
        ),
    ]
    for day in range(12):
        when = today - timedelta(days=11 - day)
        question, answer = QUESTIONS[day % len(QUESTIONS)]
        name, model = f"{day:02d}", ("run-h", "run-m")[day % 2]
        records += _talk(name, when, question, answer, model)
        if day % 3:
            value = round(0.2 + 0.06 * day, 2)
            records.append(
                Feedback(
                    id=f"feedback-{name}",
                    origin="real",
                    target=f"answer-{name}",
                    name="helpful",
                    value=value,
                    user="ann",
                    time=when + timedelta(hours=1),
                )
            )
    store.add(*records)
    store.add(*_draw_pictures(today))


def _talk(name: str, when: datetime, question: str, answer: str, run: str) -> list[Record]:
    """Return a session: a question with two answers, one of them with a further question."""
    other = {"run-h": "run-m", "run-m": "run-h"}[run]
    shared: dict[str, Any] = {"origin": "synthetic", "prompt": f"question-{name}"}
    minute = timedelta(minutes=1)
    return [
        Session(id=f"session-{name}", origin="real", name=question, user="ann", time=when),
        Prompt(
            id=f"question-{name}",
            origin="real",
            session=f"session-{name}",
            role="user",
            payload=Payload(text=question),
            time=when,
        ),
        Response(
            id=f"answer-{name}",
            generator=run,
            run=run,
            payload=Payload(text=answer),
            tokens=len(answer.split()),
            milliseconds=90 + 17 * len(name + answer) % 60,
            tags=("short",) if len(answer) < 60 else (),
            time=when + minute,
            **shared,
        ),
        Response(
            id=f"other-{name}",
            generator=other,
            run=other,
            payload=Payload(text="I do not know."),
            tokens=4,
            milliseconds=55,
            time=when + 2 * minute,
            **shared,
        ),
        Prompt(
            id=f"more-{name}",
            origin="real",
            session=f"session-{name}",
            parent=f"answer-{name}",
            role="user",
            payload=Payload(text="Say more."),
            time=when + 3 * minute,
        ),
    ]


def _draw_pictures(when: datetime) -> list[Record]:
    """Return records of pictures that show hills under a sky, with ratings of three."""
    records: list[Record] = [
        Prompt(id="asked-hills", origin="real", payload=Payload(text="hills at dusk"), time=when)
    ]
    across, down = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 64))
    for number in range(6):
        sky = np.stack([0.95 - 0.5 * down, 0.65 - 0.2 * down, 0.45 + 0.4 * down], -1)
        for depth in range(3):
            ridge = 0.45 + 0.17 * depth + 0.1 * np.sin(6 * across + 1.7 * depth + number)
            shade = np.array([0.35, 0.32, 0.48]) * (1 - 0.3 * depth)
            sky[down > ridge] = shade
        picture = png_bytes((255 * sky).astype(np.uint8))
        records.append(
            Response(
                id=f"picture-{number}",
                origin="synthetic",
                generator="run-h",
                run="run-h",
                prompt="asked-hills",
                payload=Payload(content=picture, media_type="image/png"),
                time=when + timedelta(seconds=number),
                milliseconds=300.0,
            )
        )
    rated = {"name": "rating", "user": "ann", "origin": "real"}
    records += [
        Feedback(id=f"rating-{n}", target=f"picture-{n}", value=float(n), **rated)  # type: ignore[arg-type]
        for n in (3, 4, 5)
    ]
    return records


def _fill_requests(store: Store) -> None:
    """Add requests of the last hours, a few of which failed, and alerts on them."""
    now = datetime.now(UTC)
    ids = make_ids(60)
    requests = [
        Measured(
            ids[number],
            now - timedelta(minutes=15 * number),
            "/v1/chat/completions",
            500 if number % 12 == 5 else 200,
            "run-h",
            ("ann", "ben")[number % 2],
            tokens_in=40 + number,
            tokens_out=90,
            milliseconds=300.0 + 20 * number,
            first_ms=30.0 + number,
        )
        for number in range(60)
    ]
    with store.writing() as connection:
        add_requests(connection, requests)
    add_rule(store, "failures", Rule("errors", above=0.05))
    add_rule(store, "slow", Rule("latency", above=2_000.0))
    check_alerts(store)


@dataclass(frozen=True)
class Shot:
    """A screenshot, with its name and the path of its page."""

    name: str
    path: str


SHOTS = (
    Shot("overview", "/"),
    Shot("chat", "/chat?id=answer-00"),
    Shot("compare", "/compare/pair?left=answer-03&right=other-03"),
    Shot("images", "/images"),
    Shot("sessions", "/sessions"),
    Shot("session", "/session?id=session-02"),
    Shot("record", "/record?id=answer-04"),
    Shot("lineage", "/lineage?id=answer-04"),
    Shot("search", "/search?q=ships+and+rocks&origin=any"),
    Shot("evaluate", "/evaluate?filter=tags:short"),
    Shot("usage", "/usage?days=30"),
    Shot("alerts", "/alerts"),
)


def make_context(folder: Path, delay: float = 0.0, privacy: Plan = Plan()) -> Pages:
    """Return the context of the pages, with a new small store and its index."""
    store = open_store(str(folder / "small.db"), create=True, user="ann", privacy=privacy)
    fill_store(store)
    index = open_search(store)
    follow(store, index)
    return Pages(store, TOKENS, index, ScriptedChat(delay), ScriptedAnswers())


@contextlib.contextmanager
def serve(app: Starlette) -> Iterator[str]:
    """Serve an app on a free port and yield its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(10)


def shrink(picture: bytes, colours: int = COLOURS) -> bytes:
    """Return a picture as a PNG with few colours."""
    out = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(colours)
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", default="docs/pages")
    parser.add_argument("--dark", action="store_true", help="for those who like it dark")
    parser.add_argument("--all", action="store_true", help="each page to its end, on a phone too")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        context = make_context(Path(folder))
        _fill_requests(context.store)
        app = Starlette(routes=make_pages(context))
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with serve(app) as address:
            for size, prefix in ((DESKTOP, ""), (PHONE, "phone_")):
                visitor = browser.new_context(
                    viewport={"width": size[0], "height": size[1]},
                    color_scheme="dark" if options.dark else "light",
                )
                _draw(visitor.new_page(), address, f"{out}/{prefix}", options.all)
        browser.close()


def _draw(page: Any, address: str, prefix: str, every: bool) -> None:
    """Save a screenshot of each page, or of one page on a phone unless ``every``."""
    page.goto(f"{address}/login")
    if every or prefix[-1] == "/":
        _save(page, f"{prefix}login.png", every)
    page.fill("#token", ADMIN)
    page.click("main button")
    page.wait_for_selector("nav")
    shots = [shot for shot in SHOTS if every or shot.name == "session" or prefix[-1] == "/"]
    for shot in shots:
        page.goto(address + shot.path)
        _save(page, f"{prefix}{shot.name}.png", every)
    if every or prefix[-1] == "/":
        page.goto(f"{address}/chat")
        page.fill("#message", "What does a lighthouse do?")
        page.check("input[name=from]")
        page.click("text=Send")
        page.wait_for_load_state("load")
        _save(page, f"{prefix}sources.png", every)


def _save(page: Any, name: str, whole: bool) -> None:
    path = Path(name)
    path.write_bytes(shrink(page.screenshot(full_page=whole)))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
