"""Radix sort: the Verilated digit tables against a stable sort, cycle by cycle."""

import pytest

from golden import balancer
from rtl.radix_sort import DIGIT_BITS, DIGITS, KEY_BITS, SWEEP, DigitTables
from scripts.simulate import run_bench
from tb import tb_radix_sort as bench


@pytest.mark.parametrize("items", (2, 64, 256))
def test_unit_sorts(items: int) -> None:
    results = run_bench(lambda: DigitTables(items), "radix_sort", "tb.tb_radix_sort", parameters={"items": items})
    assert results.tests == 4


def test_constants() -> None:
    assert KEY_BITS == bench.KEY_BITS == balancer.MANTISSA_BITS + balancer.EXPONENT_BITS
    assert (SWEEP, DIGITS) == (balancer.DIGIT_BINS, balancer.SORT_PASSES)
    assert (SWEEP, DigitTables.latency) == (bench.SWEEP, bench.LATENCY)
    assert tuple((i * DIGIT_BITS, DIGIT_BITS) for i in range(DIGITS)) == bench.DIGITS


@pytest.mark.parametrize("items", (0, 3, 48))
def test_items_are_a_power_of_two(items: int) -> None:
    with pytest.raises(ValueError, match=f"^items must be a power of two, not {items}$"):
        DigitTables(items)
