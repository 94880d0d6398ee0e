"""Transfer: which layers move, how far and when; and what other families take over from a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.classifier import Classifier
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.gan.gan import GAN
from genjax.family import init_state
from genjax.nets.conv.resnet import ResNet
from genjax.nets.conv.unet import UNet
from genjax.nets.gan.generators import ConvBackbone, ConvGenerator
from genjax.nets.transformer.token_net import stack_layers
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam, Players
from genjax.parallel import Devices
from genjax.posttrain.transfer import gradual_unfreezing, layer_rates
from genjax.samplers import Euler
from genjax.schedules import Constant
from genjax.start_from import StartFrom
from genjax.trees import named_leaves
from tests import toy

NET = Transformer(layers=3, heads=2, width=8, context=6, tied=False)
EVERY = Every(log=1, evaluate=0, sample=0, checkpoint=0)


def moves(optimizer, net, steps=1):
    """How far each parameter of a net moves along a gradient of ones, by path; layers side by
    side.
    """
    params = NET.module(5).init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))["params"]
    params = stack_layers(params) if net.scan_layers else params
    optimizer.check(params)
    rule = optimizer.build(steps)
    state = init_state(params, {}, rule, jax.random.key(0))
    after, opt_state = params, state.opt_state
    for _ in range(steps):
        grads = jax.tree.map(jnp.ones_like, params)
        norm = rule.measure_norm(rule.mask_frozen(grads, opt_state.updates))
        after, opt_state = rule.update(grads, norm, opt_state, after)
    found = {}
    for (path, new), (_, old) in zip(named_leaves(after), named_leaves(params), strict=True):
        moved = np.asarray(old - new)
        if path.startswith("layers/"):
            found |= {f"layer_{i}/{path[7:]}": moved[i] for i in range(3)}
        else:
            found[path] = moved
    return found


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.long
def test_each_layer_learns_at_a_share_of_the_rate_above_it(scan):
    net = dataclasses.replace(NET, scan_layers=scan)
    found = moves(SGD(Constant(1.0), rates=layer_rates(net, 0.5)), net)
    wanted = {
        "embedding": 1 / 8,
        "position_embedding": 1 / 8,
        "layer_0": 1 / 4,
        "layer_1": 1 / 2,
        "layer_2": 1.0,
    }
    assert {path.split("/")[0] for path in found} >= wanted.keys()
    for path, moved in found.items():
        np.testing.assert_allclose(
            moved, wanted.get(path.split("/")[0], 1.0), rtol=1e-6, err_msg=path
        )


@pytest.mark.parametrize("scan", [False, True])
def test_layers_are_unfrozen_from_the_top_downwards(scan):
    net = dataclasses.replace(NET, scan_layers=scan)
    optimizer = SGD(Constant(1.0), unfreeze=gradual_unfreezing(net, 2))
    starts = {"layer_2": 2, "layer_1": 4, "layer_0": 6, "embedding": 8, "position_embedding": 8}
    for steps in (1, 3, 5, 9):
        for path, moved in moves(optimizer, net, steps).items():
            wanted = max(0, steps - starts.get(path.split("/")[0], 0))
            np.testing.assert_allclose(
                moved, wanted, rtol=1e-5, atol=1e-6, err_msg=f"{path} after {steps}"
            )


def test_what_is_not_yet_moved_does_not_count_in_the_norm_and_does_not_decay():
    params = {"a": jnp.ones(4), "b": jnp.ones((2, 2))}
    rule = SGD(Constant(0.1), weight_decay=0.5, unfreeze=(("b", 3),)).build(5)
    opt_state = rule.init(params)
    norm = rule.measure_norm(rule.mask_frozen(params, opt_state.updates))
    assert float(norm) == 2.0
    after, _ = rule.update(params, norm, opt_state, params)
    np.testing.assert_array_equal(after["b"], params["b"])


def test_the_first_steps_of_adam_are_no_longer_than_its_rate():
    optimizer = Adam(Constant(1.0), unfreeze=gradual_unfreezing(NET, 50))
    for path, moved in moves(optimizer, NET, 53).items():
        if path.startswith("layer_2/"):
            np.testing.assert_allclose(moved, 3, rtol=1e-3, err_msg=path)


def test_what_cannot_be_meant_is_refused():
    for decay in (0.0, 1.5):
        with pytest.raises(UserError, match="decay must be > 0 and <= 1"):
            layer_rates(NET, decay)
    with pytest.raises(UserError, match="updates must be >= 1"):
        gradual_unfreezing(NET, 0)
    with pytest.raises(UserError, match="unfreeze must have updates"):
        SGD(unfreeze=(("a", -1),))
    params = {"layers": {"kernel": jnp.zeros((3, 2, 2))}}
    with pytest.raises(UserError, match="one value per layer"):
        SGD(rates=(("layers", (1.0, 0.5)),)).check(params)
    with pytest.raises(UserError, match="optimizer.unfreeze: 'nothing' matches no parameter"):
        SGD(unfreeze=(("nothing", 2),)).check(params)


def run(family, folder, data, **changes):
    settings = {"optimizer": SGD(Constant(0.01)), "steps": 3, "batch_size": 16, "every": EVERY}
    experiment = Experiment(family, data, devices=Devices(count=1), **settings | changes)
    return genjax.train(experiment, folder, quiet=True)


def leaves(tree):
    return dict(named_leaves(jax.device_get(tree)))


@pytest.mark.long
def test_a_gan_goes_on_with_the_lower_layers_of_its_discriminator_frozen(tmp_path):
    """FreezeD (Mo et al., arXiv 2002.10964)."""
    gan = GAN(4, ConvGenerator((4, 4)), ConvBackbone((4, 4)))
    base = run(gan, tmp_path / "base", toy.Pictures(), optimizer=Players(SGD(), SGD()))
    paths = sorted(leaves(base.state.params["discriminator"]))
    lower = paths[0].rsplit("/", 1)[0]
    players = Players(SGD(Constant(0.1)), SGD(Constant(0.1), freeze=(f"^{lower}/",)))
    start = StartFrom(str(tmp_path / "base"))
    found = run(gan, tmp_path / "run", toy.Pictures(), optimizer=players, start_from=start, seed=3)
    before, after = (leaves(r.state.params["discriminator"]) for r in (base, found))
    for path in paths:
        assert (before[path] == after[path]).all() == path.startswith(f"{lower}/"), path
    assert any(
        (a != b).any()
        for a, b in zip(
            *(leaves(r.state.params["generator"]).values() for r in (base, found)), strict=True
        )
    )


@pytest.mark.long
def test_a_diffusion_goes_on_with_other_data_and_statistics_come_along(tmp_path):
    diffusion = Diffusion(UNet((4,), 1, (), 4), width=4, sampler=Denoising(Euler(2)))
    base = run(diffusion, tmp_path / "base", toy.Pictures())
    still = {
        "optimizer": SGD(Constant(0.0)),
        "start_from": StartFrom(str(tmp_path / "base")),
        "seed": 5,
    }
    found = run(diffusion, tmp_path / "run", toy.Pictures(), **still)
    jax.tree.map(
        np.testing.assert_array_equal, leaves(found.state.params), leaves(base.state.params)
    )


def test_an_encoder_is_reused_under_a_new_head(tmp_path):
    base = run(Classifier(ResNet((4,), (1,))), tmp_path / "base", toy.Pictures())
    start = StartFrom(str(tmp_path / "base"), (("^backbone/", "backbone/"),))
    frozen = SGD(Constant(0.1), freeze=("^backbone/",))
    found = run(
        Classifier(ResNet((4,), (1,))),
        tmp_path / "run",
        toy.Pictures(),
        optimizer=frozen,
        start_from=start,
        seed=2,
    )
    before, after = leaves(base.state.params), leaves(found.state.params)
    for path in before:
        assert (before[path] == after[path]).all() == path.startswith("backbone/"), path
    stats = leaves(base.state.variables["batch_stats"])
    assert stats and any(np.abs(value).max() > 0 for value in stats.values())
