"""Peak of a tensor whose channels have exponents of their own: the largest bit length plus exponent."""

from __future__ import annotations

import operator

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config
from arch.vector import SUM_BITS
from rtl.reduction import tree
from rtl.requantise import bit_length

Q_BITS = 16
PEAK_BITS = Q_BITS + 2
SIX_PEAK = 3  # what is clipped at six lies below 2**3


class PeakFinder(wiring.Component):
    """The least p with all |sums| * 2**q < 2**p.

    Latency: sums of cycle t are in `peak` from t + `LATENCY` on. V sums of every column a cycle.

    Args:
        cfg: widths.
        elements: V.

    Ports:
        clear: forget it. en: the sums count; 5 cycles after them (what was on its way before a reset does not).
        sums: C times V, lane n * V + v of column n. q: V exponents, 3 cycles after their sums. six: peaks are at most
        that of six.
        any, peak: there was something that is not zero; its peak.
    """

    LATENCY = 7

    def __init__(self, cfg: Config, elements: int) -> None:
        self._cfg, self._elements = cfg, elements
        super().__init__(
            {
                "clear": In(1),
                "en": In(1),
                "sums": In(cfg.columns * elements * SUM_BITS),
                "q": In(elements * Q_BITS),
                "six": In(1),
                "any": Out(1),
                "peak": Out(signed(PEAK_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, elements = self._cfg, self._elements
        m = Module()
        found = []
        for v in range(elements):
            magnitudes = []
            for n in range(cfg.columns):
                x = self.sums.word_select(n * elements + v, SUM_BITS)
                magnitude = Signal(SUM_BITS, name=f"magnitude_{n}_{v}", reset_less=True)
                m.d.sync += magnitude.eq((x ^ x[-1].replicate(SUM_BITS)) + x[-1])
                magnitudes.append(magnitude)
            joined = Signal(SUM_BITS, name=f"joined_{v}", reset_less=True)
            length = Signal(range(SUM_BITS + 1), name=f"length_{v}", reset_less=True)
            peak = Signal(signed(PEAK_BITS), name=f"peak_{v}", reset_less=True)
            some = Signal(name=f"some_{v}", reset_less=True)
            m.d.sync += [
                joined.eq(tree(magnitudes, operator.or_)),
                length.eq(bit_length(m, joined)),
                peak.eq(length + self.q.word_select(v, Q_BITS).as_signed()),
                some.eq(length.any()),
            ]
            found.append((peak, some))

        def larger(a: tuple, b: tuple) -> tuple:
            return Mux(a[1] & (~b[1] | (a[0] > b[0])), a[0], b[0]), a[1] | b[1]

        # The largest of two, then of all.
        pairs = []
        for n in range(0, elements, 2):
            peak, some = Signal.like(found[n][0], name=f"pair_{n}"), Signal(name=f"pair_some_{n}", reset_less=True)
            m.d.sync += Cat(peak, some).eq(Cat(*tree(found[n : n + 2], larger)))
            pairs.append((peak, some))
        of_all, some = tree(pairs, larger)
        largest, counts = Signal(signed(PEAK_BITS), reset_less=True), Signal()
        m.d.sync += [largest.eq(of_all), counts.eq(some & self.en)]
        with m.If(self.clear):
            m.d.sync += self.any.eq(0)
        with m.Elif(counts):
            m.d.sync += self.any.eq(1)
            with m.If(~self.any | (largest > self.peak)):
                m.d.sync += self.peak.eq(Mux(self.six & (largest > SIX_PEAK), SIX_PEAK, largest))
        return m
