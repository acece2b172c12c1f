"""Numbers of the coefficient unit against fractions, and the reciprocal root over its whole range."""

import random
from fractions import Fraction

import numpy as np
import pytest

from golden.vector.real import MANTISSA, Real, normalise, pack, reciprocal_root, top, unpack, values, word


def exact(x: Real) -> list[Fraction]:
    return [Fraction(int(m)) * Fraction(2) ** int(e) for m, e in zip(x.m.ravel(), x.e.ravel(), strict=True)]


def rounded(x: Fraction, bits: int = MANTISSA) -> Fraction:
    """Half to even to so many bits of magnitude."""
    if not x:
        return x
    e = x.numerator.bit_length() - x.denominator.bit_length() - bits - 2
    while abs(round(x / Fraction(2) ** e)) >= 1 << bits:
        e += 1
    return round(x / Fraction(2) ** e) * Fraction(2) ** e


def samples(count: int = 300) -> Real:
    rng = random.Random(4)
    w = [0, 1, -1, (1 << 63) - 1, -(1 << 63), (1 << 31) - 1, (1 << 32) - 1, -(1 << 32) + 1, 3 << 30]
    w += [rng.choice((-1, 1)) * rng.getrandbits(rng.randint(1, 63)) for _ in range(count)]
    return normalise(np.array(w), np.array([rng.randint(-40, 40) for _ in w]))


def test_normalise() -> None:
    rng = random.Random(5)
    for _ in range(500):
        w, e = rng.choice((-1, 1)) * rng.getrandbits(rng.randint(1, 63)), rng.randint(-50, 50)
        x = normalise(w, e)
        assert exact(x) == [rounded(Fraction(w) * Fraction(2) ** e)]
        assert w == 0 or 1 << 30 <= abs(int(x.m)) < 1 << 31
    assert (int(normalise((1 << 32) - 1, 0).m), int(normalise((1 << 32) - 1, 0).e)) == (1 << 30, 2)


def test_products_and_sums() -> None:
    x = samples()
    order = np.random.default_rng(1).permutation(len(x.m))
    y = Real(x.m[order], x.e[order])
    for got, a, b in zip(exact(x * y), exact(x), exact(y), strict=True):
        assert got == rounded(a * b)
    for got, a, b in zip(exact(x + y), exact(x), exact(y), strict=True):
        assert abs(got - (a + b)) <= max(abs(a + b) / 2**31, max(abs(a), abs(b)) / 2**60)
    assert not any(exact(x - x))
    assert [max(a, 0) for a in exact(x)] == exact(x.clamped())
    assert [a / 2 for a in exact(x)] == exact(x.halved())


def test_top() -> None:
    x = samples()
    y = Real(x.m[::-1].copy(), x.e[::-1].copy())
    for got, a, b in zip(exact(top(x, y)), exact(x), exact(y), strict=True):
        larger = max(abs(a), abs(b))
        assert got <= larger < 2 * got or got == larger == 0


def test_reciprocal_root_over_the_whole_range() -> None:
    """Mantissas of every table entry, its ends and anything between; both parities."""
    rng = np.random.default_rng(6)
    starts = (1 << 30) + (np.arange(128) << 23)
    m = np.concatenate([starts, starts + (1 << 23) - 1, rng.integers(1 << 30, 1 << 31, 4000)])
    for e in (-301, -30, -31, 0, 7, 200):
        x = Real(m, np.full(m.shape, e))
        y = reciprocal_root(x)
        assert ((y.m >= 1 << 30) & (y.m < 1 << 31)).all()
        # y² x against 1, exactly: the error of y is half of that.
        worst = max(abs(b * b * a - 1) / 2 for a, b in zip(exact(x), exact(y), strict=True))
        assert 2.0**-32 < worst < 2.0**-29
    zero = reciprocal_root(normalise([0, 0], 0))
    assert not zero.m.any() and not zero.e.any()


def test_words() -> None:
    x = samples()
    packed = pack(x)
    assert [rounded(a, 23) for a in exact(x)] == exact(unpack(packed))
    assert (pack(unpack(packed)) == packed).all()
    assert values(word(0.75)) == 0.75 and values(word(-3.0)) == -3.0 and values(word(0.0)) == 0
    assert abs(float(values(word(1e-5))) / 1e-5 - 1) < 2**-23
    ends = pack(Real(np.array([1 << 30, -(1 << 30), 1 << 30]), np.array([200, 200, -200])))
    assert values(ends).tolist() == [float((1 << 23) - 1) * 2**127, -float((1 << 23) - 1) * 2**127, 0]
    with pytest.raises(ValueError, match=r"^a word holds numbers below 2\*\*150, not inf$"):
        word(float("inf"))
