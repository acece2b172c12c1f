"""Exponents of the next step and the decay: rules, then the units against them."""

import numpy as np
import pytest

from arch.command import Phase
from arch.config import PRESETS
from golden import exponents as ex
from rtl.exponents import Decay, ExponentTable
from scripts.simulate import run_bench

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "tiny8": PRESETS["tiny"].with_(operand_bits=8, tensors=6),
    "most": PRESETS["tiny"].with_(tensors=256),
}


@pytest.mark.parametrize("bits", (8, 16))
def test_next_exponent_leaves_one_bit(bits: int) -> None:
    """The largest magnitude fills half of the mantissa's range, wherever the exponent is not clamped."""
    rng = np.random.default_rng(bits)
    for _ in range(300):
        values = rng.integers(-(1 << 40), 1 << 40, 5) >> int(rng.integers(0, 40))
        exponent = int(rng.integers(-70, -10))
        peak = ex.peak_of(values, exponent)
        if peak is None:
            assert not values.any()
            continue
        e = ex.next_exponent(peak, Phase.BW, bits)
        largest = int(np.abs(values).max()) * 2.0**exponent / 2.0**e
        assert 2 ** (bits - 3) <= largest < 2 ** (bits - 2)


def test_peak_of() -> None:
    assert ex.peak_of([0, 0], 5) is None
    assert ex.peak_of(np.zeros((0, 3), np.int64), 5) is None
    assert ex.peak_of([0, 1, -1], 5) == 6
    assert ex.peak_of([7, -8], -3) == 1
    assert ex.peak_of([-(1 << 47)], 0) == 48


@pytest.mark.parametrize("bits", (8, 16))
def test_ranges(bits: int) -> None:
    """FW: one stays representable (mantissa 2**-E fits) and E is not above zero. BW: wide."""
    low, high = ex.fw_range(bits)
    assert 1 << -low <= (1 << (bits - 1)) - 1 and high == 0
    assert ex.next_exponent(-1000, Phase.FW, bits) == low
    assert ex.next_exponent(1000, Phase.FW, bits) == 0
    assert ex.next_exponent(-1000, Phase.BW, bits) == -100
    assert ex.next_exponent(1000, Phase.BW, bits) == 27
    assert ex.next_exponent(3, Phase.FW, bits) == max(low, 3 + 1 - (bits - 1))


def test_commit_leaves_the_others() -> None:
    table = ex.commit([1, 2, 3, -4], {1: (9, Phase.BW), 3: (2, Phase.FW)}, 16)
    assert table == [1, 9 + 1 - 15, 3, 2 + 1 - 15]


def test_phase_without_drain_is_refused() -> None:
    with pytest.raises(ValueError, match="^phase must be FW or BW, not <Phase.WU: 2>$"):
        ex.next_exponent(0, Phase.WU, 16)


@pytest.mark.parametrize("name", CONFIGS)
def test_table_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    tests = ["commits", "every_exponent_and_both_clamps", "clear_and_reset_forget_peaks"]
    results = run_bench(
        lambda: ExponentTable(cfg), "exponents", "tb.tb_exponents", parameters={"config": cfg}, testcase=tests
    )
    assert results.tests == 3


def test_decay_equals_golden() -> None:
    assert run_bench(Decay, "decay_unit", "tb.tb_exponents", testcase="decay").tests == 1


def test_latency_constants() -> None:
    assert (ExponentTable.COMMIT_EXTRA, Decay.LATENCY) == (2, 2)
