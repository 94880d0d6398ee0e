"""What a run is exported as says the same as the run: weights by name, samples of the
function, logits elsewhere.
"""

import dataclasses
import datetime
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file

import genjax
from genjax import __main__ as command_line
from genjax.config_files import load_config
from genjax.data.chat.template import ChatCodec
from genjax.data.sources import PythonDocs
from genjax.data.text.layouts import RandomWindows
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.nets.bigram import Bigram
from genjax.nets.transformer.transformer import Transformer
from genjax.parallel import Devices
from genjax.runs.export import export, export_function, export_pretrained, sampling
from genjax.trees import named_leaves

RUNS = ("vae_digits", "gan_points", "flow_points", "gpt_docs")


def trained(name, folder, **changes):
    experiment, path = load_config(name, tiny=True)
    experiment = dataclasses.replace(
        experiment,
        family=dataclasses.replace(experiment.family, **changes),
        devices=Devices(count=1),
        evaluators=(),
        ema=0.5 if name == "vae_digits" else None,
        every=Every(0, 0, 0, 0),
    )
    return genjax.train(experiment, folder / name, source=path, quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module", params=RUNS)
def run(request, folder):
    return once(request.param, folder)


def once(name, folder):
    return genjax.load(folder / name) if (folder / name).exists() else trained(name, folder)


@pytest.fixture(scope="module")
def gpt(folder):
    return once("gpt_docs", folder)


def test_the_sampling_function_loads_without_the_run_and_gives_its_samples(run, tmp_path):
    written = export(run, num=3, out=tmp_path)
    assert {path.name for path in written} >= {
        "model.safetensors",
        "config.json",
        "codec.json",
        "sample.jax",
    }
    made = json.loads((tmp_path / "sample.json").read_text(encoding="utf-8"))
    assert made["jax"] == jax.__version__ and datetime.date.fromisoformat(made["date"])
    assert made["export_again"].startswith("python -m genjax export ")
    function = jax_export.deserialize((tmp_path / "sample.jax").read_bytes())
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}
    weights = load_file(tmp_path / "model.safetensors")
    for seed in (0, 5):
        got = function.call(weights, jax.random.PRNGKey(seed))
        np.testing.assert_allclose(got, run.sample(3, seed), rtol=1e-5, atol=1e-6)
    halved = {name: a / 2 if a.dtype == np.float32 else a for name, a in weights.items()}
    assert not np.array_equal(function.call(halved, jax.random.PRNGKey(5)), got)


def test_weights_are_those_that_are_sampled_from_under_their_paths(run, tmp_path):
    export(run, "safetensors", tmp_path)
    assert not (tmp_path / "sample.jax").exists()
    weights = load_file(tmp_path / "model.safetensors")
    judged = run.experiment.family.eval_state(run.state)
    expected = {f"params/{name}": leaf for name, leaf in named_leaves(judged.params)}
    expected |= {f"variables/{name}": leaf for name, leaf in named_leaves(judged.variables)}
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored == json.loads((run.run_dir / "config.json").read_text())


