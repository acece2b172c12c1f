"""Coefficient unit: sums of a channel become coefficients, running statistics and updates.

Batch normalisation in the form out = A·y + C forward and dy = A·dz + B·y + C backward (Ioffe and
Szegedy, arXiv 1502.03167, with the backward pass written as one affine map a channel). Every function
is a fixed sequence of operations on `Real`s; all take whole groups of channels, none looks at a value
to decide what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arch.vector import FACTOR_BITS, TERM_BITS, Word
from golden.vector.real import MANTISSA, Integers, Real, fix, normalise, pack, reciprocal_root, scale, top, unpack


@dataclass(frozen=True)
class Coefficients:
    """Integers of (a x + b y + c) * 2**q, one of each a channel.

    Attributes:
        a, b: signed 16 bits. c: signed 32 bits. q: exponent, signed 16 bits.
    """

    a: Integers
    b: Integers
    c: Integers
    q: Integers

    def words(self) -> tuple[Integers, Integers, Integers]:
        """The three words of a record."""
        return (self.a & 0xFFFF) | (self.b & 0xFFFF) << 16, self.c & 0xFFFFFFFF, self.q & 0xFFFF


def from_words(ab: Integers, c: Integers, q: Integers) -> Coefficients:
    """The coefficients in three words of records."""

    def signed(x: Integers, bits: int) -> Integers:
        return ((x & (1 << bits) - 1) ^ 1 << bits - 1) - (1 << bits - 1)

    return Coefficients(signed(ab, 16), signed(ab >> 16, 16), signed(c, 32), signed(q, 16))


def aligned(a: Real, b: Real, c: Real, a_exponent: int, b_exponent: int) -> Coefficients:
    """Integer coefficients of A·x·2**a_exponent + B·y·2**b_exponent + C.

    The common exponent q is such that the larger of a and b has 15 bits of magnitude, or c has 31,
    whatever needs more. A magnitude that rounds up to 2**15 (2**31) saturates.
    """
    a, b = a * scale(a_exponent), b * scale(b_exponent)
    lowered = c * scale(FACTOR_BITS - TERM_BITS)
    q = top(top(a, b), lowered).e + (MANTISSA + 1 - FACTOR_BITS)
    return Coefficients(fix(a, q, FACTOR_BITS), fix(b, q, FACTOR_BITS), fix(c, q, TERM_BITS), q)


def constant(command: dict[str, int], a_exponent: int, b_exponent: int) -> Coefficients:
    """Coefficients of a command without records, arrays of one."""
    a, b, c = (unpack([command[name]]) for name in ("a_factor", "b_factor", "c_term"))
    return aligned(a, b, c, a_exponent, b_exponent)


def _affine(
    record: Integers, gamma: Real, beta: Real, mean: Real, root: Real, command: dict[str, int], e: tuple[int, int]
) -> None:
    """Forward coefficients into the records: gamma · root · (y - mean) + beta, and B from the command."""
    a = gamma * root
    c = beta - mean * a
    b = unpack(np.full(len(record), command["b_factor"]))
    words = aligned(a, b, c, *e).words()
    record[:, Word.FORWARD_AB], record[:, Word.FORWARD_C], record[:, Word.FORWARD_Q] = words


def forward(
    record: Integers, plain: Integers, square: Integers, command: dict[str, int], a_exponent: int, b_exponent: int
) -> Integers:
    """REDUCE forward: mean and variance, running statistics, coefficients.

    Args:
        record: words of the channels, (channels, RECORD_WORDS).
        plain: exact sums of y over all terms, (channels,).
        square: those of y².
        command: constants inverse_count, unbias, epsilon, momentum and b_factor.
        a_exponent: of y.
        b_exponent: of the second operand of the AFFINE command that follows.

    Returns:
        The new records.
    """
    record = record.copy()
    gamma, beta, running_mean, running_variance = (
        unpack(record[:, w]) for w in (Word.GAMMA, Word.BETA, Word.RUNNING_MEAN, Word.RUNNING_VARIANCE)
    )
    inverse, unbias, epsilon, momentum = (
        unpack(command[name]) for name in ("inverse_count", "unbias", "epsilon", "momentum")
    )
    mean = normalise(plain, a_exponent) * inverse
    variance = (normalise(square, 2 * a_exponent) * inverse - mean * mean).clamped()
    root = reciprocal_root(variance + epsilon)
    running_mean = running_mean + (mean - running_mean) * momentum
    running_variance = running_variance + (variance * unbias - running_variance) * momentum
    _affine(record, gamma, beta, mean, root, command, (a_exponent, b_exponent))
    record[:, Word.RUNNING_MEAN], record[:, Word.RUNNING_VARIANCE] = pack(running_mean), pack(running_variance)
    record[:, Word.MEAN], record[:, Word.RSQRT] = pack(mean), pack(root)
    return record


def inference(record: Integers, command: dict[str, int], a_exponent: int, b_exponent: int) -> Integers:
    """COEFFICIENTS: those of the running statistics; mean and root are stored, the statistics stay."""
    record = record.copy()
    gamma, beta, mean, variance = (
        unpack(record[:, w]) for w in (Word.GAMMA, Word.BETA, Word.RUNNING_MEAN, Word.RUNNING_VARIANCE)
    )
    root = reciprocal_root(variance + unpack(command["epsilon"]))
    _affine(record, gamma, beta, mean, root, command, (a_exponent, b_exponent))
    record[:, Word.MEAN], record[:, Word.RSQRT] = pack(mean), pack(root)
    return record


def backward(
    record: Integers,
    plain: Integers,
    product: Integers,
    command: dict[str, int],
    a_exponent: int,
    b_exponent: int,
    learning: int,
) -> Integers:
    """REDUCE backward: coefficients of the gradient, updates of gamma and beta.

    Args:
        record: words of the channels, (channels, RECORD_WORDS).
        plain: exact sums of dz, (channels,).
        product: those of dz·y.
        command: constant inverse_count.
        a_exponent: of dz.
        b_exponent: of y.
        learning: register LEARNING: mantissa in bits 15:0, signed exponent in bits 31:16.

    Returns:
        The new records.
    """
    record = record.copy()
    gamma, beta, mean, root = (unpack(record[:, w]) for w in (Word.GAMMA, Word.BETA, Word.MEAN, Word.RSQRT))
    inverse = unpack(command["inverse_count"])
    rate = normalise(learning & 0xFFFF, ((learning >> 16) ^ 0x8000) - 0x8000)
    d_beta = normalise(plain, a_exponent)
    d_gamma = (normalise(product, a_exponent + b_exponent) - mean * d_beta) * root
    a = gamma * root
    spread = a * inverse
    b = -(spread * (root * d_gamma))
    c = -(mean * b) - spread * d_beta
    words = aligned(a, b, c, a_exponent, b_exponent).words()
    record[:, Word.BACKWARD_AB], record[:, Word.BACKWARD_C], record[:, Word.BACKWARD_Q] = words
    record[:, Word.GAMMA], record[:, Word.BETA] = pack(gamma - rate * d_gamma), pack(beta - rate * d_beta)
    return record
