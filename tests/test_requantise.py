"""Requantiser: golden against Python integers and fractions, RTL against golden."""

import random
from fractions import Fraction

import numpy as np
import pytest

from golden.requantise import magnitude_bits, requantise
from rtl.requantise import Requantise
from scripts.simulate import run_bench


def reference(x: int, shift: int, out_bits: int) -> tuple[int, bool]:
    """By definition: Python rounds fractions half to even."""
    value = round(Fraction(x) / Fraction(2) ** shift)
    low, high = -(1 << (out_bits - 1)), (1 << (out_bits - 1)) - 1
    return min(max(value, low), high), not low <= value <= high


def samples() -> list[int]:
    rng = random.Random(5)
    values = [0, 1, -1, (1 << 63) - 1, -(1 << 63), (1 << 47) - 1, -(1 << 47)]
    values += [rng.choice((-1, 1)) * rng.getrandbits(rng.randint(1, 63)) for _ in range(50)]
    values += [rng.choice((-1, 1)) * ((2 * rng.getrandbits(3) + 1) << rng.randint(0, 58)) for _ in range(40)]
    values += [sign * ((1 << bits) + off) for bits in (7, 8, 15, 16, 31) for sign in (-1, 1) for off in (-1, 0, 1)]
    return values


@pytest.mark.parametrize("out_bits", [2, 8, 16, 32, 48, 63])
def test_golden_equals_definition(out_bits: int) -> None:
    xs = samples()
    for shift in range(-31, 64):
        values, saturated = requantise(np.array(xs), shift, out_bits)
        assert values.dtype == np.int64 and saturated.dtype == np.bool_
        got = list(zip(values.tolist(), saturated.tolist(), strict=True))
        assert got == [reference(x, shift, out_bits) for x in xs], f"shift {shift}"


def test_golden_exhaustive_small() -> None:
    xs = np.arange(-600, 600)[:, None]
    shifts = np.arange(-6, 14)[None, :]
    values, saturated = requantise(xs, shifts, 8)
    for (row, column), value in np.ndenumerate(values):
        expected = reference(int(xs[row, 0]), int(shifts[0, column]), 8)
        assert (int(value), bool(saturated[row, column])) == expected


@pytest.mark.parametrize(
    ("x", "shift", "expected"),
    [
        (1, 1, 0),
        (3, 1, 2),
        (5, 1, 2),
        (-1, 1, 0),
        (-3, 1, -2),
        (-5, 1, -2),
        (7, 2, 2),
        (6, 2, 2),
        (10, 2, 2),
        (5, -2, 20),
        (0, -31, 0),
        (-1, -7, -128),
        (1, -7, 127),
        (-(1 << 63), 63, -1),
        (-(1 << 62), 63, 0),
        (127, 0, 127),
    ],
)
def test_rounding_by_hand(x: int, shift: int, expected: int) -> None:
    value, saturated = requantise(x, shift, 8)
    assert int(value) == expected
    assert bool(saturated) == (x == 1 and shift == -7)


def test_magnitude_bits() -> None:
    xs = samples()
    assert magnitude_bits(np.array(xs)).tolist() == [abs(x).bit_length() for x in xs]
    assert magnitude_bits(np.zeros((0, 3), dtype=np.int64)).shape == (0, 3)
    # The largest over a tensor may be taken from the OR of the magnitudes.
    assert int(magnitude_bits(np.bitwise_or.reduce(np.abs(xs[7:])))) == int(magnitude_bits(np.array(xs[7:])).max())


@pytest.mark.parametrize(
    ("shift", "out_bits", "message"),
    [
        (-32, 16, "shift must be between -31 and 63, not -32"),
        ([0, 64], 16, "shift must be between -31 and 63, not 64"),
        (0, 1, "out_bits must be between 2 and 63, not 1"),
        (0, 64, "out_bits must be between 2 and 63, not 64"),
    ],
)
def test_golden_bad_arguments(shift: object, out_bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        requantise([1, 2], shift, out_bits)


@pytest.mark.parametrize("x", [1.5, np.array([1], dtype=np.uint64), True])
def test_golden_takes_integers_only(x: object) -> None:
    with pytest.raises(TypeError, match="^x must be integers that fit int64, not "):
        requantise(x, 0, 16)


@pytest.mark.parametrize(("in_bits", "out_bits"), [(48, 16), (48, 32), (32, 8), (8, 16), (5, 3), (64, 32)])
def test_rtl_equals_golden(in_bits: int, out_bits: int) -> None:
    given = {"in_bits": in_bits, "out_bits": out_bits}
    results = run_bench(lambda: Requantise(**given), "requantise", "tb.tb_requantise", parameters=given)
    assert results.tests == 3
    assert Requantise.LATENCY == 2


@pytest.mark.parametrize(
    ("in_bits", "out_bits", "message"),
    [
        (1, 16, "in_bits must be between 2 and 64, not 1"),
        (65, 16, "in_bits must be between 2 and 64, not 65"),
        (48, 64, "out_bits must be between 2 and 63, not 64"),
        (48, 1, "out_bits must be between 2 and 63, not 1"),
    ],
)
def test_rtl_bad_arguments(in_bits: int, out_bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Requantise(in_bits, out_bits)
