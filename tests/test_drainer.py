"""Drainer of partial sums: the Verilated unit against golden requantisation and timing, cycle by cycle."""

import pytest

from arch.config import PRESETS
from golden import writing
from rtl.drainer import FlowDrainer
from scripts.simulate import run_bench
from tb import flow_model as model

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "eight": TINY.with_(rows=3, operand_bits=8, bus_elements=8, mask_bits=64, block_k=8, lane_group=8),
    "deep": TINY.with_(psum_depth=1024, gate_beats=1024),  # more than 256 positions
    "chain": TINY.with_(rows=7, units=128, copies=True),
    "one_lane": TINY.with_(columns=2, mask_bits=64, block_k=1, lane_group=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(
        lambda: FlowDrainer(cfg), "drainer", "tb.tb_drainer", parameters={"config": cfg}, seed=len(name)
    )
    assert results.tests == 8


@pytest.mark.parametrize("seed", (11, 12, 13))
def test_more_seeds(seed: int) -> None:
    cfg = CONFIGS["one_lane"]
    parameters = {"config": cfg}
    results = run_bench(
        lambda: FlowDrainer(cfg),
        "drainer",
        "tb.tb_drainer",
        parameters=parameters,
        seed=seed,
        testcase="random_working_sets",
    )
    assert results.tests == 1


def test_configurations_cover_many_positions() -> None:
    most = max(
        min(cfg.psum_depth // max(cfg.block_k, cfg.lane_group), cfg.gate_beats * cfg.bus_elements)
        for cfg in CONFIGS.values()
    )
    assert most > 256


def test_constants() -> None:
    assert FlowDrainer.SIDE_LATENCY == model.SIDE
    assert FlowDrainer.SHIFT_NEEDED == model.SHIFT_NEEDED
    assert FlowDrainer.PUSH_LATENCY == writing.FLOW_PUSH
    assert FlowDrainer.DONE_LATENCY + writing.QUEUE == writing.FLOW_DONE
