"""Bucket sort with linked lists: items enter a list of their key's bin as they come, and leave in order.

Nothing is moved and nothing is swept: an item costs one cycle to enter, while its number is made anyway,
and one to leave, when the next is needed. Stable, and its time does not depend on the keys. A key is a
number in 8-bit floating point: order without width.
"""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import log2_exact

MANTISSA_BITS, EXPONENT_BITS = 4, 4
KEY_BITS = MANTISSA_BITS + EXPONENT_BITS
BINS = 1 << KEY_BITS


def sort_key(m: Module, number: Value) -> Signal:
    """`golden.balancer.sort_key` of an unsigned number of any width; combinational, KEY_BITS bits."""
    top = MANTISSA_BITS + (1 << EXPONENT_BITS) - 1  # numbers below 2**top have keys of their own
    key = Signal(KEY_BITS)
    m.d.comb += key.eq(number[:MANTISSA_BITS])
    for exponent in range(1, 1 + min(len(number), top) - MANTISSA_BITS):
        with m.If(number[MANTISSA_BITS + exponent - 1]):
            mantissa = number[exponent - 1 : exponent - 1 + MANTISSA_BITS]
            m.d.comb += key.eq(Cat(mantissa, C(exponent, EXPONENT_BITS)))
    with m.If(number[top:].any()):
        m.d.comb += key.eq(BINS - 1)
    return key


def highest(bits: Value) -> Value:
    """Index of the highest bit that is set, as a tree; 0 if none is. `bits` are 2, 4, 8, ... bits."""
    half = len(bits) // 2
    lower, upper = bits[:half], bits[half:]
    if half == 1:
        return upper
    return Cat(Mux(upper.any(), highest(upper), highest(lower)), upper.any())


class BucketSort(wiring.Component):
    """A list of items for each key; read from the highest key down, equal keys in the order in which they came.

    A list is its first item, its last item, and for each item the one behind it. A bit a bin, in
    registers, says whether it has a list: clearing them all is how the lists are emptied, and the highest of
    them is the list to read next.

    Latency: a key given in cycle t is in its list for a `next` in cycle t + LATENCY; the `item` of a `next`
    follows one cycle later. Throughput: one key a cycle, one item a cycle.

    Args:
        items: most items sorted, a power of two.

    Ports:
        flush: empties the lists; keys of this cycle or later count, those before are lost.
        fill, key: the next item, numbered from 0 on since `flush`, has this key (KEY_BITS bits).
        next: asks for the next item; no key may follow but after a flush, and no item beyond those that came.
        item: number of an item, log2(items) bits; stays until the cycle after the following `next`.

    Raises:
        ValueError: items is not a power of two.
    """

    LATENCY = 2

    def __init__(self, items: int) -> None:
        self._items = items
        self._bits = log2_exact(items, "items")
        super().__init__(
            {
                "flush": In(1),
                "fill": In(1),
                "key": In(KEY_BITS),
                "next": In(1),
                "item": Out(self._bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.heads = heads = Memory(shape=self._bits, depth=BINS, init=[])
        m.submodules.tails = tails = Memory(shape=self._bits, depth=BINS, init=[])
        m.submodules.links = links = Memory(shape=self._bits, depth=self._items, init=[])
        head_write, tail_write, link_write = (memory.write_port() for memory in (heads, tails, links))
        head_read, tail_read, link_read = (memory.read_port() for memory in (heads, tails, links))
        occupied = Signal(BINS)

        # Filling, first cycle: the key waits in a register, so that it may come through `sort_key`. Second cycle:
        # the item becomes the last of its list, whose last so far is read. Third: that one learns of the item.
        filling, bin1, item1 = Signal(), Signal(KEY_BITS, reset_less=True), Signal(self._bits)
        linking, item2 = Signal(), Signal(self._bits, reset_less=True)
        known = Signal()
        m.d.sync += [
            filling.eq(self.fill),
            bin1.eq(self.key),
            item1.eq(item1 + filling),
            linking.eq(filling & known),
            item2.eq(item1),
        ]
        m.d.comb += [
            known.eq(occupied.bit_select(bin1, 1)),
            head_write.en.eq(filling & ~known),
            head_write.addr.eq(bin1),
            head_write.data.eq(item1),
            tail_write.en.eq(filling),
            tail_write.addr.eq(bin1),
            tail_write.data.eq(item1),
            link_write.en.eq(linking),
            link_write.addr.eq(tail_read.data),
            link_write.data.eq(item2),
        ]
        # Reading: behind the last item of a list comes the first of the next list. Whatever is not asked for
        # stays in the read ports.
        begun, first, enter = Signal(), Signal(), Signal()
        highest_bin = Signal(KEY_BITS)
        m.d.comb += [
            highest_bin.eq(highest(occupied)),
            self.item.eq(Mux(first, head_read.data, link_read.data)),
            enter.eq(self.next & (~begun | (self.item == tail_read.data))),
            head_read.en.eq(enter),
            head_read.addr.eq(highest_bin),
            tail_read.en.eq(filling | enter),
            tail_read.addr.eq(Mux(filling, bin1, highest_bin)),
            link_read.en.eq(self.next),
            link_read.addr.eq(self.item),
        ]
        with m.If(self.next):
            m.d.sync += [begun.eq(1), first.eq(enter)]
        # As masks: a bit assigned by its number becomes a decoder that tools work minutes on.
        gains, loses = Signal(BINS), Signal(BINS)
        m.d.comb += [gains.eq(filling << bin1), loses.eq(enter << highest_bin)]
        m.d.sync += occupied.eq((occupied | gains) & ~loses)

        with m.If(self.flush):
            m.d.sync += [occupied.eq(0), item1.eq(0), begun.eq(0)]
        return m
