"""Rows in order of load, for LPT, which needs the least loaded one every cycle.

A tree of minima and an adder are too long a loop for that. So the rows wait in sorted order, the minimum at the head:
it takes a unit and sinks to its new place, and all comparisons with its new load are made side by side.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

COUNT_BITS = 16
"""Width of the count of a unit."""


class RowQueue(wiring.Component):
    """Rows in order of load, least loaded first; the head takes a count and sinks to its new place.

    One step a cycle, no latency: `row` and `load` are registers. Equal loads are in order of row. A row
    told that it is `full` sinks below all others and never comes back.

    Loads are kept modulo 2**17. That is enough to compare them: a row grows only while it is the least
    loaded of the open ones, so no open row is ever more than one count (below 2**16) above another.

    Args:
        rows: number of rows, at least 2.

    Ports:
        init: every row empty and open, in order. step: the head takes `count`, and closes if `full`.
        row, load: of the head; load modulo 2**17. Meaningless once all rows are full.

    Raises:
        ValueError: fewer than 2 rows.
    """

    def __init__(self, rows: int) -> None:
        if rows < 2:
            raise ValueError(f"rows must be at least 2, not {rows}")
        self._rows = rows
        super().__init__(
            {
                "init": In(1),
                "step": In(1),
                "count": In(COUNT_BITS),
                "full": In(1),
                "row": Out(range(rows)),
                "load": Out(COUNT_BITS + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row_bits = len(self.row)
        key_bits = row_bits + COUNT_BITS + 1  # load above row: one comparison settles ties as well
        keys = [Signal(key_bits, init=r, name=f"key{r}") for r in range(self._rows)]
        closed = [Signal(name=f"closed{r}") for r in range(self._rows)]
        m.d.comb += [self.row.eq(keys[0][:row_bits]), self.load.eq(keys[0][row_bits:])]

        grown = Signal(COUNT_BITS + 1)
        moved = Signal(key_bits)
        m.d.comb += [grown.eq(self.load + self.count), moved.eq(Cat(self.row, grown))]
        before = [Signal(name=f"before{r}") for r in range(self._rows)]  # stays ahead of the head's new place
        m.d.comb += before[0].eq(1)
        for r in range(1, self._rows):
            difference = Signal(key_bits, name=f"difference{r}")
            m.d.comb += [difference.eq(keys[r] - moved), before[r].eq(~closed[r] & (self.full | difference[-1]))]

        for r in range(self._rows):
            with m.If(self.init):
                m.d.sync += [keys[r].eq(r), closed[r].eq(0)]
            with m.Elif(self.step & before[r]):
                m.d.sync += [keys[r].eq(moved), closed[r].eq(self.full)]
                if r + 1 < self._rows:
                    with m.If(before[r + 1]):
                        m.d.sync += [keys[r].eq(keys[r + 1]), closed[r].eq(closed[r + 1])]
        return m
