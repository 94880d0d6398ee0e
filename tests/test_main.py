"""The command line as a user meets it: what is printed, what is written, and how mistakes are
told.
"""

import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.errors import JaxRuntimeError
from PIL import Image

import genjax
from genjax import __main__ as command_line
from genjax.cli import bench as bench_module
from genjax.cli import train as train_module
from genjax.cli.bench import bench, peak_flops
from genjax.config_files import load_config
from genjax.data.sources import Digits

TINY = ("vae_digits", "--tiny", "--devices.count", "1")


class Result(NamedTuple):
    code: int
    out: str
    err: str


def cli(*arguments) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command_line.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Result(code, out.getvalue(), err.getvalue())


def flat(text: str) -> str:
    """Without the boxes and line ends that the help is set in."""
    return re.sub(r"[│\s]+", " ", text)


def refused(result: Result, message: str) -> None:
    """One clear line and exit code 2."""
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert line.startswith("genjax: ")
    assert re.search(message, line), line


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


OVERRIDES = {
    "--family.latent-dim": 8,
    "--family.beta.end": 0.5,
    "--family.coder.hidden": "12",
    "--optimizer.learning-rate.value": 0.002,
    "--optimizer.clip": "None",
    "--evaluators.0.num": 3,
    "--every.log": 8,
    "--ema": 0.5,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    changes = [word for pair in OVERRIDES.items() for word in pair]
    return run_dir, cli("train", *TINY, *changes, "--run-dir", run_dir)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_prints_paths_that_exist(trained):
    run_dir, result = trained
    assert result.code == 0, result.err
    printed = dict.fromkeys(line.split()[-1] for line in result.out.splitlines())
    assert all(Path(path).exists() for path in printed)
    assert (
        str(run_dir / "metrics.jsonl") in printed and str(run_dir / "plots" / "loss.png") in printed
    )
    pictures = [path for path in printed if "/samples/" in path]
    assert len(pictures) == 3 and all(Image.open(path).size[0] > 50 for path in pictures)
    assert "step 16/16" in result.err


def test_overrides_reach_nested_fields_with_their_types(trained):
    experiment = genjax.load(trained[0]).experiment
    assert (experiment.family.latent_dim, experiment.family.beta.end) == (8, 0.5)
    assert experiment.family.coder.hidden == (12,)
    assert (experiment.optimizer.learning_rate.value, experiment.optimizer.clip) == (0.002, None)
    assert (experiment.evaluators[0].num, experiment.every.log, experiment.ema) == (3, 8, 0.5)
    default, _ = load_config("vae_digits", tiny=True)
    assert experiment.steps == default.steps and experiment.evaluators[1] == default.evaluators[1]
    rows = [json.loads(line) for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [8, 16]


def test_the_fields_of_the_data_are_options_too(here):
    result = cli(
        "show", "vae_points", "--tiny", "--data.distribution", "swiss_roll", "--data.size", 300
    )
    assert result.code == 0
    assert "distribution: swiss_roll" in result.out and "size: 300" in result.out


def test_the_same_command_after_the_finish_says_so(trained):
    run_dir, _ = trained
    before = (run_dir / "metrics.jsonl").read_text(), sorted((run_dir / "checkpoints").iterdir())
    changes = [word for pair in OVERRIDES.items() for word in pair]
    result = cli("train", *TINY, *changes, "--run-dir", run_dir)
    assert result.code == 0 and "is finished: step 16 of 16" in result.err
    assert before == (
        (run_dir / "metrics.jsonl").read_text(),
        sorted((run_dir / "checkpoints").iterdir()),
    )


def test_a_run_directory_of_another_config_is_refused(trained):
    refused(cli("train", *TINY, "--seed", 3, "--run-dir", trained[0]), r"seed: 0 -> 3")


@pytest.mark.parametrize("num", [1, 5, 64])
def test_sample_prints_the_path_of_a_grid(trained, num):
    result = cli("sample", trained[0], "--num", num, "--seed", num)
    path = Path(result.out.strip())
    assert result.code == 0 and path == trained[0] / "samples" / f"00000016_seed_{num}.png"
    columns = {1: 1, 5: 3, 64: 8}[num]
    assert Image.open(path).size[0] == columns * 58 + 2


def test_the_same_seed_draws_the_same_file_and_another_another(trained, tmp_path):
    def draw(name, *options):
        result = cli("sample", trained[0], "--num", 4, "--out", tmp_path / "deep" / name, *options)
        assert result.code == 0 and result.out == f"{tmp_path / 'deep' / name}\n"
        return (tmp_path / "deep" / name).read_bytes()

    first = draw("a.png", "--seed", 7)
    assert first == draw("b.png", "--seed", 7)
    assert first != draw("c.png", "--seed", 8)
    assert first != draw("d.png", "--seed", 7, "--sampler.temperature", 5)


def test_a_temperature_of_zero_draws_one_sample_many_times(trained, tmp_path):
    cli("sample", trained[0], "--num", 4, "--out", tmp_path / "a.png", "--sampler.temperature", 0)
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(grid[2:58, 2:58], grid[60:116, 60:116])


@pytest.mark.parametrize(
    "options", [("--num", 0), ("--num", -1), ("--seed", -1), ("--seed", 2**32)]
)
def test_sample_refuses_bad_numbers(trained, options):
    refused(cli("sample", trained[0], *options), f"{options[0][2:]} must be")


@pytest.mark.parametrize("split", ["test", "train"])
def test_evaluate_prints_a_table_and_writes_it(trained, split):
    run_dir, _ = trained
    result = cli("evaluate", run_dir, "--split", split)
    assert result.code == 0
    stored = json.loads((run_dir / "eval.json").read_text())
    assert (stored["step"], stored["split"]) == (16, split)
    count = {"train": "1,500", "test": "297"}[split]
    protocol = f"ELBO with one draw of the latents; whole {split} split, {count} examples"
    protocol += "; step 16, averaged (EMA) parameters, seed 0"
    assert stored["protocols"]["loss"] == protocol and result.out.splitlines()[:2] == [
        str(run_dir),
        f" {protocol}",
    ]
    lines = [line for line in result.out.splitlines() if line.startswith("  ")]
    printed = dict(line.split() for line in lines)
    assert len({line.rstrip().rindex("  ") for line in lines}) == 1  # one column
    for name in ("loss", "reconstruction", "kl", "bits_per_dim"):
        assert float(printed[name]) == pytest.approx(stored[name], rel=1e-5)
    for name in ("reconstructions", "interpolations"):
        assert (
            Path(printed[name]).name == f"00000016_{split}_{name}.png"
            and Path(printed[name]).exists()
        )
    np.testing.assert_allclose(stored["loss"], stored["reconstruction"] + stored["kl"], rtol=1e-5)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    if split == "test":  # what training itself had seen
        assert last["loss"] == pytest.approx(stored["loss"], rel=1e-6)


def test_evaluators_take_settings_and_name_the_run_they_miss(tmp_path, trained):
    """A bound asked for on the command line, and features of a run that is not there."""
    config = tmp_path / "judged.py"
    config.write_text(
        "import dataclasses\n"
        "from genjax.evaluation.likelihood.importance import ImportanceBound\n"
        "from genjax.evaluation.images.neighbours import NearestNeighbours\n"
        "from genjax.config_files import load_config\n"
        "def get_config(tiny=False):\n"
        "    base, _ = load_config('vae_digits', tiny=True)\n"
        "    late = NearestNeighbours(samples=9, while_training=False)\n"
        "    return dataclasses.replace(base, evaluators=(ImportanceBound(50), late), steps=4, "
        "steps_per_dispatch=4)\n"
    )
    run_dir = tmp_path / "judged"
    assert (
        cli("train", config, "--run-dir", run_dir, "--every.log", 4, "--devices.count", 1).code == 0
    )
    assert "nll_50" not in (run_dir / "metrics.jsonl").read_text()
    result = cli("evaluate", run_dir, "--evaluators.0.samples", 7, "--evaluators.0.limit", 20)
    assert result.code == 0, result.err
    assert "nll_7 " in result.out and "7 samples an example, 20 examples of test" in result.out
    missing = cli("evaluate", run_dir, "--evaluators.1.features", "runs/classifier_digits")
    refused(
        missing,
        "make it: python -m genjax train classifier_digits --run-dir runs/classifier_digits",
    )


def test_a_full_device_is_one_line_that_says_what_helps(trained, monkeypatch):
    def full(self, split):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    monkeypatch.setattr(genjax.Run, "evaluate", full)
    refused(cli("evaluate", trained[0]), "the device is out of memory: a smaller batch_size")


def test_eight_devices_judge_alike(trained):
    numbers = []
    for count in (1, 8):
        assert cli("evaluate", trained[0], "--devices.count", count).code == 0
        numbers.append(json.loads((trained[0] / "eval.json").read_text())["loss"])
    np.testing.assert_allclose(*numbers, rtol=1e-5)


def test_a_remark_is_printed_and_kept(trained, monkeypatch):
    remarked = genjax.runs.run.Report({"loss": 1.0}, {}, {"loss": "how"}, ("take care",))
    monkeypatch.setattr(genjax.Run, "evaluate", lambda self, split, data=None: remarked)
    assert "note: take care" in cli("evaluate", trained[0]).out
    assert json.loads((trained[0] / "eval.json").read_text())["remarks"] == ["take care"]


def test_eval_json_has_no_nan(trained, tmp_path, monkeypatch):
    broken = genjax.runs.run.Report({"loss": float("nan")}, {}, {"loss": "how"}, ())
    monkeypatch.setattr(genjax.Run, "evaluate", lambda self, split, data=None: broken)
    assert cli("evaluate", trained[0]).code == 0
    assert (
        json.loads((trained[0] / "eval.json").read_text(), parse_constant=pytest.fail)["loss"]
        is None
    )


def test_an_unknown_split_is_refused_with_the_nearest(trained):
    refused(
        cli("evaluate", trained[0], "--split", "tset"), "unknown split 'tset'; did you mean 'test'"
    )


def test_bench_prints_one_line_of_json(here, monkeypatch):
    monkeypatch.setattr(bench_module, "bench", functools.partial(bench, seconds=0.01, repeats=1))
    result = cli("bench", *TINY)
    assert result.code == 0, result.err
    (line,) = result.out.splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    positive = (
        "compile_s",
        "step_ms",
        "loop_ms",
        "steps_per_second",
        "examples_per_second",
        "flops",
    )
    assert found["name"] == "vae_digits" and all(found[name] > 0 for name in positive)
    assert found["peak_memory_bytes"] > 10**6 and found["mfu"] is None  # of no known device
    assert (found["devices"], found["mode"]) == (1, "single")
    need = 16 / (found["step_ms"] / 1e3)
    assert found["input_ratio"] == pytest.approx(
        found["input_examples_per_second"] / need, rel=0.05, abs=0.01
    )
    assert ("the input gives" in result.err) == (found["input_ratio"] < 10)
    assert "tokens_per_second" not in found
    assert found["examples_per_second"] == pytest.approx(16 * found["steps_per_second"], rel=0.01)
    assert not files(here)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", None),
        ("Tesla T4", 65e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("cpu", None),
    ],
)
def test_a_peak_is_known_by_the_whole_name_of_a_device(kind, peak):
    assert peak_flops(kind) == peak


def numbers_of(page: str) -> tuple[int, float]:
    """The parameter total and the FLOPs of a step."""
    total, flops = re.search(r"total +([\d,]+)", page), re.search(r"one step: ([\d,]+) FLOPs", page)
    return tuple(float(found[1].replace(",", "")) for found in (total, flops))


def test_show_counts_parameters_and_flops_of_a_config_and_writes_nothing(here):
    result = cli("show", *TINY, "--family.coder.hidden", 12)
    assert result.code == 0
    encoder, decoder = (64 * 12 + 12) + (12 * 32 + 32), (16 * 12 + 12) + (12 * 64 + 64)
    total, flops = numbers_of(result.out)
    assert total == encoder + decoder
    # Forward and backward: six per weight and example, but none for the gradient of the images.
    multiplications = 16 * (6 * (12 * 32 + 16 * 12 + 12 * 64) + 4 * 64 * 12)
    assert multiplications < flops < 2 * multiplications
    assert "family: VAE" in result.out and "  latent_dim: 16" in result.out
    assert (
        "evaluators.1: Interpolations" in result.out
        and "data: image [8, 8, 1], 10 classes" in result.out
    )
    assert not files(here)


def test_show_of_a_run_is_of_what_was_trained_and_writes_nothing(trained):
    run_dir, _ = trained
    before = files(run_dir)
    result = cli("show", run_dir)
    assert result.code == 0 and "  latent_dim: 8" in result.out and "last row: {" in result.out
    params = genjax.load(run_dir).state.params
    total, flops = numbers_of(result.out)
    assert total == sum(p.size for p in jax.tree.leaves(params)) and flops > 0
    assert files(run_dir) == before
    unused = cli("show", run_dir, "--family.latent-dim", 3)  # a run is what it is
    assert unused.code == 2 and "--family.latent-dim" in unused.err


def test_help_is_friendly(here):
    for arguments in (("--help",), ("-h",)):
        result = cli(*arguments)
        assert result.code == 0 and not result.err
        for word in (
            "train",
            "sample",
            "evaluate",
            "bench",
            "show",
            "CONFIG",
            "RUN_DIR",
            "vae_digits",
        ):
            assert word in result.out
    bare = cli()
    assert bare.out == cli("--help").out
    refused(bare, "a command comes first")
    for command in ("train", "bench", "show", "sample", "evaluate"):
        result = cli(command, "--help")
        assert result.code == 0 and "vae_digits" in result.out and not result.err
        missing = "RUN_DIR" if command in ("sample", "evaluate") else "CONFIG"
        refused(cli(command), f"{command} needs {missing}")
    refused(cli("train", "--tiny", "vae_digits"), "train needs CONFIG before its options")


def test_the_help_of_a_config_lists_fields_with_their_documentation(here):
    result = cli("train", "vae_points", "--help")
    assert result.code == 0
    text = flat(result.out)
    for option, words in {
        "--family.latent-dim INT": "number of latents z1, which the decoder sees. (default: 2)",
        "--family.sampler.temperature FLOAT": "standard deviation of the top latents",
        "--family.likelihood.spread {fixed,shared,predicted}": "(default: shared)",
        "--optimizer.learning-rate.end FLOAT": "value from ``steps`` on. (default: 1e-05)",
        "--optimizer.clip {None}|FLOAT": "largest global norm of the gradient",
        "--optimizer.b2 FLOAT": "decay of the second moment. (default: 0.999)",
        "--data.distribution STR": "one of the names above. (default: two_moons)",
        "--data.noise {None}|FLOAT": "standard deviation of the noise",
        "--every.log INT": "row of metrics",
        "--steps INT": "train steps. (default: 20000)",
        "--precision {float32,bfloat16}": "dtype that networks compute in",
        "--run-dir {None}|STR": "folder that everything is written to",
    }.items():
        _, _, after = text.partition(f" {option} ")
        assert words in after[:300], option


def test_the_help_of_sample_lists_the_sampler_of_the_run(trained):
    text = flat(cli("sample", trained[0], "--help").out)
    assert (
        "--sampler.temperature FLOAT standard deviation of the top latents" in text
        and "--num {None}|INT" in text
    )


def test_pictures_take_no_prompt_and_are_no_stream(trained):
    assert "--prompt STR what texts start with" in flat(cli("sample", trained[0], "--help").out)
    refused(
        cli("sample", trained[0], "--prompt", "a three"),
        "the samples of .*run, a VAE, take no prompt",
    )
    refused(
        cli("sample", trained[0], "--stream"),
        "a VAE cannot stream: it does not generate text token by token",
    )


IMAGES = """
from genjax.data.sources import ImageFolder
from genjax.experiment import Experiment
from genjax.families.vae import VAE

def get_config(tiny=False):
    return Experiment(VAE(2), ImageFolder("pictures"), steps=2, batch_size=8)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian", "vae_digits"), "unknown command 'trian'; did you mean 'train'"),
        (("train", "vae_digit"), "unknown config 'vae_digit'; did you mean 'vae_digits'"),
        (("bench", "vae_digit"), "unknown config 'vae_digit'"),
        (("show", "vae_digit"), "unknown config 'vae_digit'"),
        (("train", "nowhere/vae.py"), "no config file at 'nowhere/vae.py'"),
        (("train", *TINY, "--steps", "-4"), "steps must be at least 1, got -4"),
        (("train", *TINY, "--batch-size", "0"), "batch_size must be at least 1, got 0"),
        (("train", *TINY, "--seed", str(2**40)), "seed must be from 0 to"),
        (("train", *TINY, "--every.log", "-1"), "log must be at least 0, got -1"),
        (("train", *TINY, "--every.log", "15"), "every.log 15 is not a multiple of"),
        (
            ("train", *TINY, "--augment", "flip"),
            "augment holds functions from a config file, such as",
        ),
        (("train", *TINY, "--evaluators.1.steps", "1"), "steps must be at least 2"),
        (("train", *TINY, "--family.latent-dim", "0"), "latent_dim must be at least 1"),
        (("train", *TINY, "--max-minutes", "-1"), "max_minutes must be at least 0"),
        (("train", *TINY, "--max-minutes", "nan"), "max_minutes must be finite"),
        (
            ("train", "vae_digits", "--tiny", "--batch-size", "12"),
            r"batch_size 12 is not divisible by 8 device\(s\)",
        ),
        (
            ("train", *TINY, "--optimizer.accumulate", "3"),
            "batch_size 16 is not divisible.* 3 microbatch",
        ),
        (("bench", *TINY, "--optimizer.accumulate", "3"), "batch_size 16 is not divisible"),
        (
            ("train", "vae_digits", "--tiny", "--devices.count", "99"),
            "devices.count is 99, but there are 8",
        ),
        (
            ("train", *TINY, "--optimizer.freeze", "encodr"),
            "optimizer.freeze: 'encodr' matches no parameter",
        ),
        (
            ("show", *TINY, "--optimizer.freeze", "encodr"),
            "optimizer.freeze: 'encodr' matches no parameter",
        ),
        (("show", "vae_points", "--data.distribution", "two_moon"), "did you mean 'two_moons'"),
        (("sample", "nowhere"), "'nowhere' must be a run directory"),
        (("evaluate", "nowhere"), "'nowhere' must be a run directory"),
        (("train", "images.py"), "no folder pictures"),
        (("train", "images.py", "--data.root", "empty"), "empty holds no images"),
        (("train", "notes.txt"), "notes.txt is not a Python file"),
        (("train", *TINY, "--run-dir", "notes.txt/run"), "notes.txt"),
        (("train", *TINY, "--run-dir", "."), "must be empty or a run directory"),
        (("sample", "notes.txt/run"), "'notes.txt/run' must be a run directory"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, tuple) else "",
)
def test_a_users_mistake_is_one_line_and_exit_code_2(here, arguments, message):
    (here / "images.py").write_text(IMAGES)
    (here / "notes.txt").write_text("precious")
    (here / "empty").mkdir()
    refused(cli(*arguments), message)
    assert (here / "notes.txt").read_text() == "precious"


def test_data_and_packages_that_are_missing_are_a_users_matter(here, monkeypatch):
    monkeypatch.setenv("GENJAX_DATA", str(here / "data"))
    refused(
        cli("train", "vae_mnist", "--tiny"),
        r"mnist is not prepared in .*data/tfds; prepare it once: pip install",
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow_datasets", None)
        refused(
            cli("show", "vae_mnist", "--tiny"),
            "reading mnist needs a package: pip install tensorflow-datasets",
        )

    def opened(self):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr(Digits, "open", opened)
    refused(cli("show", *TINY), "a package is missing: sklearn")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            ("--family.latnt-dim", "3"),
            ("--family.latnt-dim", "did you mean", "--family.latent-dim"),
        ),
        (("--latent-dim", "3"), ("--latent-dim", "did you mean", "--family.latent-dim")),
        (("--family.latent-dim", "many"), ("--family.latent-dim", "many")),
        (("--precision", "float16"), ("float16", "bfloat16")),
        (("--optimizer.learning-rate", "0.1"), ("--optimizer.learning-rate.value",)),
        (("stray",), ("stray",)),
    ],
)
def test_a_wrong_option_is_exit_code_2_with_the_nearest(here, option, words):
    result = cli("train", *TINY, *option)
    assert result.code == 2 and not result.out and "Traceback" not in result.err
    assert all(word in flat(result.err) for word in words)
    assert not files(here)


def test_debug_shows_the_traceback_under_the_same_exit_code(here):
    for arguments in (("--debug", "train", "vae_digit"), ("train", "vae_digit", "--debug")):
        result = cli(*arguments)
        assert result.code == 2
        assert (
            "Traceback (most recent call last)" in result.err
            and "UserError: unknown config" in result.err
        )


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def fault(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(train_module, "load_config", fault)
    with pytest.raises(ZeroDivisionError):
        cli("train", "vae_digits")


def test_divergence_is_exit_code_3(here):
    result = cli("train", *TINY, "--optimizer.learning-rate.value", "1e30", "--run-dir", "run")
    assert result.code == 3
    (line,) = result.err.splitlines()
    assert re.fullmatch("genjax: steps 2 to 4 were not finite; there is no checkpoint of run", line)


def test_a_run_that_never_began_cannot_be_sampled(here):
    run = ("train", *TINY, "--optimizer.learning-rate.value", "1e30", "--run-dir", "run")
    assert cli(*run).code == 3
    refused(cli("sample", "run"), "run has no checkpoint yet")
    (here / "run" / "codec.json").unlink()
    refused(cli("evaluate", "run"), "run has no codec.json")
    (here / "run" / "config.json").write_text("{")
    refused(cli("sample", "run"), "config.json is damaged")


def python_m_genjax(folder, *arguments):
    """A real process, on one device as a user has it."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    root = str(Path(genjax.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "genjax", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.long
def test_a_process_trains_in_the_default_place_from_anywhere(here):
    result = python_m_genjax(here, "train", "vae_digits", "--tiny")
    assert result.code == 0, result.err
    assert (here / "runs" / "vae_digits_tiny" / "config.json").exists()
    assert all((here / line.split()[-1]).exists() for line in result.out.splitlines())
    assert "Warning" not in result.err


def test_a_process_tells_a_mistake_in_one_line(here):
    (here / "file").write_text("")
    refused(
        python_m_genjax(here, "train", "vae_digits", "--tiny", "--run-dir", "file/run"),
        "run-dir must be below folders",
    )
    refused(python_m_genjax(here), "a command comes first")
