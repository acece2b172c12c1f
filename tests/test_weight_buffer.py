"""Weight buffer: the Verilated unit against a model of two arrays, cycle by cycle."""

import pytest

from arch.config import PRESETS, Config
from rtl.weight_buffer import WeightBuffer, lane_bits, offset_bits, value_bits
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"].with_(mask_beats=16, value_beats=16),
    "half": PRESETS["small"].with_(mask_bits=32, mask_beats=16, value_beats=16),
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, value_beats=16),
    "two": TINY.with_(columns=2, mask_bits=64, mask_beats=4, value_beats=8),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: WeightBuffer(cfg), "weight_buffer", "tb.tb_weight_buffer", parameters={"config": cfg})
    assert results.tests == 4


@pytest.mark.parametrize(
    ("cfg", "widths"),
    [
        (TINY, (9, 7, 3)),  # 128 beats of 4 values, 8 masks a beat
        (PRESETS["paper"], (12, 10, 4)),  # 128 beats of 32 values, 16 masks a beat
        (CONFIGS["two"], (5, 1, 1)),  # one mask a beat still has a lane
    ],
)
def test_widths(cfg: Config, widths: tuple[int, int, int]) -> None:
    assert (value_bits(cfg), offset_bits(cfg), lane_bits(cfg)) == widths


def test_latency_constants() -> None:
    assert (WeightBuffer.MASK_LATENCY, WeightBuffer.VALUE_LATENCY) == (2, 2)
