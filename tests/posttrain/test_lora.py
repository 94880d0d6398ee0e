"""LoRA: the trained model is the base model plus products of thin matrices, nothing else."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents, RandomWindows
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.evaluation.text.positions import LossByPosition
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.gan.gan import GAN
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE
from genjax.nets.gan.generators import ConvBackbone, ConvGenerator
from genjax.nets.mlp import MLPCoder
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam, Players
from genjax.parallel import Devices
from genjax.posttrain.adapters import Adapters, apply_apart
from genjax.posttrain.lora import BASE, LoRA
from genjax.runs.setup import resolve
from genjax.schedules import Constant
from genjax.start_from import StartFrom
from genjax.trees import named_leaves
from tests import toy

NET = Transformer(layers=2, heads=2, width=8, context=12)
EVERY = Every(log=1, evaluate=0, sample=0, checkpoint=2)
MATRICES = ("attention/(query|value)/kernel", "feed_forward/.*kernel")


def words(folder, name, *lines):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "a.txt").write_text("\n".join(lines * 20))
    split = ByDocuments(test=0.2)
    return TextFiles(
        str(folder / name),
        "*.txt",
        "lines",
        codec=Characters(delimiter=True),
        layout=Documents(12),
        split=split,
    )


def experiment(family, data, **changes):
    settings = {"optimizer": Adam(Constant(1e-2)), "steps": 8, "batch_size": 8, "every": EVERY}
    return Experiment(family, data, devices=Devices(count=1), **settings | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    data = words(folder, "texts", "the sun is up", "a moon is out")
    family = Autoregressive(NET, sampler=Decoding(steps=6))
    return genjax.train(experiment(family, data, steps=10), folder / "run", quiet=True)


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    family = LoRA(str(base.run_dir), Adapters(2, targets=MATRICES))
    data = words(folder, "others", "a sun set", "the moon is to set")
    return genjax.train(experiment(family, data), folder / "run", quiet=True)


def flat(tree):
    return dict(named_leaves(jax.device_get(tree)))


@pytest.mark.long
def test_only_adapters_have_parameters_and_moments(base, lora):
    names = set(flat(lora.state.params))
    pieces = ("attention/query", "attention/value", "feed_forward/up", "feed_forward/down")
    assert {name.rsplit("/", 2)[0] for name in names} <= {
        f"layer_{i}/{p}" for i in range(2) for p in pieces
    }
    assert len(names) == 2 * 2 * sum(
        "kernel" in n for n in flat(base.state.params["layer_0"]) if _targeted(n)
    )
    size = sum(leaf.size for leaf in flat(lora.state.params).values())
    moments = sum(leaf.size for leaf in flat(lora.state.opt_state).values())
    assert moments <= 2 * size + 4
    frozen = flat(lora.state.frozen[BASE]["params"])
    for name, leaf in flat(base.state.params).items():
        np.testing.assert_array_equal(frozen[name], leaf)


def _targeted(name):
    return "query/kernel" in name or "value/kernel" in name or "feed_forward" in name


@pytest.mark.long
def test_it_begins_as_the_base_and_learns(base, lora, tmp_path):
    still = dataclasses.replace(
        lora.experiment, family=LoRA(str(base.run_dir), Adapters(2, targets=MATRICES)), steps=2
    )
    still = dataclasses.replace(still, optimizer=SGD(Constant(0.0)))
    start = genjax.train(still, tmp_path / "still", quiet=True)
    merged = flat(start.model().state.params)
    for name, leaf in flat(base.state.params).items():
        np.testing.assert_array_equal(merged[name], leaf)
    again = genjax.train(
        dataclasses.replace(still, optimizer=Adam(Constant(1e-2)), steps=60),
        tmp_path / "r",
        quiet=True,
    )
    assert again.evaluate().numbers["loss"] < start.evaluate().numbers["loss"] - 0.2


def test_merged_logits_are_those_of_a_path_beside_each_matrix(lora):
    """The second form of the paper, x W + (alpha / rank) (x A) B, computed beside every
    targeted Dense.
    """
    frozen, adapters = lora.state.frozen[BASE]["params"], lora.state.params
    merged, scale = (
        lora.model().state.params,
        lora.experiment.family.adapters.alpha / lora.experiment.family.adapters.rank,
    )
    module = NET.module(len(frozen["embedding"]))
    tokens = jnp.arange(8)[None] % 5

    def beside(call, args, kwargs, context):
        out = call(*args, **kwargs)
        here = adapters
        for name in context.module.path:
            here = here.get(name, {}) if isinstance(here, dict) else {}
        if isinstance(context.module, nn.Dense) and "kernel" in here:
            out = out + scale * (args[0] @ here["kernel"]["lora_a"]) @ here["kernel"]["lora_b"]
        return out

    def logits(params):
        hidden, _ = module.apply({"params": params}, tokens)
        return module.apply({"params": params}, hidden, method="logits")

    with nn.intercept_methods(beside):
        unmerged = logits(frozen)
    assert np.abs(unmerged - logits(frozen)).max() > 1e-3
    np.testing.assert_allclose(unmerged, logits(merged), atol=2e-5)


@pytest.mark.long
def test_the_gradient_is_that_of_the_merged_matrix_through_the_product(base):
    """dL/dA = s dL/dW B^T and dL/dB = s A^T dL/dW."""
    lora = LoRA(str(base.run_dir), Adapters(2, 6.0, ("layer_0/attention/query/kernel",)))
    family = resolve(experiment(lora, base.experiment.data), base.spec)[0].family
    params, _ = family.init(jax.random.key(0), {"tokens": jnp.zeros((1, 13), jnp.int32)}, base.spec)
    adapter = params["layer_0"]["attention"]["query"]["kernel"]
    adapter["lora_b"] = jax.random.normal(jax.random.key(1), adapter["lora_b"].shape)
    batch = {
        "tokens": jnp.arange(26).reshape(2, 13) % 7,
        "loss_mask": jnp.ones((2, 13)),
        "mask": jnp.ones(2),
    }

    def loss(params):
        return family.base.predict(params, batch).nll.sum()

    frozen = base.state.params
    whole = jax.grad(loss)(family.adapters.merge(frozen, params))["layer_0"]["attention"]["query"][
        "kernel"
    ]
    found = jax.grad(lambda p: loss(family.adapters.merge(frozen, p)))(params)["layer_0"][
        "attention"
    ]["query"]["kernel"]
    np.testing.assert_allclose(
        found["lora_a"], 3 * whole @ adapter["lora_b"].T, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        found["lora_b"], 3 * adapter["lora_a"].T @ whole, rtol=1e-4, atol=1e-6
    )


@pytest.mark.long
def test_it_goes_on_bitwise_and_without_the_base(base, tmp_path):
    family = LoRA(str(base.run_dir), Adapters(2, whole=("norm",)))
    told = experiment(family, words(tmp_path, "others", "a sun set", "the moon is to set"), ema=0.9)
    whole = genjax.train(told, tmp_path / "whole", quiet=True)
    genjax.train(dataclasses.replace(told, steps=4), tmp_path / "parts", quiet=True)
    base.run_dir.rename(base.run_dir.with_name("gone"))
    try:
        parts = genjax.train(told, tmp_path / "parts", quiet=True)
        assert flat(whole.state.params).keys() == flat(parts.state.params).keys()
        for name, leaf in flat(whole.state.params).items():
            np.testing.assert_array_equal(leaf, flat(parts.state.params)[name])
        loaded = genjax.load(tmp_path / "parts")
        np.testing.assert_array_equal(loaded.sample(num=3), whole.sample(num=3))
        assert loaded.evaluate().numbers == whole.evaluate().numbers
    finally:
        base.run_dir.with_name("gone").rename(base.run_dir)
    norms = {name: leaf for name, leaf in flat(whole.state.params).items() if "norm" in name}
    assert norms and all(
        (leaf != flat(base.state.params)[name]).any() for name, leaf in norms.items()
    )
    checkpoint = tmp_path / "whole" / "checkpoints" / "8"
    tree = json.loads((checkpoint / "state" / "_METADATA").read_text())["tree_metadata"]
    assert tree and not any("embedding" in name for name in tree), (
        "the base is saved once, not with every checkpoint"
    )


def test_what_is_judged_drawn_and_exported_is_the_merged_model(lora, tmp_path):
    merged = lora.model()
    assert type(merged.family) is Autoregressive and merged.state.frozen is None
    told = dataclasses.replace(
        lora, experiment=dataclasses.replace(lora.experiment, evaluators=(LossByPosition(),))
    )
    assert np.isfinite(list(told.evaluate().numbers.values())).all()
    from genjax.runs.export import export

    paths = export(lora, "safetensors", tmp_path)
    from safetensors.numpy import load_file

    kept = load_file(paths[0])
    name = "layer_0/attention/query/kernel"
    np.testing.assert_array_equal(kept[f"params/{name}"], flat(merged.state.params)[name])


@pytest.mark.parametrize("mode", ["pmapped", "sharded"])
@pytest.mark.long
def test_eight_devices_equal_one(base, tmp_path, mode):
    data = words(tmp_path, "others", "a sun set", "the moon is to set")
    told = experiment(
        LoRA(str(base.run_dir), Adapters(2)), data, optimizer=SGD(Constant(0.05)), steps=6
    )
    curves = []
    for number, devices in enumerate((Devices(count=1), Devices(count=8, mode=mode))):
        folder = tmp_path / str(number)
        genjax.train(dataclasses.replace(told, devices=devices), folder, quiet=True)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        curves.append([(row["loss"], row["grad_norm"]) for row in rows])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)


@pytest.mark.long
def test_scanned_layers_have_adapters_of_their_own_and_convolutions_are_one_matrix(tmp_path):
    data = words(tmp_path, "texts", "the sun is up", "a moon is out")
    scanned = Autoregressive(dataclasses.replace(NET, scan_layers=True))
    genjax.train(experiment(scanned, data, steps=2), tmp_path / "base", quiet=True)
    run = genjax.train(
        experiment(LoRA(str(tmp_path / "base"), Adapters(3)), data, steps=2),
        tmp_path / "run",
        quiet=True,
    )
    adapter = run.state.params["layers"]["attention"]["query"]["kernel"]
    assert adapter["lora_a"].shape == (2, 8, 3) and adapter["lora_b"].shape == (2, 3, 8)
    family, kernel = Adapters(2, 2.0), jax.random.normal(jax.random.key(0), (3, 3, 4, 5))
    thin = {"lora_a": jnp.ones((36, 2)), "lora_b": jnp.ones((2, 5))}
    np.testing.assert_allclose(family.merge({"k": kernel}, {"k": thin})["k"], kernel + 2, rtol=1e-6)


@pytest.mark.long
def test_any_family_takes_adapters(tmp_path):
    pictures = toy.Pictures(16)
    vae = VAE(latent_dim=3, coder=MLPCoder((8,)), likelihood=Gaussian())
    genjax.train(experiment(vae, pictures, steps=2), tmp_path / "vae", quiet=True)
    run = genjax.train(
        experiment(LoRA(str(tmp_path / "vae"), Adapters(2)), pictures, steps=4),
        tmp_path / "on_vae",
        quiet=True,
    )
    assert run.sample(num=2).shape == (2, 16, 16, 1)
    gan = GAN(4, ConvGenerator((4, 4)), ConvBackbone((4, 4)))
    players = Players(SGD(Constant(0.1)), SGD(Constant(0.1)))
    genjax.train(
        experiment(gan, pictures, optimizer=players, steps=2), tmp_path / "gan", quiet=True
    )
    told = experiment(
        LoRA(str(tmp_path / "gan"), Adapters(2)), pictures, optimizer=players, steps=3
    )
    run = genjax.train(told, tmp_path / "on_gan", quiet=True)
    for part in ("generator", "discriminator"):
        moved = flat(run.state.params[part])
        assert all(
            np.abs(leaf).max() > 0 for name, leaf in moved.items() if name.endswith("lora_b")
        ), part
    assert run.sample(num=2).shape == (2, 16, 16, 1)


def test_what_cannot_be_meant_is_refused(base, lora, tmp_path):
    data = words(tmp_path, "others", "a sun set", "the moon is to set")
    for targets, message in (
        (("nothing",), "adapters.targets: 'nothing' matches no parameter"),
        (("bias",), "adapters.targets: 'bias' matches no parameter"),
        (("(",), "not a regular expression"),
        ((), "targets must be at least one, not empty"),
    ):
        with pytest.raises(UserError, match=message):
            told = experiment(LoRA(str(base.run_dir), Adapters(targets=targets)), data)
            genjax.train(told, tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match="adapters.whole: 'nothing' matches no parameter"):
        genjax.train(
            experiment(LoRA(str(base.run_dir), Adapters(whole=("nothing",))), data),
            tmp_path / "a",
            quiet=True,
        )
    for settings in ({"rank": 0}, {"alpha": 0.0}):
        with pytest.raises(UserError):
            Adapters(**settings)
    fitted = dataclasses.replace(data, codec=Characters("\n abcdefghijklmnopqrstuvwxyz", True))
    with pytest.raises(
        UserError, match=r"does not: embedding has shape \[13, 8\] there, \[29, 8\] here"
    ):
        genjax.train(experiment(LoRA(str(base.run_dir)), fitted), tmp_path / "b", quiet=True)
    same_size = dataclasses.replace(
        data, codec=Characters("ABCDEFGHIJK", True, "token")
    )  # of 13 tokens, too
    with pytest.raises(UserError, match="the tokens of .*run are not those of these data"):
        genjax.train(experiment(LoRA(str(base.run_dir)), same_size), tmp_path / "e", quiet=True)
    with pytest.raises(UserError, match="LoRA needs the run .*nowhere, which is not there"):
        genjax.train(experiment(LoRA(str(tmp_path / "nowhere")), data), tmp_path / "c", quiet=True)
    longer = dataclasses.replace(data, layout=RandomWindows(20))
    with pytest.raises(UserError, match="context must be >= .*, got 12"):
        genjax.train(experiment(LoRA(str(base.run_dir)), longer), tmp_path / "d", quiet=True)


@pytest.mark.long
def test_a_run_may_start_from_a_run_of_adapters_and_stand_on_it(lora, tmp_path):
    data = dataclasses.replace(lora.experiment.data)
    told = experiment(
        Autoregressive(NET),
        data,
        optimizer=SGD(Constant(0.0)),
        steps=1,
        start_from=StartFrom(str(lora.run_dir)),
    )
    run = genjax.train(told, tmp_path / "run", quiet=True)
    merged = flat(lora.model().state.params)
    for name, leaf in flat(run.state.params).items():
        np.testing.assert_array_equal(leaf, merged[name])
    second = genjax.train(
        experiment(LoRA(str(lora.run_dir), Adapters(1)), data, steps=1),
        tmp_path / "second",
        quiet=True,
    )
    np.testing.assert_array_equal(
        flat(second.state.frozen[BASE]["params"])["embedding"], merged["embedding"]
    )


class Mixed(nn.Module):
    """Dense layers, with a bias and repeated, and a convolution."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(4, (3, 3))(x)
        y = jnp.tanh(nn.Dense(6)(y))
        again = nn.scan(Again, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return nn.Dense(3, use_bias=False)(again(name="layers")(y, None)[0]).sum((1, 2))


class Again(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + jnp.tanh(nn.Dense(x.shape[-1])(x)), None


@pytest.mark.long
def test_products_apart_have_the_gradients_of_the_merged_matrices():
    x = jax.random.normal(jax.random.key(0), (5, 4, 4, 2))
    learned = Mixed().init(jax.random.key(1), x)["params"]
    adapters = Adapters(2, targets=("kernel",), whole=("Dense_0/bias",))
    mine = adapters.start_from(adapters.init(jax.random.key(2), learned), learned)
    mine = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(3), p.shape), mine)

    def loss(mine, merge):
        net = lambda x: Mixed().apply({"params": merge(learned, mine)}, x)  # noqa: E731
        slope = jax.grad(lambda x: net(x).sum())(x)  # as a gradient penalty has it
        return jnp.square(net(x)).mean() + jnp.square(slope).mean()

    expected = jax.grad(loss)(mine, adapters.merge)
    with apply_apart():
        found = jax.grad(loss)(mine, adapters.merge_apart)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for name, leaf in flat(expected).items():
        np.testing.assert_allclose(flat(found)[name], leaf, rtol=2e-6, atol=2e-6 * scale)
        assert np.abs(leaf).max() > 1e-4
