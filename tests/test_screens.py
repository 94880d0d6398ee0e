"""The page of screens, and the program that makes it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import screens
from genjax.serial.config_places import find_config

DOCS = Path(__file__).parent.parent / "docs"
KEYS = {
    "VAE": {"loss", "kl", "reconstruction"},
    "GAN": {"loss", "discriminator_loss"},
    "Diffusion": {"loss"},
    "Autoregressive": {"loss"},
    "Classifier": {"loss", "accuracy"},
    "PPO": {"loss", "reward", "kl"},
}


def blocks() -> dict[str, list[str]]:
    page = (DOCS / "screens.md").read_text(encoding="utf-8")
    found = re.findall(r"## (.*?)\n\n```text\n(.*?)\n```", page, flags=re.DOTALL)
    return {name: text.splitlines() for name, text in found}


def test_the_page_shows_the_screens_of_six_families():
    assert list(blocks()) == [screen.family for screen in screens.SCREENS] == list(KEYS)
    assert all(find_config(screen.config).stem == screen.config for screen in screens.SCREENS)
    for name in ("screen.png", "notebook.png"):
        with Image.open(DOCS / name) as picture:
            assert picture.width >= 700 and picture.height >= 300


@pytest.mark.parametrize("family", KEYS)
def test_a_screen_has_the_numbers_that_count_and_fits(family):
    lines = blocks()[family]
    assert len(lines) <= screens.MOST and max(map(len, lines)) <= screens.WIDTH
    assert lines[0].startswith("$ python -m genjax train ")
    (bar,) = (line for line in lines if "█ step 40/40" in line)
    assert KEYS[family] <= {part.split()[0] for part in bar.split("  ")[1:]}
    assert bar.endswith("0:00 left")
    end = lines.index(bar)
    assert lines[end + 1].startswith("trained 40 steps in 0:")
    assert re.match(r"held out \(test, [\d,]+ examples, step 40\)  loss \S+", lines[end + 2])
    assert sum(line.startswith("held out 20/40") for line in lines) == 1


def test_a_page_is_made_of_captures():
    screen = screens.SCREENS[0]
    long = "\n".join(["$ train", *(f"line {n}" for n in range(60))])
    page = screens.write_page({screen: screens.tidy(f"\n{long}\n\n{screens.DONE}\n\n")})
    shown = page.split("```text\n")[1].split("\n```")[0].splitlines()
    assert shown[0] == "$ train" and shown[-1] == "line 59" and len(shown) == screens.MOST
    half = "held out 20/40  loss 1\n████░░░░ step 22/40  loss 1  0:13 left\n"
    assert screens.is_half_way(half) and not screens.is_half_way(half.replace("22/", "40/"))
    assert not screens.is_half_way("")
    assert screens.read_output({"data": {"image/png": "x"}}) == "[a picture]"


@pytest.mark.long
def test_a_run_is_shown_on_a_terminal_in_a_pipe_and_in_a_notebook(tmp_path):
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    screen = screens.SCREENS[0]
    frames = screens.train_on_terminal(screen, tmp_path)
    assert all(len(line) <= screens.WIDTH for frame in frames for line in frame.splitlines())
    assert "step 40/40" in frames[-1] and "held out (test, 297 examples" in frames[-1]
    lines = screens.train_in_pipe(screen, tmp_path).splitlines()
    assert lines[0].startswith("step 4/40  loss ") and not any("\x1b" in line for line in lines)
    cell = screens.train_in_notebook(screen, tmp_path)
    said = [screens.read_output(output) for output in cell.outputs]
    assert said.count("[a picture]") == 1 and sum("step 40/40" in text for text in said) == 1
    assert any("held out (test, 297 examples, step 40)" in text for text in said)
