"""The system that the page on simulation shows trains and draws trajectories."""

import dataclasses
import re
from pathlib import Path

import numpy as np

import genjax
from genjax.config_files import load_config
from genjax.parallel import Devices

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"


def test_a_system_of_ones_own_is_forecast(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(block, encoding="utf-8")
    experiment, path = load_config(str(tmp_path / "mine.py"), tiny=True)
    experiment = dataclasses.replace(experiment, devices=Devices(count=1))
    run = genjax.train(experiment, tmp_path / "run", source=path, quiet=True)
    loaded = genjax.load(tmp_path / "run")
    assert loaded.sample(num=3).shape == (3, 2, 2)
    assert np.isfinite(run.evaluate("test").numbers["loss"])
