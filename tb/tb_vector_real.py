"""Bench of the arithmetic of the coefficient unit: every operation, mixed, one a cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np

import tb
from golden.vector import real
from golden.vector.real import Real, normalise
from tb.pins import Pins, compare

LATENCY = 8
LOAD, MUL, ADD, SEED, TOP, FIX_FACTOR, FIX_TERM, UNIT, PACK = range(9)
MANTISSA, EXPONENT = 32, 12


def numbers(rng: np.random.Generator, count: int) -> Real:
    """Numbers of any sign and scale; zeros, powers of two, the largest mantissa."""
    m = rng.integers(1 << 30, 1 << 31, count)
    m = np.where(rng.random(count) < 0.1, 1 << 30, np.where(rng.random(count) < 0.1, (1 << 31) - 1, m))
    m = m * rng.choice((-1, 1), count)
    e = rng.integers(-60, 60, count)
    zero = rng.random(count) < 0.1
    return Real(np.where(zero, 0, m), np.where(zero, 0, e))


def near(rng: np.random.Generator, x: Real) -> Real:
    """Numbers whose sums with x cancel, or whose exponents are close."""
    y = numbers(rng, len(x.m))
    kind = rng.integers(0, 4, len(x.m))
    m = np.where(kind == 0, -x.m, np.where(kind == 1, x.m, y.m))
    e = np.where(kind <= 1, x.e, np.where(kind == 2, x.e + rng.integers(-34, 35, len(x.m)), y.e))
    return Real(m, np.where(m == 0, 0, e))


async def play(dut: Any, op: int, x: Real, y: Real, want: Callable[[], Real | np.ndarray], **flags: int) -> None:
    """One operation on all pairs, one a cycle."""
    wanted = want()
    pins = Pins(dut, ("number", "word"))
    for t in range(len(x.m) + LATENCY):
        n = min(t, len(x.m) - 1)
        y_bits = (int(y.m[n]) & (1 << MANTISSA) - 1) | (int(y.e[n]) & (1 << EXPONENT) - 1) << MANTISSA
        given = {"x_m": int(x.m[n]) & (1 << 52) - 1, "x_e": int(x.e[n]) & (1 << EXPONENT) - 1, "y": y_bits}
        got = await pins.cycle(op=op, **given, **{"negate": 0, "clamp": 0, "halve": 0} | flags)
        if t >= LATENCY:
            n = t - LATENCY
            if isinstance(wanted, Real):
                bits = (int(wanted.m[n]) & (1 << MANTISSA) - 1) | (int(wanted.e[n]) & (1 << EXPONENT) - 1) << MANTISSA
                compare(f"{t}, operands {n}", got, {"number": bits})
            else:
                compare(f"{t}, operands {n}", got, {"word": int(wanted[n]) & 0xFFFFFFFF})


@cocotb.test()
async def arithmetic(dut: Any) -> None:
    """Products, sums, differences, seeds, larger of two."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed())
    x = numbers(rng, 1500)
    y = near(rng, x)
    await play(dut, MUL, x, y, lambda: x * y)
    await play(dut, MUL, x, y, lambda: (x * y).halved(), halve=1)
    await play(dut, ADD, x, y, lambda: x + y)
    await play(dut, ADD, x, y, lambda: x - y, negate=1)
    await play(dut, ADD, x, y, lambda: (x - y).clamped(), negate=1, clamp=1)
    await play(dut, SEED, x, y, lambda: real.seed(x))
    await play(dut, TOP, x, y, lambda: real.top(x, y))


@cocotb.test()
async def conversions(dut: Any) -> None:
    """Integers of all sizes to numbers; numbers to coefficients and words, at both ends of their range."""
    await tb.start(dut)
    rng = np.random.default_rng(tb.seed() + 1)
    size = rng.integers(0, 52, 1500)
    w = rng.integers(-(1 << 51), 1 << 51, 1500) >> size
    e = rng.integers(-100, 100, 1500)
    await play(dut, LOAD, Real(w, e), Real(w * 0, e), lambda: normalise(w, e))
    x = numbers(rng, 1500)
    t = real.top(x, near(rng, x))
    await play(dut, FIX_FACTOR, x, t, lambda: real.fix(x, t.e + 16, 16) & 0xFFFF)
    lifted = Real(x.m, np.where(x.m == 0, 0, x.e + 16))
    await play(dut, FIX_TERM, lifted, t, lambda: real.fix(lifted, t.e + 16, 32))
    await play(dut, UNIT, t, t, lambda: (t.e + 16) & 0xFFFF)
    far = Real(x.m, np.where(x.m == 0, 0, x.e * 4))
    await play(dut, PACK, far, t, lambda: real.pack(far))
