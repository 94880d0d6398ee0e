"""Names of machines: read, or refused with the nearest one."""

import pytest

from genjax.cli.bench import PEAK_FLOPS, peak_flops
from genjax.errors import UserError
from genjax.plan.targets import CHIPS, find_target
from genjax.plan.topology import describe_gpu


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("v5e", "TPU v5 lite", (1, 1)),
        ("v5e:2x2", "TPU v5 lite", (2, 2)),
        ("V5P:8x8x8", "TPU v5", (8, 8, 8)),
        ("h200", "NVIDIA H200", (1,)),
        (" h200:8 ", "NVIDIA H200", (8,)),
        ("a100-40gb:2", "NVIDIA A100-SXM4-40GB", (2,)),
    ],
)
def test_names_are_read(name, kind, shape):
    target = find_target(name)
    assert (target.chip.kind, target.shape) == (kind, shape)
    assert 0 < target.usable < target.chip.memory


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v5d", "v5"),
        ("h20", "h200"),
        ("", "known"),
        ("v5e:", "v5e:2x2"),
        ("v5e:0x2", "v5e:2x2"),
        ("v5e:2x2x2", "v5e:2x2"),
        ("v5p:2x2", "v5p:2x2x1"),
        ("v5e:-1x4", "v5e:2x2"),
        ("v5e:1024x1024", "4,096"),
        ("h200:2x2", "h200:8"),
        ("h200:many", "h200:8"),
        ("v5e;rm", "v5e"),
    ],
)
def test_others_are_refused(name, hint):
    with pytest.raises(UserError) as error:
        find_target(name)
    assert error.value.field == "on" and hint in str(error.value)


def test_the_peaks_are_those_by_which_a_step_is_measured():
    for chip in CHIPS.values():
        known = peak_flops(chip.kind)
        halves = chip.kind in ("TPU v2", "TPU v3")  # of which there are two devices a chip
        assert known == chip.flops or (known is None and halves), chip.kind
    assert {peak for peak in PEAK_FLOPS.values()} >= {197e12, 989e12}


def test_a_gpu_is_described_with_its_numbers():
    chip = CHIPS["a100"]
    text = describe_gpu(chip, chip.gpu)
    for line in ("core_count: 108", "memory_bandwidth: 2039000000000", "major: 8 minor: 0"):
        assert line in text
