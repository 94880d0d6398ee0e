"""What is in the program of a train step, of every kind of family, on eight devices: no float64, no
word to the host, no needless communication, no array converted back and forth, and every array of
the state changed in place.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.dataset import Dataset, Spec
from genjax.data.text.codecs import Characters
from genjax.experiment import Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.families.classifier import Classifier
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.gan.gan import GAN
from genjax.families.masked_lm import MaskedLM
from genjax.families.vae import VAE
from genjax.family import Trained
from genjax.losses import multiply
from genjax.nets.conv.unet import UNet
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam, Players
from genjax.parallel import Devices
from genjax.posttrain import groups, grpo, ppo
from genjax.posttrain.dpo import DPO
from genjax.posttrain.rollouts import Rollout
from genjax.runs import setup as setting_up
from genjax.schedules import Constant
from tests import toy

MAPPED = Devices(count=8, mode="pmapped")
SHARDED = Devices(count=8, mode="sharded", fsdp=4)
B, T, V, P, N = 32, 16, 64, 6, 5
LARGE = 1024  # elements from which an array counts as large here
NET = Transformer(layers=1, heads=2, width=32, context=T)
GPT = Autoregressive(NET, sampler=Decoding(steps=4))
TEXT = Spec("tokens", (T + 1,), np.zeros(T + 1, np.float32), vocabulary=V, packed=True)
WHOLE = dataclasses.replace(TEXT, shape=(T,), packed=False)
MASKED = dataclasses.replace(WHOLE, token_kinds=(2,) * V, mask_token=1)
PROMPTS = Spec("tokens", (P,), np.zeros(P, np.float32), vocabulary=V, prefixed=True)
PAIRS = Spec("chosen_tokens", (T,), np.zeros(T, np.float32), vocabulary=V, preferences=True)
PICTURES = toy.Pictures(8).open().spec
CODEC = Characters("".join(map(chr, range(65, 64 + V))), delimiter=True)


def no_reward(prompts, responses):
    raise AssertionError("nothing is drawn here")


# Each with the data that it sees.
FAMILIES = {
    "vae": (VAE(4, MLPCoder((32,))), PICTURES),
    "gan": (GAN(), PICTURES),
    "diffusion": (Diffusion(UNet((8,), 1, (8,))), PICTURES),
    "gpt": (GPT, TEXT),
    "masked_lm": (MaskedLM(dataclasses.replace(NET, causal=False)), MASKED),
    "classifier": (Classifier(MLPBackbone((32,))), PICTURES),
    "ppo": (ppo.PPO("base", no_reward, new_tokens=N, minibatches=1), PROMPTS),
    "grpo": (grpo.GRPO("base", no_reward, new_tokens=N, minibatches=1, group=4), PROMPTS),
    "dpo": (DPO("base"), PAIRS),
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A lowered train step and the setup that it comes from."""

    setup: setting_up.Setup
    lowered: jax.stages.Lowered


def lower(monkeypatch, name, devices, accumulate=1, platform="cpu"):
    """Lower a step on the way that training takes, in bfloat16 and with an average."""
    family, spec = FAMILIES[name]
    others = {"base": Trained("base", GPT, dataclasses.replace(WHOLE, shape=(T + 1,)))}

    def resolve(experiment, spec, run_dir=None):
        if name not in ("ppo", "grpo", "dpo"):
            return experiment, {}
        return dataclasses.replace(experiment, family=family.resolve(others, spec)), others

    monkeypatch.setattr(setting_up, "resolve", resolve)
    optimizer = Adam(Constant(1e-3), clip=1.0, accumulate=accumulate)
    experiment = Experiment(
        family=family,
        data=toy.ToyData(),
        optimizer=Players(optimizer, optimizer) if name == "gan" else optimizer,
        steps=10,
        batch_size=B,
        ema=0.99,
        precision="bfloat16",
        devices=devices,
    )
    layout = dataclasses.replace(parallel.start(devices), platform=platform)
    setup = setting_up.set_up(experiment, data=Dataset({}, spec, CODEC, ""), layout=layout)
    return Program(setup, setup.run_step.lower(setup.target, batch_for(setup)))


