"""Command processor: the Verilated unit against a pipeline of slots, cycle by cycle."""

import pytest

from arch.config import PRESETS
from golden import timing
from rtl.command_processor import STAGES, CommandProcessor
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,  # a command takes sixteen beats
    "two": TINY.with_(columns=2, mask_bits=64, psum_depth=4),  # thirty-two
    "half": TINY.with_(columns=16, bus_elements=4, psum_depth=16),  # two
    "one": TINY.with_(columns=16, bus_elements=8, psum_depth=16),  # one
    "wide": TINY.with_(columns=32, bus_elements=8, psum_depth=16),  # half a beat
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(
        lambda: CommandProcessor(cfg), "command_processor", "tb.tb_command_processor", parameters={"config": cfg}
    )
    assert results.tests == 8


def test_constants() -> None:
    assert STAGES == timing.STAGES
    assert (CommandProcessor.FIRST_SLOT, CommandProcessor.MIN_WAIT) == (1, timing.MIN_WAIT)
