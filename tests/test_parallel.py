"""One device, eight mapped, eight sharded, two processes: the same losses and gradient norms."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.families.vae import VAE
from genjax.machine.target import is_split
from genjax.nets.mlp import MLPCoder
from genjax.optim import SGD, Adam
from genjax.parallel import Devices, ShardRule
from genjax.runs.setup import initial_state
from genjax.schedules import Constant
from tests import toy

ONE = Devices(count=1)
MAPPED = Devices(count=8, mode="pmapped")
SHARDED = Devices(count=8, mode="sharded", fsdp=4)
TENSOR = Devices(count=8, mode="sharded", fsdp=2, tensor=2)


def curve(run_dir, experiment, **options):
    """Loss and gradient norm of every step."""
    genjax.train(experiment, run_dir, quiet=True, **options)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return np.array([[r["loss"], r["grad_norm"]] for r in rows if r["split"] == "train"])


@pytest.mark.parametrize("devices", [MAPPED, SHARDED, TENSOR], ids=["pmapped", "sharded", "tensor"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_eight_devices_equal_one(tmp_path, devices, accumulate):
    optimizer = SGD(Constant(0.01), accumulate=accumulate)
    one = curve(tmp_path / "one", toy.experiment(optimizer=optimizer, devices=ONE))
    eight = curve(tmp_path / "eight", toy.experiment(optimizer=optimizer, devices=devices))
    assert one.shape == (20, 2) and one[-1, 0] < 0.9 * one[0, 0]
    np.testing.assert_allclose(eight, one, rtol=1e-4)


def vae(devices):
    return toy.experiment(
        family=VAE(latent_dim=4, coder=MLPCoder((16,))),
        data=Digits(),
        optimizer=SGD(Constant(1e-3)),
        devices=devices,
    )


def test_a_sharded_vae_draws_the_same_noise_on_one_device_and_on_eight(tmp_path):
    one = curve(tmp_path / "one", vae(ONE))
    eight = curve(tmp_path / "eight", vae(SHARDED))
    np.testing.assert_allclose(eight, one, rtol=1e-4)


def test_a_mapped_vae_draws_other_noise_of_the_same_law(tmp_path):
    one = curve(tmp_path / "one", vae(ONE))
    eight = curve(tmp_path / "eight", vae(MAPPED))
    assert not np.allclose(eight, one, rtol=1e-4)
    np.testing.assert_allclose(eight[:, 0].mean(), one[:, 0].mean(), rtol=0.01)


def test_several_steps_a_dispatch_change_nothing(tmp_path):
    one = curve(tmp_path / "one", toy.experiment())
    several = toy.experiment(
        steps_per_dispatch=5, every=Every(log=5, evaluate=0, sample=0, checkpoint=0)
    )
    mapped = toy.experiment(steps_per_dispatch=5, devices=MAPPED, every=several.every)
    for name, experiment in (("several", several), ("mapped", mapped)):
        rows = curve(tmp_path / name, experiment)  # a row is the mean over its five steps
        np.testing.assert_allclose(rows, one.reshape(4, 5, 2).mean(1), rtol=1e-4)


def test_the_first_and_the_last_dispatch_may_be_shorter(tmp_path):
    """Seven steps in dispatches of five, then on to twenty: 5, 2, and after the resume 3, 5, 5."""
    one = curve(tmp_path / "one", toy.experiment(steps=23))
    every = Every(log=5, evaluate=0, sample=0, checkpoint=5)
    for steps in (7, 23):
        several = toy.experiment(steps=steps, steps_per_dispatch=5, every=every)
        rows = curve(tmp_path / "several", several)
    seen = [one[a:b].mean(0) for a, b in ((0, 5), (5, 7), (7, 10), (10, 15), (15, 20), (20, 23))]
    np.testing.assert_allclose(rows, seen, rtol=1e-4)


@pytest.mark.parametrize("devices", [ONE, MAPPED, SHARDED], ids=["single", "pmapped", "sharded"])
def test_a_checkpoint_goes_on_on_other_devices(tmp_path, devices):
    """Ten steps on eight devices and ten on others equal twenty on one."""
    whole = curve(tmp_path / "whole", toy.experiment(optimizer=Adam(Constant(0.01))))
    begin = toy.experiment(optimizer=Adam(Constant(0.01)), steps=10, devices=SHARDED)
    curve(tmp_path / "moved", begin)
    end = toy.experiment(optimizer=Adam(Constant(0.01)), devices=devices)
    np.testing.assert_allclose(curve(tmp_path / "moved", end), whole, rtol=1e-4)


def test_parameters_and_moments_lie_where_the_rules_say():
    layout = parallel.start(
        Devices(
            count=8,
            mode="sharded",
            fsdp=2,
            tensor=2,
            rules=(ShardRule("special", ("tensor", None)),),
        )
    )
    params = {
        "special": jnp.zeros((4, 4)),
        "kernel": jnp.zeros((8, 6)),
        "odd": jnp.zeros((3, 5)),
        "bias": jnp.zeros(6),
    }
    state = {
        "params": params,
        "opt_state": {"mu": params},
        "variables": {"mean": jnp.zeros((8, 8))},
    }
    specs = jax.tree.map(lambda s: tuple(s.spec), layout.make_shardings(state))
    expected = {
        "special": ("tensor", None),
        "kernel": ("fsdp", "tensor"),
        "odd": (None, None),
        "bias": (),
    }
    assert specs["params"] == expected and specs["opt_state"]["mu"] == expected
    assert specs["variables"]["mean"] == ()
    kernel = layout.init(lambda: state)["params"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(4, 3)}


def test_sharded_memory_is_a_part_of_the_whole(tmp_path):
    layout = parallel.start(SHARDED)
    experiment = vae(SHARDED)
    state = layout.init(initial_state(experiment, experiment.data.open().spec))
    kernels = [x for x in jax.tree.leaves(state.params) if x.ndim == 2]
    assert all(x.addressable_shards[0].data.size * 4 == x.size for x in kernels)


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (dict(count=99), "99.*8 device"),
        (dict(mode="pmapped", fsdp=2), "mode sharded"),
        (dict(mode="sharded", fsdp=3), "do not divide"),
        (dict(mode="single", count=2), "one device"),
        (dict(coordinator="127.0.0.1:1"), "processes"),
        (dict(count=0), "at least 1"),
    ],
)
def test_devices_that_do_not_fit_are_refused(devices, said):
    with pytest.raises(UserError, match=said):
        parallel.start(Devices(**devices))


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"batch_size 12 is not divisible by 8 device\(s\)"):
        curve(tmp_path, toy.experiment(batch_size=12, devices=MAPPED))
    with pytest.raises(UserError, match="3 microbatch"):
        curve(tmp_path, toy.experiment(optimizer=SGD(accumulate=3)))


def test_prefetch_keeps_order_and_stays_ahead():
    placed = []
    items = parallel.prefetch(iter(range(5)), lambda x: (placed.append(x), x)[1], depth=2)
    assert next(items) == 0 and placed == [0, 1]
    assert list(items) == [1, 2, 3, 4]


PROCESS = """
import sys
import jax
import genjax
from genjax.optim import SGD
from genjax.schedules import Constant
from genjax.parallel import Devices
from tests import toy
port, number, mode, steps, run_dir = sys.argv[1:6]
number, steps = int(number), int(steps)
devices = Devices(mode=mode, coordinator=f"127.0.0.1:{port}", processes=2, process_id=number)
genjax.train(toy.experiment(steps=steps, devices=devices), run_dir, quiet=True)
assert jax.process_count() == 2
"""


def together(*commands):
    """Run the commands at the same time; what each said on stderr."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([".", *sys.path]),
        "JAX_PLATFORMS": "cpu",
    }
    started = [
        subprocess.Popen(c, env=environment, stderr=subprocess.PIPE, text=True) for c in commands
    ]
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * len(commands), said
    return said


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def two_processes(run_dir, mode, steps):
    port = free_port()
    together(
        *(
            [sys.executable, "-c", PROCESS, port, str(i), mode, str(steps), str(run_dir)]
            for i in range(2)
        )
    )


