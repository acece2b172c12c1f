"""Arithmetic of the coefficient unit: the Verilated unit against golden, bit for bit."""

import pytest

from golden.vector import real
from rtl.vector.real_unit import SEEDS, RealUnit
from scripts.simulate import run_bench


@pytest.mark.parametrize("seed", (1, 2))
def test_unit_equals_golden(seed: int) -> None:
    results = run_bench(RealUnit, "real_unit", "tb.tb_vector_real", seed=seed)
    assert results.tests == 2
    assert RealUnit.LATENCY == 8


def test_seeds() -> None:
    assert [real.seed_entry(i) for i in range(256)] == SEEDS
