"""Planner: the Verilated unit, balancer included, against golden headers, assignments and cycles."""

import pytest

from arch.config import PRESETS
from golden import timing
from rtl.planner import Planner
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "one": TINY.with_(block_k=1, lane_group=4),
    "16x4": TINY.with_(rows=16),
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=4, lane_group=4),
    "two": TINY.with_(columns=2, mask_bits=64, lane_group=8, rows=2),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Planner(cfg), "planner", "tb.tb_planner", parameters={"config": cfg}).tests == 11


def test_constants() -> None:
    assert (Planner.VALIDATE, Planner.WALK) == (timing.VALIDATE, timing.WALK)
