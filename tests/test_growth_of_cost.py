"""The benchmarks of growth: slopes are right, a leak is noticed, and the page says what was
measured.
"""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import folder, growth, growth_page, tokens
from benchmarks.long_run import Reading, fit_slope, judge
from genjax.data.images.decode import decode
from genjax.runs.setup import initial_state

MB = 1_000_000


def readings(memory=lambda step: 0.0, files=lambda step: 0, threads=lambda step: 0, noise=2 * MB):
    """Readings of a run of 100,000 steps: a warm-up, then noise that wanders like a cache."""
    draw, wander, found = np.random.default_rng(0), 0.0, []
    for step in range(0, 100_001, 200):
        wander = 0.8 * wander + draw.normal() * noise
        warm = 80 * MB * min(1, step / 10_000)
        burst = 6 * (step % 1000 == 0)  # while a checkpoint is written
        total = int(400 * MB + warm + wander + memory(step))
        found.append(Reading(step, total, 10 + burst + files(step), 20 + burst + threads(step)))
    return found


def test_a_steady_run_grows_in_nothing():
    verdict = judge(readings())
    assert verdict.grows == () and abs(verdict.slope) < 5 * verdict.error
    assert verdict.files == (10, 16) and verdict.threads == (20, 26)


@pytest.mark.parametrize(
    ("what", "leak"),
    [
        ("memory", {"memory": lambda step: 200 * step}),  # 20 MB in all
        ("files", {"files": lambda step: step // 10_000}),
        ("threads", {"threads": lambda step: step // 10_000}),
    ],
)
def test_a_leak_is_noticed(what, leak):
    verdict = judge(readings(**leak))
    assert verdict.grows == (what,)
    if what == "memory":
        assert abs(verdict.slope - 200) < 2 * verdict.error


def test_a_slope_and_its_interval():
    x = np.arange(600.0)
    slope, error = fit_slope(x, 3 * x + 7)
    assert slope == pytest.approx(3) and error < 1e-9
    hits = 0
    for seed in range(200):
        slope, error = fit_slope(x, 2 * x + np.random.default_rng(seed).normal(0, 100, 600))
        hits += abs(slope - 2) < error
    assert 0.9 < hits / 200 < 0.99  # a 95 % interval


def test_too_few_readings_are_refused():
    with pytest.raises(ValueError, match="too few"):
        judge(readings()[:10])


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [False, True])
def test_a_long_run_is_watched(tmp_path, leaks):
    """A thread of the training process takes a megabyte and a file each tenth of a second."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\nheld = []\n"
        "def leak():\n"
        "    while True:\n"
        "        time.sleep(0.1)\n"
        "        held.append((b'x' * 10**6, open('/dev/null')))\n"
        "if 'train' in sys.orig_argv:\n"
        "    threading.Thread(target=leak, daemon=True).start()\n",
        encoding="utf-8",
    )
    words = ["--steps", "8000", "--every", "400", "--seconds", "0.05"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.long_run", *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path) if leaks else ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if leaks:
        assert done.returncode == 1 and "grows: memory, files" in done.stdout, done.stderr
    else:
        assert "files" not in done.stdout.split("grows:")[1], done.stdout


def test_slopes_are_logarithms_of_the_ratio_within_an_axis():
    numbers = {"program_mb": 1.0, "peak_mb": 1.0, "family": "vae"}
    points = [
        {"axis": "width", "value": 1, "ms": 2.0} | numbers,
        {"axis": "width", "value": 2, "ms": 8.0} | numbers,
        {"axis": "depth", "value": 1, "ms": 5.0} | numbers,
    ]
    assert [point["ms_slope"] for point in growth.add_slopes(points)] == [None, 2.0, None]


def test_points_measured_again_take_the_place_of_the_old_ones():
    old = [{"family": "vae", "ms": 1.0}, {"family": "gpt", "ms": 2.0}]
    found = growth.sort_points(old, [{"family": "unet", "ms": 3.0}, {"family": "vae", "ms": 4.0}])
    assert [(point["family"], point["ms"]) for point in found] == [
        ("vae", 4.0),
        ("unet", 3.0),
        ("gpt", 2.0),
    ]


def test_a_step_of_each_family_is_measured_and_grows(tmp_path):
    small = growth.SIZES | {"width": 8, "depth": 1, "batch": 2, "context": 8, "side": 8}
    one, two = (growth.measure_step("vae", small | {"batch": n}, 0.0) for n in (2, 256))
    assert two["program_mb"] > 8 * one["program_mb"] and one["state_mb"] == two["state_mb"]
    for family in ("gan", "unet", "gpt", "mlm"):
        experiment, spec, batch = growth.build(family, small)
        assert {name: x.shape[1:] for name, x in batch.items()} == {
            name: spec.entries[name][0] for name in batch
        }
        assert jax.eval_shape(initial_state(experiment, spec)).params  # the sizes fit together
    points = [
        numbers | {"family": "vae", "axis": "batch", "value": n, "peak_mb": 300.0}
        for n, numbers in ((2, one), (256, two))
    ]
    found = {"machine": "a processor", "cores": 2, "date": "2026-01-01"}
    found["points"] = json.loads(json.dumps(growth.add_slopes(points)))
    page = growth_page.write_page(found)
    assert "a processor" in page and "| batch | 256 |" in page and "(+0.00)" in page
    growth_page.draw(found, tmp_path / "growth.png")
    assert decode((tmp_path / "growth.png").read_bytes(), None, 3).std() > 5


def test_images_and_text_of_the_benchmarks_are_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode(folder.png(pixels), None, 3), pixels)
    tokens.write_text(tmp_path / "text", 1)
    (path,) = (tmp_path / "text").iterdir()
    assert path.stat().st_size == 1_000_000
