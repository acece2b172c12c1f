"""Quantile estimator: the recurrence against its definition and its purpose, the unit against the recurrence."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from arch.config import PRESETS
from golden import quantile as q
from rtl import quantile as rtl
from scripts.simulate import run_bench

CONFIGS = {"tiny": PRESETS["tiny"], "tiny8": PRESETS["tiny"].with_(operand_bits=8)}


def test_table_is_rounded_correctly() -> None:
    """Against 50-digit arithmetic; both tables, each made by its own side."""
    with localcontext() as context:
        context.prec = 50
        exact = [(Decimal(2) ** (Decimal(i) / 256) * 2**15).quantize(Decimal(1)) for i in range(256)]
    assert [int(v) for v in exact] == list(q.EXP2_TABLE) == rtl.EXP2_TABLE


@pytest.mark.parametrize("bits", (16, 32))
def test_theta_is_two_to_the_power(bits: int) -> None:
    """Within the table's step of 1/256 octave and the rounding down, never decreasing, never zero."""
    values = [*range(0, q.log2_limit(bits), 12347), q.log2_limit(bits)]
    thetas = [q.theta_from_log2(v, bits) for v in values]
    assert thetas == sorted(thetas) and thetas[0] == 1 and thetas[-1] < 1 << (bits - 1)
    for value, theta in zip(values, thetas, strict=True):
        exact = 2.0 ** (value / 2**20)
        assert exact * 2 ** (-1 / 256) * (1 - 2**-15) - 1 < theta <= exact * (1 + 2**-15)


@pytest.mark.parametrize("bits", (16, 32))
def test_log2_from_theta_is_the_inverse(bits: int) -> None:
    for theta in (1, 2, 3, 100, 2**14, 2 ** (bits - 1) - 1):
        value = q.log2_from_theta(theta, bits)
        assert abs(value - np.log2(theta) * 2**20) <= 1
    assert q.log2_from_theta(1e-9, bits) == 0
    assert q.log2_from_theta(2.0**40, bits) == q.log2_limit(bits)
    assert [q.theta_from_log2(q.log2_from_theta(2**i, bits), bits) for i in range(bits - 1)] == [
        2**i for i in range(bits - 1)
    ]


def test_observe_is_the_recurrence() -> None:
    rng = np.random.default_rng(3)
    for _ in range(500):
        start, seen = int(rng.integers(q.log2_limit(32) + 1)), int(rng.integers(1 << 24))
        kept, keep, rate = int(rng.integers(seen + 1)), int(rng.integers(1 << 16)), int(rng.integers(64))
        error = kept * 65536 - keep * seen
        moved = start + int(np.floor(error / 2**rate)) if rate < 10 else start + error // 2**rate
        assert q.observe(start, kept, seen, keep, rate, 32) == min(max(moved, 0), q.log2_limit(32))


def test_it_settles_on_the_share() -> None:
    """A stream of Gaussians, a tenth to keep: the count kept converges to its target."""
    rng, log2_theta, keep = np.random.default_rng(5), 0, q.keep_share(0.1)
    shares = []
    for _ in range(200):
        values = np.abs(rng.normal(0, 50_000, 4096))
        kept = int((values > q.theta_from_log2(log2_theta, 32)).sum())
        log2_theta = q.observe(log2_theta, kept, 4096, keep, 8, 32)
        shares.append(kept / 4096)
    assert shares[0] > 0.999 and abs(np.mean(shares[100:]) - 0.1) < 0.001


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: q.theta_from_log2(15 << 20, 16), "log2_theta must be between 0 and 15728639, not 15728640"),
        (lambda: q.observe(-1, 0, 0, 0, 0, 16), "log2_theta must be between 0 and 15728639, not -1"),
        (lambda: q.observe(0, 1 << 24, 0, 0, 0, 16), "kept must be between 0 and 16777215, not 16777216"),
        (lambda: q.observe(0, 0, -1, 0, 0, 16), "seen must be between 0 and 16777215, not -1"),
        (lambda: q.observe(0, 0, 0, 65536, 0, 16), "keep must be between 0 and 65535, not 65536"),
        (lambda: q.observe(0, 0, 0, 0, 64, 16), "rate must be between 0 and 63, not 64"),
        (lambda: q.log2_from_theta(0, 16), "theta must be greater than 0, not 0"),
        (lambda: q.keep_share(1.0), "the share to keep must be between 0 and 0.9999847412109375, not 1.0"),
    ],
)
def test_golden_refuses(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: rtl.QuantileEstimator(cfg), "quantile", "tb.tb_quantile", parameters={"config": cfg})
    assert results.tests == 5


def test_latency_constants() -> None:
    unit = rtl.QuantileEstimator
    assert (unit.LOG2_LATENCY, unit.LATENCY, unit.LOAD_LATENCY) == (4, 6, 3)
