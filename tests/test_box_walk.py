"""Walk through a box: the Verilated unit against the golden boxes, address by address."""

import pytest

from arch.config import PRESETS
from rtl.box_walk import PITCH_BITS, BoxWalk
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "paper": PRESETS["paper"],
    "few": TINY.with_(psum_depth=8, gather_depth=16, lane_group=1),
    "many": TINY.with_(psum_depth=4096, gather_depth=1 << 15),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: BoxWalk(cfg), "box_walk", "tb.tb_box_walk", parameters={"config": cfg})
    assert results.tests == 4


def test_steps_reach_every_address() -> None:
    assert PITCH_BITS >= 15  # gather_depth is at most 2**15
