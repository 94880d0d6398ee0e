"""Plans of runs: of this machine beside what XLA says, of others where the plugins are."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import pytest

from genjax import gx
from genjax.__main__ import main
from genjax.cli.bench import step_flops
from genjax.config_files import load_config
from genjax.data.dataset import Dataset, Spec
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.parallel import Devices
from genjax.plan import topology
from genjax.plan.plan import Memory, as_json, find_cures, make_plan, shape_batch
from genjax.plan.targets import CHIPS, Target, find_target
from genjax.runs.first_state import examples, first_state
from genjax.runs.setup import set_up
from genjax.serial.config_places import list_configs
from tests import toy

PLUGINS = os.environ.get(topology.PLUGINS)
elsewhere = pytest.mark.skipif(
    PLUGINS is None, reason=f"{topology.PLUGINS} names no folder with libtpu and jax-cuda12-plugin"
)
FAMILIES = (
    *("vae_digits", "vdvae_mnist", "vqvae_fashion_mnist", "gan_digits", "classifier_digits"),
    "mlm_docs",
    *("diffusion_mnist", "latent_diffusion_mnist", "gpt_docs", "vqvae_prior_fashion_mnist"),
    *("caption_shapes", "reward_rule", "lora_gpt", "dpo_preferences", "ppo_random_walks"),
    *("grpo_arithmetic", "diffusion_reward_digits", "tabddpm_abalone", "flow_lorenz"),
    *("video_moving_mnist", "flow_map_checkerboard", "ddpo_digits", "sketch_to_shapes"),
)
# Their programs are those of a family above but for the loss.
ALIKE = (
    *("kto_rule", "orpo_rule", "simpo_rule", "rloo_arithmetic", "online_dpo_arithmetic"),
    *("mdlm_shakespeare", "distil_arithmetic", "gkd_arithmetic", "next_scale_fashion_mnist"),
)
WIDTH, LAYERS, CONTEXT, VOCABULARY, BATCH = 64, 3, 32, 100, 16


def plan_here(experiment, count=1, **changes):
    target = dataclasses.replace(find_target("cpu"), **changes)
    return make_plan(experiment, target, jax.devices()[:count], step_flops)


def vae(batch_size=64, **options):
    return Experiment(
        gx.VAE(latent_dim=4, coder=gx.MLPCoder(hidden=(32,))),
        toy.Pictures(),
        gx.Adam(),
        batch_size=batch_size,
        ema=0.99,
        **options,
    )


def test_the_memory_of_a_state_is_counted_by_its_arrays():
    plan = plan_here(vae())
    state = set_up(vae()).target
    count = sum(x.size for x in jax.tree.leaves(state.params))
    variables = sum(x.size for x in jax.tree.leaves(state.variables))
    assert plan.memory.parameters == 4 * (count + variables)
    assert plan.memory.average == 4 * count <= plan.memory.optimizer / 2
    assert plan.memory.fits and plan.memory.temporaries > 0
    parts = dataclasses.asdict(plan.memory)
    names = ("parameters", "optimizer", "average", "frozen", "batch", "activations", "temporaries")
    assert sum(parts[name] for name in names) == parts["needed"]


def test_a_split_state_takes_its_share_and_is_gathered():
    whole = plan_here(vae(devices=Devices(mode="sharded")), 8)
    split = plan_here(vae(devices=Devices(mode="sharded", fsdp=8)), 8)
    assert split.memory.parameters < 0.3 * whole.memory.parameters
    assert {one.kind for one in whole.collectives} == {"all-reduce"}
    assert "all-gather" in {one.kind for one in split.collectives}
    gradients = 4 * sum(x.size for x in jax.tree.leaves(set_up(vae()).target.params))
    (summed,) = whole.collectives
    assert gradients <= summed.bytes <= 1.05 * gradients


@pytest.mark.parametrize("several", [1, 5])
def test_steps_of_one_dispatch_are_told_apart(several):
    plan = plan_here(vae(steps_per_dispatch=several, steps=100), 2)
    (summed,) = plan.collectives
    gradients = 4 * sum(x.size for x in jax.tree.leaves(set_up(vae()).target.params))
    assert gradients <= summed.bytes <= 1.1 * gradients
    assert plan.flops == step_flops(set_up(vae()))


def test_flops_of_a_transformer_are_those_of_its_closed_form():
    """Six for each parameter of a product and token, and the attention's, also under a scan."""
    spec = Spec("tokens", (CONTEXT,), None, vocabulary=VOCABULARY)
    for scanned in (False, True):
        net = gx.Transformer(
            layers=LAYERS, heads=2, width=WIDTH, context=CONTEXT, scan_layers=scanned
        )
        experiment = Experiment(gx.Autoregressive(net), toy.ToyData(), gx.Adam(), batch_size=BATCH)
        flops = step_flops(set_up(experiment, data=Dataset({}, spec, None, "")))
        products = LAYERS * 12 * WIDTH**2 + VOCABULARY * WIDTH
        attention = LAYERS * 2 * WIDTH * CONTEXT
        expected = 6 * BATCH * CONTEXT * (products + attention)
        assert abs(flops - expected) < 0.05 * expected


