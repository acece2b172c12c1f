"""Adder tree of a row: the products of its PEs, summed over the samples, accumulated over positions.

A gather-dot leaves one product in each PE. The tree adds them, two by two, a register after every
level; the accumulator at its root adds up what belongs to one weight, from the term marked `first`
to the one marked `last`. Widths grow by a bit a level, so no sum is ever rounded.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import log2_exact
from rtl.payload import payload


class AdderTree(wiring.Component):
    """Sum of `inputs` signed numbers each cycle, accumulated between two marks.

    Latency is `latency(inputs) = log2(inputs) + 1` cycles: terms presented in cycle t, with `last`,
    show up in `sum` with `valid` in cycle t + latency. One set of terms a cycle (II = 1), gaps allowed, a
    `first` may follow a `last` at once. Without stall: the reader takes `sum` when `valid` is high.

    Args:
        inputs: number of terms, a power of two.
        input_bits: width of a term.
        sum_bits: width of the accumulator, at least input_bits + log2(inputs).

    Ports:
        terms: all terms, term n at bits [n * input_bits, (n + 1) * input_bits).
        en: terms count in this cycle. first: they start a new sum. last: they end one.
        sum: the running sum, signed; complete when valid, which is high for one cycle.

    Raises:
        ValueError: a size that cannot be built, by name.
    """

    def __init__(self, inputs: int, input_bits: int, sum_bits: int) -> None:
        self._levels = log2_exact(inputs, "inputs")
        if input_bits < 1:
            raise ValueError(f"input_bits must be at least 1, not {input_bits}")
        if sum_bits < input_bits + self._levels:
            raise ValueError(
                f"sum_bits must be at least {input_bits + self._levels} for {inputs} inputs of "
                f"{input_bits} bits, not {sum_bits}"
            )
        self._inputs, self._input_bits, self._sum_bits = inputs, input_bits, sum_bits
        super().__init__(
            {
                "terms": In(inputs * input_bits),
                "en": In(1),
                "first": In(1),
                "last": In(1),
                "sum": Out(signed(sum_bits)),
                "valid": Out(1),
            }
        )

    @staticmethod
    def latency(inputs: int) -> int:
        """Cycles from terms to their sum."""
        return log2_exact(inputs, "inputs") + 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        level = []
        for index in range(self._inputs):
            term = Signal(signed(self._input_bits), name=f"term{index}")
            m.d.comb += term.eq(self.terms.word_select(index, self._input_bits))
            level.append(term)

        en, first, last = self.en, self.first, self.last
        for depth in range(1, self._levels + 1):
            sums = [
                Signal(signed(self._input_bits + depth), name=f"sum{depth}_{i}", reset_less=True)
                for i in range(len(level) // 2)
            ]
            with m.If(en):  # idle cycles toggle nothing
                m.d.sync += [s.eq(level[2 * i] + level[2 * i + 1]) for i, s in enumerate(sums)]
            level = sums
            next_en = Signal(name=f"en{depth}")
            next_first = Signal(name=f"first{depth}", reset_less=True)
            next_last = Signal(name=f"last{depth}", reset_less=True)
            m.d.sync += [next_en.eq(en), next_first.eq(first), next_last.eq(last)]
            en, first, last = next_en, next_first, next_last

        m.d.sync += self.valid.eq(en & last)
        running = payload(m, self.sum, "running")
        with m.If(en):
            m.d.sync += running.eq(Mux(first, 0, running) + level[0])
        return m
