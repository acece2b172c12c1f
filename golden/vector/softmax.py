"""Softmax cross-entropy in integers: the definition that `golden.softmax` approximates in float64.

Powers of two instead of powers of e: with u = (max - logit) · log2 e the probability is 2**-u over its
sum. 2**-u is a shift and a table with linear interpolation, the division one reciprocal a sample.
Error of a gradient element: below 0.6 units of the last place for A = 16 (0.5 of them the rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2

import numpy as np

from golden.requantise import magnitude_bits, requantise
from golden.vector.real import Integers

FRACTION = 20  # bits of u and of logarithms
POWER = 24  # bits of 2**-u
TABLE = 8  # bits that choose an entry; the rest interpolates
U_BITS = 25
LEFT = 6  # from an exponent of 6 on, every difference is too large to matter

LOG2_E = round(log2(e) * 2**FRACTION)
POWERS = np.array([round(2 ** (POWER - i / 2**TABLE)) for i in range(2**TABLE + 1)])
LOGARITHMS = np.array([round(log2(1 + i / 2**TABLE) * 2**FRACTION) for i in range(2**TABLE + 1)])


@dataclass(frozen=True)
class Loss:
    """What a SOFTMAX command finds.

    Attributes:
        gradient: mantissas at exponent -(A - 2), int64 (samples, classes).
        loss: sum over the samples, in bits, with `FRACTION` fraction bits.
        right: samples whose first largest logit is that of their label.
    """

    gradient: Integers
    loss: int
    right: int


def distances(logits: Integers, exponent: int) -> Integers:
    """U of every logit: how many bits it is less likely than the largest, limited to `U_BITS` bits."""
    product = (logits.max(axis=1, keepdims=True) - logits) * LOG2_E
    shifted = product >> min(-exponent, 63) if exponent <= 0 else product << min(exponent, LEFT)
    return np.minimum(shifted, (1 << U_BITS) - 1)


def interpolated(table: Integers, fraction: Integers) -> Integers:
    """A table at a fraction of `FRACTION` bits."""
    low = FRACTION - TABLE
    index, rest = fraction >> low, fraction & (1 << low) - 1
    return table[index] + ((table[index + 1] - table[index]) * rest >> low)


def powers(u: Integers) -> Integers:
    """2**(POWER - u), rounded down after interpolation."""
    return interpolated(POWERS, u & (1 << FRACTION) - 1) >> (u >> FRACTION)


def cross_entropy(logits: Integers, exponent: int, labels: Integers, bits: int) -> Loss:
    """Gradient of the cross-entropy, its sum, and right answers.

    Args:
        logits: mantissas (samples, classes).
        exponent: of the logits.
        labels: class of every sample; one beyond the classes is never right and has no logit.
        bits: operand width A.
    """
    samples, classes = logits.shape
    if not samples:
        return Loss(np.zeros(logits.shape, np.int64), 0, 0)
    logits = logits.astype(np.int64)
    u = distances(logits, exponent)
    p = powers(u)
    total = p.sum(axis=1, keepdims=True)
    size = magnitude_bits(total)
    reciprocal = (np.int64(1) << size + POWER) // total
    mine = np.arange(classes) == labels[:, None]
    scaled = p * reciprocal
    gradient = requantise(scaled, np.broadcast_to(size + POWER - (bits - 2), scaled.shape), 32)[0]
    gradient = gradient - (mine.astype(np.int64) << bits - 2)
    # log2: the place of the leading one, and what follows it.
    below = total[:, 0] - (np.int64(1) << size[:, 0] - 1)
    fraction = below >> size[:, 0] - 1 - FRACTION  # a total has more bits than that: the largest p is 2**POWER
    logarithm = (size[:, 0] - 1 - POWER << FRACTION) + interpolated(LOGARITHMS, fraction)
    loss = int((np.where(mine, u, 0).sum(axis=1) + logarithm).sum())
    return Loss(gradient, loss, int((logits.argmax(axis=1) == labels).sum()))
