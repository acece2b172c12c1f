"""Adder tree: the Verilated tree against integers, its latency law, its argument checks."""

import pytest

from rtl.adder_tree import AdderTree
from scripts.simulate import run_bench


@pytest.mark.parametrize(("inputs", "input_bits", "sum_bits"), [(1, 8, 8), (2, 16, 17), (4, 32, 48), (16, 32, 48)])
def test_tree_equals_sum(inputs: int, input_bits: int, sum_bits: int) -> None:
    given = {"inputs": inputs, "input_bits": input_bits, "sum_bits": sum_bits}
    if sum_bits - input_bits < 8:  # no room to accumulate over random lengths
        tests = ["extremes", "each_input_counts_once"]
    else:
        tests = ["random_sums", "extremes", "each_input_counts_once"]
    results = run_bench(lambda: AdderTree(**given), "adder_tree", "tb.tb_adder_tree", parameters=given, testcase=tests)
    assert results.tests == len(tests)


@pytest.mark.parametrize(("inputs", "latency"), [(1, 1), (2, 2), (4, 3), (16, 5), (64, 7)])
def test_latency_law(inputs: int, latency: int) -> None:
    assert AdderTree.latency(inputs) == latency


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 16, 48), "inputs must be a power of two, not 3"),
        ((0, 16, 48), "inputs must be a power of two, not 0"),
        ((4, 0, 48), "input_bits must be at least 1, not 0"),
        ((16, 32, 35), "sum_bits must be at least 36 for 16 inputs of 32 bits, not 35"),
    ],
)
@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_bad_arguments(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        AdderTree(*arguments)
