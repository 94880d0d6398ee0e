"""DDPO: densities, gradients and the KL by hand, the paths of the ancestral sampler, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax.continued import apply_initial_params
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import Trained, init_state, make_example
from genjax.nets.transformer.dit import DiT
from genjax.optim import SGD
from genjax.posttrain.continued import BASE
from genjax.posttrain.ddpo import DDPO, draw_paths, step_kl, step_log_prob, take_steps
from genjax.posttrain.painters import estimate_clean, make_inputs
from genjax.posttrain.rewarded_diffusion import draw_samples
from genjax.samplers import DDIM
from genjax.samplers.diffusion.ancestral import posterior_mean, posterior_variance
from genjax.samplers.diffusion.steps import make_steps
from genjax.schedules import Constant

KEY = jax.random.key(0)
SHAPE, CLASSES, B, K, S = (4, 4, 1), 3, 4, 3, 5
SPEC = Spec("image", SHAPE, np.zeros(SHAPE, np.float32), classes=CLASSES)
BASE_FAMILY = Diffusion(
    DiT(2, 8, 1, 1), width=8, conditional=True, drop_label=0.25, sampler=Denoising(DDIM(2))
)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def brightness(images, labels):
    return images.mean((1, 2, 3))


def family_of(**changes):
    settings = {"reward": brightness, "samples": K, "steps": S, "updates": 1}
    others = {BASE: Trained("base", BASE_FAMILY, SPEC)}
    return DDPO("base", **settings | changes).resolve(others, SPEC)


def moved(params, seed, by):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [x + by * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def state_of(family, by=0.1, rate=0.1):
    params, variables = BASE_FAMILY.init(jax.random.key(5), make_example(SPEC), SPEC)
    base = moved(params, 3, 0.1)
    mine, own = family.init(KEY, make_example(SPEC), SPEC)
    state = init_state(mine, own, SGD(Constant(rate)).build(4), KEY)
    state = apply_initial_params(
        family, state.replace(frozen={BASE: {"params": base, "variables": variables}})
    )
    return state.replace(params=moved(state.params, 9, by)) if by else state


def batch_of(rows=B):
    images = jax.random.uniform(KEY, (rows, *SHAPE), minval=-1)
    return {"image": images, "label": jnp.arange(rows) % CLASSES, "mask": jnp.ones(rows)}


@functools.cache
def collected():
    family = family_of()
    state = state_of(family)
    return family, state, family.collect(state, batch_of(), KEY)


@functools.partial(jax.jit, static_argnums=(0, 3))
def stepped(family, state, batch, rate=0.1):
    return family.train_step(state, batch, optimizer=SGD(Constant(rate)).build(4))


def one_step(number):
    return jax.tree.map(lambda x: x[number], make_steps(BASE_FAMILY.process, S))


def test_a_step_has_the_density_of_its_normal_distribution():
    x0, x, ahead, other = (
        0.3 * jax.random.normal(jax.random.key(n), (2, *SHAPE)) for n in range(4)
    )
    for number in range(S - 1):
        here = one_step(number)
        variance = float(posterior_variance(here))
        by_hand = [
            scipy.stats.norm(posterior_mean(here, clean, x), variance**0.5).logpdf(ahead)
            for clean in (x0, other)
        ]
        difference = (by_hand[0] - by_hand[1]).sum((1, 2, 3))
        found = [step_log_prob(here, clean, x, ahead) for clean in (x0, other)]
        np.testing.assert_allclose(found[0] - found[1], difference, rtol=2e-3)
        apart = np.square(posterior_mean(here, x0, x) - posterior_mean(here, other, x))
        close(step_kl(here, x0, other), apart.sum((1, 2, 3)) / (2 * variance), rtol=2e-3)


def test_paths_are_those_of_the_ancestral_sampler():
    state = collected()[1]
    label = jnp.arange(6) % CLASSES
    at = (BASE_FAMILY, S, (6, *SHAPE), state.params, state.frozen[BASE]["params"], label, KEY)
    images, drawn = draw_paths(*at)
    same, kl = draw_samples(*at)
    close(images, same)
    close(drawn["kl"], kl)
    assert drawn["path"].shape == (6, S, *SHAPE) and np.isfinite(drawn["log_probs"]).all()


def test_what_is_collected_has_the_shapes_that_a_plan_compiles_for():
    family, state, batch = collected()
    shapes = family.shape_collected(state, batch_of())
    assert {name: (x.shape, x.dtype) for name, x in shapes.items()} == {
        name: (np.shape(x), np.asarray(x).dtype) for name, x in batch.items()
    }
    close(batch["advantage"].sum(1), 0)
    close(batch["advantage"].std(1), 1, rtol=1e-2)


def log_probs_by_hand(params, batch, place):
    x, ahead = (take_steps(batch["path"], place + more) for more in (0, 1))
    label = jnp.repeat(batch["label"], K)
    total = []
    for row, number in enumerate(np.ravel(place)):
        here, inputs = one_step(int(number)), make_inputs(BASE_FAMILY, label[row : row + 1], 1)
        one = slice(row, row + 1)
        x0 = estimate_clean(BASE_FAMILY, params, x[one], here.t[None], inputs)
        mean = posterior_mean(here, x0, x[one])
        total.append(-jnp.square(ahead[one] - mean).sum() / (2 * posterior_variance(here)))
    return jnp.stack(total)


def test_one_update_is_a_policy_gradient():
    family, state, batch = collected()
    place = batch["order"][:, :, 0]

    def loss(params):
        return -(batch["advantage"].reshape(-1) * log_probs_by_hand(params, batch, place)).mean()

    after, metrics = stepped(family, state, batch)
    gradient = jax.grad(loss)(state.params)
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
    jax.tree.map(
        lambda a, p, g: close(a, p - 0.1 * g, atol=1e-4 * scale),
        after.params,
        state.params,
        gradient,
    )
    close(metrics["clip_fraction"].value, 0)
    close(metrics["approx_kl"].value, 0)
    close(metrics["reward"].value, np.mean(batch["reward"]))


def test_no_step_is_taken_twice():
    family = family_of(updates=S - 1)
    batch = family.collect(state_of(family), batch_of(), KEY)
    np.testing.assert_array_equal(
        np.sort(batch["order"], 2), np.broadcast_to(np.arange(S - 1), (B, K, S - 1))
    )
    assert len(np.unique(np.reshape(batch["order"], (-1, S - 1)), axis=0)) > 1


def test_the_kl_to_the_base_is_0_at_the_start_and_holds_the_policy():
    family = family_of(kl_weight=10.0, updates=2)
    state = state_of(family, by=0.0)
    batch = family.collect(state, batch_of(), KEY)
    close(batch["kl"], 0)
    _, metrics = stepped(family_of(kl_weight=10.0), state, batch)
    close(metrics["kl_loss"].value, 0)
    far = state.replace(params=moved(state.params, 9, 0.1))
    _, metrics = stepped(family_of(kl_weight=10.0), far, batch)
    assert metrics["kl_loss"].value > 0
    close(metrics["loss"].value, metrics["policy_loss"].value + 10 * metrics["kl_loss"].value)


def test_the_reward_rises():
    family = family_of(samples=8, updates=S - 1)
    state, found = state_of(family, by=0.0, rate=0.02), []
    for number in range(10):
        batch = family.collect(state, batch_of(8), jax.random.fold_in(KEY, number))
        found.append(float(np.mean(batch["reward"])))
        state, _ = stepped(family, state, batch, 0.02)
    assert np.mean(found[-2:]) > np.mean(found[:2]) + 0.1, found


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reward": None}, "reward"),
        ({"samples": 1}, "samples"),
        ({"steps": 1}, "steps"),
        ({"updates": S}, "updates"),
        ({"clip": 0.0}, "clip"),
        ({"kl_weight": -1.0}, "kl_weight"),
    ],
)
def test_what_does_not_fit_is_refused(changes, field):
    with pytest.raises(UserError) as found:
        family_of(**changes)
    assert found.value.field == field
