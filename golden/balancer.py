"""Load balancing: share units out among the rows, and the cycles that takes.

A *unit* is what the balancer may not split (a block row in FW and WU, a lane group in BW); its *count*
is its visits in the coming working set (WU: cycles). Three policies share one interface (`arch.command.Policy`):

- NONE: units stay where they are stored, `ceil(N/R)` consecutive ones to a row.
- PAIR: half tiles of consecutive units, the densest paired with the sparsest (Procrustes, MICRO 2020).
- LPT: longest processing time first (Graham, 1969), bounded by the units a row can hold.

Order of density is order of 8-bit `sort_key`s. All policies are stable: equal keys keep the order of their
indices, and equal loads go to the lowest row. Loads are exact.
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace

import numpy as np

from arch.command import Policy

COUNT_BITS = 16
"""Width of a count; one that does not fit saturates where it is tallied."""

MANTISSA_BITS, EXPONENT_BITS = 4, 4
"""Of a sort key: a number in floating point with a hidden bit, so few keys that each has a list of its own."""


def balance(counts: np.ndarray, rows: int, cap: int, policy: Policy | int | str) -> tuple[np.ndarray, np.ndarray]:
    """Assign every unit a row and a slot in that row.

    PAIR cuts the units into half tiles of `h = ceil(N/2R)`; the i-th densest becomes the first half of
    row i (slots 0 to h-1), the i-th sparsest of the 2R (empty ones count as sparsest) its second (slots
    h to 2h-1). It therefore sets 2h slots aside as soon as there is a second half, that is when N > R.

    Args:
        counts: of each unit, shape (N,), integers 0 to 65535.
        rows: R, rows of the array (at least 1).
        cap: most units a row may hold.
        policy: a `Policy`, its number or its name in lower case.

    Returns:
        `(row, slot)`, two int64 arrays of shape (N,); slot < cap, and no two units share both.

    Raises:
        ValueError: counts out of range, N > rows * cap, or PAIR needs more than cap slots.
    """
    counts = _checked_counts(counts)
    rule = policy_of(policy)
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    if cap < 0:
        raise ValueError(f"cap must be at least 0, not {cap}")
    n = counts.size
    if n > rows * cap:
        raise ValueError(f"{n} units do not fit {rows} rows of at most {cap}")
    if n == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if rule is Policy.NONE:
        unit = np.arange(n, dtype=np.int64)
        h = -(-n // rows)
        return unit // h, unit % h
    if rule is Policy.PAIR:
        return _pair(counts, rows, cap)
    return _lpt(counts, rows, cap)


def row_loads(counts: np.ndarray, row: np.ndarray, rows: int) -> np.ndarray:
    """Sum of the counts each row was given: int64, shape (rows,)."""
    loads = np.zeros(rows, dtype=np.int64)
    np.add.at(loads, np.asarray(row, dtype=np.int64), np.asarray(counts, dtype=np.int64))
    return loads


def imbalance(loads: np.ndarray) -> float:
    """Largest load over the mean load, minus 1: the share of time the average row waits for the slowest.

    Zero when every row is idle.
    """
    loads = np.asarray(loads)
    total = int(loads.sum())
    return float(loads.max()) * loads.size / total - 1.0 if total else 0.0


def balance_cycles(n: int, rows: int, policy: Policy | int | str) -> int:
    """Cycles from the cycle in which `start` is high to the one in which `done` is (their difference).

    The counts do not matter. An error, and n = 0, take 2 cycles: one accepts, one checks. Otherwise the
    phases follow each other:

    - NONE, LPT: hand N units out, N + 6.
    - PAIR: sum the half tiles, N + 8; hand M of them with h units each out, Mh + 6, the ragged one at full
      length.

    Sorting takes no time of its own: items enter the list of their key while the counts are tallied or the
    half tiles summed, and leave the lists as they are handed out.

    Raises:
        ValueError: n is negative, rows is below 1, or there is no such policy.
    """
    rule = policy_of(policy)
    if n < 0:
        raise ValueError(f"n must be at least 0, not {n}")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    accept_and_check, deal_drain, gather_drain = 2, 6, 8
    if n == 0:
        return accept_and_check
    if rule is not Policy.PAIR:
        return accept_and_check + n + deal_drain
    h = -(-n // (2 * rows))
    tiles = -(-n // h)
    return accept_and_check + n + gather_drain + tiles * h + deal_drain


def sort_key(numbers: np.ndarray) -> np.ndarray:
    """Keys of counts or sums of counts: 8 bits, monotone, exact below 32, then 5 significant bits.

    Floating point: the exponent e is max(0, bits - 4), the mantissa the 4 bits behind the leading one
    (e = 0: the number). Numbers of 2**19 and more share the largest key with those just below it; only half
    tiles of more than 8 units can reach them.

    Args:
        numbers: not negative, below 2**53.

    Returns:
        int64, the same shape.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    exponent = np.maximum(np.frexp(numbers.astype(np.float64))[1] - MANTISSA_BITS, 0)  # frexp counts bits
    mantissa = (numbers >> np.maximum(exponent - 1, 0)) & ((1 << MANTISSA_BITS) - 1)
    top = (1 << (MANTISSA_BITS + EXPONENT_BITS)) - 1
    return np.minimum(exponent * (1 << MANTISSA_BITS) + mantissa, top).astype(np.int64)


