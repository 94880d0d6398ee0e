"""Flow maps: the exact map of a Gaussian satisfies every condition and is what a net learns."""

from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.classifier import Classifier
from genjax.families.diffusion import jumps
from genjax.families.diffusion.couplings import Ring
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.flow_map import FlowMap, Jumps
from genjax.families.diffusion.flow_teacher import predict_velocity
from genjax.family import Trained, init_state
from genjax.nets.conv.resnet import ResNet
from genjax.nets.conv.unet import UNet
from genjax.nets.denoiser import Denoiser
from genjax.nets.residual_mlp import ResidualMLP
from genjax.nets.transformer.dit import DiT
from genjax.optim import Adam
from genjax.samplers.diffusion.processes import Straight, VPCosine, velocity
from genjax.schedules import Cosine

KEY = jax.random.key(0)
POINTS = Spec("points", (2,), np.zeros(2, np.float32), classes=3)
IMAGES = Spec("image", (8, 8, 1), np.zeros((8, 8, 1), np.float32), classes=3)
MEAN, STD = 0.7, 0.4
SMALL = ResidualMLP(8, 1, 8)
FORMS = ("lagrangian", "eulerian", "progressive")


def exact(x, t, r):
    """The mean velocity (X - x) / (r - t) of the flow to N(MEAN, STD^2), also where r = t."""
    t, r = jumps.expand_times(t, x), jumps.expand_times(r, x)
    before, after = ((1 - s) ** 2 * STD**2 + s**2 for s in (t, r))
    slope = (1 + STD**2) * (r + t) - 2 * STD**2  # (after - before) / (r - t)
    rate = slope / before / (jnp.sqrt(after / before) + 1)
    return rate * (x - (1 - t) * MEAN) - MEAN


@dataclass(frozen=True)
class Exact(FlowMap):
    """A flow map whose net knows the answer."""

    def predict(self, params, label, dropout, x, t, r):
        return exact(x, t, r)


@dataclass(frozen=True)
class ExactFlow(Diffusion):
    """A teacher that knows the velocity."""

    def predict(self, params, x, t, inputs, key=None):
        return exact(x, t, t)


FLOW = ExactFlow(SMALL, Straight(), "velocity", width=4)


def batch_of(n, spec=POINTS):
    x = MEAN + STD * jax.random.normal(jax.random.key(1), (n, *spec.shape))
    return {spec.entry: x, "mask": jnp.ones(n), "label": jnp.arange(n) % 3}


def state_of(family, spec=POINTS, rule=None):
    params, variables = jax.jit(lambda: family.init(KEY, batch_of(1, spec), spec))()
    return init_state(params, variables, rule or Adam().build(10), KEY)


