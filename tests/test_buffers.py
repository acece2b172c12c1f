"""Gate buffer and assignment table: the Verilated memories against dictionaries."""

import pytest

from arch.config import PRESETS, Config
from rtl.assignment import AssignmentTable, row_bits, unit_bits
from rtl.gate_buffer import GateBuffer
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "three": TINY.with_(rows=3, units=8, gate_beats=2, bus_elements=8),
    "sixteen": TINY.with_(rows=16, units=512),
}


@pytest.mark.parametrize("name", ("tiny", "small", "three", "sixteen"))
def test_gate_buffer(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: GateBuffer(cfg), "gate_buffer", "tb.tb_gate_buffer", parameters={"config": cfg}).tests == 1


@pytest.mark.parametrize("name", ("tiny", "three", "sixteen"))
def test_assignment_table(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: AssignmentTable(cfg), "assignment", "tb.tb_assignment", parameters={"config": cfg})
    assert results.tests == 1


@pytest.mark.parametrize(("rows", "bits"), [(2, 1), (3, 2), (4, 2), (6, 3), (16, 4), (17, 5), (64, 6)])
def test_row_bits(rows: int, bits: int) -> None:
    assert row_bits(TINY.with_(rows=rows, units=128)) == bits


def test_unit_bits_and_latencies() -> None:
    assert unit_bits(TINY) == 6 and unit_bits(Config()) == 9
    assert GateBuffer.READ_LATENCY == AssignmentTable.READ_LATENCY == 1
