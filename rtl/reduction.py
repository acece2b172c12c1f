"""Reduction by a balanced tree: the depth grows with the logarithm of the number of terms.

Python's `sum` makes a chain of adders, as deep as there are terms, and synthesis keeps it.

A wide choice is a reduction, too: of standard cells a multiplexer of 32 words is half again as large as one decoder for
all bits with an AND and an OR behind it for each.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value


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


def some(bits: Value) -> tuple[Value, Value]:
    """Whether any of the bits is set, and whether two are; depth is logarithmic."""
    if len(bits) == 1:
        return bits[0], Const(0, 1)
    (any_low, two_low), (any_high, two_high) = some(bits[: len(bits) // 2]), some(bits[len(bits) // 2 :])
    return any_low | any_high, two_low | two_high | (any_low & any_high)


def chosen(m: Module, words: Sequence[Value], number: Value, name: str) -> Value:
    """The word of that number, as bits, combinational; zero if there is none.

    Args:
        m: gets the decoder.
        words: of one width.
        number: unsigned.
        name: of the decoder's outputs.

    Raises:
        ValueError: there are no words, or their widths differ.
    """
    widths = {len(word) for word in words}
    if len(widths) > 1:
        raise ValueError(f"words must have one width, not {sorted(widths)}")
    is_number = Signal(len(words), name=name)
    m.d.comb += is_number.eq(Cat(number == index for index in range(len(words))))
    return tree([word & is_it.replicate(len(word)) for word, is_it in zip(words, is_number, strict=True)], operator.or_)
