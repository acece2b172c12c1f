"""Reduction by a balanced tree: the depth grows with the logarithm of the number of terms.

Python's `sum` makes a chain of adders, as deep as there are terms, and synthesis keeps it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

from amaranth.hdl import Value


def tree(terms: Iterable[Value], join: Callable[[Value, Value], Value]) -> Value:
    """All terms joined two by two, combinational; `join` must be associative and commutative.

    Raises:
        ValueError: there are no terms.
    """
    values = list(terms)
    if not values:
        raise ValueError("there must be at least 1 term, not 0")
    while len(values) > 1:
        odd = values[len(values) // 2 * 2 :]
        values = [join(a, b) for a, b in zip(values[0::2], values[1::2], strict=False)] + odd
    return values[0]


def total(terms: Iterable[Value]) -> Value:
    """Sum of the terms, never truncated; of the bits of a signal, the number of ones."""
    return tree(terms, operator.add)
