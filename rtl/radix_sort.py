"""Digit tables of a radix sort: how many keys have each digit, then where the next of them goes.

A least-significant-digit radix sort (Knuth vol. 3, 5.2.5) of 12-bit keys with two digits of 6 bits.
Both tables are filled while the numbers to sort come by; one sweep turns the numbers into starting
positions; then one pass per digit asks its table where each item goes. Stable, and its time does
not depend on the keys. A key is a number in 12-bit floating point: order without width.
"""

from __future__ import annotations

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import log2_exact

MANTISSA_BITS, EXPONENT_BITS = 8, 4
KEY_BITS = MANTISSA_BITS + EXPONENT_BITS
DIGITS = 2
DIGIT_BITS = KEY_BITS // DIGITS

SWEEP = 1 << DIGIT_BITS
"""Cycles of a sweep that sums the tables."""


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
        m.d.comb += key.eq((1 << KEY_BITS) - 1)
    return key


class DigitTables(wiring.Component):
    """Two tables of digit counts; they become positions, and advance as items are placed.

    A sort is: `flush`; `fill` once per key; `sum` for SWEEP cycles with `address` 0, 1, ...; then for
    `digit` 0 and 1 in turn `place` once per item, in the order of the pass before. Emptying the tables
    takes no sweep: a bit an entry, in registers, says whether it was written since the last flush.

    Latency: a key given in cycle t has its `position`, with `placed`, in cycle t + `latency`. One key a
    cycle, of any pass; a sweep may begin in cycle t + latency + 1, keys may follow a sweep at once.

    Args:
        items: most items sorted, a power of two.

    Ports:
        flush: empties both tables; keys of this cycle or later count, keys in flight are lost.
        sum: this cycle's entry `address` of either table is replaced by the sum of those before it; no key
            in flight.
        fill, place: this cycle's `key` is counted in both tables / asks table `digit` for its position.
        key: KEY_BITS bits, ascending order. digit: 0 or 1.
        position: where the item goes, log2(items) bits; valid when `placed`.

    Raises:
        ValueError: items is not a power of two.
    """

    latency = 2

    def __init__(self, items: int) -> None:
        self._bits = log2_exact(items, "items")
        super().__init__(
            {
                "flush": In(1),
                "sum": In(1),
                "address": In(DIGIT_BITS),
                "fill": In(1),
                "place": In(1),
                "key": In(KEY_BITS),
                "digit": In(range(DIGITS)),
                "position": Out(self._bits),
                "placed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # First cycle: the digits wait in a register, so that the key may come straight from a memory.
        filling, placing = Signal(), Signal()
        m.d.sync += [filling.eq(self.fill), placing.eq(self.place)]
        digit1 = Signal.like(self.digit, reset_less=True)
        digit2 = Signal.like(self.digit, reset_less=True)
        m.d.sync += [digit1.eq(self.digit), digit2.eq(digit1)]

        # Second cycle: an entry is read; the third writes it back.
        summed, filled = Signal(), Signal()
        m.d.sync += [
            summed.eq(self.sum & ~self.flush),
            filled.eq(filling & ~self.flush),
            self.placed.eq(placing & ~self.flush),
        ]

        positions = []
        for table in range(DIGITS):
            m.submodules[f"table{table}"] = memory = Memory(shape=self._bits, depth=SWEEP, init=[])
            write = memory.write_port()
            # Transparent: the next key may have the same digit.
            read = memory.read_port(transparent_for=(write,))

            digit = Signal(DIGIT_BITS, name=f"digit_{table}", reset_less=True)
            m.d.sync += digit.eq(self.key.word_select(table, DIGIT_BITS))
            m.d.comb += read.addr.eq(Mux(self.sum, self.address, digit))
            m.d.sync += write.addr.eq(read.addr)

            written, present = Signal(SWEEP, name=f"written_{table}"), Signal(name=f"present_{table}")
            entry = Signal(self._bits, name=f"entry_{table}")
            m.d.sync += present.eq(written.bit_select(read.addr, 1) | (write.en & (write.addr == read.addr)))
            m.d.comb += entry.eq(Mux(present, read.data, 0))
            with m.If(write.en):
                m.d.sync += written.bit_select(write.addr, 1).eq(1)
            with m.If(self.flush):
                m.d.sync += [written.eq(0), present.eq(0)]

            # Modulo `items`: only an empty digit at the very end can start at `items` itself.
            running = Signal(self._bits, name=f"running_{table}", reset_less=True)
            with m.If(~summed):
                m.d.sync += running.eq(0)
            with m.Else():
                m.d.sync += running.eq(running + entry)
            m.d.comb += [
                write.en.eq(summed | filled | (self.placed & (digit2 == table))),
                write.data.eq(Mux(summed, running, entry + 1)),
            ]
            positions.append(entry)
        m.d.comb += self.position.eq(Array(positions)[digit2])
        return m
