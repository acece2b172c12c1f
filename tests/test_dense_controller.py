"""Dense row controller: the Verilated unit against the row model and the golden trace, cycle by cycle."""

import re

import pytest

from arch.config import PRESETS
from rtl.dense_controller import DenseController
from rtl.row_controller import RowController
from scripts.simulate import run_bench, to_verilog

TINY = PRESETS["tiny"].with_(sparse=False, trace=True)
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"].with_(sparse=False, trace=True),
    "eight": TINY.with_(
        operand_bits=8, bus_elements=4, mask_bits=64, block_k=8, lane_group=1, value_beats=128, trace=False
    ),
    "one_k": TINY.with_(columns=2, mask_bits=64, block_k=1, gather_depth=512, psum_depth=256, value_beats=512),
    "column": TINY.with_(operand_bits=8, bus_elements=4, block_k=16, lane_group=1, gather_depth=512, psum_depth=256),
    "wide": TINY.with_(columns=16, bus_elements=4),  # two words a beat
}


@pytest.mark.parametrize(("name", "seed"), [*((name, 1) for name in CONFIGS), ("tiny", 2), ("wide", 3)])
def test_unit_equals_model(name: str, seed: int) -> None:
    cfg = CONFIGS[name]
    leads = {"visit_lead": DenseController.VISIT_LEAD, "delta_lead": DenseController.DELTA_LEAD}
    given = {"config": cfg, "start_latency": DenseController.START_LATENCY, **leads}
    # A port of the top module cannot be called `trace`: Verilator's class has a method of that name.
    text = re.sub(r"\btrace\b", "trace_record", to_verilog(DenseController(cfg), "dense_controller"))
    results = run_bench(text, "dense_controller", "tb.tb_dense_controller", parameters=given, seed=seed)
    assert results.tests == 8


def test_same_law_as_the_sparse_build() -> None:
    assert DenseController.START_LATENCY == RowController.START_LATENCY
    assert DenseController.LATENCY == 7  # walker 2, bounds 1, counters 1, value 2, output 1


def test_shapes_are_covered() -> None:
    """Words of several beats, of one, and of a part of one; with and without lane groups within a word."""
    ratios = {cfg.mask_bits / cfg.values_per_beat for cfg in CONFIGS.values()}
    assert min(ratios) < 1 < max(ratios)
    assert {cfg.groups_per_word == 1 for cfg in CONFIGS.values()} == {True, False}


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="^DenseController needs sparse = False, not True$"):
        DenseController(TINY.with_(sparse=True))


def test_no_masks_and_no_counts() -> None:
    text = to_verilog(DenseController(TINY), "dense_controller")
    assert not re.search("decoder|regenerate|exploration|mask(?!_beats)", text)
