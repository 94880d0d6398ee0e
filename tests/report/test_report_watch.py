"""The live pages: they follow the files, answer to names that are theirs, and change nothing."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from etils import epath

import genjax
from genjax import __main__ as command_line
from genjax.report.watch import Server, Watched
from tests import toy
from tests.contrast import CONTRAST

ROOT = Path(genjax.__file__).parents[1]


@contextmanager
def serving(folder, host="127.0.0.1"):
    with Server(Watched(epath.Path(folder)), host, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def write_run(folder, steps=3, **numbers):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"step": i, "split": "train", "loss": 10.0 / i} | numbers for i in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_runs_are_listed_and_new_ones_appear(tmp_path):
    with serving(tmp_path) as port:
        status, text, _ = ask(port)
        assert status == 200 and "There are no runs yet" in text
        write_run(tmp_path / "first")
        write_run(tmp_path / "sweep" / "<b>")
        text = ask(port)[1]
        assert "first" in text and "sweep/&lt;b&gt;" in text and "<b>&" not in text
        assert "step 3, loss 3.3333" in text
        status, text, _ = ask(port, "/runs?run=first&run=sweep/%3Cb%3E")
        assert status == 200 and "Legend" in text and "config.json is missing" in text


def test_a_page_is_sent_again_only_if_something_changed(tmp_path):
    run = write_run(tmp_path / "run")
    with serving(tmp_path) as port:
        status, before, headers = ask(port, "/runs?run=run")
        assert status == 200 and "step 3" in before
        tag = headers["ETag"]
        assert ask(port, "/runs?run=run", **{"If-None-Match": tag})[:2] == (304, "")
        write_run(run, steps=5)
        status, after, _ = ask(port, "/runs?run=run", **{"If-None-Match": tag})
        assert status == 200 and "step 5" in after
        assert sorted(path.name for path in run.iterdir()) == ["metrics.jsonl"]
    with serving(run) as port:  # a run instead of a folder of runs
        assert "step 5" in ask(port)[1]


def test_only_runs_of_the_folder_are_shown(tmp_path):
    write_run(tmp_path / "secret")
    write_run(tmp_path / "runs" / "mine")
    with serving(tmp_path / "runs") as port:
        for query in ("run=../secret", "run=/etc", "run=", "", "run=mine&run=gone", "run=%00"):
            status, text, _ = ask(port, f"/runs?{query}")
            assert status == 404 and "Traceback" not in text
        assert ask(port, "/runs?" + "&".join(["run=mine"] * 20))[0] == 200
        assert ask(port, "/../secret/metrics.jsonl")[0] == 404
        assert ask(port, "/", "POST")[0] == 501
        assert ask(port, "/", "HEAD")[:2] == (200, "")
        assert ask(port, "/", Host="evil.example")[0] == 403
        assert ask(port, "/", Host="localhost:1")[0] == 200
        policy = ask(port)[2]["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "default-src 'none'" in policy


def test_a_run_that_vanishes_is_said_to_be_gone(tmp_path):
    run = write_run(tmp_path / "run")
    with serving(tmp_path) as port:
        assert ask(port, "/runs?run=run")[0] == 200
        shutil.rmtree(run)
        assert ask(port, "/runs?run=run")[0] == 404 and ask(port)[0] == 200


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["nowhere"], "nowhere"),
        (["file.txt"], "file.txt"),
        (["."], "port"),
        ([".", "--port", "70000"], "port"),
        ([".", "--host", "no.such.host.invalid"], "host"),
        ([".", "--host", "192.0.2.1"], "192.0.2.1"),
        ([".", "--price", "-1"], "price"),
    ],
)
def test_what_cannot_be_watched_is_one_line(words, field, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("text", encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = [] if "--port" in words else ["--port", str(taken.getsockname()[1])]
        assert command_line.main(["watch", *words, *port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("genjax: ") and field in line


def test_it_ends_cleanly_at_ctrl_c(tmp_path):
    write_run(tmp_path / "run")
    words = [sys.executable, "-m", "genjax", "watch", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    assert line.startswith("watching ") and line.endswith("(Ctrl-C ends)\n"), process.stderr.read()
    port = int(line.split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200  # and the connection stays open
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said
    assert time.monotonic() - begin < 5


CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[test]'")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser, address, width, scheme="light"):
    visitor = browser.new_context(viewport={"width": width, "height": 780}, color_scheme=scheme)
    page, said = visitor.new_page(), []
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    return page, said


WIDE = "document.documentElement.scrollWidth > window.innerWidth"
UNNAMED = """[...document.querySelectorAll(
"img:not([alt]), svg:not([aria-label]):not([aria-hidden]), input:not([aria-label])"
)].map((one) => one.outerHTML.slice(0, 80))"""


def test_a_report_fits_a_phone_and_is_readable_in_the_dark(browser, trained, tmp_path):
    def train(run_dir):
        genjax.train(toy.experiment(steps=4), run_dir, quiet=True)

    run = Path(shutil.copytree(trained.once("watched", train), tmp_path / ("long" * 40)))
    names = {f"a_very_long_name_of_a_metric_{'x' * 60}_{i}": 1.0 * i for i in range(3)}
    write_run(run, **names)
    (run / "samples" / "00000003.txt").write_text("Donaudampfschifffahrt" * 99, encoding="utf-8")
    assert command_line.main(["report", str(run)]) == 0
    address = (run / "report.html").as_uri()
    for width, scheme in ((1100, "light"), (390, "light"), (390, "dark")):
        page, said = open_page(browser, address, width, scheme)
        assert not page.evaluate(WIDE) and not page.evaluate(CONTRAST)
        assert not page.evaluate(UNNAMED) and not said
        for summary in page.locator("summary").all():
            summary.click()
        assert not page.evaluate(WIDE)
        page.context.close()


def test_a_live_page_refreshes_without_losing_its_place(browser, tmp_path):
    run = write_run(tmp_path / "run", **{f"m{i}": 1.0 for i in range(10)})
    with serving(tmp_path) as port:
        page, said = open_page(browser, f"http://127.0.0.1:{port}/", 390)
        assert not page.evaluate(WIDE) and not page.evaluate(UNNAMED)
        page.click("a.hit")
        page.wait_for_selector("figure")
        page.locator("summary").nth(3).click()
        figure = page.locator("figure").nth(3)
        figure.scroll_into_view_if_needed()
        before = figure.bounding_box()["y"]
        write_run(run, steps=9, **{f"m{i}": 1.0 for i in range(10)}, first=1.0)
        page.wait_for_selector("text=step 9", timeout=15_000, state="attached")
        assert page.locator("details[open]").count() == 1
        same = page.locator("figure", has=page.locator("details[open]"))
        assert abs(same.bounding_box()["y"] - before) < 40
        assert not said
        page.context.close()
