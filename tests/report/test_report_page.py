"""The page of a report: right numbers, nothing fetched, nothing of a run is trusted."""

import dataclasses
import html.parser
import json
import math
import os
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

import genjax
from genjax import __main__ as command_line
from genjax.experiment import Every
from genjax.report import curves, draw, facts
from genjax.report.collect import collect_runs, flatten, name_runs
from genjax.report.page import render
from genjax.report.samples import take_samples
from genjax.runs.lease import Holder
from tests import toy

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
NOTE = f'''"""A toy.

Result:
    command: python -m genjax train toy
    data: points {EVIL}
    metric: squared error
    value: 0.25
    error: 0.01
    published: 0.20 (somebody, 2020)
"""
'''


class Seen(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def said(self):
        return " ".join(" ".join(self.text).split())


def train(run_dir):
    every = Every(log=1, evaluate=4, sample=4, checkpoint=4)
    genjax.train(toy.experiment(steps=8, every=every), run_dir, quiet=True)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a trained run that a test may damage."""
    return Path(shutil.copytree(trained.once("reported", train), tmp_path / "toy"))


def page_of(*runs, **options):
    return render(collect_runs([str(run) for run in runs]), **options)


def row(step, split="train", **numbers):
    return json.dumps({"step": step, "split": split} | numbers) + "\n"


def test_a_report_is_one_file_that_fetches_nothing(run, capsys):
    (run / "config.py").write_text(NOTE)
    assert command_line.main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert command_line.main(["report", str(run), "--price", "2"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == run / "report.html" and path.stat().st_size < 5e6
    seen = Seen(path.read_text("utf-8"))
    for tag, attributes in seen.tags:
        assert tag not in ("script", "iframe", "object", "base", "form")
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "img" or attributes["alt"]
        assert tag != "svg" or "aria-label" in attributes or "aria-hidden" in attributes
    policy = [a["content"] for t, a in seen.tags if a.get("http-equiv")]
    assert policy and policy[0].startswith("default-src 'none'") and "script" not in policy[0]
    said, judged = seen.said(), json.loads((run / "eval.json").read_text())
    assert "finished, step 8 of 8" in said and f"{judged['loss']:.5g}" in said
    assert "0.20 (somebody, 2020)" in said and "0.25 ± 0.01" in said
    assert "genjax.train" not in said and "device hours" in said
    for words in ("jax==", "seed 0", "samples", "Held out, at the last evaluation"):
        assert words in said


def test_nothing_that_a_run_says_becomes_markup(run):
    place = run.rename(run.with_name("<b>&amp;'\""))
    (place / "config.py").write_text(NOTE)
    (place / "samples" / "00000004.txt").write_text(EVIL)
    (place / "samples" / "00000004_<i>.csv").write_text(f'a,"{EVIL}"\n1,2\n')
    starts = json.loads((place / "environment.json").read_text())
    for name in ("device", "platform", "python", "commit", "data_fingerprint", "mode"):
        starts[0][name] = EVIL
    starts[0]["command"] = ["genjax", EVIL]
    starts[0]["versions"] = {EVIL: EVIL}
    (place / "environment.json").write_text(json.dumps(starts))
    (place / "eval.json").write_text(
        json.dumps({"split": EVIL, "data": EVIL, EVIL: 1.0, "protocols": {EVIL: EVIL}})
    )
    with (place / "metrics.jsonl").open("a") as file:
        file.write(row(8, **{EVIL: 1.5}))
    page = page_of(place)
    tags = {tag for tag, _ in Seen(page).tags}
    assert "script" not in tags and "i" not in tags
    assert not any("onerror" in a for _, a in Seen(page).tags) and "<script" not in page
    assert page.count("&lt;script&gt;") > 10


def test_numbers_that_are_not_finite_are_gaps_and_are_counted(run):
    rows = [row(i, loss=None if i in (3, 4) else 1.0 / i, time=True) for i in range(1, 9)]
    rows += ['{"step": 9, "split": "train", "loss": NaN}\n', row(10, loss=10**400), row(11, loss=2)]
    (run / "metrics.jsonl").write_text("".join(rows))
    (curve,), more = curves.find_curves(collect_runs([str(run)]))
    assert curve.name == "loss" and more == 0
    (series,) = curve.series
    assert series.gaps == 4 and series.values[:2] == [1.0, 0.5]
    chart = draw.draw_chart(curve)
    assert chart.lines[0].path.count("M") == 3 and "nan" not in repr(chart.lines)
    assert "4 values were not finite" in page_of(run)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "config.json").unlink(), "config.json is missing"),
        (lambda run: (run / "config.json").write_text("{"), "config.json is damaged"),
        (lambda run: (run / "config.json").write_text("[]"), "config.json"),
        (lambda run: (run / "environment.json").write_text("7"), "hardware and versions are"),
        (lambda run: (run / "metrics.jsonl").unlink(), "no rows of metrics yet"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "no rows of metrics yet"),
        (lambda run: (run / "metrics.jsonl").write_text('{"step": 1, "spl'), "1 line that cannot"),
        (lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\0\n[]\n"), "2 lines that cannot"),
        (lambda run: shutil.rmtree(run / "samples"), "finished"),
        (lambda run: (run / "samples" / "00000004.png").write_bytes(b"no"), "cannot be read"),
        (lambda run: (run / "eval.json").mkdir(), "finished"),
        (lambda run: (run / "eval.json").write_text('{"judged": 3}'), "finished"),
        (lambda run: (run / "config.py").write_bytes(b"\xff(" * 99), "finished"),
        (lambda run: (run / "lease.json").write_text("{}"), "finished"),
        (lambda run: (run / "lease.json").mkdir(), "finished"),
    ],
)
def test_a_broken_run_is_shown_as_far_as_it_goes(run, damage, said):
    damage(run)
    assert said in Seen(page_of(run)).said()


def test_a_running_run_is_called_running(run):
    (run / "lease.json").write_text(json.dumps(dataclasses.asdict(Holder.here())))
    found = collect_runs([str(run)])[0]
    assert found.state == "running" and f"process {os.getpid()}" in page_of(run)
    dead = dataclasses.replace(Holder.here(), pid=2**22 - 1)
    (run / "lease.json").write_text(json.dumps(dataclasses.asdict(dead)))
    assert collect_runs([str(run)])[0].state == "finished"


def test_several_runs_are_overlaid_and_their_differences_listed(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "deeper" / "toy"))
    config = json.loads((other / "config.json").read_text())
    config["experiment"]["family"]["hidden"] = 7
    (other / "config.json").write_text(json.dumps(config))
    found = collect_runs([str(run), str(other)])
    assert [one.name for one in found] == [f"{tmp_path.name}/toy", "deeper/toy"]
    curve = curves.find_curves(found)[0][0]
    assert {(s.run, s.split) for s in curve.series} == {
        (0, "train"), (0, "eval"), (1, "train"), (1, "eval")
    }  # fmt: skip
    assert facts.list_differences(found).rows == (("family.hidden", ("4", "7")),)
    assert "Legend" in render(found)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["nowhere"], "nowhere"),
        (["file.txt"], "file.txt"),
        (["empty"], "empty"),
        (["."], "."),
        (["toy", "toy"], "RUN"),
        (["toy", "toy/"], "RUN"),
        (["toy"] * 13, "RUN"),
        (["toy", "--price", "-1"], "price"),
        (["toy", "--price", "nan"], "price"),
        (["toy", "--out", "toy/config.json"], "out"),
        (["toy", "--out", "folder.html"], "folder.html"),
        (["toy", "--out", "file.txt/a.html"], "out"),
        (["toy", "--out", ""], "out"),
    ],
)
def test_what_cannot_be_reported_is_one_line(run, words, field, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    Path("file.txt").write_text("text", encoding="utf-8")
    Path("empty").mkdir()
    Path("folder.html").mkdir()
    before = sorted(Path(".").rglob("*"))
    assert command_line.main(["report", *words]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("genjax: ") and field in line and not said.out
    assert sorted(Path(".").rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_named(run, monkeypatch, capsys):
    def closed(*_):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr("genjax.cli.runs.report.write", closed)
    assert command_line.main(["report", str(run)]) == 2
    assert "report.html cannot be written: Permission denied; choose another file by --out" in (
        capsys.readouterr().err
    )


def test_samples_are_scaled_down_and_stay_within_the_budget(run):
    folder = run / "samples"
    shutil.rmtree(folder)
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (350, 700, 3)).astype(np.uint8)
    for step in range(5, 9):
        Image.fromarray(noise).save(folder / f"{step:08d}.png")
    (folder / "00000008.txt").write_text("words " * 1000)
    with wave.open(str(folder / "00000008.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(bytes(4000))
    kinds, left = take_samples(collect_runs([str(run)])[0].run_dir, 200_000)
    forms = {sample.form: sample for kind in kinds for sample in kind.samples}
    assert set(forms) == {"picture", "text", "sound"} and left == 0
    assert forms["picture"].width == 240 and forms["picture"].step == 8
    assert len(forms["text"].content) == 1500 and forms["text"].cut
    assert sum(len(s.content) for kind in kinds for s in kind.samples) <= 200_000
    assert take_samples(epath.Path(run), 9_000_000)[0][0].samples[0].width == 640
    assert take_samples(epath.Path(run), 5_000)[1] == 5
    assert "data:audio/wav;base64," in page_of(run)


def test_thinning_keeps_ends_peaks_and_gaps():
    points = [(float(i), math.sin(i / 50)) for i in range(5000)]
    points[1234], points[777] = (1234.0, 9.0), (777.0, math.nan)
    kept = curves.thin(points, 100)
    assert len(kept) <= 100 and kept[0] == points[0] and kept[-1] == points[-1]
    assert points[1234] in kept and any(math.isnan(value) for _, value in kept)
    assert kept == sorted(kept, key=lambda point: point[0])
    assert curves.thin(points[:50], 100) == points[:50]


@pytest.mark.parametrize(
    ("values", "logarithmic", "outside"),
    [
        ([1000.0, 100.0, 10.0, 1.0], True, 0),
        ([3.0, 2.0, 1.0], False, 0),
        ([-1000.0, 5.0, 1.0], False, 0),
        ([-1e6, *np.linspace(-1.0, 1.0, 200)], False, 1),
        ([0.0, 0.0], False, 0),
        ([5.0], False, 0),
        ([1e-300, 1e99], True, 0),
        ([-9e99, 9e99], False, 0),
        ([math.nan], False, 0),
    ],
)
def test_an_axis_fits_its_values(values, logarithmic, outside):
    points = tuple((float(i), float(v)) for i, v in enumerate(values))
    chart = draw.draw_chart(curves.Curve("x", (curves.Series(0, "train", points, 0),)))
    assert (chart.logarithmic, chart.outside) == (logarithmic, outside)
    numbers = [float(x) for x in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", chart.lines[0].path)]
    assert all(0 <= x <= chart.width for x in numbers)
    assert all(0 <= y <= chart.height for y, _ in chart.rows)


def test_ticks_are_round_and_inside():
    assert draw.find_ticks(0, 800) == [0, 200, 400, 600, 800]
    assert draw.find_ticks(-0.3, 0.4) == pytest.approx([-0.2, 0.0, 0.2, 0.4])
    assert draw.find_ticks(2, 2) == [2]


def test_names_are_the_shortest_that_differ():
    assert name_runs(["/a/x", "/b/y"]) == ["x", "y"]
    assert name_runs(["/a/x", "/b/x"]) == ["a/x", "b/x"]
    assert name_runs(["x"]) == ["x"]


def test_fields_are_flattened_by_their_dotted_names():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": {}}
    assert flatten(nested) == {"a.b": "1", "a.c": "[1, 2]", "d.0.e": "null", "f": "{}"}


def test_time_is_that_of_the_steps(run):
    rows = [row(i, loss=1.0, **{"time/steps_per_second": 2.0}) for i in (10, 20, 40)]
    (run / "metrics.jsonl").write_text("".join(rows))
    (found,) = collect_runs([str(run)])
    assert found.seconds == 20.0
    assert ("cost of the steps", ("0.01667 for 0.00556 device hours",)) in facts.compare_runs(
        [found], 3.0
    ).rows
