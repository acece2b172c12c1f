"""Reader: the Verilated unit against the golden schedule."""

import pytest

from arch.config import PRESETS
from golden import reading
from rtl.list_walker import KINDS, Kind
from rtl.reader import Reader, aux_interval, fetch_beats
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "two": TINY.with_(columns=2, mask_bits=64),  # 64-bit beats: a command takes thirty-two
    "one": TINY.with_(block_k=1, bus_elements=8),  # the stationary operand at one beat in eight cycles
    "wide": TINY.with_(columns=16, bus_elements=4),  # a command in two beats
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Reader(cfg), "reader", "tb.tb_reader", parameters={"config": cfg}).tests == 7


def test_constants() -> None:
    assert [kind.name.lower() for kind in Kind] == list(reading.KINDS) and len(reading.KINDS) == KINDS
    assert (Reader.FIRST, Reader.SETUP) == (reading.FIRST, reading.SETUP)
    for cfg in CONFIGS.values():
        assert aux_interval(cfg) == reading.stationary_interval(cfg)
    assert [fetch_beats(cfg) for cfg in CONFIGS.values()] == [16, 4, 32, 4, 2]
    assert [aux_interval(cfg) for cfg in CONFIGS.values()] == [1, 2, 1, 8, 2]
