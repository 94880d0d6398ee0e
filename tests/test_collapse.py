"""Collapse is reported when it happens, and only then: each kind is caused on purpose."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import ToyData, experiment

import genjax
from genjax.data.dataset import Spec
from genjax.experiment import Every
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.captioner import CaptionDecoding, Captioner, caption_images
from genjax.families.autoregressive.collapse import LEAST_GAIN
from genjax.families.gan.gan import GAN
from genjax.families.gan.losses import measure_spread
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE, UpperLatents
from genjax.families.vqvae import VQVAE
from genjax.family import init_state
from genjax.nets.gan.generators import MLPGenerator
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.nets.transformer.image_encoder import ImageEncoder, Patches
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam, Players
from genjax.posttrain.grpo import GRPO
from genjax.posttrain.ppo import PPO
from genjax.posttrain.rollouts import measure_agreement
from genjax.schedules import Constant

STEPS = 120
VAE_TOY = VAE(2, MLPCoder((8,)), Gaussian())
GAN_TOY = GAN(4, MLPGenerator((16,)), MLPBackbone((16,)))


def train(folder, capfd, family, optimizer):
    genjax.train(
        experiment(
            family=family,
            data=ToyData(),
            optimizer=optimizer,
            steps=STEPS,
            every=Every(log=5, evaluate=60, sample=0, checkpoint=0),
        ),
        folder / "run",
    )
    return [line for line in capfd.readouterr().err.splitlines() if "collapsed" in line]


@pytest.mark.parametrize(("beta", "collapses"), [(1000.0, True), (0.01, False)])
def test_latents_that_say_nothing_are_announced_once_and_at_the_end(
    beta, collapses, tmp_path, capfd
):
    family = dataclasses.replace(VAE_TOY, beta=Constant(beta))
    said = train(tmp_path, capfd, family, Adam(Constant(3e-2)))
    assert len(said) == 2 * collapses
    if collapses:
        assert said[0].startswith("step 1") and "let family.beta rise from 0" in said[0]
        assert said[1].startswith("at the end, too: ")


@pytest.mark.parametrize(("init_std", "collapses"), [(1e-6, True), (0.3, False)])
def test_a_generator_of_one_example_is_announced(init_std, collapses, tmp_path, capfd):
    family = dataclasses.replace(GAN_TOY, init_std=init_std)
    still = Players(SGD(Constant(0.0)), SGD(Constant(0.0)))
    said = train(tmp_path, capfd, family, still)
    assert [("the generator has collapsed" in line) for line in said] == [True] * 2 * collapses


def test_the_spread_of_fakes_is_beside_that_of_real_examples():
    x = jax.random.normal(jax.random.key(0), (500, 3)) * jnp.arange(1.0, 4.0)[None]
    np.testing.assert_allclose(measure_spread(0.25 * x + 7, x), 0.25, rtol=1e-5)
    assert measure_spread(jnp.ones((500, 3)), x) == 0
    assert measure_spread(x, jnp.zeros((500, 3))) > 1e6


def test_a_layer_of_latents_that_says_nothing_is_named():
    family = dataclasses.replace(VAE_TOY, upper=(UpperLatents(2, (4,)),))
    (sentence,) = family.find_collapse({"kl": 3.0, "kl_z1": 3.0, "kl_z2": 0.001}).values()
    assert sentence.startswith("layer 2 of the latents has collapsed")
    assert list(family.find_collapse({"kl": 0.1, "kl_z1": 0.1, "kl_z2": 0.0})) == ["kl"]
    assert (
        family.find_collapse({"kl": 3.0, "kl_z1": 2.0, "kl_z2": 1.0})
        == family.find_collapse({})
        == {}
    )


def test_a_codebook_of_one_code_is_announced():
    assert "codebook has collapsed" in VQVAE(16).find_collapse({"perplexity": 1.02})["perplexity"]
    assert (
        VQVAE(16).find_collapse({"perplexity": 3.0})
        == VQVAE(2).find_collapse({"perplexity": 1.4})
        == {}
    )


def rollout(prompts, answers):
    tokens = jnp.concatenate([jnp.asarray(prompts), jnp.asarray(answers)], 1)
    return tokens, tokens >= 0, 2, jnp.ones(len(tokens))


def test_agreement_is_the_share_of_other_prompts_with_the_same_answer():
    prompts = [[-1, 1], [2, 3], [3, 2], [3, 2]]
    same = measure_agreement(*rollout(prompts, [[5, 6]] * 4))
    np.testing.assert_array_equal(same, np.ones(4))
    swapped = measure_agreement(*rollout(prompts, [[5, 6], [6, 5], [5, -1], [-1, 5]]))
    np.testing.assert_array_equal(swapped, np.zeros(4))
    some = measure_agreement(*rollout(prompts, [[5, 6], [5, 6], [7, 7], [7, 7]]))
    np.testing.assert_allclose(some, [1 / 3, 1 / 3, 0, 0])
    one_prompt = measure_agreement(*rollout([[1, 1]] * 4, [[5, 6]] * 3 + [[7, 7]]))
    np.testing.assert_allclose(one_prompt, [2 / 3] * 3 + [0])
    tokens, real, size, _ = rollout(prompts, [[5, 6], [5, 6], [7, 7], [7, 7]])
    weighed = measure_agreement(tokens, real, size, jnp.array([1.0, 1, 0, 0]))
    np.testing.assert_allclose(weighed[:2], 1)
    assert measure_agreement(*rollout([[1, 1]], [[5, 6]]))[0] == 0, (
        "one response agrees with nobody"
    )


@pytest.mark.parametrize("kind", [PPO, GRPO])
def test_a_policy_of_one_answer_is_announced(kind):
    family = kind("base", reward=lambda prompts, responses: responses)
    assert "the policy has collapsed" in family.find_collapse({"agreement": 0.97})["agreement"]
    assert family.find_collapse({"agreement": 0.6}) == family.find_collapse({}) == {}


START, END, VOCABULARY, LENGTH = 2, 3, 11, 8
CAPTIONER = Captioner(
    Transformer(layers=1, heads=2, width=16, context=LENGTH, init_std=0.5),
    sampler=CaptionDecoding(steps=6, image="unused.png"),
    encoder=ImageEncoder(Patches(4), 8, 1, 2),
)


@pytest.mark.long
def test_a_captioner_that_ignores_the_picture_is_announced():
    spec = Spec(
        "tokens",
        (LENGTH,),
        np.zeros(LENGTH, np.float32),
        vocabulary=VOCABULARY,
        image=(8, 8, 3),
    )
    images = 5 * jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    batch = {
        "image": images,
        "tokens": jnp.zeros((6, LENGTH), jnp.int32),
        "loss_mask": jnp.ones((6, LENGTH)),
        "mask": jnp.array([1.0, 1, 1, 1, 1, 0]),
    }
    params, variables = CAPTIONER.init(
        jax.random.key(0), jax.tree.map(lambda x: x[:1], batch), spec
    )
    state = init_state(params, variables, SGD(Constant(0.1)).build(10), jax.random.key(0))
    written = caption_images(
        CAPTIONER, state, images, START, END
    )  # what it says of its own picture
    start = jnp.full((6, 1), START, jnp.int32)
    batch["tokens"] = jnp.concatenate([start, written], 1)[:, :LENGTH]

    def judged(params):
        metrics = CAPTIONER.evaluate(state.replace(params=params), batch, jax.random.key(0))
        return {name: float(mean.value) for name, mean in metrics.items()}

    reads = judged(params)
    assert reads["reading_gain"] > LEAST_GAIN and CAPTIONER.find_collapse(reads) == {}
    blind = judged(params | {"encoder": jax.tree.map(jnp.zeros_like, params["encoder"])})
    assert blind["reading_gain"] == 0
    assert "ignores its source" in CAPTIONER.find_collapse(blind)["reading_gain"]
    assert Autoregressive().find_collapse({"loss": 1.0}) == {}, "without anything to read"
