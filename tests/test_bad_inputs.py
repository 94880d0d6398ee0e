"""What strangers and bad moments send: each is one line on stderr and exit code 2, none a
traceback.
"""

import contextlib
import functools
import io
import os
import re
import tempfile
import time

import pytest

from genjax import __main__ as command_line
from genjax.config_files import load_config
from genjax.serial import stored
from genjax.training import train
from tests.toy import experiment

HEAD = """from genjax.experiment import Every, Experiment, Keep
from genjax.families.vae import VAE
from genjax.optim import SGD, Adam, Adafactor, Lion, Muon, Optimizer, Players
from genjax.schedules import Constant, Cosine, Cyclical, Linear, Piecewise, Rsqrt, WarmUp
from tests.toy import Toy, ToyData
import numpy as np

def get_config(tiny=False):
    settings = dict(family=Toy(), data=ToyData(), optimizer=SGD(Constant(0.01)))
    settings |= dict(steps=20, batch_size=16)
    return Experiment(**(settings | dict({changes})))
"""

# What a config sets, and what the line must name.
FIELDS = {
    'data="digits"': "data",
    "data=None": "data",
    "data=ToyData": "data",
    "data=7": "data",
    "data=[]": "data",
    'data=ToyData(bias="x")': "data.bias",
    "data=ToyData(root=3)": "data.root",
    'data=ToyData(bias=float("nan"))': "data.bias",
    "optimizer=None": "optimizer",
    'optimizer="adam"': "optimizer",
    "optimizer=Adam": "optimizer",
    "optimizer=Constant(1.0)": "optimizer",
    "optimizer=0.001": "optimizer",
    "optimizer=SGD(0.1)": "learning_rate",
    'optimizer=SGD("0.1")': "learning_rate",
    "optimizer=SGD(None)": "learning_rate",
    "optimizer=SGD(Constant)": "learning_rate",
    'optimizer=SGD(clip="1")': "clip",
    'optimizer=SGD(freeze="w")': "freeze",
    "optimizer=SGD(freeze=(3,))": "freeze",
    'optimizer=SGD(nesterov="no")': "nesterov",
    "optimizer=SGD(accumulate=1.5)": "accumulate",
    'optimizer=Players(generator="x")': "generator",
    "family=None": "family",
    "family=VAE": "family",
    "family=Toy": "family",
    'family="vae"': "family",
    "family=ToyData()": "family",
    "family=3": "family",
    'family=Toy(hidden="4")': "family.hidden",
    "family=Toy(hidden=4.5)": "family.hidden",
    "family=Toy(hidden=None)": "family.hidden",
    "family=Toy(hidden=(4,))": "family.hidden",
    "family=Toy(hidden=True)": "family.hidden",
    "keep=None": "keep",
    "keep=2": "keep",
    "keep=Keep": "keep",
    'keep=Keep(newest="2")': "newest must be",
    "keep=Keep(newest=0)": "newest must be",
    "keep=Keep(best=3)": "best must be",
    'keep=Keep(larger_is_better="yes")': "larger_is_better must be",
    "every=None": "every",
    "every=100": "every",
    "every=Every": "every",
    "every=Every(log=-1)": "log must be",
    'every=Every(log="1")': "log must be",
    "every=Every(log=None)": "log must be",
    "every=Every(log=1.5)": "log must be",
    "devices=None": "devices",
    "devices=2": "devices",
    'devices="cpu"': "devices",
    "start_from=None": "start_from",
    'start_from="runs/x"': "start_from",
    "augment=print": "augment",
    "augment=None": "augment",
    'augment="flip"': "augment",
    "augment=(3,)": "augment",
    "evaluators=None": "evaluators",
    "evaluators=3": "evaluators",
    'evaluators="fid"': "evaluators",
    "evaluators=(3,)": "evaluators",
    "curriculum=3": "curriculum",
    'curriculum="easy"': "curriculum",
    "steps=0": "steps",
    "steps=-1": "steps",
    "steps=1.5": "steps",
    'steps="20"': "steps",
    "steps=None": "steps",
    "steps=True": "steps",
    'steps=float("nan")': "steps",
    'steps=float("inf")': "steps",
    "steps=np.zeros(3)": "steps",
    "steps=[20]": "steps",
    "batch_size=0": "batch_size",
    "batch_size=-5": "batch_size",
    'batch_size="16"': "batch_size",
    "batch_size=2.5": "batch_size",
    "batch_size=None": "batch_size",
    "seed=-1": "seed",
    "seed=2**40": "seed",
    "seed=None": "seed",
    'seed="0"': "seed",
    "seed=0.5": "seed",
    "workers=-1": "workers",
    "workers=None": "workers",
    "steps_per_dispatch=0": "steps_per_dispatch",
    "steps_per_dispatch=None": "steps_per_dispatch",
    "steps_per_dispatch=7": "steps_per_dispatch",
    "ema=0": "ema",
    "ema=1.0": "ema",
    "ema=-0.5": "ema",
    'ema=float("nan")': "ema",
    'ema="0.9"': "ema",
    "ema=True": "ema",
    'precision="float16"': "precision",
    "precision=None": "precision",
    "precision=32": "precision",
    "precision=np.float32": "precision",
    "speed=3": "speed",
}

