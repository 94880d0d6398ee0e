"""The peers' benchmark runs and prints what it promises; its figures are for quiet machines, not for tests."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the peer is PyTorch: pip install '.[reference]'")
pytest.importorskip("transformers", reason="the peer of generation: pip install '.[reference]'")
pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]


@pytest.mark.parametrize(
    "case", ["vae", "vae_conv", "dcgan", "unet", "diffusion_sample", "gpt", "generate_small", "mlm", "ppo"]
)
def test_peers_print_one_json_line(case):
    command = [sys.executable, "-m", "benchmarks.peers", case, "--rounds", "2", "--seconds", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert set(result) == {"name", "genjax", "peer", "unit", "ratio"} and result["name"] == case
    assert result["genjax"] > 0 and result["peer"] > 0
    assert 0.2 < result["ratio"] / (result["genjax"] / result["peer"]) < 5
