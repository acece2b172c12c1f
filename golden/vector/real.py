"""Numbers of the coefficient unit: m · 2**e, normalised, 31 bits of magnitude.

A batch normalisation needs a division, a square root and products of quantities whose scales nobody
knows beforehand, but only once a channel. So its coefficients are computed in a small floating-point
format of this project's own: no infinities, no denormals, one zero, round half to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp, isqrt, ldexp

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arch.vector import WORD_MANTISSA
from golden.requantise import magnitude_bits, requantise

MANTISSA = 31
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Real:
    """An array of numbers m * 2**e: 2**30 <= |m| < 2**31, or m = e = 0.

    Attributes:
        m: signed mantissas, int64.
        e: exponents, int64.
    """

    m: Integers
    e: Integers

    def __mul__(self, other: Real) -> Real:
        """Product, rounded once."""
        return normalise(self.m * other.m, self.e + other.e)

    def __add__(self, other: Real) -> Real:
        """Sum: the smaller number is aligned at 31 guard bits (floor), then rounded."""
        swap = (self.m == 0) | ((other.m != 0) & (other.e > self.e))
        big_m, big_e = np.where(swap, other.m, self.m), np.where(swap, other.e, self.e)
        small_m, small_e = np.where(swap, self.m, other.m), np.where(swap, self.e, other.e)
        distance = np.minimum(np.maximum(big_e - small_e, 0), 63)
        return normalise((big_m << MANTISSA) + ((small_m << MANTISSA) >> distance), big_e - MANTISSA)

    def __neg__(self) -> Real:
        """The number with its sign reversed."""
        return Real(-self.m, self.e)

    def __sub__(self, other: Real) -> Real:
        """Sum with the negative."""
        return self + -other

    def halved(self) -> Real:
        """Half of it, exactly."""
        return Real(self.m, np.where(self.m == 0, 0, self.e - 1))

    def clamped(self) -> Real:
        """Zero where it is negative."""
        return Real(np.maximum(self.m, 0), np.where(self.m > 0, self.e, 0))

    def to_float(self) -> NDArray[np.float64]:
        """The value, for tests and reports."""
        return np.ldexp(self.m.astype(np.float64), self.e.astype(np.int32))


def normalise(w: ArrayLike, e: ArrayLike) -> Real:
    """The number w * 2**e, w any int64, rounded half to even to 31 bits of magnitude."""
    w, e = np.broadcast_arrays(np.asarray(w, np.int64), np.asarray(e, np.int64))
    shift = magnitude_bits(w) - MANTISSA
    left = np.maximum(-shift, 0)
    m = np.where(shift > 0, requantise(w, np.maximum(shift, 0), 63)[0], w << np.where(w == 0, 0, left))
    carried = np.abs(m) >> MANTISSA != 0
    m = np.where(carried, m >> 1, m)
    return Real(m, np.where(m == 0, 0, e + shift + carried))


def unpack(words: ArrayLike) -> Real:
    """Words of a record or a command -> numbers; a word need not be normalised."""
    w = np.asarray(words).astype(np.int64) & 0xFFFFFFFF
    m = ((w & (1 << WORD_MANTISSA) - 1) ^ 1 << WORD_MANTISSA - 1) - (1 << WORD_MANTISSA - 1)
    return normalise(m, (w >> WORD_MANTISSA ^ 0x80) - 0x80)


def pack(x: Real) -> Integers:
    """Numbers -> words: the mantissa rounded half to even to 23 bits of magnitude, exponents clamped.

    What is too large becomes the largest number of its sign, what is too small zero.
    """
    drop = MANTISSA - (WORD_MANTISSA - 1)
    m = requantise(x.m, drop, 63)[0]
    e = x.e + drop
    carried = np.abs(m) >> WORD_MANTISSA - 1 != 0
    m, e = np.where(carried, m >> 1, m), e + carried
    top = (1 << WORD_MANTISSA - 1) - 1
    m = np.where(e > 127, np.where(m < 0, -top, top), np.where(e < -128, 0, m))
    e = np.where(m == 0, 0, np.minimum(e, 127))
    return (m & (1 << WORD_MANTISSA) - 1) | (e & 0xFF) << WORD_MANTISSA


def word(value: float) -> int:
    """The word nearest to a value: for constants of commands and first records.

    Raises:
        ValueError: not finite, or too large for a word.
    """
    if not abs(value) < ldexp(1, 150):
        raise ValueError(f"a word holds numbers below 2**150, not {value}")
    fraction, exponent = frexp(value)
    return int(pack(normalise(round(ldexp(fraction, 40)), exponent - 40)))


def values(words: ArrayLike) -> NDArray[np.float64]:
    """What words stand for."""
    return unpack(words).to_float()


def seed(x: Real) -> Real:
    """Reciprocal square root to 8 bits, from a table of 256; zero of what is not positive."""
    odd = x.e & 1
    table = np.array([seed_entry(index) for index in range(256)])
    m = table[odd << 7 | (x.m >> MANTISSA - 8 & 127)] << 15
    return Real(np.where(x.m > 0, m, 0), np.where(x.m > 0, -MANTISSA - (x.e + MANTISSA - 1 - odd >> 1), 0))


def seed_entry(index: int) -> int:
    """2**16 / sqrt(f), floored, in the middle of an interval: f = (1 + (i % 128 + 1/2) / 128) << (i // 128)."""
    return isqrt((1 << 40) // (2 * (128 + index % 128) + 1 << index // 128))


def reciprocal_root(x: Real) -> Real:
    """1 / sqrt(x): seed and two Newton steps y (3 - x y²) / 2. Relative error below 2**-29; zero of zero."""
    three = normalise(3, 0)
    y = seed(x)
    for _ in range(2):
        y = (y * (three - x * (y * y))).halved()
    return y


def scale(exponent: int) -> Real:
    """A power of two."""
    return normalise(1, exponent)


def top(x: Real, y: Real) -> Real:
    """A power of two 2**(30 + e), e the larger exponent of the two that are not zero."""
    first = (x.m != 0) & ((y.m == 0) | (x.e >= y.e))
    e = np.where(first, x.e, y.e)
    nothing = (x.m == 0) & (y.m == 0)
    return Real(np.where(nothing, 0, np.int64(1) << MANTISSA - 1), np.where(nothing, 0, e))


def fix(x: Real, unit: Integers, bits: int) -> Integers:
    """X / 2**unit as an integer: rounded half to even, saturated to `bits`."""
    return requantise(x.m, np.clip(unit - x.e, -31, 63), bits)[0]