def test_flops_of_convolutions_are_those_of_their_closed_form():
    """Two for each tap, channel and place; the first layer has no gradient of its input."""
    side, batch, first, second = 16, 16, 8, 32
    net = gx.ConvBackbone((first, second))
    experiment = Experiment(gx.Classifier(net=net), toy.Pictures(side), gx.Adam(), batch_size=batch)
    taps, half, quarter = 4 * 4, (side // 2) ** 2, (side // 4) ** 2
    begin = half * taps * 1 * first
    rest = quarter * taps * first * second + quarter * second * 10
    expected = 2 * batch * (2 * begin + 3 * rest)
    assert abs(step_flops(set_up(experiment)) - expected) < 0.05 * expected


def test_the_roofline_adds_up():
    chip = CHIPS["v5e"]
    plan = dataclasses.replace(plan_here(vae()), target=Target("v5e", chip, (1, 1)))
    parts = plan.parts
    assert parts["products"] == plan.flops / chip.flops32
    assert parts["memory"] == plan.moved / chip.bandwidth
    assert plan.step_s == max(parts["products"], parts["memory"])
    assert plan.hours(0.5) == 2 * plan.hours()
    assert plan.hours() == pytest.approx(plan.experiment.steps * plan.step_s / 3600)
    said = json.loads(json.dumps(as_json(plan, 0.5, price=3.0)))
    assert said["price"] == pytest.approx(3.0 * said["hours"])


def test_what_does_not_fit_is_cured_by_what_was_compiled():
    experiment = vae(batch_size=512)
    plan = plan_here(experiment)
    small = dataclasses.replace(find_target("cpu").chip, memory=int(0.6 * plan.memory.needed))
    target = Target("cpu", small, (1,))

    def compile_again(changed):
        return make_plan(changed, target, jax.devices()[:1], step_flops)

    def change(options):
        name, value = options.split()
        if name == "--batch-size":
            return dataclasses.replace(experiment, batch_size=int(value))
        if name == "--optimizer.accumulate":
            return dataclasses.replace(experiment, optimizer=gx.Adam(accumulate=int(value)))
        raise UserError("no such option", "options")

    tight = compile_again(experiment)
    assert not tight.memory.fits
    cures = find_cures(tight, change, compile_again)
    assert cures and all(cure.plan.memory.fits for cure in cures)
    assert [cure.options for cure in cures][-1].startswith("--batch-size")


def test_a_program_that_the_compiler_refuses_does_not_fit():
    assert not Memory(1, 1, 0, 0, 1, None, None, None, 10**9).fits


def test_what_a_step_is_given_is_what_it_trains_on():
    for several in (1, 5):
        setup = set_up(vae(batch_size=8, steps_per_dispatch=several, steps=50))
        with examples(setup, first_state(setup).state) as (batches, _):
            real = next(iter(batches))
        shaped = shape_batch(setup)
        assert {k: (v.shape, str(v.dtype)) for k, v in shaped.items()} == {
            k: (v.shape, str(v.dtype)) for k, v in real.items()
        }


def run(capfd, *arguments):
    code = main(["plan", *arguments])
    said = capfd.readouterr()
    return code, said.out, said.err


def test_the_command_prints_a_page_and_json(capfd):
    code, out, _ = run(capfd, "vae_digits", "--on", "cpu", "--tiny", "--price", "2")
    assert code == 0 and "vae_digits on cpu: fits" in out and "temporaries" in out
    code, out, _ = run(capfd, "vae_digits", "--on", "cpu", "--tiny", "--json")
    said = json.loads(out)
    assert code == 0 and said["fits"] and said["memory"]["left"] > 0 and said["flops"] > 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--on", "v5x"), "v5"),
        (("--on", "h200:2x2"), "h200:8"),
        (("--on", "cpu:4096"), "cpu:4096"),
        (("--on", "cpu", "--reached", "0"), "reached"),
        (("--on", "cpu", "--reached", "1.5"), "reached"),
        (("--on", "cpu", "--price", "-1"), "price"),
        (("--on", "cpu", "--batch-size", "7", "--optimizer.accumulate", "2"), "batch_size"),
        (("--on", "cpu:8", "--batch-size", "9"), "batch_size"),
        (("--on", "cpu:2", "--devices.mode", "sharded", "--devices.fsdp", "3"), "fsdp"),
        (("--on", "cpu", "--nothing"), "--nothing"),
    ],
)
def test_mistakes_are_one_line(capfd, options, named):
    try:
        code, out, err = run(capfd, "vae_digits", "--tiny", *options)
    except SystemExit as end:
        code, said = end.code, capfd.readouterr()
        out, err = said.out, said.err
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1 and named in err


