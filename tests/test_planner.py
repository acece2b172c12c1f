"""Planner: the Verilated unit, balancer included, against golden headers, assignments and cycles."""

import pytest

from arch.command import Phase, Policy
from arch.config import PRESETS
from golden import reading, timing
from golden.balancer import balance_cycles
from rtl.planner import Planner
from scripts.simulate import run_bench
from tb.command_rules import good

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


def test_golden_law_of_a_kept_plan() -> None:
    """It lasts as long as a plan without the balancer, whatever the policy."""
    for phase in (Phase.FW, Phase.BW, Phase.WU):
        command = good(TINY, phase, units=2, cap=2, w_addr=100)
        reads = reading.schedule(reading.lists(TINY, 0, 1, command, None, [], []), 16)
        kept = {timing.plan_cycles(TINY, command | {"keep": 1, "policy": int(policy)}, reads) for policy in Policy}
        assert kept == {timing.plan_cycles(TINY, command, reads) - balance_cycles(2, TINY.rows, "none")}


def test_constants() -> None:
    assert (Planner.VALIDATE, Planner.WALK) == (timing.VALIDATE, timing.WALK)