@pytest.mark.long
def test_two_processes_from_the_command_line(tmp_path):
    """As the README says; the config is built before the processes join, so it must not wake
    the devices.
    """
    address = f"127.0.0.1:{free_port()}"
    common = [
        sys.executable,
        "-m",
        "genjax",
        "train",
        "vae_digits",
        "--tiny",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    common += ["--devices.coordinator", address, "--devices.processes", "2", "--devices.process-id"]
    together([*common, "0"], [*common, "1"])
    run = genjax.load(tmp_path / "run")
    assert run.step == 16 and run.sample(num=2).shape == (2, 8, 8, 1)


@pytest.mark.parametrize("mode", [pytest.param("pmapped", marks=pytest.mark.long), "sharded"])
def test_two_processes_equal_one_and_their_checkpoint_goes_on_on_one(tmp_path, mode):
    whole = curve(tmp_path / "whole", toy.experiment())
    two_processes(tmp_path / "two", mode, steps=10)
    rows = [
        json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    ]
    np.testing.assert_allclose([[r["loss"], r["grad_norm"]] for r in rows], whole[:10], rtol=1e-4)
    np.testing.assert_allclose(curve(tmp_path / "two", toy.experiment()), whole, rtol=1e-4)


def test_queued_steps_use_memory_that_is_mapped_already() -> None:
    script = """
        import resource, jax, jax.numpy as jnp
        from genjax import parallel
        layout = parallel.start(parallel.Devices(count=1))
        def step(state, batch, axis):
            rows = state[:, None] + batch  # 32 MB; a loop is no program that always runs inline
            rows = jax.lax.fori_loop(0, 2, lambda _, rows: rows + 1, rows)
            return rows.mean(1), {}
        state = jnp.zeros(8000)
        run = layout.compile_step(step, jax.eval_shape(lambda: state))
        batch = layout.place(jnp.ones((1, 1000)))
        def faults():
            global state
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(4):
                state, _ = run(state, batch)
            jax.block_until_ready(state)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        faults(), print(min(faults() for _ in range(5)))  # other threads have faults, too, at times
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 2000  # 23,000 in steps that are queued


@pytest.mark.parametrize("count", [1, 2])
def test_rows_of_an_evaluation_are_split_over_several_devices_only(count):
    layout = parallel.start(Devices(count=count))
    seen = []
    layout.compile_evaluation(lambda x: (seen.append(is_split()), x)[1])(jnp.ones(2))
    assert seen == [count > 1]
