"""The notebooks run from top to bottom, shortened, and show pictures; none is stored with
outputs.
"""

import base64
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
    installs = [cell.source for cell in cells if "pip install" in cell.source]
    assert installs and all(source.startswith("#") for source in installs)  # wanted in Colab only


def executed(name, changes, folder, monkeypatch):
    """A notebook after all of its cells have run, with lines of cells in the place of others."""
    notebook = read(ROOT / "notebooks" / f"{name}.ipynb")
    for pattern, line in changes.items():
        (cell,) = [cell for cell in notebook.cells if re.fullmatch(pattern, cell.source)]
        cell.source = line
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


def test_the_vae_notebook_trains_shows_pictures_and_goes_on(tmp_path, monkeypatch):
    outputs = executed("vae", {r"STEPS = \d+": "STEPS = 40"}, tmp_path, monkeypatch)
    pictures = pictures_of(outputs)
    assert len(pictures) == 4  # the loss, samples, reconstructions, samples again
    assert all(min(picture.shape[:2]) > 50 and picture.std() > 1 for picture in pictures)
    assert pictures[1].shape == pictures[3].shape and not np.array_equal(pictures[1], pictures[3])
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
