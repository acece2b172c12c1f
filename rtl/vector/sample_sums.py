"""Sums over samples and positions: a tree over the columns, then over time, for V channels at once."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.vector import FACTOR_BITS, PLAIN_BITS, SQUARE_BITS


class SampleSums(wiring.Component):
    """Exact sums of the lanes' left operands and of their products.

    Latency: terms of cycle t, with `last`, show their sums with `sum_en` in t + log2 C + `LATENCY`. One set of terms
    a cycle; up to E/V sums are made at a time, by `chunk`.

    Args:
        cfg: widths.
        elements: V.
        places: channels of a group over V.

    Ports:
        left, product: C times V terms, lane n * V + v of column n at its width times that number.
        en, first, last: the terms count; they begin a sum; they end it. chunk: which sum. place: where it goes.
        sum_en, sum_addr, sum_plain, sum_product: complete sums, as `CoefficientUnit` takes them.
    """

    LATENCY = 1

    def __init__(self, cfg: Config, elements: int, places: int) -> None:
        self._cfg, self._elements, self._chunks = cfg, elements, cfg.bus_elements // elements
        lanes = cfg.columns * elements
        super().__init__(
            {
                "left": In(lanes * cfg.operand_bits),
                "product": In(lanes * (cfg.operand_bits + FACTOR_BITS)),
                "en": In(1),
                "first": In(1),
                "last": In(1),
                "chunk": In(range(max(2, self._chunks))),
                "place": In(range(max(2, places))),
                "sum_en": Out(1),
                "sum_addr": Out(range(max(2, places))),
                "sum_plain": Out(elements * PLAIN_BITS),
                "sum_product": Out(elements * SQUARE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, elements = self._cfg, self._elements
        m = Module()
        en, first, last, chunk, place = self.en, self.first, self.last, self.chunk, self.place
        levels = log2_exact(cfg.columns, "columns")
        for depth in range(levels):
            moved = []
            for name, source in (("en", en), ("first", first), ("last", last), ("chunk", chunk), ("place", place)):
                register = Signal(source.shape(), name=f"{name}_{depth}", reset_less=name != "en")
                m.d.sync += register.eq(source)
                moved.append(register)
            en, first, last, chunk, place = moved
        for kind, source, bits, width, port in (
            ("plain", self.left, cfg.operand_bits, PLAIN_BITS, self.sum_plain),
            ("product", self.product, cfg.operand_bits + FACTOR_BITS, SQUARE_BITS, self.sum_product),
        ):
            for v in range(elements):
                level = [source.word_select(n * elements + v, bits).as_signed() for n in range(cfg.columns)]
                for depth in range(levels):
                    pairs = []
                    for i in range(len(level) // 2):
                        pair = Signal(signed(bits + depth + 1), name=f"{kind}_{v}_{depth}_{i}", reset_less=True)
                        m.d.sync += pair.eq(level[2 * i] + level[2 * i + 1])
                        pairs.append(pair)
                    level = pairs
                sums = Array(
                    Signal(signed(width), name=f"{kind}_{v}_sum{k}", reset_less=True) for k in range(self._chunks)
                )
                new = Signal(signed(width), name=f"{kind}_{v}_new")
                shown = Signal(width, name=f"{kind}_{v}_shown", reset_less=True)
                m.d.comb += new.eq(Mux(first, 0, sums[chunk]) + level[0])
                with m.If(en):
                    m.d.sync += [sums[chunk].eq(new), shown.eq(new)]
                m.d.comb += port.word_select(v, width).eq(shown)
        m.d.sync += [self.sum_en.eq(en & last), self.sum_addr.eq(place)]
        return m