def test_the_command_prints_what_it_wrote(gpt, tmp_path, capsys):
    options = [
        "--num",
        "2",
        "--sampler.prompt",
        "The",
        "--sampler.temperature",
        "0",
        "--out",
        str(tmp_path),
    ]
    assert command_line.main(["export", str(gpt.run_dir), *options]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [
        str(tmp_path / name)
        for name in (
            "model.safetensors",
            "config.json",
            "config.py",
            "codec.json",
            "sample.jax",
            "sample.json",
        )
    ]
    function = jax_export.deserialize((tmp_path / "sample.jax").read_bytes())
    texts = function.call(load_file(tmp_path / "model.safetensors"), jax.random.PRNGKey(0))
    assert gpt.codec.decode(np.asarray(texts[0])).startswith("The")
    assert np.array_equal(texts[0], texts[1])
    assert command_line.main(["export", str(gpt.run_dir), "--to", "safetensors"]) == 0
    assert (
        str(gpt.run_dir / "export" / "safetensors" / "model.safetensors") in capsys.readouterr().out
    )


def test_a_platform_that_lacks_an_operation_is_left_out():
    def sample(weights, key):
        return jnp.linalg.eigvals(weights["a"]).real + key.sum()

    weights = {"a": np.diag([1.0, 2.0]).astype(np.float32)}
    function = export_function(sample, weights)
    assert "cpu" in function.platforms and "tpu" not in function.platforms
    again = jax_export.deserialize(function.serialize())
    np.testing.assert_allclose(again.call(weights, np.zeros(2, np.uint32)), [1, 2])

    def nowhere(weights, key):
        raise NotImplementedError("no such kernel")

    with pytest.raises(UserError, match="for no platform: no such kernel"):
        export_function(nowhere, weights)


def test_a_family_without_samples_has_weights_alone(folder, capsys):
    run = trained("classifier_digits", folder)
    assert command_line.main(["export", str(run.run_dir)]) == 0
    names = {line.rpartition("/")[2] for line in capsys.readouterr().out.split()}
    assert "model.safetensors" in names and "sample.jax" not in names
    with pytest.raises(UserError, match="classifier"):
        sampling(run, 2)


def test_a_model_of_conversations_has_the_tokenizer_of_its_texts(gpt):
    chat = dataclasses.replace(gpt, codec=ChatCodec(gpt.codec))
    assert export_pretrained(chat).codec == gpt.codec


def test_what_is_no_export_is_refused(gpt, folder, tmp_path, capsys):
    with pytest.raises(UserError, match="unknown form of an export 'jacks'; did you mean 'jax'"):
        export(gpt, "jacks")
    with pytest.raises(UserError, match="num must be at least 1, got 0"):
        export(gpt, num=0)
    with pytest.raises(UserError, match="is a run directory: export to a folder of its own"):
        export(gpt, out=gpt.run_dir)
    assert command_line.main(["export", str(tmp_path)]) == 2
    assert "must be a run directory" in capsys.readouterr().err
    with pytest.raises(UserError, match="for models of tokens here, not for VAE"):
        export_pretrained(once("vae_digits", folder))


def test_a_bigram_and_an_odd_net_have_no_form_in_hugging_faces_layout(gpt, folder, tmp_path):
    experiment = gpt.experiment
    odd = dataclasses.replace(experiment.family.net, logit_softcap=3.0, positions="none")
    run = dataclasses.replace(
        gpt,
        experiment=dataclasses.replace(
            experiment, family=dataclasses.replace(experiment.family, net=odd)
        ),
    )
    with pytest.raises(
        UserError,
        match="nearest is gpt2, but logit_softcap is 3.0 .*; positions is 'none'|positions .*logit",
    ):
        export(run, "huggingface", tmp_path)
    bigram = dataclasses.replace(experiment.family, net=Bigram(16))
    run = dataclasses.replace(gpt, experiment=dataclasses.replace(experiment, family=bigram))
    with pytest.raises(UserError, match="is for Transformers, not for Bigram"):
        export(run, "huggingface", tmp_path)


@pytest.mark.parametrize("scanned", [False, True])
def test_a_trained_gpt_opens_in_transformers_with_equal_logits_and_texts(
    scanned, gpt, folder, capsys
):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip(
        "transformers", reason="the peer is transformers: pip install '.[reference]'"
    )
    run = gpt
    if scanned:
        net = dataclasses.replace(gpt.experiment.family.net, scan_layers=True, biases=("norm",))
        run = trained("gpt_docs", folder / "scanned", net=net)
    assert command_line.main(["export", str(run.run_dir), "--to", "huggingface"]) == 0
    out = capsys.readouterr().out.split()[0].rpartition("/")[0]
    peer = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    text = "The for statement"
    tokens = tokenizer(text, return_tensors="pt")
    assert (
        tokens["input_ids"][0].tolist()
        == run.codec.encode(text).tolist()[: run.experiment.family.net.context + 3]
    )
    cut = tokens["input_ids"][:, :12]
    with torch.no_grad():
        expected = peer(cut).logits.numpy()
        drawn = peer.generate(cut[:, :4], max_new_tokens=8, do_sample=False, pad_token_id=0)
    np.testing.assert_allclose(
        jax.jit(export_pretrained(run).logits)(cut.numpy()), expected, rtol=1e-4, atol=1e-4
    )
    options = dataclasses.replace(
        run.experiment.family.sampler, temperature=0.0, prompt=text[:4], steps=8
    )
    np.testing.assert_array_equal(run.sample(1, options=options), drawn.numpy())


def test_a_default_source_of_text_and_net_are_those_of_the_tests():
    """The configs above are what these tests take them for."""
    experiment, _ = load_config("gpt_docs", tiny=True)
    assert isinstance(experiment.data, PythonDocs) and isinstance(
        experiment.data.layout, RandomWindows
    )
    assert isinstance(experiment.family.net, Transformer)
