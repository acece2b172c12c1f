"""Loader: the Verilated unit against what a command says of each beat, cycle by cycle."""

import pytest

from arch.config import PRESETS
from golden import timing
from rtl.loader import Loader
from scripts.simulate import run_bench
from tb.tb_loader import TAPS

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "16x4": TINY.with_(rows=16),
    "deep": TINY.with_(psum_depth=1024),  # more positions than 256
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=4, lane_group=4),
    "one": TINY.with_(block_k=1, bus_elements=8),  # a stationary beat in eight pieces
    "two": TINY.with_(columns=2, mask_bits=64, lane_group=8),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Loader(cfg), "loader", "tb.tb_loader", parameters={"config": cfg}).tests == 9


def test_constants() -> None:
    assert (Loader.ENTRIES, Loader.SETTLE, TAPS) == (timing.ENTRIES, timing.SETTLE, timing.TAPS)
    assert (Loader.LATENCY, Loader.GATE_LATENCY) == (3, 1)
