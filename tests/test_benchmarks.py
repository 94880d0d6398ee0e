"""The peers' benchmark runs and prints what it promises; its figures are for quiet machines,
not for tests.
"""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the peer is PyTorch: pip install '.[reference]'")
pytest.importorskip("transformers", reason="the peer of generation: pip install '.[reference]'")
pytestmark = [pytest.mark.long, pytest.mark.usefixtures("optimised")]


@pytest.mark.parametrize(
    "case",
    [
        "vae",
        "vae_conv",
        "dcgan",
        # These take minutes in all.
        pytest.param("unet", marks=pytest.mark.slow),
        pytest.param("diffusion_sample", marks=pytest.mark.slow),
        "gpt",
        pytest.param("generate_small", marks=pytest.mark.slow),
        pytest.param("mlm", marks=pytest.mark.slow),
        pytest.param("ppo", marks=pytest.mark.slow),
        "dedup_small",
    ],
)
def test_peers_print_one_json_line(case):
    if case == "dedup_small":
        pytest.importorskip(
            "datasketch", reason="the peer of de-duplication: pip install '.[reference]'"
        )
    command = [sys.executable, "-m", "benchmarks.peers", case, "--rounds", "2", "--seconds", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    keys = {"name", "cores", "genjax", "peer", "unit", "ratio", "low", "high"}
    assert set(result) == keys and result["name"] == case
    assert result["low"] <= result["ratio"] <= result["high"]
    assert result["genjax"] > 0 and result["peer"] > 0
    assert 0.2 < result["ratio"] / (result["genjax"] / result["peer"]) < 5


def test_both_sides_of_deduplication_find_the_same_copies():
    pytest.importorskip(
        "datasketch", reason="the peer of de-duplication: pip install '.[reference]'"
    )
    from benchmarks import dedup

    result = dedup.recall(2000)
    for row in result["recall"]:
        error = 4 * (row["theory"] * (1 - row["theory"]) / row["copies"]) ** 0.5 + 2 / row["copies"]
        assert (
            abs(row["genjax"] - row["theory"]) < error and abs(row["peer"] - row["theory"]) < error
        ), row
    assert result["copies_of_both"] > 0.8 * max(result["copies"].values())
    assert result["agreement"]["f1"] > 0.8
