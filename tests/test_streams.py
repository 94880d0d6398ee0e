"""Output that nobody reads, or that was closed: commands end as those of Unix do, and training
saves first.
"""

import os
import subprocess
import sys

from genjax.machine import streams
from genjax.machine.streams import BROKEN

GENJAX = f"{sys.executable} -m genjax"
QUICK = "--devices.count 1 --steps 8 --every.log 4"


def shell(command, folder):
    path = os.pathsep.join(p or os.getcwd() for p in ["", *sys.path])
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    found = shell(f"{GENJAX} show vae_digits | head -1", tmp_path)
    assert found.returncode in (0, BROKEN) and found.stderr == "" and found.stdout.count("\n") == 1


def test_training_with_closed_outputs_saves(tmp_path):
    found = shell(f"{GENJAX} train vae_digits --tiny --run-dir run {QUICK} >&- 2>&-", tmp_path)
    assert found.returncode == 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == ["8"]


CONFIG = '''
"""Lab note: é."""
from pathlib import Path
from genjax.data.text.layouts import RandomWindows
from genjax.data.sources.text import TextFiles
from genjax.data.text.codecs import Words
from genjax.experiment import Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.nets.bigram import Bigram

HERE = Path(__file__).parent


def get_config(tiny=False):
    codec = Words(words=("é", "\\ud83d", "\\udce9"))
    layout = RandomWindows(8)
    folder = str(HERE / "donnés")
    data = TextFiles(folder, "*ë.txt", "lines", codec=codec, layout=layout, cache=str(HERE))
    return Experiment(family=Autoregressive(net=Bigram()), data=data, steps=2, batch_size=2)
'''


def test_accents_and_half_an_emoji_are_no_traceback_where_everything_is_ascii(tmp_path):
    (tmp_path / "donnés").mkdir()
    (tmp_path / "donnés" / "tëxtë.txt").write_text("é è\n\n" * 99, encoding="utf-8")
    (tmp_path / "café.py").write_text(CONFIG, encoding="utf-8")
    ascii_only = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    found = subprocess.run(
        [sys.executable, "-m", "genjax", "show", str(tmp_path / "café.py")],
        capture_output=True,
        env=os.environ | ascii_only,
        timeout=300,
    )
    said = found.stderr.decode("ascii")
    assert found.returncode == 0 and "Traceback" not in said, said
    assert r"t\xebxt\xeb.txt: 99 empty lines skipped" in said
    assert r"('\xe9', '\ud83d', '\udce9')" in found.stdout.decode("ascii")


def test_bytes_of_the_command_line_are_utf_8_or_a_mark():
    assert streams.typed("plain é") == "plain é"
    assert streams.typed("caf\udcc3\udca9") == "café"  # as Python has it where the locale is ASCII
    assert (
        streams.typed("caf\udce9 \ud83d")
        == "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"
    )
