"""Compute sequencer: the Verilated unit against the contract's formulas and the golden timing constants."""

import pytest

from arch.config import PRESETS
from golden import timing
from rtl.compute_sequencer import EVENTS, ComputeSequencer
from rtl.quantile import QuantileEstimator
from scripts.simulate import run_bench
from tb import tb_compute_sequencer

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "16x4": TINY.with_(rows=16),
    "eight": PRESETS["small"].with_(operand_bits=8),
    "odd": TINY.with_(rows=5, columns=2, mask_bits=64, tensors=4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(
        lambda: ComputeSequencer(cfg), "compute_sequencer", "tb.tb_compute_sequencer", parameters={"config": cfg}
    )
    assert results.tests == 5


@pytest.mark.parametrize("name", CONFIGS)
def test_law_is_that_of_the_golden_timing(name: str) -> None:
    cfg = CONFIGS[name]
    end = ComputeSequencer.update_end(cfg)
    assert end == timing.UPDATE_END + timing.tree_levels(cfg)
    assert end - QuantileEstimator.LATENCY - 1 == timing.OBSERVE + timing.tree_levels(cfg)
    assert (ComputeSequencer.START, ComputeSequencer.FLOW_END) == (timing.COMPUTE_START, timing.FLOW_END)
    assert EVENTS == tb_compute_sequencer.EVENTS
