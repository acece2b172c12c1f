"""Taps of a filter: builder and memory, Verilated, against the golden boxes and against dictionaries."""

import pytest

from arch.command import MOST_KERNEL
from arch.config import PRESETS
from golden import timing
from rtl.tap_table import TAP_BITS, TapBuilder, TapMemory, box_layout, position_bits
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "paper": PRESETS["paper"],
    "few": TINY.with_(psum_depth=8, gather_depth=16, lane_group=1),
    "many": TINY.with_(psum_depth=4096, gather_depth=1 << 15),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_builder_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    given = {"config": cfg, "layout": {field: (at.offset, at.width) for field, at in box_layout(cfg)}}
    results = run_bench(lambda: TapBuilder(cfg), "tap_builder", "tb.tb_tap_builder", parameters=given)
    assert results.tests == 4


@pytest.mark.parametrize("name", ("tiny", "many"))
def test_memory_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: TapMemory(cfg), "tap_memory", "tb.tb_tap_memory", parameters={"config": cfg})
    assert results.tests == 2


def test_law_is_that_of_the_golden_timing() -> None:
    assert TapBuilder.FIRST == timing.TAPS == 4


def test_widths() -> None:
    assert 1 << TAP_BITS >= MOST_KERNEL**2
    assert position_bits(TINY) == 7  # up to 64 of them
    assert box_layout(TINY).size == 7 + 6 + 2 * 7
