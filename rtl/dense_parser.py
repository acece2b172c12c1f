"""Record parser of the dense build: all records of a region take the same number of beats.

So nothing is counted but beats, and a beat passes in two cycles.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.payload import payload
from rtl.rounding import held

BEATS_BITS = 12
"""Width of the value beats of a record: 255 words of 16 beats at most."""


def record_beats(cfg: Config, words: Value) -> Value:
    """Value beats of a record of `words` words."""
    values = words << log2_exact(cfg.mask_bits, "mask_bits")
    return (values + (cfg.values_per_beat - 1)) >> log2_exact(cfg.values_per_beat, "values_per_beat")


class DenseParser(wiring.Component):
    """Splits regions into records of `record_beats` beats.

    Latency: a beat given in cycle t is at the outputs in t + LATENCY, its `record` one cycle earlier (so that
    it can address a memory that answers beside the beat). One a cycle, no back-pressure.

    Args:
        cfg: widths.

    Ports: those of `rtl.record_parser.RecordParser` with the same names and meanings, without is_value, before,
        offsets and words, and record_beats (at least 1): beats of a record. first: first beat of a record.
    """

    LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "record_beats": In(BEATS_BITS),
                "records": In(16),
                "exact": In(1),
                "in_valid": In(1),
                "in_last": In(1),
                "in_data": In(cfg.beat_bits),
                "record": Out(16),
                "moves": Out(1),
                "returns": Out(1),
                "valid": Out(1),
                "data": Out(cfg.beat_bits),
                "first": Out(1),
                "region_last": Out(1),
                "regions": Out(8),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid_1, last_1 = Signal(), Signal(reset_less=True)
        beat_1 = Signal.like(self.in_data, reset_less=True)
        m.d.sync += [valid_1.eq(self.in_valid), last_1.eq(self.in_last), beat_1.eq(self.in_data)]

        # t+1: which beat of which record it is.
        seen = Signal(BEATS_BITS)
        record_end, surplus, wrong_end, taken = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            taken.eq(valid_1 & ~self.error),
            self.moves.eq(taken & record_end),
            self.returns.eq(taken & last_1),
            record_end.eq(seen + 1 == self.record_beats),
            surplus.eq(self.record == self.records),
            wrong_end.eq(last_1 & ~(record_end & (self.record + 1 == self.records))),
        ]
        with m.If(taken):
            m.d.sync += seen.eq(seen + 1)
            with m.If(record_end):
                m.d.sync += [seen.eq(0), self.record.eq(self.record + 1)]
            with m.If(last_1):
                m.d.sync += [self.record.eq(0), self.regions.eq(self.regions + 1)]
            with m.If(surplus | wrong_end):
                m.d.sync += self.error.eq(1)

        # t+2: the outputs.
        beat_2 = payload(m, self.data, "beat_2")
        m.d.sync += [
            self.valid.eq(taken & ~surplus),
            beat_2.eq(Mux(valid_1, held(self._cfg, beat_1, self.exact), beat_1)),
            self.first.eq(seen == 0),
            self.region_last.eq(last_1),
        ]
        with m.If(self.start):
            m.d.sync += [seen.eq(0), self.record.eq(0), self.regions.eq(0), self.error.eq(0)]
        return m
