"""A profile divides the time of a step without loss, and follows its memory as XLA counts it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import __main__ as command_line
from genjax.profile.kinds import read_kinds
from genjax.profile.memory import follow_memory
from genjax.profile.page import draw_bars
from genjax.profile.profile import COLLECTING, DEVICE, HOST, WAITING, profile
from genjax.profile.trace import Event, divide, keep_operations, read_events, sum_times
from tests import toy

PROGRAM = """\
HloModule jit_f, is_scheduled=true, input_output_alias={ {1}: (0, {}, may-alias) }

%body (arg: (f32[4], s32[])) -> (f32[4], s32[]) {
  %arg = (f32[4]{0}, s32[]) parameter(0)
  %a = f32[4]{0} get-tuple-element(%arg), index=0
  %i = s32[] get-tuple-element(%arg), index=1
  %wide = f32[100]{0} broadcast(%a), dimensions={}
  %b = f32[4]{0} slice(%wide), slice={[0:4]}
  ROOT %out = (f32[4]{0}, s32[]) tuple(%b, %i)
}

ENTRY %main (p: f32[10], q: f32[4]) -> (f32[20], f32[10]) {
  %p = f32[10]{0} parameter(0)
  %q = f32[4]{0} parameter(1)
  %x = f32[50]{0} broadcast(%p), dimensions={}
  %y = f32[30]{0} slice(%x), slice={[0:30]}
  %zero = s32[] constant(0)
  %init = (f32[4]{0}, s32[]) tuple(%q, %zero)
  %loop = (f32[4]{0}, s32[]) while(%init), condition=%cond, body=%body
  %r = f32[4]{0} get-tuple-element(%loop), index=0
  %z = f32[20]{0} fusion(%y, %r), kind=kLoop, calls=%fused
  %w = f32[10]{0} negate(%p)
  ROOT %result = (f32[20]{0}, f32[10]{0}) tuple(%z, %w)
}
"""
CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from toy import experiment

def get_config(tiny=False):
    return experiment(steps=2)
"""
MISSING = """
from genjax import gx

def get_config(tiny=False):
    return gx.Experiment(family=gx.VAE(), data=gx.ImageFolder("nowhere", (8, 8)))
"""


def event(name, begin, end, line="0", module=""):
    return Event(line, name, module, begin * 1e6, end * 1e6)


def test_time_is_divided_without_loss():
    parts = {
        "device": [event("a", 1, 4), event("b", 2, 6), event("c", 90, 200)],
        "input": [event("i", 5, 8), event("i", -5, 0.5)],
    }
    found = divide(0, 100e6, parts, "host")
    assert found == {"device": 15.0, "input": 2.5, "host": 82.5}
    assert divide(0, 1e6, {}, "host") == {"host": 1.0}


def test_what_is_inside_an_event_is_not_counted_twice():
    events = [
        event("while", 0, 10),
        event("dot", 1, 4),
        event("dot", 5, 6),
        event("dot", 0, 2, "1"),
    ]
    assert sum_times(events) == {"while": 6.0, "dot": 6.0}


def test_operations_are_those_of_the_program():
    events = [
        event("dot.1", 0, 1, module="jit_step"),
        event("dot.1", 1, 2, module="jit_other"),
        event("%fusion.2 = f32[8]{0} fusion(f32[8] %p)", 2, 3),
        event("jit_step(123)", 0, 9),
        event("Execute", 0, 9),
    ]
    found = list(keep_operations(events, {"dot.1", "fusion.2"}, "jit_step"))
    assert [(e.name, e.begin) for e in found] == [("dot.1", 0.0), ("fusion.2", 2e6)]


def test_memory_is_followed_through_loops_and_reuse():
    found = follow_memory(PROGRAM)
    assert found.arguments == 4 * 14
    # x; y beside x; in the loop y and wide, then y alone; y and the result; the result, as w is
    # written in the place of p.
    live = [200, 320, 120 + 400, 120 + 400, 120 + 80, 80]
    assert found.live == tuple(56 + size for size in live)
    assert found.peak == 56 + 520 and found.operation == "wide"
    assert found.largest == (("wide", 400), ("y", 120))
    assert found.thin(2) == [56 + 520, 56 + 520] and len(found.thin(100)) == 6


def test_the_timeline_agrees_with_what_xla_allocates(optimised):
    def step(w, x):
        for _ in range(4):
            x = jnp.sin(x @ w)
        return w - 0.1 * jax.grad(lambda w: jnp.square(jnp.tanh(x @ w)).sum())(w), x.sum()

    shapes = jax.ShapeDtypeStruct((64, 64), "float32"), jax.ShapeDtypeStruct((128, 64), "float32")
    compiled = jax.jit(step, donate_argnums=0).lower(*shapes).compile()
    found, sizes = follow_memory(compiled.as_text()), compiled.memory_analysis()
    assert found.arguments == sizes.argument_size_in_bytes == 4 * (64 * 64 + 128 * 64)
    whole = found.arguments + sizes.temp_size_in_bytes
    whole += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    np.testing.assert_allclose(found.peak, whole, rtol=0.25)


def test_a_trace_holds_the_operations_of_a_program(tmp_path):
    compiled = jax.jit(lambda x: jnp.sin(x @ x)).lower(jnp.ones((64, 64))).compile()
    with jax.profiler.trace(str(tmp_path)), jax.profiler.TraceAnnotation("mine"):
        jax.block_until_ready(compiled(jnp.ones((64, 64))))
    events, kinds = read_events(tmp_path), read_kinds(compiled.as_text())
    (mine,) = (e for e in events if e.name == "mine")
    found = list(keep_operations(events, kinds, compiled.as_text().split(",")[0].split()[1]))
    assert found and all(mine.begin < e.begin < e.end for e in found)


def test_the_parts_of_a_profile_add_up():
    found = profile(toy.experiment(), seconds=0.05)
    assert set(found.parts) == {DEVICE, WAITING, HOST} and COLLECTING not in found.parts
    assert sum(found.parts.values()) == pytest.approx(found.traced_ms)
    assert all(ms > 0 for ms in found.parts.values()) and found.plain_ms > 0
    assert "matrix products" in found.sum_kinds() and found.operations[0].ms > 0
    # Parameters [6, 4] and [4, 6], a batch of points [16, 6], masks, counters and keys.
    assert found.sizes.arguments >= 4 * (24 + 24 + 96) and found.timeline.arguments > 0


def test_the_command_prints_tables_or_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "genjax.cli.bench.profile", lambda experiment: profile(experiment, seconds=0.02)
    )
    config = tmp_path / "mine.py"
    config.write_text(CONFIG.format(tests=str(Path(toy.__file__).parent)), encoding="utf-8")
    assert command_line.main(["bench", str(config), "--profile"]) == 0
    said = capsys.readouterr().out
    for words in ("mine on 1 x cpu: a step takes", "where the time goes", "slowest operations"):
        assert words in said
    assert "live arrays over" in said and "█" in said
    assert command_line.main(["bench", str(config), "--profile", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "mine" and len(found["memory"]["live"]) <= 40
    assert sum(found["parts_ms"].values()) == pytest.approx(found["traced_step_ms"], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "field"), [(["--json"], "json"), (["--profile"], "nowhere"), (["--porfile"], "prof")]
)
def test_what_cannot_be_profiled_is_one_line(words, field, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MISSING, encoding="utf-8")
    assert command_line.main(["bench", "mine.py", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("genjax: ") and field in line


def test_bars_reach_from_nothing_to_the_most():
    assert draw_bars([0, 50, 100]) == "▁▅█" and draw_bars([0]) == "▁" and draw_bars([]) == ""
