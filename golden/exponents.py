"""Exponents of the next step: dynamic fixed point that predicts its range from the step before.

A tensor's exponent is one number for all its mantissas, so it must be known before the first of
them is written. While a tensor is drained its largest magnitude is noted; after the step its next
exponent leaves one bit of headroom above that. (Dynamic fixed point after Courbariaux et al.,
arXiv 1412.7024; the choice from peak and headroom is this project's own.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from arch.command import Phase
from golden.requantise import magnitude_bits

HEADROOM = 1
BW_RANGE = (-100, 27)


def fw_range(operand_bits: int) -> tuple[int, int]:
    """Exponents of tensors drained forward: one is representable and no mantissa bit is above it."""
    return -(operand_bits - 2), 0


def peak_of(values: ArrayLike, exponent: int) -> int | None:
    """Peak of drained accumulators: least p with |value| < 2**p for all; None if all are zero.

    Args:
        values: accumulators after ReLU or gate, any shape.
        exponent: of the accumulators (that of the gathered tensor plus that of the weights).
    """
    bits = int(magnitude_bits(values).max(initial=0))
    return bits + exponent if bits else None


def next_exponent(peak: int, phase: Phase, operand_bits: int) -> int:
    """Exponent of a tensor in the next step.

    The largest magnitude of this step, below 2**peak, then takes all but `HEADROOM` of the
    operand's magnitude bits.

    Args:
        peak: see `peak_of`; the largest over the step.
        phase: FW or BW, which drained the tensor; decides the range it is clamped to.
        operand_bits: width of the mantissas.

    Raises:
        ValueError: phase is neither FW nor BW.
    """
    if phase not in (Phase.FW, Phase.BW):
        raise ValueError(f"phase must be FW or BW, not {phase!r}")
    low, high = fw_range(operand_bits) if phase == Phase.FW else BW_RANGE
    return max(low, min(peak + HEADROOM - (operand_bits - 1), high))


def commit(exponents: Sequence[int], peaks: Mapping[int, tuple[int, Phase]], operand_bits: int) -> list[int]:
    """The exponent table of the next step.

    Args:
        exponents: table of this step, by tensor.
        peaks: of the tensors in which anything but zero was drained: peak and draining phase.
        operand_bits: width of the mantissas.

    Returns:
        The new table; tensors without a peak keep their exponent.
    """
    return [next_exponent(*peaks[t], operand_bits) if t in peaks else int(e) for t, e in enumerate(exponents)]
