"""Digit tables of a radix sort: how many keys have each digit, then where the next of them goes.

A least-significant-digit radix sort (Knuth vol. 3, 5.2.5) of 16-bit keys with digits of 6, 5 and 5
bits. One pass over the keys fills all three tables; one sweep turns the numbers into starting
positions; then one pass per digit asks its table where each item goes. Stable, and its time does
not depend on the keys.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import log2_exact

KEY_BITS = 16
DIGIT_BITS = (6, 5, 5)
"""Digits of a key, the least significant first."""

SWEEP = 1 << max(DIGIT_BITS)
"""Cycles of a sweep over the tables, to zero or to sum them."""


class DigitTables(wiring.Component):
    """Three tables of digit counts; they become positions, and advance as items are placed.

    A sort is: `wipe` for SWEEP cycles with `address` 0, 1, ...; `fill` once per key; `sum` for SWEEP
    cycles like `wipe`; then for `digit` 0, 1, 2 in turn `place` once per item, in the order of the pass
    before.

    Latency: a key given in cycle t has its `position`, with `placed`, in cycle t + `latency`. One key a
    cycle, of any pass; a sweep may begin in cycle t + latency + 1, keys may follow a sweep at once.

    Args:
        items: most items sorted, a power of two.

    Ports:
        wipe, sum: this cycle's entry `address` of every table is zeroed / replaced by the sum of those
            before it. At most one of them, and no key in flight.
        fill, place: this cycle's `key` is counted in every table / asks table `digit` for its position.
        key: 16 bits, ascending order. digit: 0 to 2.
        position: where the item goes, log2(items) bits; valid when `placed`.

    Raises:
        ValueError: items is not a power of two.
    """

    latency = 2

    def __init__(self, items: int) -> None:
        self._bits = log2_exact(items, "items")
        super().__init__(
            {
                "wipe": In(1),
                "sum": In(1),
                "address": In(max(DIGIT_BITS)),
                "fill": In(1),
                "place": In(1),
                "key": In(KEY_BITS),
                "digit": In(range(len(DIGIT_BITS))),
                "position": Out(self._bits),
                "placed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sweep = Signal()
        m.d.comb += sweep.eq(self.wipe | self.sum)

        # First cycle: the digits wait in a register, so that the key may come straight from a memory.
        filling, placing = Signal(), Signal()
        m.d.sync += [filling.eq(self.fill), placing.eq(self.place)]
        digit1 = Signal.like(self.digit, reset_less=True)
        digit2 = Signal.like(self.digit, reset_less=True)
        m.d.sync += [digit1.eq(self.digit), digit2.eq(digit1)]

        # Second cycle: an entry is read; the third writes it back.
        wiped, summed, filled = Signal(), Signal(), Signal()
        m.d.sync += [wiped.eq(self.wipe), summed.eq(self.sum), filled.eq(filling), self.placed.eq(placing)]

        positions = []
        low = 0
        for table, bits in enumerate(DIGIT_BITS):
            m.submodules[f"table{table}"] = memory = Memory(shape=self._bits, depth=1 << bits, init=[])
            write = memory.write_port()
            # Transparent: the next key may have the same digit.
            read = memory.read_port(transparent_for=(write,))

            digit = Signal(bits, name=f"digit_{table}", reset_less=True)
            m.d.sync += digit.eq(self.key[low : low + bits])
            low += bits
            m.d.comb += read.addr.eq(Mux(sweep, self.address[:bits], digit))
            m.d.sync += write.addr.eq(read.addr)
            # A sweep is as long as the largest table; a smaller one must not be swept twice.
            inside = Signal(name=f"inside_{table}", reset_less=True)
            m.d.sync += inside.eq(~self.address[bits:].any())

            # Modulo `items`: only an empty digit at the very end can start at `items` itself.
            running = Signal(self._bits, name=f"running_{table}", reset_less=True)
            with m.If(wiped):
                m.d.sync += running.eq(0)
            with m.Elif(summed):
                m.d.sync += running.eq(running + read.data)
            m.d.comb += [
                write.en.eq(Mux(wiped | summed, inside, filled | (self.placed & (digit2 == table)))),
                write.data.eq(Mux(wiped, 0, Mux(summed, running, read.data + 1))),
            ]
            positions.append(read.data)
        m.d.comb += self.position.eq(Array(positions)[digit2])
        return m
