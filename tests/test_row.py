"""Row: the Verilated row against the golden model in all three phases."""

import pytest
from amaranth.hdl import Fragment

from arch.config import PRESETS
from rtl.emit import verilog
from rtl.gradient_buffer import GradientBuffer
from rtl.pe_row import RowDatapath
from rtl.row import Row
from rtl.row_controller import RowController
from rtl.weight_update import WeightUpdate
from scripts.simulate import run_bench

TINY = PRESETS["tiny"].with_(gradients=128)
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"].with_(gather_depth=256, gradients=512),
    "half": PRESETS["small"].with_(mask_bits=32, lane_group=2, gather_depth=256, gradients=512, copies=True),
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=8, lane_group=1, gather_depth=256),
    "two": TINY.with_(
        columns=2, mask_bits=64, block_k=1, lane_group=4, gather_depth=512, psum_depth=256, value_beats=256
    ),
}


@pytest.mark.parametrize(("name", "seed"), [*((name, 1) for name in CONFIGS), ("tiny", 2), ("two", 3)])
def test_row_equals_golden(name: str, seed: int) -> None:
    cfg = CONFIGS[name]
    given = {
        "config": cfg,
        "start_latency": Row.START_LATENCY + RowController.START_LATENCY,
        "dot_latency": RowDatapath.dot_latency(cfg),
        "gradient_latency": GradientBuffer.LATENCY,
        "update_latency": WeightUpdate.LATENCY,
    }
    text = verilog(Row(cfg, emit=True), cfg, "row")
    assert run_bench(text, "row", "tb.tb_row", parameters=given, seed=seed).tests == 9


@pytest.mark.parametrize("trace", (False, True))
def test_trace_on_request(trace: bool) -> None:
    row = Row(TINY.with_(trace=trace))
    Fragment.get(row, None)
    assert hasattr(row, "trace") == trace
