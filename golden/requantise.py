"""Requantisation: an exact accumulator becomes a short mantissa, rounded once.

Dynamic fixed point keeps one power-of-two exponent per tensor, so changing the scale is a shift.
The value is divided by `2**shift`, rounded half to even (the only rounding without a bias) and
saturated. All arithmetic is on int64: nothing here passes through a float.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_SHIFT = -31
MAX_SHIFT = 63
MIN_OUT_BITS = 2
MAX_OUT_BITS = 63


def requantise(x: ArrayLike, shift: ArrayLike, out_bits: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Round-half-even of `x / 2**shift`, saturated to `out_bits` signed bits.

    Args:
        x: integers that fit int64, any shape (accumulators of `Config.acc_bits`).
        shift: right shift, -31 to 63, scalar or broadcastable with `x`; negative shifts left.
        out_bits: width of the signed result, 2 to 63.

    Returns:
        `(values, saturated)`, both of the broadcast shape. `saturated` is True where the rounded
        value lay outside `[-2**(out_bits-1), 2**(out_bits-1) - 1]`; `values` is then the nearer end.

    Raises:
        ValueError: `shift` or `out_bits` is out of its range.
        TypeError: `x` or `shift` is not of an integer type.
    """
    if not MIN_OUT_BITS <= out_bits <= MAX_OUT_BITS:
        raise ValueError(f"out_bits must be between {MIN_OUT_BITS} and {MAX_OUT_BITS}, not {out_bits}")
    top = (1 << (out_bits - 1)) - 1
    if isinstance(shift, int) and 0 <= shift < MAX_SHIFT:
        return _right(_int64(x, "x"), shift, top)
    x, shift = np.broadcast_arrays(_int64(x, "x"), _int64(shift, "shift"))
    outside = (shift < MIN_SHIFT) | (shift > MAX_SHIFT)
    if outside.any():
        raise ValueError(f"shift must be between {MIN_SHIFT} and {MAX_SHIFT}, not {shift[outside].flat[0]}")
    bottom = -top - 1

    # Right: floor and remainder of a division by 2**right; both are exact for any int64.
    right = np.maximum(shift, 0)
    quotient = x >> right
    remainder = x - (quotient << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    up = (remainder > half) | ((remainder == half) & (quotient & 1 == 1))
    rounded = quotient + (up & (right > 0))

    # Left: compare before shifting, so that nothing overflows. x * 2**left fits exactly when x lies
    # between the ends divided by 2**left, both rounded towards zero.
    left = np.maximum(-shift, 0)
    too_high = rounded > np.int64(top) >> left
    too_low = rounded < -((np.int64(top) + 1) >> left)
    kept = np.where(too_high | too_low, 0, rounded) << left
    values = np.where(too_high, top, np.where(too_low, bottom, kept))
    return values.astype(np.int64), too_high | too_low


def _right(x: NDArray[np.int64], shift: int, top: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The same for one shift to the right: what training spends its time on, in fewer passes over the data."""
    rounded = x >> shift
    if shift:
        # Up where the remainder is above one half, or is one half and the quotient is odd. No sum overflows:
        # the remainder is below 2**62.
        rest = rounded & 1
        rest += x & (1 << shift) - 1
        rounded += rest > 1 << shift - 1
    values = np.clip(rounded, -top - 1, top)
    return values, values != rounded


def magnitude_bits(x: ArrayLike) -> NDArray[np.int64]:
    """Bits of the magnitude of `x`: `bit_length(|x|)`, 0 for 0. Exact for every int64.

    The next step's exponent comes from the largest of these over a tensor.

    Raises:
        TypeError: `x` is not of an integer type.
    """
    x = _int64(x, "x")
    # The two's complement negation in uint64 is right for -2**63 too, where abs() is not.
    rest = np.where(x < 0, -x.astype(np.uint64), x.astype(np.uint64))
    bits = np.zeros(x.shape, dtype=np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        high = rest >> np.uint64(step)
        bits += np.where(high > 0, step, 0)
        rest = np.where(high > 0, high, rest)
    return bits + (rest > 0)


def _int64(value: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise TypeError(f"{name} must be integers that fit int64, not {array.dtype}")
    return array.astype(np.int64, copy=False)
