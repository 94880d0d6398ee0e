"""What a run is exported as says the same as the run: weights by name, samples of the
function, logits elsewhere.
"""

import contextlib
import dataclasses
import datetime
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import genjax
from genjax import __main__ as command_line
from genjax import gx
from genjax.config_files import load_config
from genjax.data.chat.template import ChatCodec
from genjax.data.sources import PythonDocs
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.interop.tokenizers import dump_alone
from genjax.nets.bigram import Bigram
from genjax.nets.transformer.transformer import Transformer
from genjax.parallel import Devices
from genjax.runs.export import export, export_function, export_pretrained, sampling
from genjax.samplers.options import encode_options
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
    given = own_prompts(run, made)
    for seed in (0, 5):
        got = trim(run, function.call(weights, jax.random.PRNGKey(seed), *given))
        np.testing.assert_allclose(got, run.sample(3, seed), rtol=1e-5, atol=1e-6)
    halved = {name: a / 2 if a.dtype == np.float32 else a for name, a in weights.items()}
    other = trim(run, function.call(halved, jax.random.PRNGKey(5), *given))
    assert not np.array_equal(other, got)


def own_prompts(run, made):
    """What the function of a model of texts takes where samples have a prompt of the run's."""
    if "inputs" not in made:
        return ()
    (prompt,) = encode_options(run.family.sampler, run.codec).prompts
    rows = np.full(made["inputs"]["prompt"]["shape"], -1, np.int32)
    rows[:, : len(prompt)] = prompt
    return (rows,)


def trim(run, samples):
    """Texts without the room that a longer prompt would have taken."""
    drawn = run.sample(1)
    return samples if drawn.dtype != np.int32 else np.asarray(samples)[:, : drawn.shape[1]]


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
    printed, example = capsys.readouterr().out.split("\n\n", 1)
    assert printed.split() == [
        str(tmp_path / name)
        for name in (
            "model.safetensors",
            "config.json",
            "config.py",
            "codec.json",
            "sample.jax",
            "sample.json",
            "tokenizer.json",
            "example.py",
        )
    ]
    assert run_example(example).startswith("The")
    assert run_example((tmp_path / "example.py").read_text(), tmp_path / "example.py")
    assert command_line.main(["export", str(gpt.run_dir), "--to", "safetensors"]) == 0
    assert (
        str(gpt.run_dir / "export" / "safetensors" / "model.safetensors") in capsys.readouterr().out
    )


