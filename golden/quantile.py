"""Quantile estimation: the threshold theta that keeps the wanted share of the visited weights.

The DUMIQE recurrence (Yazidi and Hammer) multiplies theta by one factor for every value above it
and by another for every value below. Summed over a working set in the log domain it becomes one
integer addition from two counts: `log2 theta += (kept - keep * seen) * 2**-rate`. Averaging the
factors this way is unbiased, whatever the number of values; averaging magnitudes would not be.

log2 theta is an unsigned integer with 20 fraction bits; `keep` is a share with 16 fraction bits.
"""

from __future__ import annotations

import numpy as np

FRACTION_BITS = 20
TABLE_BITS = 8
KEEP_BITS = 16
COUNT_BITS = 24
MAX_RATE = 63

#: round(2**(i/256) * 2**15)
EXP2_TABLE: tuple[int, ...] = tuple(
    int(v) for v in np.round(np.exp2(np.arange(1 << TABLE_BITS) / (1 << TABLE_BITS)) * (1 << 15))
)


def log2_limit(delta_bits: int) -> int:
    """Largest log2 theta: just below that of the largest magnitude an accumulated update has."""
    return ((delta_bits - 1) << FRACTION_BITS) - 1


def theta_from_log2(log2_theta: int, delta_bits: int) -> int:
    """Threshold of a log2 theta: `table[top 8 fraction bits] * 2**integer / 2**15`, rounded down.

    Returns:
        1 to 2**(delta_bits-1) - 1.

    Raises:
        ValueError: log2_theta outside 0 .. `log2_limit`.
    """
    _within("log2_theta", log2_theta, log2_limit(delta_bits))
    whole, fraction = divmod(log2_theta, 1 << FRACTION_BITS)
    return (EXP2_TABLE[fraction >> (FRACTION_BITS - TABLE_BITS)] << whole) >> 15


def log2_from_theta(theta: float, delta_bits: int) -> int:
    """The log2 theta nearest to a threshold, clamped to what the estimator holds.

    Raises:
        ValueError: theta is not positive.
    """
    if not theta > 0:
        raise ValueError(f"theta must be greater than 0, not {theta}")
    return int(np.clip(round(np.log2(theta) * (1 << FRACTION_BITS)), 0, log2_limit(delta_bits)))


def keep_share(share: float) -> int:
    """The 16-bit fraction nearest to a share of weights to keep.

    Raises:
        ValueError: share outside 0 .. 1 - 2**-16.
    """
    if not 0 <= share <= 1 - 2.0**-KEEP_BITS:
        raise ValueError(f"the share to keep must be between 0 and {1 - 2.0**-KEEP_BITS}, not {share}")
    return round(share * (1 << KEEP_BITS))


def observe(log2_theta: int, kept: int, seen: int, keep: int, rate: int, delta_bits: int) -> int:
    """log2 theta after a working set in which `kept` of `seen` visited weights were kept.

    `log2_theta + ((kept * 2**16 - keep * seen) >> rate)`, the shift rounding down, clamped to
    0 .. `log2_limit`. Too many kept raises the threshold.

    Raises:
        ValueError: an argument outside its width.
    """
    _within("log2_theta", log2_theta, log2_limit(delta_bits))
    _within("kept", kept, (1 << COUNT_BITS) - 1)
    _within("seen", seen, (1 << COUNT_BITS) - 1)
    _within("keep", keep, (1 << KEEP_BITS) - 1)
    _within("rate", rate, MAX_RATE)
    error = ((int(kept) << KEEP_BITS) - int(keep) * int(seen)) >> rate
    return max(0, min(int(log2_theta) + error, log2_limit(delta_bits)))


def _within(name: str, value: int, high: int) -> None:
    if not 0 <= value <= high:
        raise ValueError(f"{name} must be between 0 and {high}, not {value}")