RATES = ("-1.0", 'float("nan")', 'float("inf")', '-float("inf")', "None", '"1"')
SCHEDULES = (
    "Constant({})",
    "Linear({})",
    "Linear(end={})",
    "Cosine({})",
    "Cosine(end={})",
    "Rsqrt({})",
    "Piecewise((1.0, {}), (5,))",
    "Cyclical({})",
    "Cyclical(end={})",
    "WarmUp(10, Constant({}))",
)
NUMBERS = [f"optimizer=SGD({schedule.format(rate)})" for schedule in SCHEDULES for rate in RATES]
NUMBERS += [
    f"optimizer={cls}({name}={value})"
    for cls, name in (
        ("SGD", "clip"),
        ("SGD", "weight_decay"),
        ("SGD", "momentum"),
        ("Adam", "b1"),
        ("Adam", "b2"),
        ("Adam", "eps"),
        ("Lion", "b1"),
        ("Lion", "b2"),
        ("Muon", "beta"),
        ("Muon", "b2"),
        ("Muon", "adam_rate"),
        ("Adafactor", "decay_rate"),
        ("Adafactor", "clipping_threshold"),
    )
    for value in ("-1.0", 'float("nan")', 'float("inf")')
]
NUMBERS += [
    "optimizer=Adam(b1=1.0)",
    "optimizer=SGD(momentum=1.0)",
    "optimizer=SGD(accumulate=0)",
    "optimizer=SGD(accumulate=-1)",
    "optimizer=SGD(clip=0)",
    "optimizer=Adam(eps=0)",
    'optimizer=SGD(rates=(("w", float("nan")),))',
    'optimizer=SGD(rates=(("w", float("inf")),))',
    'optimizer=SGD(rates=(("[", 1.0),))',
    'optimizer=SGD(freeze=("(",))',
    "optimizer=SGD(WarmUp(-1))",
    "optimizer=SGD(WarmUp(10, 3))",
    "optimizer=SGD(Rsqrt(flat=0))",
    "optimizer=SGD(Linear(steps=0))",
    "optimizer=SGD(Cyclical(period=0))",
    "optimizer=SGD(Cyclical(ramp=0))",
    "optimizer=SGD(Piecewise((1.0,), (5,)))",
    "optimizer=SGD(Piecewise((1.0, 2.0, 3.0), (5, 4)))",
]