def moved(params):
    """The parameters, none of them 0."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    leaves = [p + 0.2 * jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def measure(*families):
    """The errors of each family on the same 200 examples."""
    both, frozen = {"flow": batch_of(200), "jump": batch_of(200)}, {"teacher": {"params": {}}}
    return jax.jit(lambda: [f.measure({}, frozen, both, KEY, True) for f in families])()


@pytest.mark.parametrize("form", FORMS)
def test_at_the_exact_map_every_condition_holds(form):
    alone = Exact(SMALL, form, halves=False, width=4)
    taught = replace(alone, teacher=FLOW)
    errors = measure(alone, taught, replace(alone, detach=False, halves=True))
    for error in errors:
        assert jnp.sqrt(error["jump"]).max() < 1e-5
    # Without a teacher the flow learns from single samples, whose noise is left.
    assert jnp.sqrt(errors[1]["flow"]).max() < 1e-5 and errors[0]["flow"].mean() > 0.1


def test_a_map_with_the_right_velocity_that_stays_straight_breaks_every_condition():
    @dataclass(frozen=True)
    class Straightened(Exact):
        def predict(self, params, label, dropout, x, t, r):
            return exact(x, t, t)

    for error in measure(*(Straightened(SMALL, form, width=4) for form in FORMS)):
        assert error["jump"].mean() > 1e-3


def test_any_number_of_exact_jumps_ends_at_the_same_data():
    family = Exact(SMALL, width=4)
    state = state_of(FlowMap(SMALL, width=4))
    noise = jax.random.normal(jax.random.split(KEY)[0], (50, 2))
    for options in (Jumps(1), Jumps(2), Jumps(4), Jumps(7), Jumps(1, renoise=True)):
        samples = family.sample(state, KEY, 50, options)
        np.testing.assert_allclose(samples, MEAN + STD * noise, atol=1e-5)
    fresh = family.sample(state, KEY, 20_000, Jumps(4, renoise=True))
    np.testing.assert_allclose(fresh.mean(), MEAN, atol=0.01)
    np.testing.assert_allclose(fresh.std(), STD, atol=0.01)


def test_the_eulerian_form_from_samples_is_mean_flow():
    """Their loss is |u - sg(v - (t - r)(v du/dx + du/dt))|^2, r being the end."""
    family = FlowMap(SMALL, "eulerian", start="sample", width=4)
    params = moved(state_of(family).params)
    drawn = family.draw(params, batch_of(5), KEY, False)

    def u(params, x, t, r):
        return family.predict(params, None, None, x[None], t[None], r[None])[0]

    def theirs(params):
        def one(x, v, t, r):
            over_x, over_t = (jax.jacrev(u, i)(params, x, t, r) for i in (1, 2))
            aim = v - (t - r) * (over_x @ v + over_t)
            return u(params, x, t, r) - jax.lax.stop_gradient(aim)

        found = jax.vmap(one)(drawn.x, drawn.velocity, drawn.t, drawn.r)
        return jnp.square(found).mean(-1)

    def ours(params):
        return jnp.square(family.compare_jump(params, None, drawn)).mean(-1)

    found = [jax.jit(jax.value_and_grad(lambda p, f=f: f(p).sum()))(params) for f in (ours, theirs)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)


@pytest.mark.parametrize(
    ("net", "spec"),
    [(SMALL, POINTS), (DiT(4, 8, 1, 2), IMAGES), (UNet((4,), 1, (), 4), IMAGES)],
)
def test_a_second_time_leaves_the_other_parameters_and_the_start_as_they_are(net, spec):
    x, t = jax.random.normal(KEY, (2, *spec.shape)), jnp.array([0.3, 0.9])
    one = Denoiser(net.denoiser(spec.shape), 8, 3)
    two = Denoiser(net.denoiser(spec.shape), 8, 3, two_times=True)
    old = jax.jit(lambda: one.init(KEY, x, t, train=False)["params"])()
    new = jax.jit(lambda: two.init(KEY, x, t, end=t, train=False)["params"])()
    assert set(new) - set(old) == {"span_a", "span_b"}
    jax.tree.map(np.testing.assert_array_equal, old, {name: new[name] for name in old})
    old = moved(old)
    apply = jax.jit(
        lambda module, params, **end: module.apply(params, x, t, **end, train=False),
        static_argnums=0,
    )
    np.testing.assert_allclose(
        apply(one, {"params": old}), apply(two, {"params": new | old}, end=0 * t), rtol=1e-6
    )
    for module, params, end in ((one, old, t), (two, new, None)):
        with pytest.raises(UserError):
            module.apply({"params": params}, x, t, end=end, train=False)


@pytest.mark.parametrize("net", [DiT(4, 8, 1, 2), UNet((4,), 1, (), 4)])
def test_images_are_differentiated_by_time_and_place(net):
    """The fast forms on a CPU have no forward mode: the plain ones take their place."""
    family = FlowMap(net, "lagrangian", detach=False, width=8, conditional=True)
    params = moved(state_of(family, IMAGES).params)
    x, label = batch_of(3, IMAGES)["image"], jnp.array([0, 1, 3])
    t, r = jnp.array([0.9, 0.5, 0.7]), jnp.array([0.1, 0.4, 0.0])

    def mean(x, t, r):
        return family.predict(params, label, None, x, t, r)

    way = jax.random.normal(KEY, x.shape), jnp.ones(3), jnp.full(3, -0.5)

    @jax.jit
    def measure():
        step = 1e-2
        ends = [mean(x + s * way[0], t + s, r - 0.5 * s) for s in (step, -step)]
        found = [jumps.differentiate(mean, (x, t, r), way, detach) for detach in (False, True)]
        return *found, (ends[0] - ends[1]) / (2 * step)

    (u, rate), (fast, _), secant = measure()
    np.testing.assert_allclose(u, fast, atol=1e-4)
    np.testing.assert_allclose(rate, secant, atol=0.05 * float(jnp.abs(rate).max()))


def test_guidance_is_in_what_the_flow_learns():
    """v = free + w (v(label) - free): of one sample without a teacher; hidden labels get none."""

    @dataclass(frozen=True)
    class Labelled(FlowMap):
        def predict(self, params, label, dropout, x, t, r):
            return jnp.zeros_like(x) + jnp.array([1.0, 2.0, 3.0, 10.0])[label][:, None]

        def _count_classes(self, params):
            return 3

    @dataclass(frozen=True)
    class Theirs(Diffusion):
        def predict(self, params, x, t, inputs, key=None):
            return jnp.zeros_like(x) + jnp.array([4.0, 5.0, 6.0, 20.0])[inputs["label"]][:, None]

    family = Labelled(SMALL, conditional=True, guidance_scale=3.0, width=4)
    drawn = family.draw({}, batch_of(4), KEY, False)._replace(label=jnp.array([0, 1, 2, 3]))
    own = jnp.array([1.0, 2.0, 3.0, 10.0])[:, None]
    scale = jnp.array([3.0, 3.0, 3.0, 1.0])[:, None]
    expected = own - (10 + scale * (drawn.velocity - 10))
    np.testing.assert_allclose(family.compare_flow({}, None, drawn), expected, rtol=1e-5)
    teacher = Theirs(SMALL, Straight(), "velocity", conditional=True, width=4)
    taught, frozen = replace(family, teacher=teacher), {"teacher": {"params": {}}}
    theirs = 20 + 3 * (jnp.array([4.0, 5.0, 6.0, 20.0])[:, None] - 20)
    np.testing.assert_allclose(
        taught.compare_flow({}, frozen, drawn), jnp.broadcast_to(own - theirs, (4, 2)), rtol=1e-5
    )


def test_a_teacher_of_another_target_gives_its_flow():
    teacher = Diffusion(SMALL, Straight(), "x0", width=4)
    params = moved(state_of(teacher).params)
    x, t = batch_of(4)["points"], jnp.array([0.2, 0.5, 0.8, 1.0])
    x0 = teacher.predict(params, x, t, {})
    np.testing.assert_allclose(
        predict_velocity(teacher, params, x, t), velocity(Straight(), x0, x, t), rtol=1e-5
    )


def test_a_step_learns_the_flow_and_the_jump_from_parts_of_the_batch():
    family = FlowMap(SMALL, flow_share=0.25, width=4)
    rule = Adam().build(10)
    step = jax.jit(lambda state, batch: family.train_step(state, batch, optimizer=rule))
    state, metrics = step(state_of(family), batch_of(8))
    assert (float(metrics["flow"].weight), float(metrics["jump"].weight)) == (2, 6)
    total = metrics["flow"].sum + metrics["jump"].sum
    np.testing.assert_allclose(metrics["loss"].sum, total, rtol=1e-6)
    assert int(state.step) == 1
    alone = step(state_of(family), batch_of(1))[1]
    assert "jump" not in alone and np.isfinite(alone["loss"].sum)


def test_a_weighted_loss_has_the_gradient_of_a_power_of_the_error():
    family = FlowMap(SMALL, power=1.0, width=4)
    error = jnp.array([1e-4, 0.5, 20.0])
    np.testing.assert_allclose(family._weigh(error), error / (error + 1e-3), rtol=1e-6)
    np.testing.assert_allclose(
        jax.grad(lambda e: family._weigh(e).sum())(error), 1 / (error + 1e-3), rtol=1e-6
    )


@pytest.mark.long
@pytest.mark.parametrize("teacher", [None, FLOW])
@pytest.mark.parametrize("form", FORMS)
def test_a_small_net_learns_the_map(form, teacher):
    family = FlowMap(
        ResidualMLP(32, 2, 64), form, halves=False, teacher=teacher, width=16, time_frequency=2.0
    )
    rule = Adam(Cosine(5e-3, 1e-5)).build(3000)
    state = state_of(family, rule=rule).replace(frozen={"teacher": {"params": {}}})

    def step(state, key):
        x = MEAN + STD * jax.random.normal(key, (256, 2))
        batch = {"points": x, "mask": jnp.ones(256)}
        return family.train_step(state, batch, optimizer=rule)[0], None

    state = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(KEY, 3000))[0])(state)
    drawn = family.draw(state.params, batch_of(2000), KEY, False)
    for t, r in ((jnp.ones(2000), jnp.zeros(2000)), (drawn.t, drawn.r)):
        u = family.predict(state.params, None, None, drawn.x, t, r)
        error = jumps.expand_times(t - r, u) * (u - exact(drawn.x, t, r))
        assert jnp.square(error).mean() < 1e-2 * STD**2


def trained(family, spec=POINTS):
    return {"teacher": Trained("runs/flow", family, spec)}


@pytest.mark.parametrize(
    ("family", "spec", "field"),
    [
        (Classifier(), POINTS, "teacher"),
        (replace(FLOW, process=VPCosine()), POINTS, "teacher"),
        (replace(FLOW, noise=Ring()), POINTS, "teacher"),
        (replace(FLOW, coupling="optimal"), POINTS, "teacher"),
        (replace(FLOW, conditional=True), POINTS, "teacher"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(family, spec, field):
    with pytest.raises(UserError, match="runs/flow") as error:
        FlowMap(SMALL, teacher="runs/flow").resolve(trained(family, spec), POINTS)
    assert error.value.field == field


def test_a_teacher_of_another_shape_or_of_other_labels_is_refused():
    with pytest.raises(UserError, match="runs/flow"):
        FlowMap(SMALL, teacher="runs/flow").resolve(trained(FLOW, IMAGES), POINTS)
    labelled, other = replace(FLOW, conditional=True), replace(POINTS, classes=7)
    family = FlowMap(SMALL, teacher="runs/flow", conditional=True, guidance_scale=2.0)
    with pytest.raises(UserError, match="runs/flow"):
        family.resolve(trained(labelled, other), POINTS)
    with pytest.raises(UserError) as error:
        family.resolve(trained(replace(labelled, drop_label=0.0)), POINTS)
    assert error.value.field == "guidance_scale"
    assert family.resolve(trained(labelled), POINTS).teacher == labelled


def test_a_net_that_takes_no_two_times_is_refused_by_name():
    with pytest.raises(UserError, match="ResNet") as error:
        FlowMap(ResNet())
    assert error.value.field == "net"


def test_a_net_without_a_forward_mode_is_refused_by_name():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, x: Any, vector: Any, *, train: bool) -> Any:
            return double(x) + nn.Dense(2)(vector)

    @dataclass(frozen=True)
    class Handmade:
        def denoiser(self, shape):
            return Doubled()

    with pytest.raises(UserError, match="Handmade") as error:
        state_of(FlowMap(Handmade(), width=4))
    assert error.value.field == "net"
    state_of(FlowMap(Handmade(), "progressive", width=4))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"form": "shortcut"}, "form"),
        ({"flow_share": 0.0}, "flow_share"),
        ({"to_data": 1.5}, "to_data"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"width": 1}, "width"),
        ({"time_frequency": 0.1}, "time_frequency"),
    ],
)
def test_settings_out_of_range_are_refused(changes, field):
    with pytest.raises(UserError) as error:
        FlowMap(SMALL, **changes)
    assert error.value.field == field


def test_labels_need_data_that_have_them():
    with pytest.raises(UserError):
        state_of(FlowMap(SMALL, conditional=True), replace(POINTS, classes=None))
    with pytest.raises(UserError) as error:
        Jumps(0)
    assert error.value.field == "steps"
