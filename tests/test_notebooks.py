"""The notebooks run from top to bottom, shortened, and show pictures; none is stored with
outputs.
"""

import base64
import configparser
import io
import os
import re
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

import genjax

ROOT = Path(genjax.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert cells and not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_installs_there_alone(path):
    """The badge leads to the notebook once setup.cfg says where the repository is."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    address = "https://colab.research.google.com/"
    if (url := settings["metadata"].get("url")) is not None:
        place = url.removeprefix("https://github.com/").strip("/")
        address += f"github/{place}/blob/main/notebooks/{path.name}"
    first, install, *rest = read(path).cells
    assert f"colab-badge.svg)]({address})" in first.source and first.source.startswith("# ")
    assert "pip install" not in "".join(cell.source for cell in rest if cell.cell_type == "code")
    guard, _, inside = install.source.partition('if importlib.util.find_spec("genjax") is None:')
    assert "%" not in guard and all(line.startswith("    ") for line in inside.splitlines()[1:])
    assert '%pip install --quiet "genjax-train{extra}"' in inside
    for accelerator in ("cuda", "tpu"):
        assert f"[{accelerator}]" in inside, "the extras that setup.cfg has"
    assert install.source == read(NOTEBOOKS[0]).cells[1].source


def executed(name, changes, folder, monkeypatch):
    """A notebook after all of its cells have run, with words of cells in the place of others."""
    notebook = read(ROOT / "notebooks" / f"{name}.ipynb")
    for pattern, words in changes.items():
        found = [cell for cell in notebook.cells if re.search(pattern, cell.source)]
        assert found, pattern
        for cell in found:
            cell.source = re.sub(pattern, words, cell.source)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    )
    monkeypatch.setenv("TMPDIR", str(folder))
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()  # raises the error of a cell
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def said_by(outputs):
    """What the cells print, and the lines that they update as they stand at the end."""
    texts = (output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs)
    return "\n".join(texts)


def pictures_of(outputs):
    pngs = [
        output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in pngs]


@pytest.mark.long
def test_the_vae_notebook_trains_shows_pictures_and_goes_on(tmp_path, monkeypatch):
    outputs = executed("vae", {r"STEPS = \d+": "STEPS = 40"}, tmp_path, monkeypatch)
    pictures = pictures_of(outputs)
    # The newest samples while it trains, the loss, samples, reconstructions; both samples again.
    assert len(pictures) == 6
    assert all(min(picture.shape[:2]) > 50 and picture.std() > 1 for picture in pictures)
    assert pictures[2].shape == pictures[5].shape and not np.array_equal(pictures[2], pictures[5])
    said = said_by(outputs)
    assert "step 40/40" in said and "resuming from step 40" in said and "step 60/60" in said
    assert said.count("steps/s") == 2, "one line that is updated for each call of train"
    assert said.count("held out (") == 2 and "\x1b" not in said


@pytest.mark.long
def test_the_chain_from_pre_training_to_ppo_runs_in_its_tiny_forms(tmp_path, monkeypatch):
    outputs = executed("rlhf", {"TINY = False": "TINY = True"}, tmp_path, monkeypatch)
    (picture,) = pictures_of(outputs)
    assert picture.std() > 1, "the curves of reward and divergence"
    said = said_by(outputs)
    assert said.count("step 4/4") == 4, "each link was trained once"
    assert "ppo_reward_model_tiny: positivity" in said and "best of 8" in said and "prompt:" in said


STEPS = {r"STEPS = \d+": "STEPS = 20"}
SHORT = {  # what is replaced, and the pictures and words that the cells then show
    "autoregressive": (STEPS | {"width=96": "width=16"}, 2, ("temperature 1.5", "loss_last_tenth")),
    "diffusion": (
        STEPS | {r"\(24, 48\)": "(8, 16)", "=500, kernel_subset=250": "=100, kernel_subset=50"},
        9,
        ("sevens at guidance 4.0", "recall"),
    ),
    "flow": (
        STEPS | {r"hidden\": 256": 'hidden": 32', "(samples|num)=1000": r"\1=100"},
        6,
        ("optimal: 1 steps", "independent {"),
    ),
    "gan": (
        STEPS | {r"[12]00, [12]00, [12]00": "16, 16", "2500": "100"},
        5,
        ("packed {'modes'", "plain  {'modes'"),
    ),
    "masked_lm": (STEPS | {'width": 64': 'width": 16'}, 1, ("heron", "40 % {'loss'")),
    "plan": ({r"CONFIG, TINY = .*": 'CONFIG, TINY = "vae_digits", ["--tiny"]'}, 1, ("at least",)),
    "prepare": (
        {r"COUNT = \d+": "COUNT = 150", r"width=64": "width=16", r"\b200\b": "20"},
        2,
        ("with copies:", "without copies:"),
    ),
    "table": (
        STEPS | {r"\(64, 64\)": "(16,)", r"\(500\b": "(100"},
        4,
        ("rising   {'loss'", "constant {'loss'"),
    ),
}


def test_every_notebook_is_executed():
    assert {path.stem for path in NOTEBOOKS} == {"vae", "rlhf", *SHORT}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SHORT))
def test_a_shortened_notebook_runs_and_shows_pictures(name, tmp_path, monkeypatch):
    changes, count, words = SHORT[name]
    outputs = executed(name, changes, tmp_path, monkeypatch)
    pictures, said = pictures_of(outputs), said_by(outputs)
    assert len(pictures) >= count and all(picture.std() > 1 for picture in pictures)
    assert all(word in said for word in words) and "\x1b" not in said
