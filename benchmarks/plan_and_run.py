"""Hold plans for this machine's CPU beside what a step really takes.

    python -m benchmarks.plan_and_run              # the configs of CONFIGS, into docs/plans.json
    python -m benchmarks.plan_and_run vae_mnist    # one, printed as JSON

Each config runs in a process of its own. The memory is the growth of the process's peak while the
state, a batch and a step's results are made by compiled programs, each for the first time. The
roofline is that of ``genjax plan --on cpu``, whose peak is measured before and after the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import plans

CONFIGS = (
    *("gpt_docs", "mlm_docs", "vae_mnist", "diffusion_mnist"),
    *("vqvae_mnist", "dcgan_mnist", "ddpm_mnist_gpu", "dit_fashion_mnist", "llama_tiny"),
)
STEPS = 5
# Otherwise glibc keeps what is freed, the more the larger it was; later arrays lie in it or not.
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(name: str) -> dict[str, Any]:
    """Return what the plan says of a config, and what one step takes.

    Returns:
      planned and grown, bytes; roofline_s and step_s, the fastest of ``STEPS``; reached, the ratio
      of the two.
    """
    import jax
    import jax.numpy as jnp

    from genjax.cli.bench import step_flops
    from genjax.config_files import load_config
    from genjax.parallel import Devices, arrange
    from genjax.plan.plan import make_plan, shape_batch
    from genjax.plan.targets import find_target
    from genjax.runs.first_state import examples, first_state
    from genjax.runs.setup import set_up

    experiment = load_config(name)[0]
    here = jax.devices("cpu")[:1]
    plan = make_plan(experiment, find_target("cpu"), here, step_flops)
    setup = set_up(experiment, layout=arrange(Devices(count=1), here))
    state = first_state(setup).state
    with examples(setup, state) as (batches, _):
        batch = next(iter(batches))
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree)).lower((state, batch)).compile()
    step = setup.run_step.lower(setup.target, shape_batch(setup)).compile()
    before = _forget_peak()
    made, given = jax.block_until_ready(copy((state, batch)))
    made, metrics = jax.block_until_ready(step(made, given))
    grown = _read_memory("VmHWM") - before
    took = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        made, metrics = jax.block_until_ready(step(made, given))
        took.append((time.perf_counter() - begin) / experiment.steps_per_dispatch)
    del metrics
    rates = [plan.target.chip.flops, find_target("cpu").chip.flops]
    roofline = plan.flops / max(rates)
    return {
        "config": name,
        "planned": plan.memory.needed,
        "grown": grown,
        "roofline_s": roofline,
        "step_s": min(took),
        "median_s": statistics.median(took),
        "reached": round(roofline / min(took), 3),
    }


def _forget_peak() -> int:
    """Start the process's peak again; returns the bytes of what is in memory."""
    import gc

    gc.collect()
    PEAK.write_text("5", encoding="utf-8")
    return _read_memory("VmRSS")


def _read_memory(field: str) -> int:
    found = re.search(rf"{field}:\s*(\d+) kB", STATUS.read_text(encoding="utf-8"))
    assert found is not None
    return 1024 * int(found[1])


def run(name: str) -> dict[str, Any]:
    """Measure a config in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plan_and_run", name]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **RETURNED}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one config, or all into docs/plans.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?")
    parser.add_argument("--again", action="store_true", help="also what is there")
    options = parser.parse_args(arguments)
    if options.config is not None:
        print(json.dumps(measure(options.config)))
        return 0
    path = plans.DOCS / plans.STORED
    for name in CONFIGS:
        there = {one["config"] for one in plans.read(path)["measured"]}
        if name in there and not options.again:
            continue
        one = run(name)
        print(json.dumps(one), flush=True)
        found = plans.read(path) | {"measured_on": describe_processor(), "measured_steps": STEPS}
        found["measured"] = [o for o in found["measured"] if o["config"] in CONFIGS]
        found["measured"] = [o for o in found["measured"] if o["config"] != name] + [one]
        plans.write(path, found)
    return plans.main(["--page"])


def describe_processor() -> str:
    """Return the name of the processor and the number of its cores."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"model name\s*: (.*)", text)
    return f"{name[1] if name else 'CPU'}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
