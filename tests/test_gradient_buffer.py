"""Gradient buffer: the Verilated unit against a list, for several widths and distances of the sums."""

import pytest

from arch.config import PRESETS, Config
from rtl.gradient_buffer import GradientBuffer
from rtl.pe_row import RowDatapath
from scripts.simulate import run_bench

TINY = PRESETS["tiny"].with_(gradients=64)


@pytest.mark.parametrize(
    ("cfg", "dots"),
    [
        (TINY, RowDatapath.dot_latency(TINY)),
        (PRESETS["small"].with_(gradients=256), RowDatapath.dot_latency(PRESETS["small"])),
        (TINY.with_(operand_bits=8, bus_elements=4, gradients=32), 3),
        (TINY.with_(gradients=16), 10),
    ],
)
def test_unit_equals_model(cfg: Config, dots: int) -> None:
    given = {"config": cfg, "dots": dots}
    results = run_bench(lambda: GradientBuffer(cfg, dots), "gradient_buffer", "tb.tb_gradient_buffer", parameters=given)
    assert results.tests == 6


def test_latency_constant() -> None:
    assert GradientBuffer.LATENCY == 1


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="^dot_latency must be at least 3, not 2$"):
        GradientBuffer(TINY, 2)