FILES = {
    "exits": b"import sys\ndef get_config(tiny=False):\n    sys.exit(7)\n",
    "exits at once": b"import sys\nsys.exit(7)\n",
    "exits with 0": b"raise SystemExit\n",
    "os error": b"def get_config(tiny=False):\n    open('/nowhere/at/all')\n",
    "raises": b"def get_config(tiny=False):\n    raise ValueError('two\\nlines')\n",
    "divides by 0": b"x = 1 / 0\n",
    "recursion": b"def get_config(tiny=False):\n    return get_config(tiny)\n",
    "memory": b"def get_config(tiny=False):\n    raise MemoryError\n",
    "asserts": b"assert False\n",
    "syntax": b"def get_config(:\n",
    "indent": b"def get_config():\nreturn 1\n",
    "empty": b"",
    "no get_config": b"x = 1\n",
    "get_config is a number": b"get_config = 3\n",
    "takes no tiny": b"def get_config():\n    return 1\n",
    "takes too much": b"def get_config(tiny, more):\n    return 1\n",
    "gives None": b"def get_config(tiny=False):\n    pass\n",
    "gives a dict": b"def get_config(tiny=False):\n    return {}\n",
    "gives a "
    "class": b"from genjax.experiment import Experiment\ndef get_config(tiny=False):\n    return "
    b"Experiment\n",
    "gives a family": b"from tests.toy import Toy\ndef get_config(tiny=False):\n    return Toy()\n",
    "generator": b"def get_config(tiny=False):\n    yield 1\n",
    "async": b"async def get_config(tiny=False):\n    return 1\n",
    "imports nothing there": b"import no_such_module_at_all\n",
    "imports a wrong name": b"from genjax.optim import Adamm\n",
    "NUL": b"\0\0\0\0",
    "binary": bytes(range(256)),
    "latin-1": b"x = '\xe9'\n",
    "a PNG": b"\x89PNG\r\n\x1a\n\0\0",
    "UTF-16": "x = 1\n".encode("utf-16"),
    "JSON": b'{"format": 1}',
    "null": b"null",
    "YAML": b"steps: 10\nfamily: vae\n",
    "deep": b"(" * 5000,
    "deep operators": b"x = " + b"-" * 100_000 + b"1",
    "an end that is no exit": b"raise GeneratorExit('x')\n",
    "an exception of its own": b"class Mine(BaseException): pass\nraise Mine\n",
    "an exception that says "
    "nothing": b"class E(Exception):\n    def __str__(self): raise E\nraise E\n",
    "control characters": b"raise ValueError('\\x1b[31m\\r\\udcff')\n",
    "loads itself": b"from genjax.config_files import load_config\ndef get_config(tiny=False):\n"
    b"    return load_config(__file__)\n",
    "relative import": b"from . import x\n",
    "too large": b"#" * 10_000_001,
    "much memory": b"x = [0] * 10**15\n",
    "reads": b"x = input()\n",
    "unknown encoding": b"# -*- coding: klingon -*-\n",
}


