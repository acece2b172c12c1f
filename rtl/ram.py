"""Memories that become plain RAM blocks.

A read port of Amaranth promises the old word where the address is written in the same cycle. RAM blocks of FPGAs do not
(what they answer depends on family and mode), so synthesis builds the promise around them: the write is delayed and
forwarded by registers, comparators and multiplexers, in a PE as much as all its other logic. Where nobody needs the
promise, an attribute says so.
"""

from __future__ import annotations

from amaranth.lib.memory import Memory


def ram(shape: object, depth: int, *, style: str | None = None) -> Memory:
    """A memory for ports that never meet: double-buffered, or read where a collision is bypassed.

    `tests/test_ram.py` lets every read that collides answer wrongly, and programs must not notice.

    Args:
        shape: of a word.
        depth: words.
        style: of an FPGA's memories `block` or `distributed`, where synthesis should not choose.
    """
    return Memory(shape=shape, depth=depth, init=[], attrs={"no_rw_check": True} | styled(style))  # type: ignore[arg-type]


def styled(style: str | None) -> dict[str, str]:
    """The attribute that asks synthesis for a style, if any."""
    return {} if style is None else {"ram_style": style}
