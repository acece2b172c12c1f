"""Row controller: the Verilated unit against the row model and the golden trace, cycle by cycle."""

import re

import pytest

from arch.config import PRESETS
from rtl.row_controller import RowController
from scripts.simulate import run_bench, to_verilog

TINY = PRESETS["tiny"].with_(trace=True)
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"].with_(trace=True),
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=8, lane_group=1),
    "two": TINY.with_(
        columns=2,
        mask_bits=64,
        block_k=1,
        lane_group=4,
        gather_depth=512,
        psum_depth=256,
        value_beats=256,
        trace=False,
    ),
    "narrow": TINY.with_(operand_bits=8, bus_elements=4, block_k=16, lane_group=1, gather_depth=512, psum_depth=256),
    "long": TINY.with_(block_k=1, gather_depth=4096, psum_depth=4096),  # room for the largest U
}


@pytest.mark.parametrize(("name", "seed"), [*((name, 1) for name in CONFIGS), ("tiny", 2), ("small", 3), ("two", 4)])
def test_unit_equals_model(name: str, seed: int) -> None:
    cfg = CONFIGS[name]
    leads = {"visit_lead": RowController.VISIT_LEAD, "delta_lead": RowController.DELTA_LEAD}
    given = {"config": cfg, "start_latency": RowController.START_LATENCY, **leads}
    # A port of the top module cannot be called `trace`: Verilator's class has a method of that name.
    text = re.sub(r"\btrace\b", "trace_record", to_verilog(RowController(cfg), "row_controller"))
    results = run_bench(text, "row_controller", "tb.tb_row_controller", parameters=given, seed=seed)
    assert results.tests == 12


def test_start_latency() -> None:
    """Walker 2, masks 2, decoder 2, weight 6, output 1."""
    assert RowController.START_LATENCY == 13


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="^RowController needs sparse = True, not False$"):
        RowController(TINY.with_(sparse=False))


@pytest.mark.parametrize("name", CONFIGS)
def test_trace_on_request(name: str) -> None:
    assert hasattr(RowController(CONFIGS[name]), "trace") == CONFIGS[name].trace
