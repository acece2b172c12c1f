"""What leaves the lanes: sums become mantissas, gated, clipped, rounded once.

AFFINE commands and both poolings end here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arch.vector import Clip
from golden.requantise import magnitude_bits, requantise
from golden.vector.coefficients import Coefficients
from golden.vector.real import Integers


@dataclass(frozen=True)
class Emitted:
    """A tensor, or the part of it that one pass writes.

    Attributes:
        values: mantissas, int64, shape of the sums.
        saturated: how many had to be saturated.
        peak: least p with |values before rounding| < 2**p; None if all are zero.
    """

    values: Integers
    saturated: int
    peak: int | None


def ceiling(exponent: int, bits: int) -> int:
    """6.0 as a mantissa, rounded half to even, at most 2**(bits - 1): out of reach."""
    return min(6 << -exponent if exponent <= 0 else round(6 / 2**exponent), 1 << bits - 1)


def open_gate(z: Integers, gate: int, exponent: int, bits: int) -> NDArray[np.bool_]:
    """Where the gradient of an activation function passes, by its output z: z > 0, ReLU6 also z < 6."""
    if gate == Clip.NONE:
        return np.ones(z.shape, np.bool_)
    return (z > 0) & ((z < ceiling(exponent, bits)) | (gate == Clip.RELU))


def emit(sums: Integers, q: Integers, out_exponent: int, clip: int, live: NDArray[np.bool_], bits: int) -> Emitted:
    """Round sums to mantissas.

    Args:
        sums: signed `SUM_BITS`, any shape, after the gate.
        q: their exponents, one a channel (the last axis), or one for all.
        out_exponent: of the tensor written.
        clip: a `Clip`.
        live: False where the tensor is padding, broadcastable: zero there, not counted.
        bits: operand width.
    """
    sums = np.where(live & ((sums >= 0) | (clip == Clip.NONE)), sums, 0)
    # Beyond these ends a shift makes no difference: everything vanishes, or saturates.
    shifts = np.broadcast_to(np.clip(out_exponent - q, -31, 63), sums.shape[-1:])
    values, saturated = np.empty(sums.shape, np.int64), np.empty(sums.shape, np.bool_)
    for shift in np.unique(shifts):  # few, and one shift is done in fewer passes over the data
        mine = slice(None) if (shifts == shift).all() else shifts == shift
        values[..., mine], saturated[..., mine] = requantise(sums[..., mine], int(shift), bits)
    largest = np.abs(sums).reshape(-1, sums.shape[-1]).max(axis=0, initial=0)
    length = magnitude_bits(largest)  # of every channel
    peak = int((length + q)[length > 0].max()) if length.any() else None
    if clip == Clip.RELU6:
        six = ceiling(out_exponent, bits)
        saturated = saturated & (values <= six)
        values = np.minimum(values, six)
        peak = None if peak is None else min(peak, 3)  # all that is larger became 6, below 2**3
    return Emitted(values, int(saturated.sum()), peak)


def affine(x: Integers, y: Integers | None, k: Coefficients) -> Integers:
    """The sums a·x + b·y + c; channels are the last axis, or k is of one channel for all."""
    sums = k.a * x + k.c
    return sums if y is None else sums + k.b * y