def run_example(text: str, path=None) -> str:
    """What the lines of an example print."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "example", "exec"), {"__file__": str(path)})
    return printed.getvalue()


@pytest.mark.long
def test_an_exported_translator_translates_any_sentence(tmp_path):
    """One that has learned three sentences, with the words of a tokenizer beside it alone."""
    pairs = {"ein Hund schläft.": "a dog sleeps.", "eine Katze": "a cat", "die Katze": "the cat"}
    for part in ("train", "val", "test"):
        for side, texts in (("de", pairs), ("en", pairs.values())):
            (tmp_path / f"{part}.{side}").write_text("\n".join([*texts] * 4), encoding="utf-8")
    data = gx.SentencePairs(
        root=str(tmp_path), test="test", source_length=16, length=16, cache=str(tmp_path)
    )
    greedy = gx.Decoding(steps=6, temperature=0.0, source="eine Katze")
    net = Transformer(layers=1, heads=2, width=16, context=16)
    run = genjax.train(
        gx.Experiment(
            gx.Autoregressive(net, sampler=greedy),
            data,
            optimizer=gx.Adam(gx.Constant(0.01)),
            steps=200,
            batch_size=8,
            every=Every(0, 0, 0, 0),
            devices=Devices(count=1),
        ),
        tmp_path / "run",
        quiet=True,
    )
    export(run, out=tmp_path / "out", num=3)
    example = (tmp_path / "out" / "example.py").read_text(encoding="utf-8")
    assert run_example(example, tmp_path / "out" / "example.py") == "a cat\n"
    changed = example.replace("eine Katze", "ein Hund schläft.")
    assert run_example(changed, tmp_path / "out" / "example.py") == "a dog sleeps.\n"
    function = jax_export.deserialize((tmp_path / "out" / "sample.jax").read_bytes())
    rows = np.full((3, 16), -1, np.int32)
    for row, text in zip(rows, pairs, strict=True):
        ids = Tokenizer.from_file(str(tmp_path / "out" / "source_tokenizer.json")).encode(text).ids
        row[: len(ids)] = ids
    weights = load_file(tmp_path / "out" / "model.safetensors")
    texts = np.asarray(function.call(weights, jax.random.PRNGKey(0), rows))
    assert [run.codec.decode(run.codec.until_end(row)) for row in texts] == list(pairs.values())


def test_an_exported_masked_model_fills_the_gaps_of_any_text(folder, tmp_path):
    """Texts of several lengths in one call, each as the run fills it alone."""
    run = once("mlm_docs", folder)
    export(run, out=tmp_path, num=2)
    context = run.family.net.context
    made = json.loads((tmp_path / "sample.json").read_text())
    assert made["inputs"]["prompt"] == {
        "shape": [2, context],
        "dtype": "int32",
        "filled_with": -1,
    }
    texts = ("the [MASK] statement", "a [MASK] of [MASK]")
    greedy = dataclasses.replace(run.family.sampler, temperature=0.0)
    encoded = [greedy.with_prompts((text,)).encode(run.codec, {}) for text in texts]
    rows = np.full((2, context), -1, np.int32)
    for row, one in zip(rows, encoded, strict=True):
        row[: len(one.tokens)] = one.tokens
    export(run, out=tmp_path / "greedy", num=2, options=greedy)
    function = jax_export.deserialize((tmp_path / "greedy" / "sample.jax").read_bytes())
    weights = load_file(tmp_path / "greedy" / "model.safetensors")
    filled = np.asarray(function.call(weights, jax.random.PRNGKey(0), rows))
    for got, one in zip(filled, encoded, strict=True):
        alone = np.asarray(run.sample(1, 0, one))[0]
        assert got[: len(one.tokens)].tolist() == alone.tolist()
        assert (got[len(one.tokens) :] == -1).all() and run.codec.mask not in got
    example = tmp_path / "example.py"
    assert "The" in run_example(example.read_text(encoding="utf-8"), example)


def test_an_exported_conditional_model_takes_labels(tmp_path):
    coder = gx.MLPCoder(hidden=(8,))
    run = genjax.train(
        gx.Experiment(
            gx.VAE(latent_dim=2, coder=coder, conditional=True),
            gx.Digits(),
            steps=2,
            every=Every(0, 0, 0, 0),
            devices=Devices(count=1),
        ),
        tmp_path / "run",
        quiet=True,
    )
    export(run, out=tmp_path / "out", num=4)
    made = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert made["inputs"] == {"label": {"shape": [4], "dtype": "int32"}}
    assert made["class_names"] == list("0123456789")
    assert run_example((tmp_path / "out" / "example.py").read_text(), tmp_path / "out" / "x.py")
    function = jax_export.deserialize((tmp_path / "out" / "sample.jax").read_bytes())
    weights = load_file(tmp_path / "out" / "model.safetensors")
    labels = np.array([7, 7, 7, 7], np.int32)
    got = function.call(weights, jax.random.PRNGKey(3), labels)
    options = dataclasses.replace(run.family.sampler, label=7)
    np.testing.assert_allclose(got, run.sample(4, 3, options), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "codec",
    [
        Words(lower=True),
        Words(lower=False),
        Characters(unknown="token", delimiter=True),
        Bytes(delimiter=True),
        Subwords("bpe", 300, start_token="<|endoftext|>"),
    ],
    ids=lambda codec: f"{type(codec).__name__}",
)
def test_tokenizers_beside_a_function_say_what_the_run_says(codec):
    texts = [
        "It's 1.5 km, isn't it? (Yes!)",
        "naïve  Émile\tsaid: “a != b”",
        "12:30 o'clock -5 x_1",
        "日本語 и русский",
        "ein mann – 😀 👍🏽 e\u0301",
    ]
    codec = codec.fit(texts)
    for ended in (False, True):
        tokenizer = Tokenizer.from_str(dump_alone(codec, ended))
        for text in texts:
            lead = [] if codec.start is None else [codec.start]
            trail = [codec.end] if ended and codec.end is not None else []
            assert tokenizer.encode(text).ids == [*lead, *codec.encode(text).tolist(), *trail]


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

    with pytest.raises(UserError, match="cannot be lowered for any platform: no such kernel"):
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
    with pytest.raises(UserError, match="must be a model of tokens for Hugging Face, got VAE"):
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
    with pytest.raises(UserError, match="must be a Transformer for Hugging Face, got Bigram"):
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