@pytest.mark.skipif(PLUGINS is not None, reason="the plugins are here")
def test_a_missing_plugin_is_named_with_its_cure(capfd):
    for name, package in (("v5e:2x2", "libtpu"), ("h200", "jax-cuda12-pjrt")):
        code, _, err = run(capfd, "vae_digits", "--on", name)
        assert code == 2 and package in err and "pip install" in err


def run_elsewhere(*arguments):
    """Run Python with the plugins, in a process of its own: they stay out of the other tests."""
    found = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((PLUGINS or "", os.getcwd()))}
        | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


QUICK = """
import sys
from pathlib import Path
from benchmarks import plans
on, *names = sys.argv[2:]
sys.exit(plans.main(["--quick", *names, "--on", on], docs=Path(sys.argv[1])))
"""


@elsewhere
@pytest.mark.long
def test_one_of_each_family_compiles_for_a_tpu_or_a_gpu(tmp_path):
    """In turn, as both take minutes of a processor; docs/plans.json has both of every config."""
    rows = []
    for number, on in enumerate(("v5e:1x1", "h200")):
        names = FAMILIES[number::2]
        (tmp_path / on).mkdir()
        run_elsewhere("-c", QUICK, str(tmp_path / on), on, *names)
        rows += json.loads((tmp_path / on / "plans.json").read_text(encoding="utf-8"))["rows"]
        assert {(row["config"], row["on"]) for row in rows[-len(names) :]} == {
            (name, on) for name in names
        }
    for row in rows:
        assert row["fits"] and row["memory"]["activations"] + row["memory"]["temporaries"] > 0
        assert row["flops"] > 0 and row["moved_bytes"] > 0 and row["step_s"] > 0


def test_the_configs_that_are_compiled_are_of_all_families():
    of_each = {type(load_config(name)[0].family) for name in (*FAMILIES, *ALIKE)}
    everywhere = {
        type(load_config(name)[0].family)
        for name, path in list_configs().items()
        if path.parent.name != "prepare"
    }
    assert of_each == everywhere


@elsewhere
@pytest.mark.long
def test_a_slice_sums_its_gradients_once_a_step():
    words = ("-m", "genjax", "plan", "vae_digits", "--on", "v5e:2x2", "h200:4", "--json")
    for line in run_elsewhere(*words).splitlines():
        plan = json.loads(line)
        summed = {one["kind"]: one for one in plan["collectives"]}["all-reduce"]
        assert plan["memory"]["parameters"] <= summed["bytes"] <= 1.1 * plan["memory"]["parameters"]
