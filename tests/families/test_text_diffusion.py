"""A diffusion that is told texts, or signals to model: guidance's identities, what is hidden,
what is refused.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.cli.bench import step_flops
from genjax.data.audio.signals import read_wav
from genjax.data.dataset import Dataset, Spec
from genjax.data.sources import CaptionedShapes, Points, Tones
from genjax.data.text.hashed import HashedText
from genjax.errors import UserError
from genjax.evaluation.images.agreement import LabelAgreement
from genjax.evaluation.likelihood.flow import FlowLikelihood
from genjax.experiment import Every, Experiment, Keep
from genjax.families.diffusion.applications import log_prob, sample_conditions
from genjax.families.diffusion.conditioning import hide
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE
from genjax.family import init_state
from genjax.nets.conv.unet import UNet
from genjax.nets.mlp import MLPCoder
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.runs.setup import set_up
from genjax.samplers import DDIM

KEY = jax.random.key(0)
TEXT = HashedText(6)
SPEC = Spec("points", (2,), np.zeros(2, np.float32), classes=3, condition=6)
FAMILY = Diffusion(ResidualMLP(8, 1, 8), width=4, text=TEXT, sampler=Denoising(DDIM(2)))
X, T = jax.random.normal(KEY, (4, 2)), jnp.float32(0.4)


def batch_of(n):
    texts = jnp.asarray(np.stack([TEXT.embed(f"text number {i}") for i in range(n)]))
    x = jax.random.normal(jax.random.key(2), (n, 2))
    return {"points": x, "mask": jnp.ones(n), "label": jnp.arange(n) % 3, "condition": texts}


def state_of(family, spec=SPEC):
    """A state whose network does not give zeros."""
    params, variables = jax.jit(lambda: family.init(KEY, batch_of(1), spec))()
    leaves, structure = jax.tree.flatten(params["net"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [p + 0.3 * jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)]
    params = params | {"net": jax.tree.unflatten(structure, leaves)}
    return init_state(params, variables, Adam().build(10), KEY)


@pytest.fixture(scope="module")
def state():
    return state_of(FAMILY)


def estimate(family, state, text, label=None):
    """The posterior mean at X, T by the network itself, told ``text`` [4, 6]."""
    times = jnp.full(4, T)
    output = family.predict(state.params, X, times, family._make_inputs(label, None, text))
    return family.make_parametrization(state.params).x0(output, X, times)


def test_guidance_extrapolates_from_no_text_to_the_prompt(state):
    asked = [Denoising(DDIM(2), scale, prompt="a red circle") for scale in (0.0, 1.0, 3.0)]
    zero, one, three = (FAMILY.denoise(state, 4, options)(X, T) for options in asked)
    text = jnp.broadcast_to(TEXT.embed("a red circle"), (4, 6))
    np.testing.assert_allclose(one, estimate(FAMILY, state, text), rtol=1e-5)
    np.testing.assert_allclose(zero, estimate(FAMILY, state, jnp.zeros((4, 6))), rtol=1e-5)
    assert np.abs(one - zero).max() > 1e-2
    np.testing.assert_allclose(three, zero + 3 * (one - zero), rtol=1e-4, atol=1e-5)


def test_the_command_line_gives_it_one_prompt():
    assert Denoising(DDIM(2), 3.0).with_prompts(("a disc",)) == Denoising(
        DDIM(2), 3.0, prompt="a disc"
    )
    with pytest.raises(UserError, match="prompt must be a single text, got 2"):
        Denoising().with_prompts(("a disc", "a cross"))


def test_without_a_prompt_samples_are_unconditional_at_any_scale(state):
    plain = FAMILY.denoise(state, 4, Denoising(guidance_scale=0.0, prompt="a red circle"))(X, T)
    for scale in (0.0, 1.0, 4.0):
        np.testing.assert_array_equal(
            FAMILY.denoise(state, 4, Denoising(guidance_scale=scale))(X, T), plain
        )
    drawn = [
        FAMILY.sample(state, KEY, 4, Denoising(DDIM(2), prompt=p))
        for p in (None, "a cross", "A cross!", "a disc")
    ]
    assert np.isfinite(drawn).all() and np.array_equal(drawn[1], drawn[2])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3 and np.abs(drawn[1] - drawn[3]).max() > 1e-3


def test_each_sample_follows_a_prompt_of_its_own(state):
    prompts, options = ("a disc", "a cross", "a red disc", "a disc"), Denoising(DDIM(2), 3.0)
    conditions = np.stack([TEXT.embed(prompt) for prompt in prompts])
    drawn = sample_conditions(FAMILY, state, KEY, conditions, options)
    for row, prompt in enumerate(prompts):
        alone = FAMILY.sample(state, KEY, 4, replace(options, prompt=prompt))
        np.testing.assert_allclose(drawn[row], alone[row], rtol=1e-5, atol=1e-6)
    asked = replace(options, prompt="a square")  # does not count
    np.testing.assert_array_equal(sample_conditions(FAMILY, state, KEY, conditions, asked), drawn)
    for family in (
        replace(FAMILY, text=None),
        replace(FAMILY, conditional=True),
        replace(FAMILY, text=HashedText(5)),
    ):
        with pytest.raises(UserError, match="conditioned on text alone"):
            sample_conditions(family, state, KEY, conditions, options)


def test_labels_and_texts_are_hidden_together_at_the_rate_asked_for():
    label, text = hide(KEY, 0.25, jnp.zeros(4000, jnp.int32), 3, jnp.ones((4000, 2)))
    hidden = np.asarray(label == 3)
    assert np.array_equal(hidden, ~np.asarray(text).any(1)) and np.array_equal(
        ~hidden, np.asarray(text).all(1)
    )
    assert abs(hidden.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)
    alone = hide(KEY, 0.25, None, 0, jnp.ones((4000, 2)))
    assert alone[0] is None and np.array_equal(alone[1], text)


def test_a_hidden_text_trains_as_no_text(state):
    family, batch = replace(FAMILY, drop_label=1 - 1e-7), batch_of(8)
    hidden = family.compute_terms(
        state.params, state.variables, batch["points"], None, KEY, True, batch["condition"]
    )["loss"]
    none = family.compute_terms(
        state.params, state.variables, batch["points"], None, KEY, True, jnp.zeros((8, 6))
    )["loss"]
    told = family.compute_terms(
        state.params, state.variables, batch["points"], None, KEY, False, batch["condition"]
    )["loss"]
    np.testing.assert_array_equal(hidden, none)
    assert np.abs(told - none).max() > 1e-3


def test_gradients_reach_the_text_and_the_null_text(state):
    family, batch = replace(FAMILY, drop_label=0.5), batch_of(16)

    def loss(params):
        terms = family.compute_terms(
            params, state.variables, batch["points"], None, KEY, True, batch["condition"]
        )
        return terms["loss"].mean()

    found = jax.jit(jax.grad(loss))(state.params)["net"]
    assert np.abs(found["text"]["kernel"]).max() > 1e-4 and np.abs(found["null_text"]).max() > 1e-4
    metrics = FAMILY.evaluate(state, batch, KEY)
    other = FAMILY.evaluate(state, batch | {"condition": jnp.roll(batch["condition"], 1, 0)}, KEY)
    assert metrics["loss"].value != other["loss"].value


def test_a_model_of_labels_and_texts_is_asked_for_both_or_neither():
    family = replace(FAMILY, conditional=True)
    state = state_of(family)
    text, label = jnp.broadcast_to(TEXT.embed("a disc"), (4, 6)), jnp.full(4, 2)
    both = family.denoise(state, 4, Denoising(label=2, prompt="a disc"))(X, T)
    np.testing.assert_allclose(both, estimate(family, state, text, label), rtol=1e-5)
    neither = family.denoise(state, 4, Denoising())(X, T)
    np.testing.assert_allclose(neither, estimate(family, state, None, jnp.full(4, 3)), rtol=1e-5)
    for options in (Denoising(label=2), Denoising(prompt="a disc")):
        with pytest.raises(UserError, match="or neither"):
            family.denoise(state, 4, options)
    with pytest.raises(UserError, match="labels alone"):
        LabelAgreement("runs/eyes").check(family, replace(SPEC, entry="image"), {})


def test_the_density_is_that_of_the_unconditional_model(state):
    family = replace(FAMILY, sampler=Denoising(prompt="a disc"))
    found = [log_prob(f, state, KEY, X, None, 1e-2, 1e-2) for f in (family, FAMILY)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": None, "sampler": Denoising(prompt="a disc")}, "needs a text-conditional model"),
        ({"text": None, "sampler": Denoising(guidance_scale=2.0)}, "family.text"),
        (
            {"drop_label": 0.0, "sampler": Denoising(guidance_scale=2.0, prompt="a disc")},
            "trained with drop_label",
        ),
        ({"drop_label": 0.0}, "sampler.prompt is needed"),
        ({"sampler": Denoising(prompt="?")}, "must have words"),
        ({"conditional": True, "sampler": Denoising(label=1)}, "or neither"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_written_down(fields, words):
    with pytest.raises(UserError, match=words):
        replace(FAMILY, **fields)


def test_what_does_not_fit_the_data_is_refused(state):
    for condition, words in ((None, "no condition"), (7, "a condition of 7")):
        with pytest.raises(UserError, match=f"it has 6 numbers, but the data have {words}"):
            FAMILY.init(KEY, batch_of(1), replace(SPEC, condition=condition))
    with pytest.raises(UserError, match="no condition"):
        FAMILY.evaluate(
            state, {name: x for name, x in batch_of(2).items() if name != "condition"}, KEY
        )
    with pytest.raises(UserError, match="no Mixup"):
        batch = batch_of(2) | {"other_label": jnp.zeros(2, jnp.int32)}
        FAMILY.train_step(state, batch, optimizer=Adam().build(10))
    with pytest.raises(UserError, match="sampler.label needs a class-conditional"):
        FAMILY.sample(state, KEY, 2, Denoising(DDIM(2), label=1))
    with pytest.raises(UserError, match="drop_label must be > 0 for FlowLikelihood"):
        always = replace(FAMILY, drop_label=0.0, sampler=Denoising(prompt="a disc"))
        FlowLikelihood().check(always, SPEC, {})


EVERY = Every(log=2, evaluate=0, sample=4, checkpoint=4)


@pytest.mark.long
def test_a_prompt_is_given_on_the_command_line(tmp_path, capsys):
    family = replace(FAMILY, drop_label=0.5)
    data = CaptionedShapes(40, 10, text=TEXT)
    experiment = Experiment(
        family,
        data,
        Adam(),
        steps=4,
        batch_size=8,
        every=EVERY,
        keep=Keep(best=None),
        devices=Devices(count=1),
    )
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    words = ["sample", str(run.run_dir), "--num", "4", "--sampler.guidance-scale", "3"]
    pictures = []
    for prompt in ("a red circle at the top left", "a blue cross"):
        out = tmp_path / f"{prompt}.png"
        assert command_line.main([*words, "--sampler.prompt", prompt, "--out", str(out)]) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] != pictures[1]
    capsys.readouterr()
    assert command_line.main([*words, "--sampler.prompt", "?"]) == 2
    assert "must have words" in capsys.readouterr().err
    without = replace(experiment, family=replace(family, text=None))
    data = Dataset({}, run.spec, run.codec, "")
    assert step_flops(set_up(experiment, data=data)) > step_flops(set_up(without, data=data))


SOUNDS = (
    Diffusion(ResidualMLP(8, 1, 8), width=4, sampler=Denoising(DDIM(2), clip=True)),
    VAE(2, MLPCoder((8,)), Gaussian("shared", 0.1)),
)


@pytest.mark.parametrize("family", SOUNDS, ids=["diffusion", "vae"])
def test_signals_are_trained_on_and_sampled_as_sounds(family, tmp_path):
    data = Tones(40, 10, rate=4000, length=31)
    experiment = Experiment(
        family, data, Adam(), steps=4, batch_size=8, every=EVERY, devices=Devices(count=1)
    )
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    sound, rate = read_wav((run.run_dir / "samples" / "00000004.wav").read_bytes())
    assert rate == 4000 and len(sound) == 16 * 31 + 15 * 800
    assert run.write_samples(tmp_path / "two.wav", 2) == tmp_path / "two.wav"
    sound, _ = read_wav((tmp_path / "two.wav").read_bytes())
    assert sound.shape == (2 * 31 + 800, 1) and sound[:31].any() and not sound[31:-31].any()
    assert (tmp_path / "two.png").exists()


def test_signals_of_any_length_go_through_the_u_net():
    family = Diffusion(UNet((4, 4, 4), 1, (), 4), width=4)
    for length in (12, 13, 31):
        spec = Spec("signal", (length, 2), np.zeros((length, 2), np.float32))
        batch = {"signal": jnp.zeros((1, length, 2)), "mask": jnp.ones(1)}
        params, variables = jax.eval_shape(lambda b=batch, s=spec: family.init(KEY, b, s))
        state = jax.eval_shape(
            lambda p, v: init_state(p, v, Adam().build(10), KEY), params, variables
        )
        drawn = jax.eval_shape(
            lambda state: family.sample(state, KEY, 3, Denoising(DDIM(2))), state
        )
        assert drawn.shape == (3, length, 2)
    with pytest.raises(UserError, match="channels must have at most"):
        UNet((4, 4, 4), 1, (), 4).denoiser((2, 1))
    with pytest.raises(UserError, match="sampler.clip must be False"):
        spec = Points().open().spec
        replace(family, sampler=Denoising(clip=True)).init(KEY, {"points": jnp.zeros((1, 2))}, spec)