def batch_for(setup):
    """Shapes of a batch, with what the family adds to it."""
    family, state, spec = setup.family, setup.target, setup.data.spec
    batch = {n: jax.ShapeDtypeStruct((B, *s), d) for n, (s, d) in spec.entries.items()}
    batch["mask"] = jax.ShapeDtypeStruct((B,), jnp.float32)
    if family.collect is not None:
        kinds = [((B, P + N), int), ((B, P + N), bool), ((B, N), float), ((B,), bool)]
        drawn = Rollout(*(jax.ShapeDtypeStruct(shape, kind) for shape, kind in kinds))
        rewards = batch["mask"]
        params = family.merge_params(state.frozen, state.params)
        reference = state.frozen["base"]["params"]
        if isinstance(family, ppo.PPO):
            coefficient = state.variables["kl_coefficient"]
            made = (params, reference, drawn, rewards, coefficient, rewards)
            return jax.eval_shape(lambda *a: ppo.make_experience(family, *a), *made)
        made = (params, reference, drawn, {"reward": rewards}, rewards)
        return jax.eval_shape(lambda *a: groups.make_experience(family, *a), *made)
    if family.precompute is not None:
        batch |= jax.eval_shape(family.precompute, state, batch)
    return batch


def size(shape):
    """Elements of "64x32xf32" or "f32[64,32]"."""
    dims = shape[shape.index("[") :] if "[" in shape else shape.rpartition("x")[0]
    return int(np.prod([int(n) for n in re.findall(r"\d+", dims)], initial=1))


def list_round_trips(text):
    """Large arrays that are converted to another floating type and straight back."""
    found = []
    for body in text.split("func.func ")[1:]:
        convert = r"(%[\w#]+) = stablehlo.convert (%[\w#]+) : \(tensor<(.*?)>\) -> tensor<(.*?)>"
        made = {}
        for target, source, old, new in re.findall(convert, body):
            made[target] = old
            floating = all(re.search(r"b?f\d+$", kind) for kind in (old, new))
            if floating and made.get(source) == new and size(new) >= LARGE:
                found.append(f"{new} -> {old} -> {new}")
    return found


def list_widened_products(text):
    """Matrix products and convolutions of large arrays that were widened from bfloat16."""
    found = []
    for body in text.split("func.func ")[1:]:
        widened = r"(%[\w#]+) = stablehlo.convert %[\w#]+ : \(tensor<\S*bf16>\) -> tensor<\S*f32>"
        wide = set(re.findall(widened, body))
        products = r"stablehlo.(?:dot_general|convolution)\(?\s?(%[\w#]+), (%[\w#]+)(.*)"
        found += [
            line
            for a, b, line in re.findall(products, body)
            if {a, b} & wide and max(map(size, re.findall(r"tensor<(.*?)>", line))) >= LARGE
        ]
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_has_neither_float64_nor_host_nor_round_trips_and_gives_its_state_away(
    monkeypatch, name
):
    program = lower(monkeypatch, name, MAPPED, platform="tpu")  # operations in their own form
    text = program.lowered.as_text()
    assert not re.findall(r"\w*f64\b", text)
    assert "bf16" in text
    assert not re.findall(r"\S*(?:callback|infeed|outfeed|stablehlo.send|stablehlo.recv)\S*", text)
    assert not list_round_trips(text)
    assert not list_widened_products(text)
    assert not re.findall(r"stablehlo.(all_gather|all_to_all|collective_permute)", text)
    (head,) = re.findall(r"func.func public @main\((.*)\) -> ", text)
    given = re.findall(r"%arg\d+: tensor<[^%]*?tf.aliasing_output", head)
    assert len(given) == len(jax.tree.leaves(program.setup.target))


def test_what_a_round_trip_is():
    def there(x):
        return x.astype(jnp.bfloat16).astype(jnp.float32)

    def useful(x):
        return (x.astype(jnp.bfloat16) + 1).astype(jnp.float32)

    def texts(f):
        return jax.jit(f).lower(jnp.ones((64, 64))).as_text()

    assert list_round_trips(texts(there)) == ["64x64xf32 -> 64x64xbf16 -> 64x64xf32"]
    assert not list_round_trips(texts(useful))


