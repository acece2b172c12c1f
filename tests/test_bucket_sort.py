"""Bucket sort: the Verilated lists against a stable sort, cycle by cycle; keys against those of the golden model."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from golden import balancer
from rtl.bucket_sort import EXPONENT_BITS, KEY_BITS, MANTISSA_BITS, BucketSort, sort_key
from scripts.simulate import run_bench
from tb import tb_bucket_sort as bench


@pytest.mark.parametrize("items", (2, 64, 256))
def test_unit_sorts(items: int) -> None:
    results = run_bench(lambda: BucketSort(items), "bucket_sort", "tb.tb_bucket_sort", parameters={"items": items})
    assert results.tests == 4


@pytest.mark.parametrize("width", (16, 19, 23))
def test_keys_equal_golden(width: int) -> None:
    """Around every step of the key, of numbers of this width."""
    steps = np.arange(1, (1 << 5) + 1)[:, None] << np.arange(width - 4)
    numbers = np.unique(np.r_[steps.ravel(), steps.ravel() - 1, steps.ravel() + 1])
    numbers = numbers[(numbers >= 0) & (numbers < 1 << width)]
    assert numbers[-1] == (1 << width) - 1
    m, number = Module(), Signal(width)
    key = sort_key(m, number)

    async def process(ctx) -> None:
        for value, wanted in zip(numbers.tolist(), balancer.sort_key(numbers).tolist(), strict=True):
            ctx.set(number, value)
            assert ctx.get(key) == wanted, value

    simulator = Simulator(m)
    simulator.add_testbench(process)
    simulator.run()


def test_constants() -> None:
    assert (MANTISSA_BITS, EXPONENT_BITS) == (balancer.MANTISSA_BITS, balancer.EXPONENT_BITS)
    assert (KEY_BITS, BucketSort.LATENCY) == (bench.KEY_BITS, bench.LATENCY)


@pytest.mark.parametrize("items", (0, 3, 48))
def test_items_are_a_power_of_two(items: int) -> None:
    with pytest.raises(ValueError, match=f"^items must be a power of two, not {items}$"):
        BucketSort(items)
