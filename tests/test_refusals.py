"""Errors say in one line what would be accepted."""

import ast
from pathlib import Path

import pytest

import genjax
from genjax import gx
from genjax.errors import UserError
from genjax.prepare.files import Files
from genjax.serial.equivalents import ELSEWHERE
from tests import toy
from tests.test_main import cli, refused
from tests.test_other_set import train

HEAD = "from genjax import gx\ndef get_config(tiny=False):\n    return "


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gx.FlowMatching()", r"line 3: gx has no FlowMatching; did you mean .*Straight\(\)"),
        ("gx.DDIMScheduler()", r"did you mean DDIM\(\)"),
        ("gx.UNet2DModel()", r"did you mean UNet\(\)"),
        ("gx.Autoregresive()", "did you mean Autoregressive"),
        ("gx.Transformers()", "did you mean Transformer"),
        ("gx.RandomCrop()", r"did you mean Crop\(\)"),
        ("gx.Qwxz()", "there are .*VAE"),
        ("gx.Experiment(gx.VAE(latent=3), gx.Digits())", "unknown field of VAE.*'latent_dim'"),
        ("gx.Experiment(gx.UNet(), gx.Digits())", r"family must be .*such as VAE\(\)"),
        ("gx.Experiment(gx.VAE(), 'mnist')", r"data must be .*ImageFolder"),
        ("gx.Experiment(gx.VAE(), gx.Digits(), 'adam')", r"optimizer must be .*Adam\(\)"),
        ("gx.Experiment(gx.VAE(), gx.Digits(), gx.Adam(0.1))", "learning_rate .*Constant, Cosine"),
        ("gx.Experiment(gx.VAE(likelihood='normal'), gx.Digits())", "likelihood .*Bernoulli .*Gau"),
        ("gx.Experiment(gx.VAE(coder=gx.UNet()), gx.Digits())", "UNet.. does not fit.*MLPCoder"),
        ("gx.Experiment(gx.Classifier(gx.UNet()), gx.Digits())", "these have: .*MLPBackbone"),
        (
            "gx.Experiment(gx.Autoregressive(), gx.TextFiles(codec='bytes', root=__file__))",
            "'bytes' does not fit.*Bytes",
        ),
        ("gx.Experiment(gx.VAE(), gx.Digits(), evaluators=('fid',))", r"such as SampleQuality\(\)"),
    ],
)
def test_a_config_that_names_the_wrong_part_is_told_the_right_one(tmp_path, line, said):
    config = tmp_path / "mine.py"
    config.write_text(f"{HEAD}{line}\n", encoding="utf-8")
    refused(cli("show", config), said)


def test_an_import_of_a_part_that_is_not_there_is_told_too(tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("from genjax.gx import GPT2LMHeadModel\n", encoding="utf-8")
    refused(cli("show", config), r"line 1: .*did you mean Autoregressive\(Transformer\(\)\)")


def test_what_others_call_things_names_parts_that_exist():
    for other, ours in ELSEWHERE.items():
        names = [
            node.func.id
            for text in ours.replace(" with ", " ; ").replace(" or ", " ; ").split(" ; ")
            for part in text.split(" as ")[0].split(" on ")
            for node in ast.walk(_parse(part.split(", ")[0] if "=" not in part else part))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert all(callable(getattr(gx, name)) for name in names), (other, names)


def _parse(text: str) -> ast.AST:
    try:
        return ast.parse(text.strip())
    except SyntaxError:
        return ast.parse("")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--numm", "3"), "Unrecognized options: --numm, 3; did you mean --num?"),
        (("--num", "many"), "Error parsing --num"),
        (("--sampler.temprature", "1"), "did you mean --sampler.temperature?"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path_factory, trained, options, said):
    run = trained.once("refusals_vae", _train_vae)
    result = cli("sample", run, *options)
    refused(result, "")
    assert said in result.err


def _train_vae(run_dir):
    train(run_dir, gx.VAE(latent_dim=2, coder=gx.MLPCoder(hidden=(8,))), gx.Digits())


@pytest.mark.parametrize("config", ["gpt_docs", "gan_digits", "lora_gpt"])
def test_a_run_of_another_family_says_so(trained, tmp_path, config):
    run = trained.once("refusals_vae", _train_vae)
    result = cli(
        "train", config, "--tiny", "--from", run, "--run-dir", tmp_path / "x", "--devices.count", 1
    )
    assert result.code == 2 and "is a VAE" in result.err.splitlines()[-1]
    assert not (tmp_path / "x").exists()


def test_absolute_patterns_work_where_patterns_are_taken(tmp_path, monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    for name in ("train_a", "train_b", "test_c"):
        (tmp_path / f"{name}.txt").write_text("the old man and the sea " * 9, encoding="utf-8")
        (tmp_path / f"{name}.jsonl").write_text('{"text": "the sea"}\n' * 9, encoding="utf-8")
    whole = gx.TextFiles(
        pattern=f"{tmp_path}/*.txt",
        layout=gx.Blocks(8),
        split=gx.ByFiles(f"{tmp_path}/test*"),
        cache=str(tmp_path / "c"),
    ).open()
    assert len(whole.splits["train"].corpus.tokens) == 2 * len(whole.splits["test"].corpus.tokens)
    table = gx.TextTables(
        pattern=f"{tmp_path}/train*.jsonl", layout=gx.Blocks(8), cache=str(tmp_path / "c")
    )
    assert set(table.open().splits) == {"train", "test"}
    found = Files.find(None, (f"{tmp_path}/train_*.txt",))
    assert [Path(path).name for path in found.paths] == ["train_a.txt", "train_b.txt"]
    assert Files.find(str(tmp_path.parent), (f"{tmp_path}/test*.txt",)).paths
    with pytest.raises(UserError) as error:
        Files.find(str(tmp_path / "c"), (f"{tmp_path}/*.txt",))
    assert error.value.field == "files"


def test_repeating_a_finished_run_adds_no_event_file(tmp_path):
    every = gx.Every(log=1, evaluate=5, sample=5, checkpoint=5)
    experiment = toy.experiment(every=every, evaluators=(gx.GeneralisationGap(),))
    for _ in range(3):
        genjax.train(experiment, tmp_path / "run", quiet=True)
        files = sorted((tmp_path / "run" / "tensorboard").iterdir())
        assert len(files) == 1
