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
from rtl.ram import ram, styled

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


def _alone(m: Module, bits: Value) -> Signal:
    """The highest bit that is set, without all below it."""
    alone = Signal(len(bits))  # a signal, for an expression is written out once more wherever it is used
    m.d.comb += alone.eq(Cat(bit & ~bits[n + 1 :].any() for n, bit in enumerate(bits)))
    return alone


def _index(alone: Value) -> Value:
    """Index of the only bit that is set."""
    count = (len(alone) - 1).bit_length()
    return Cat(Cat(bit for n, bit in enumerate(alone) if n >> place & 1).any() for place in range(count))


class BucketSort(wiring.Component):
    """A list of items for each key; read from the highest key down, equal keys in the order in which they came.

    A list is its first item, its last item, and for each item the one behind it. A bit a bin says whether it has a
    list. The bits of the bins of one exponent are a word of a small memory without a clock at its reads; a register
    says which words count, so that clearing it is how the lists are emptied (as registers, with a decoder and a
    priority encoder over all of them, the bits took five times the logic of the rest). The highest list that has not
    been begun is not among the bits but in a register of its own, kept while keys come and found anew whenever a list
    is begun; so where the next list begins and ends has been read from the memories before the current one is over.
    It is found in a word that waits in a register, taken out of the memory when the keys were over; the next word is
    read while the last bit of this one leaves, so that no cycle searches twice.

    Latency: a key given in cycle t is in its list for a `next` in cycle t + LATENCY; the `item` of a `next`
    follows one cycle later. Throughput: one key a cycle, one item a cycle.

    Args:
        items: most items sorted, a power of two.
        style: see `rtl.ram.ram`, for the memories with a word a key. A RAM block answers late and may be far.

    Ports:
        flush: empties the lists; keys of this cycle or later count, those before are lost.
        fill, key: the next item, numbered from 0 on since `flush`, has this key (KEY_BITS bits).
        next: asks for the next item; no key may follow but after a flush, and no item beyond those that came.
        item: number of an item, log2(items) bits; stays until the cycle after the following `next`.

    Raises:
        ValueError: items is not a power of two.
    """

    LATENCY = 3

    def __init__(self, items: int, style: str | None = None) -> None:
        self._items, self._style = items, style
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
        # Where a read meets a write, only that of the last item has to answer: with the old one. Heads and links are
        # not yet read then, or nobody looks at the answer.
        m.submodules.heads = heads = ram(self._bits, BINS, style=self._style)
        # With the last item: whether it is not the only one.
        attrs = styled(self._style)
        m.submodules.tails = tails = Memory(shape=1 + self._bits, depth=BINS, init=[], attrs=attrs)
        m.submodules.links = links = ram(self._bits, self._items)
        head_write, tail_write, link_write = (memory.write_port() for memory in (heads, tails, links))
        head_read, tail_read, link_read = (memory.read_port() for memory in (heads, tails, links))
        top, any_top = Signal(KEY_BITS), Signal()  # highest list not begun
        # All others: the words of `lists` that are among `groups`, and the one that waits, of `group`.
        size = 1 << MANTISSA_BITS
        m.submodules.lists = lists = Memory(shape=size, depth=BINS // size, init=[])
        list_write = lists.write_port()
        of_bin, of_top, of_highest = (lists.read_port(domain="comb") for _ in range(3))
        groups = Signal(BINS // size)
        primed, word, group = Signal(), Signal(size), Signal(EXPONENT_BITS, reset_less=True)

        # Filling, first cycle: the key waits in a register, so that it may come through `sort_key`. Second cycle:
        # the item becomes the last of its list, whose last so far is read. Third: that one learns of the item.
        filling, bin1, item1 = Signal(), Signal(KEY_BITS, reset_less=True), Signal(self._bits)
        linking, item2 = Signal(), Signal(self._bits, reset_less=True)
        known, is_top, above = Signal(), Signal(), Signal()
        bin_group, top_group = bin1[MANTISSA_BITS:], top[MANTISSA_BITS:]
        m.d.sync += [
            filling.eq(self.fill),
            bin1.eq(self.key),
            item1.eq(item1 + filling),
            linking.eq(filling & known),
            item2.eq(item1),
        ]
        m.d.comb += [
            is_top.eq(any_top & (bin1 == top)),
            above.eq(~any_top | (bin1 > top)),
            known.eq(is_top | (groups.bit_select(bin_group, 1) & of_bin.data.bit_select(bin1[:MANTISSA_BITS], 1))),
            head_write.en.eq(filling & ~known),
            head_write.addr.eq(bin1),
            head_write.data.eq(item1),
            tail_write.en.eq(filling),
            tail_write.addr.eq(bin1),
            tail_write.data.eq(Cat(item1, known)),
            link_write.en.eq(linking),
            link_write.addr.eq(tail_read.data[:-1]),
            link_write.data.eq(item2),
        ]
        # Reading: behind the last item of a list comes the first of the next list. Whatever is not asked for stays in
        # the read ports: the first and last item of the list that is begun next or, as long as its first item is
        # shown, of the current one. That an item is the last of its list is known a cycle later, when the next one is
        # shown: both that it might be are there.
        begun, first = Signal(), Signal()
        begin = Signal()
        last, over = Signal(self._bits, reset_less=True), Signal()
        m.d.comb += [
            self.item.eq(Mux(first, head_read.data, link_read.data)),
            begin.eq(self.next & (~begun | first)),
            head_read.en.eq(begin),
            head_read.addr.eq(top),
            tail_read.en.eq(filling | begin),
            tail_read.addr.eq(Mux(filling, bin1, top)),
            link_read.en.eq(self.next),
            link_read.addr.eq(self.item),
            over.eq(Mux(first, ~tail_read.data[-1], link_read.data == last)),
        ]
        with m.If(self.next):
            m.d.sync += [begun.eq(1), first.eq(~begun | over)]
            with m.If(first):
                m.d.sync += last.eq(tail_read.data[:-1])
        # While keys come, the key's list or the one it ousts from `top` enters; a word that waits has gone back before.
        highest, entering, old = _alone(m, groups), Signal(KEY_BITS), Signal(size)
        enters, entering_group = Signal(), entering[MANTISSA_BITS:]
        m.d.comb += [
            of_bin.addr.eq(bin_group),
            of_top.addr.eq(top_group),
            of_highest.addr.eq(_index(highest)),
            enters.eq(filling & any_top & ~is_top),
            entering.eq(Mux(above, top, bin1)),
            old.eq(Mux(above, of_top.data, of_bin.data) & groups.bit_select(entering_group, 1).replicate(size)),
            list_write.en.eq(enters),
            list_write.addr.eq(entering_group),
            list_write.data.eq(old | (1 << entering[:MANTISSA_BITS])[:size]),
        ]
        # The highest of the others, for when a list is begun: it leaves them.
        within, left, refill = _alone(m, word), Signal(size), Signal()
        m.d.comb += [
            left.eq(word & ~within),
            refill.eq(Mux(begin, ~left.any(), ~primed & ~self.fill & ~filling)),
        ]
        with m.If(refill):
            m.d.sync += [
                primed.eq(1),
                word.eq(of_highest.data & groups.any().replicate(size)),
                group.eq(of_highest.addr),
                groups.eq(groups & ~highest),
            ]
        with m.Elif(begin):
            m.d.sync += word.eq(left)
        with m.Elif(self.fill & primed):
            m.d.sync += [primed.eq(0), word.eq(0)]
            with m.If(word.any()):
                m.d.sync += groups.eq(groups | (1 << group)[: len(groups)])
        with m.Elif(enters):
            m.d.sync += groups.eq(groups | (1 << entering_group)[: len(groups)])
        with m.If(filling & above):
            m.d.sync += [top.eq(bin1), any_top.eq(1)]
        with m.Elif(begin):
            m.d.sync += top.eq(Cat(_index(within), group))

        with m.If(self.flush):
            m.d.sync += [groups.eq(0), any_top.eq(0), item1.eq(0), begun.eq(0), first.eq(0), primed.eq(0), word.eq(0)]
        return m
