"""Collect preferences from two served runs, train DPO on them, and compare it with its base.

    python -m benchmarks.circle --folder circle

trains ``gpt_rule`` and ``sft_rule`` if they are missing, serves both, and asks them the questions
of generated reviews through the forms of the pages. It votes as a user would in a browser, by a
rule: the answer with more positive words, minus negative ones, is better. ``dpo_from_store`` then
trains on the store, and a JSON line gives the share of its answers that win by that rule against
those of ``gpt_rule``, with ties counted as half.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from genjax.data.sources.preferences import PLACES
from genjax.data.sources.rule_responses import positivity

Rule = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
TOKEN = re.compile(r"serving .* at (\S+)/v1\npages at \S+, with the token (\S+)")


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print the win rate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default="circle", help="of the runs and the store")
    parser.add_argument("--votes", type=int, default=200, help="preferences to give")
    parser.add_argument("--steps", type=int, default=100, help="of DPO")
    parser.add_argument("--samples", type=int, default=500, help="answers that are compared")
    options = parser.parse_args(arguments)
    found = go_round(Path(options.folder), options.votes, options.steps, options.samples)
    print(json.dumps(found))
    return 0


def go_round(folder: Path, votes: int, steps: int, samples: int) -> dict[str, float]:
    """Run the benchmark once and return the numbers of votes, of ties and of the comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    run_genjax(folder, "train", "sft_rule")  # this also trains gpt_rule, its base
    with serve(folder, "runs/gpt_rule", "runs/sft_rule", "--store", "circle.db") as (url, token):
        counts = give_preferences(url, token, votes, positivity)
    learn = ["train", "dpo_from_store", "--run-dir", "runs/circle", "--data.url", "circle.db"]
    run_genjax(folder, *learn, "--family.base", "runs/gpt_rule", "--steps", str(steps))
    compare = ["compare", "runs/gpt_rule", "runs/circle", "--num", str(samples)]
    compare += ["--out", "compared"]
    for place in PLACES:
        compare += ["--prompt", f"How was the {place}?"]
    run_genjax(folder, *compare, "--reward", "genjax.data.sources.rule_responses:positivity")
    found = json.loads((folder / "compared" / "compare.json").read_text())
    return {**counts, **found["numbers"]}


def run_genjax(folder: Path, *words: str) -> None:
    """Run a genjax command in a folder."""
    subprocess.run([sys.executable, "-m", "genjax", *words], cwd=folder, check=True)


@contextlib.contextmanager
def serve(folder: Path, *words: str) -> Iterator[tuple[str, str]]:
    """Start a server with pages, and yield its URL and the token for logging in."""
    command = [sys.executable, "-u", "-m", "genjax", "serve", *words, "--port", "0"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        said = server.stdout.readline() + server.stdout.readline()
        found = TOKEN.match(said)
        if found is None:
            raise RuntimeError(f"the server does not start: {said}")
        yield found[1], found[2]
    finally:
        server.terminate()
        server.wait(60)


def give_preferences(url: str, token: str, votes: int, rule: Rule) -> dict[str, int]:
    """Ask both runs through the page and vote by a rule until there are ``votes`` preferences."""
    counts = {"votes": 0, "ties": 0}
    with httpx.Client(base_url=url, follow_redirects=True, timeout=120) as browser:
        submit(browser, "/login", browser.get("/login").text, token=token)
        seed = 0
        while counts["votes"] < votes:
            question = f"How was the {PLACES[seed % len(PLACES)]}?"
            form = browser.get("/compare").text
            page = submit(browser, "/compare", form, message=question, seed=str(seed)).text
            left, right = rule([question] * 2, read_answers(page))
            choice = "tie" if left == right else "left" if left > right else "right"
            counts["ties" if left == right else "votes"] += 1
            shown = {name: read_hidden(page, name) for name in ("left", "right")}
            submit(browser, "/compare/pair", page, choice=choice, **shown)
            seed += 1
    return counts


def submit(browser: httpx.Client, path: str, page: str, **fields: str) -> httpx.Response:
    """Send a form of a page with its CSRF token and return the response."""
    answer = browser.post(path, data={"csrf": read_hidden(page, "csrf"), **fields})
    answer.raise_for_status()
    return answer


def read_hidden(page: str, name: str) -> str:
    """Return the value of a hidden field."""
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', page)
    if found is None:
        raise RuntimeError(f"the page has no field {name}: {page[:500]}")
    return html.unescape(found[1])


def read_answers(page: str) -> list[str]:
    """Return the texts of both answers, left and right."""
    found = re.findall(r'data-side="(?:left|right)".*?</h2>(.*?)</section>', page, re.DOTALL)
    return [html.unescape(re.sub("<[^>]+>", "", one)).strip() for one in found]


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main(sys.argv[1:]))
