"""Memories that become plain RAM blocks.

A read port of Amaranth promises the old word where the address is written in the same cycle. RAM blocks of FPGAs do not
(what they answer depends on family and mode), so synthesis builds the promise around them: the write is delayed and
forwarded by registers, comparators and multiplexers, in a PE as much as all its other logic. Where nobody needs the
promise, an attribute says so.
"""

from __future__ import annotations

from amaranth.lib.memory import Memory


def ram(shape: object, depth: int, *, block: bool = False) -> Memory:
    """A memory for ports that never meet: double-buffered, or read where a collision is bypassed.

    `tests/test_ram.py` lets every read that collides answer wrongly, and programs must not notice.

    Args:
        shape: of a word.
        depth: words.
        block: a RAM block even where synthesis would take the LUTs of an FPGA.
    """
    attrs = {"no_rw_check": True} | ({"ram_style": "block"} if block else {})
    return Memory(shape=shape, depth=depth, init=[], attrs=attrs)  # type: ignore[arg-type]