class Answer:
    def __init__(self, *arguments: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        begin = time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                self.code = command_line.main(arguments)
                self.box = False
            except SystemExit as stop:
                self.code, self.box = stop.code, True
        self.seconds, self.out, self.err = time.monotonic() - begin, out.getvalue(), err.getvalue()


def refused(
    *arguments: str, line: str = "", without: str = "\0", says: tuple[str, ...] = ()
) -> None:
    """Exit code 2, one line on stderr (a wrong option: a box), no traceback, within 25 s.

    Args:
      line: is in it.
      without: is not: where it names the config, an exception there has done what a rule should
        have.
      says: an option and its value, both in it, though a path may stand for its option.
    """
    answer = Answer(*arguments)
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err + answer.out
    assert answer.seconds < 25
    if not answer.box:
        assert len(answer.err.splitlines()) == 1, answer.err
        assert answer.err.startswith("genjax: ")
        assert answer.err.isprintable() or answer.err[:-1].isprintable()
    assert line in answer.err
    assert without not in answer.err
    text = (answer.err + answer.out).replace("-", "_").replace(",", "")
    if says:
        option, *values = says
        names = option.strip("-").replace("-", "_").split(".")[-2:]
        for value in values:
            assert repr(value)[1:60].rstrip("'").replace("-", "_") in text
        assert (
            any(name in text for name in names)
            or "/" in says[-1]
            or option in ("--from", "--run-dir")
        )


@functools.cache
def toy_run() -> str:
    folder = tempfile.TemporaryDirectory(prefix="genjax_bad_")
    toy_folders.append(folder)
    train(experiment(steps=1), f"{folder.name}/run", quiet=True)
    return f"{folder.name}/run"


toy_folders: list[tempfile.TemporaryDirectory] = []


@pytest.mark.parametrize("changes", FIELDS)
def test_a_field_of_a_config_is_refused_by_name(tmp_path, changes):
    path = tmp_path / "bad.py"
    path.write_text(HEAD.format(changes=changes))
    refused("train", str(path), "--run-dir", str(tmp_path / "run"), line=FIELDS[changes])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", NUMBERS)
def test_a_number_that_keeps_no_rule_is_refused(tmp_path, changes):
    path = tmp_path / "bad.py"
    path.write_text(HEAD.format(changes=changes))
    value = re.search(r"[(=, ](-?1\.0|-?float\(\"\w+\"\)|None|\"1\")\W*$", changes)
    got = (
        "" if value is None or "rates=" in changes else f"got {eval(value[1])!r}"
    )  # a literal of the list above
    refused("train", str(path), "--run-dir", str(tmp_path / "run"), without="bad.py", line=got)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_not_a_config_is_refused_with_its_path(tmp_path, kind):
    path = tmp_path / "bad.py"
    path.write_bytes(FILES[kind])
    refused("show", str(path), line=str(path))


def test_a_config_file_without_an_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PATIENCE", 0.2)
    for text in (
        "while True: pass",
        "import time\ntime.sleep(100)",
        "def get_config(tiny=False):\n    while True: pass",
    ):
        path = tmp_path / "bad.py"
        path.write_text(text)
        refused("show", str(path), line="did not end within 0.2 seconds")


@pytest.mark.parametrize(
    "start", [b"\xef\xbb\xbf", b"print('hello')\n", b"import sys\nsys.stdout.close()\n"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_a_good_config_file_prints_stays_out_of_the_output(tmp_path, start, end):
    path = tmp_path / "good.py"
    path.write_bytes(start + HEAD.format(changes="").replace("\n", end).encode())
    answer = Answer("show", str(path))
    assert answer.code == 0
    assert answer.out.startswith("family: Toy")
    assert answer.err == ("hello\n" if b"print" in start else "")


PLACES = [
    "",
    "\0",
    "a\0b",
    "x" * 5000,
    "é" * 300,
    "/dev/null",
    "/dev/zero",
    "/dev",
    "/",
    ".",
    "..",
    "~nobody/x",
    "nowhere.py",
    "nowhere/at/all",
    "gs://bucket/x",
    "s3://bucket/x",
    "http://host/x",
    "https://host/x.py",
    "file:///tmp/x",
    "ftp://x/y",
    "hdfs://x/y",
    "\n",
    " ",
    "💥",
    "*",
    "[",
    "%s",
    "$HOME",
    "tests",
    "tests/toy.py",
    "README.md",
    "LOOP",
    "DANGLING",
    "FOLDER.py",
    "FIFO",
]


@pytest.mark.parametrize("command", ["train", "show", "bench", "sample", "evaluate", "export"])
@pytest.mark.parametrize("place", PLACES)
def test_a_target_that_is_not_there_is_refused(tmp_path, command, place):
    (tmp_path / "LOOP").symlink_to(tmp_path / "LOOP")
    (tmp_path / "DANGLING").symlink_to(tmp_path / "nothing")
    (tmp_path / "FOLDER.py").mkdir()
    os.mkfifo(tmp_path / "FIFO")
    target = str(tmp_path / place) if place.isupper() or place == "FOLDER.py" else place
    refused(command, target, line=repr(target)[1:60].rstrip("'"))


OPTIONS = [
    ("--steps", "0"),
    ("--steps", "-1"),
    ("--steps", "x"),
    ("--steps", ""),
    ("--steps", "nan"),
    ("--steps",),
    ("--batch-size", "0"),
    ("--batch-size", "100000000000"),
    ("--seed", "-1"),
    ("--seed", str(2**40)),
    ("--ema", "nan"),
    ("--ema", "inf"),
    ("--ema", "2"),
    ("--max-minutes", "nan"),
    ("--max-minutes", "-1"),
    ("--max-minutes", "x"),
    ("--optimizer.learning-rate.value", "nan"),
    ("--optimizer.learning-rate.value", "inf"),
    ("--optimizer.learning-rate.value", "-1"),
    ("--optimizer.clip", "nan"),
    ("--optimizer.momentum", "1"),
    ("--optimizer.accumulate", "0"),
    ("--optimizer.nothing", "1"),
    ("--family.hidden", "1000000000000"),
    ("--family.hidden", "x"),
    ("--family.latent-dim", "3"),
    ("--nothing",),
    ("stray",),
    ("--precision", "float16"),
    ("--data.bias", "nan"),
    ("--keep.newest", "0"),
    ("--every.log", "-1"),
    ("--devices.count", "1000"),
    ("--devices.count", "0"),
    ("--run-dir", "gs://b/x"),
    ("--run-dir", "http://b/x"),
    ("--run-dir", ""),
    ("--run-dir", "a\0b"),
    ("--run-dir", "/dev/null"),
    ("--run-dir", "README.md"),
    ("--run-dir", "README.md/x"),
    ("--run-dir", "tests"),
    ("--run-dir", "x" * 5000),
    ("--from", "nowhere/at/all"),
    ("--from", "http://host/x"),
    ("--steps_per_dispatch", "3"),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_an_option_of_train_is_refused(tmp_path, options):
    path = tmp_path / "good.py"
    path.write_text(HEAD.format(changes=""))
    run_dir = () if "--run-dir" in options else ("--run-dir", str(tmp_path / "run"))
    refused("train", str(path), *run_dir, *options, says=options)


OF_RUNS = [
    ("sample", "--num", "0"),
    ("sample", "--num", "-1"),
    ("sample", "--num", "100000000000"),
    ("sample", "--num", "x"),
    ("sample", "--seed", "-1"),
    ("sample", "--seed", str(2**40)),
    ("sample", "--prompt", "hello"),
    ("sample", "--stream"),
    ("sample", "--best"),
    ("sample", "--best-of", "0"),
    ("sample", "--best-of", "3"),
    ("sample", "--reward", "nowhere"),
    ("sample", "--as-dataset", "."),
    ("sample", "--as-dataset", ".."),
    ("sample", "--as-dataset", ""),
    ("sample", "--as-dataset", "/tmp/x"),
    ("sample", "--as-dataset", "a/b"),
    ("sample", "--as-dataset", "a\\b"),
    ("sample", "--as-dataset", "~"),
    ("sample", "--as-dataset", "-x"),
    ("sample", "--as-dataset", "a\nb"),
    ("sample", "--as-dataset", "x" * 300),
    ("sample", "--as-dataset", ".hidden"),
    ("sample", "--out", "http://x/y"),
    ("sample", "--out", "README.md/x"),
    ("sample", "--out", ""),
    ("sample", "--sampler.nothing", "3"),
    ("evaluate", "--split", "nothing"),
    ("evaluate", "--split", ""),
    ("evaluate", "--best"),
    ("evaluate", "--evaluators.0.num", "3"),
    ("export", "--to", "onnx"),
    ("export", "--num", "0"),
    ("export", "--to", ""),
    ("export", "--out", "gs://x"),
    ("compare",),
    ("compare", "nowhere"),
    ("compare", "RUN", "--num", "1"),
    ("compare", "RUN", "--num", "-1"),
    ("compare", "RUN", "--seed", "-1"),
    ("compare", "RUN", "--split", "nothing"),
    ("compare", "RUN", "--split", "nothing", "--prompt", "x"),
    ("show", "--steps", "3"),
    ("train",),
    ("bench",),
]


SAYS = {  # where neither the option nor its value tells the mistake
    ("sample", "--prompt", "hello"): "take no prompt",
    ("sample", "--stream"): "cannot stream",
    ("sample", "--best"): "has been scored by 'loss'",
    ("sample", "--best-of", "3"): "give both or neither",
    ("sample", "--reward", "nowhere"): "give both or neither",
    ("sample", "--as-dataset", "-x"): "--as-dataset",
    ("evaluate", "--best"): "has been scored by 'loss'",
    ("compare",): "compare needs RUN_A RUN_B before its options",
    ("compare", "nowhere"): "'nowhere' must be a run directory",
    ("compare", "RUN", "--split", "nothing", "--prompt", "x"): "unknown split 'nothing'",
    ("train",): "must be a config file",
    ("bench",): "must be a config file",
}


@pytest.mark.parametrize("words", OF_RUNS, ids=lambda words: " ".join(words)[:60])
def test_an_option_of_a_run_is_refused(words, tmp_path, monkeypatch):
    run, (command, *options) = toy_run(), words
    says, line = ((), SAYS[words]) if words in SAYS else (options[-2:], "")
    refused(
        command, run, *(run if word == "RUN" else word for word in options), says=says, line=line
    )


COMMANDS = {
    ("trian", "x"): "unknown command 'trian'; did you mean 'train'?",
    ("TRAIN", "x"): "unknown command 'TRAIN'; did you mean 'train'?",
    ("", "x"): "unknown command ''",
    ("\0", "x"): "unknown command '\\x00'",
    ("help", "x"): "unknown command 'help'",
    ("data", "x"): "unknown command of data 'x'",
    ("data", "prepare"): "data needs prepare CONFIG before its options",
    ("data", "prepare", "nothing"): "unknown config 'nothing'",
    ("data", "prepare", "vae_digits"): "not a Preparation",
    ("train",): "train needs CONFIG before its options",
    ("compare",): "compare needs RUN_A RUN_B before its options",
    ("sample", "--num", "3"): "sample needs RUN_DIR before its options",
    (): "a command comes first",
    ("--steps", "3"): "a command comes first",
    ("-x",): "a command comes first",
    ("show", "vae_digit"): "did you mean 'vae_digits'?",
    ("show", "VAE_DIGITS"): "did you mean 'vae_digits'?",
    ("train", "vae_digits.py"): "did you mean 'vae_digits'?",
    ("train", "dpo_preferences_"): "did you mean 'dpo_preferences'?",
    ("sample", "vae_digits"): "genjax train vae_digits",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_wrong_command_is_refused(words):
    refused(*words, line=COMMANDS[words])


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        *(
            (c, "--help")
            for c in ("train", "sample", "evaluate", "compare", "export", "bench", "data", "show")
        ),
    ]
    + [
        ("data", "prepare", "--help"),
        ("compare", "RUN", "--help"),
        ("compare", "RUN", "RUN", "--help"),
    ]
    + [(command, "RUN", "--help") for command in ("sample", "evaluate", "export", "show")]
    + [(command, "vae_digits", "--help") for command in ("train", "bench", "show")],
)
def test_there_is_help_at_every_level(words):
    answer = Answer(*(toy_run() if word == "RUN" else word for word in words))
    assert answer.code == 0
    assert answer.out.startswith("usage: genjax ")
    assert not answer.err
    assert answer.seconds < 10


def test_lists_in_the_place_of_tuples_have_help_and_options(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(
        "import dataclasses\nfrom genjax.config_files import load_config\nfrom genjax.nets.mlp "
        "import MLPCoder\n"
        "def get_config(tiny=False):\n    found = load_config('vae_digits', tiny)[0]\n"
        "    family = dataclasses.replace(found.family, coder=MLPCoder(hidden=[8, 4]))\n"
        "    return dataclasses.replace(found, family=family, evaluators=[])\n"
    )
    help_ = Answer("train", str(path), "--help")
    assert help_.code == 0
    assert "(default: 8 4)" in help_.out
    assert "hidden: (3, 2)" in Answer("show", str(path), "--family.coder.hidden", "3", "2").out


@pytest.mark.parametrize(
    ("config", "options", "line"),
    [
        (
            "vae_digits",
            ("--batch-size", "100000000"),
            "batch_size is too large: 3 batches of 400,000,000 examples",
        ),
        (
            "vae_digits",
            ("--family.latent-dim", "1000000000"),
            "family is too large: parameters and optimizer",
        ),
        ("vae_digits", ("--workers", "1000000"), "workers must be from 0 to"),
        (
            "vae_digits",
            ("--seed", "99999999999"),
            "seed must be from 0 to 4294967295, got 99999999999",
        ),
        (
            "vae_points",
            ("--data.size", "1000000000"),
            "size must be from 1 to 1000000, got 1000000000",
        ),
        (
            "diffusion_captioned_shapes",
            ("--data.side", "100000"),
            "side must be from 12 to 1024, got 100000",
        ),
        (
            "diffusion_tones",
            ("--data.length", "1000000000"),
            "length is too large: tones need at least 1.0 TB",
        ),
        ("mlm_docs", ("--family.net.layers", "100000"), "layers must be at most 256, got 100000"),
        (
            "dit_fashion_mnist",
            ("--family.net.depth", "100000"),
            "depth must be at most 256, got 100000",
        ),
    ],
)
def test_a_size_that_fits_nowhere_is_refused_before_anything_is_made(
    config, options, line, tmp_path
):
    refused("train", config, "--tiny", "--run-dir", str(tmp_path / "run"), *options, line=line)


def test_a_step_whose_intermediate_results_fit_nowhere_is_refused(tmp_path):
    options = ("--family.importance-samples", "1000000000", "--run-dir", str(tmp_path / "run"))
    refused("train", "vae_digits", "--tiny", *options, line="intermediate results need at least")


def test_numbers_of_numpy_whole_floats_and_lists_are_taken(tmp_path):
    path = tmp_path / "good.py"
    changes = "steps=2e1, batch_size=np.int64(16), seed=np.array(3), evaluators=[], augment=[]"
    path.write_text(HEAD.format(changes=changes))
    found, _ = load_config(str(path))
    assert (found.steps, found.batch_size, found.seed, found.evaluators) == (20, 16, 3, ())
    assert all(type(number) is int for number in (found.steps, found.batch_size, found.seed))
