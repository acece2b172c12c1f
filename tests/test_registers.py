"""Registers: the Verilated unit against a list of numbers; its map without collisions."""

import pytest

from arch.config import PRESETS
from arch.status import Counter, Register
from rtl.registers import WIDTHS, Registers
from scripts.simulate import run_bench
from tb.tb_registers import MOVES

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "16x4": TINY.with_(rows=16, lr_bits=16),
    "most": TINY.with_(rows=64, units=128, tensors=256, lr_bits=4),
    "least": TINY.with_(rows=2, tensors=4),
    "odd": TINY.with_(rows=5, tensors=11),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Registers(cfg), "registers", "tb.tb_registers", parameters={"config": cfg}).tests == 7


def test_addresses_do_not_collide() -> None:
    plain = [int(r) for r in Register if r not in (Register.EXPONENT, Register.COUNTER, Register.ROW_COUNTER)]
    most = CONFIGS["most"]
    ranges = [(Register.EXPONENT, most.tensors), (Register.COUNTER, len(Counter)), (Register.ROW_COUNTER, most.rows)]
    used = plain + [first + i for first, count in ranges for i in range(count)]
    assert len(used) == len(set(used)) and max(used) == 511


def test_every_counter_but_cycles_is_moved() -> None:
    assert WIDTHS.keys() == set(Counter) - {Counter.CYCLES}
    assert all(MOVES[counter] == bits for counter, bits in WIDTHS.items())