def policy_of(policy: Policy | int | str) -> Policy:
    """The `Policy` a number or a lower-case name stands for.

    Raises:
        ValueError: there is no such policy.
    """
    for known in Policy:
        if policy == known or policy == known.name.lower():
            return known
    raise ValueError(f"policy must be one of {', '.join(p.name.lower() for p in Policy)}, not {policy!r}")


def _checked_counts(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 1:
        raise ValueError(f"counts must have one dimension, not {counts.ndim}")
    counts = counts.astype(np.int64)
    if counts.size and (counts.min() < 0 or counts.max() >= 1 << COUNT_BITS):
        raise ValueError(f"counts must be between 0 and {(1 << COUNT_BITS) - 1}, not {counts.min()} to {counts.max()}")
    return counts


def _densest_first(counts: np.ndarray) -> np.ndarray:
    """Indices by descending sort key; equal keys by ascending index."""
    return np.argsort(-sort_key(counts), kind="stable")


def _pair(counts: np.ndarray, rows: int, cap: int) -> tuple[np.ndarray, np.ndarray]:
    n = counts.size
    h = -(-n // (2 * rows))
    if n > rows and 2 * h > cap:
        raise ValueError(f"pairing {n} units on {rows} rows needs {2 * h} slots a row, the cap is {cap}")
    starts = np.arange(0, n, h)
    rank = np.empty(starts.size, dtype=np.int64)
    rank[_densest_first(np.add.reduceat(counts, starts))] = np.arange(starts.size)
    second = rank >= rows
    unit = np.arange(n, dtype=np.int64)
    tile = unit // h
    row = np.where(second, 2 * rows - 1 - rank, rank)
    return row[tile], unit % h + h * second[tile]


def _lpt(counts: np.ndarray, rows: int, cap: int) -> tuple[np.ndarray, np.ndarray]:
    row = np.zeros(counts.size, dtype=np.int64)
    slot = np.zeros(counts.size, dtype=np.int64)
    held = [0] * rows
    open_rows = [(0, r) for r in range(rows)]  # (load, row): the least loaded, then the lowest, is on top
    heapify(open_rows)
    order = _densest_first(counts)
    for unit, count in zip(order.tolist(), counts[order].tolist(), strict=True):
        load, r = open_rows[0]
        row[unit], slot[unit] = r, held[r]
        held[r] += 1
        if held[r] < cap:
            heapreplace(open_rows, (load + count, r))
        else:
            heappop(open_rows)  # full: no longer a candidate
    return row, slot
