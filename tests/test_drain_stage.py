"""Drain stage: the Verilated unit against the golden law of a slot, with either drainer of new blocks."""

import pytest

from arch.config import PRESETS
from golden import timing
from rtl.drain_stage import DrainStage
from rtl.write_queue import WriteQueue
from scripts.simulate import run_bench
from tb import tb_drain_stage as bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "eight": TINY.with_(rows=3, operand_bits=8, bus_elements=8, mask_bits=64, block_k=8, lane_group=8, tensors=4),
    "dense": TINY.with_(sparse=False),
    "chain": TINY.with_(rows=7, units=128, copies=True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    parameters = {"config": cfg}
    results = run_bench(lambda: DrainStage(cfg), "drain_stage", "tb.tb_drain_stage", parameters=parameters)
    assert results.tests == 5


@pytest.mark.parametrize("seed", (11, 12, 13))
def test_more_seeds(seed: int) -> None:
    cfg = CONFIGS["tiny"]
    parameters = {"config": cfg}
    results = run_bench(
        lambda: DrainStage(cfg),
        "drain_stage",
        "tb.tb_drain_stage",
        parameters=parameters,
        seed=seed,
        testcase="mixed_slots",
    )
    assert results.tests == 1


def test_constants() -> None:
    assert DrainStage.END == timing.DRAIN_END
    for cfg in CONFIGS.values():
        assert WriteQueue.depth(cfg) == bench.DEPTH