def test_products_in_bfloat16_have_float32_sums_and_gradients_in_bfloat16():
    a, b = (jax.random.normal(jax.random.key(i), (2, 32, 64), jnp.bfloat16) for i in range(2))

    def plain(a, b):
        return jnp.einsum("btd,bsd->bts", a, b, preferred_element_type=jnp.float32)

    def both(f):
        def run(a, b):
            y, vjp = jax.vjp(f, a, b)
            return y, vjp(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

        return jax.jit(run)

    ours = both(lambda a, b: multiply("btd,bsd->bts", a, b))
    assert list_widened_products(both(plain).lower(a, b).as_text())
    assert not list_widened_products(ours.lower(a, b).as_text())
    (y, slopes), (want, wanted) = ours(a, b), both(plain)(a, b)
    np.testing.assert_array_equal(y, want)
    for found, slope in zip(slopes, wanted, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(
            found.astype(jnp.float32), slope.astype(jnp.float32), rtol=0.02, atol=0.1
        )


def list_collectives(text):
    """Pairs of a kind and its result's elements, in the whole program and in its loops alone."""
    parts = re.split(r"\n(?=(?:ENTRY )?%?[\w.\-]+ \(.*\{\n)", text)
    called = {re.split(r"[ (]", p.removeprefix("ENTRY "))[0].lstrip("%"): p for p in parts}
    inside, todo = set(), re.findall(r"body=%?([\w.\-]+)", text)
    while todo:
        name = todo.pop()
        if name in called and name not in inside:
            inside.add(name)
            todo += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", called[name])
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = {
        name: [
            (kind, max(map(size, re.findall(r"\w+\[[\d,]*\]", shapes)), default=1))
            for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", part)
        ]
        for name, part in called.items()
    }
    return (
        [each for name in found for each in found[name]],
        [each for name in inside for each in found[name]],
    )


def compile_program(monkeypatch, name, devices, accumulate=1):
    program = lower(monkeypatch, name, devices, accumulate)
    return program, program.lowered.compile()


CHEAP = ("vae", "classifier", "gpt")
EACH = [pytest.param(n, marks=() if n in CHEAP else pytest.mark.long) for n in FAMILIES]


@pytest.mark.parametrize("name", EACH)
def test_mapped_devices_only_add_up_gradients_once(monkeypatch, name):
    accumulate = 1 if name in ("ppo", "grpo") else 2
    program, compiled = compile_program(monkeypatch, name, MAPPED, accumulate)
    whole, loops = list_collectives(compiled.as_text())
    assert whole and {kind for kind, _ in whole} == {"all-reduce"}
    large = max(p.size for p in jax.tree.leaves(program.setup.target.params))
    assert max(n for _, n in whole) <= large
    if name not in ("gan", "ppo", "grpo"):  # which make several updates, in a loop
        assert not [n for _, n in loops if n > 1]
    check_in_place(program, compiled)


# What the partitioner adds, known and bounded: kinds beside sums, gathers and scatters; arrays
# larger than a parameter (the hidden states of all rows, of which masked tokens are chosen); and
# gathers of each parameter (of the players for both losses, of PPO and GRPO also for what the
# update is compared with).
ALSO = {"gan": {"all-to-all"}}
LARGER = {"masked_lm": 4}
GATHERS = {"gan": 3, "ppo": 3, "grpo": 3}


@pytest.mark.parametrize("name", EACH)
def test_sharded_devices_gather_each_parameter_and_nothing_larger(monkeypatch, name):
    program, compiled = compile_program(monkeypatch, name, SHARDED)
    whole, _ = list_collectives(compiled.as_text())
    params = jax.tree.leaves(program.setup.target.params)
    large, split = max(p.size for p in params), sum(p.ndim >= 2 for p in params)
    known = {"all-reduce", "all-gather", "reduce-scatter"} | ALSO.get(name, set())
    assert {kind for kind, _ in whole} <= known
    assert max(n for _, n in whole) <= LARGER.get(name, 1) * large
    gathered = sum(kind == "all-gather" for kind, _ in whole)
    assert 1 <= gathered <= GATHERS.get(name, 2) * split
    check_in_place(program, compiled)


def check_in_place(program, compiled):
    """Every byte of the state on a device, but for a few small leaves, is both input and output."""
    kept = 0
    for leaf in jax.tree.leaves(program.setup.target):
        local = leaf.sharding.shard_shape(leaf.shape)
        itemsize = 8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else 4
        kept += int(np.prod(local, initial=1)) * itemsize
    assert 0.99 * kept <= compiled.memory_analysis().alias_size_in_bytes <= kept
