"""Record parser: tells mask beats from value beats in the stream of a region's records.

Nothing in memory says where a record ends. Every beat is therefore counted as if it were masks while
it travels down a short pipeline; by the time it is classified, the number of ones of the mask beats
before it is known, and with it how many value beats belong to the record. One beat a cycle, whatever it
turns out to be.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl import reduction
from rtl.payload import payload
from rtl.rounding import held
from rtl.weight_buffer import offset_bits, value_bits

_PART = 16
"""Bits that are counted together in front of the first register."""

_GROUP = 64
"""Bits of which it is known behind that register whether any is one."""


class RecordParser(wiring.Component):
    """Splits regions into records and annotates mask words with the values before them.

    Latency: a beat given in cycle t is at the outputs in t + LATENCY, its `record` one cycle earlier (so that
    it can address a memory that answers beside the beat). One a cycle, no back-pressure.

    Args:
        cfg: widths.

    Ports:
        start: forget everything (pulse; no beat may be under way). mask_beats (at least 1), records, exact:
        constant from the cycle after it.
        in_valid, in_last, in_data: beat of records; in_last marks the last one of a region.
        record: number in its region of the record whose beat is at the outputs in the next cycle. moves, returns:
        combinational, in the next cycle record is one more, or 0 again (this one overrides the other).
        valid, is_value, data: the beat, of values what rows hold of it (`rtl.rounding.held`); without in_valid, in_data
        itself. first: first mask beat of a record. region_last: last beat of a region.
        before: values of the record in its mask beats before this one, modulo those of a bank (a record that has
        more does not fit a row). offsets: for each mask word the values of its beat before it,
        `rtl.weight_buffer.offset_bits` each. words: which mask words hold a value.
        regions: regions that ended so far. error: a region ended within a record, or with another number of
        records than records, or went on after the last; sticky until `start`, and nothing is valid from then on.
    """

    LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "mask_beats": In(8),
                "records": In(16),
                "exact": In(1),
                "in_valid": In(1),
                "in_last": In(1),
                "in_data": In(cfg.beat_bits),
                "record": Out(16),
                "moves": Out(1),
                "returns": Out(1),
                "valid": Out(1),
                "is_value": Out(1),
                "data": Out(cfg.beat_bits),
                "first": Out(1),
                "region_last": Out(1),
                "before": Out(value_bits(cfg)),
                "offsets": Out(cfg.masks_per_beat * offset_bits(cfg)),
                "words": Out(cfg.masks_per_beat),
                "regions": Out(8),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()

        # t+1: the beat, and ones of parts of its words, short enough to be counted before a register.
        valid_1, last_1 = Signal(), Signal(reset_less=True)
        beat_1 = Signal(cfg.beat_bits, reset_less=True)
        part = min(_PART, cfg.mask_bits)
        parts = cfg.mask_bits // part
        ones = Signal(data.ArrayLayout(range(part + 1), cfg.beat_bits // part), reset_less=True)
        group = min(_GROUP, cfg.beat_bits)
        some = Signal(cfg.beat_bits // group, reset_less=True)  # beside the counts: it says whether a record ends
        m.d.sync += [
            valid_1.eq(self.in_valid),
            last_1.eq(self.in_last),
            beat_1.eq(self.in_data),
            *(ones[n].eq(reduction.total(self.in_data.word_select(n, part))) for n in range(cfg.beat_bits // part)),
            *(some[n].eq(self.in_data.word_select(n, group).any()) for n in range(cfg.beat_bits // group)),
        ]
        words = [Signal(range(cfg.mask_bits + 1), name=f"ones_{n}") for n in range(cfg.masks_per_beat)]
        for n, word in enumerate(words):
            m.d.comb += word.eq(reduction.total(ones[parts * n + k] for k in range(parts)))
        sums = _prefix_sums(m, words, cfg.mask_bits)

        # What the beat is. The state is that of the record it belongs to.
        value_shift = log2_exact(cfg.values_per_beat, "values_per_beat")
        masks_seen = Signal(8)
        left = Signal(range(256 * cfg.beat_bits))  # values of the mask beats so far; then of them those to come
        in_values, some_seen = Signal(), Signal()  # some_seen: a mask beat of the record had ones: `left` is not 0
        last_mask, record_end, wrong_end, surplus, taken = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            last_mask.eq(masks_seen + 1 == self.mask_beats),
            surplus.eq(self.record == self.records),
            taken.eq(valid_1 & ~self.error),
            self.moves.eq(taken & record_end),
            self.returns.eq(taken & last_1),
        ]
        with m.If(in_values):
            m.d.comb += record_end.eq(left <= cfg.values_per_beat)
        with m.Else():
            m.d.comb += record_end.eq(last_mask & ~some_seen & ~some.any())
        last_record = Signal.like(self.records)
        m.d.sync += last_record.eq(self.records - 1)
        m.d.comb += wrong_end.eq(last_1 & ~(record_end & (self.record == last_record)))
        with m.If(taken):
            m.d.sync += [
                in_values.eq((in_values | last_mask) & ~record_end),
                some_seen.eq((some_seen | some.any()) & ~record_end),
            ]
            with m.If(~in_values):
                m.d.sync += [left.eq(left + sums[-1]), masks_seen.eq(Mux(last_mask, 0, masks_seen + 1))]
            with m.Elif(record_end):
                m.d.sync += left.eq(0)
            with m.Else():
                m.d.sync += left[value_shift:].eq(left[value_shift:] - 1)
            with m.If(record_end):
                m.d.sync += self.record.eq(self.record + 1)
            with m.If(last_1):
                m.d.sync += [self.record.eq(0), self.regions.eq(self.regions + 1)]
            with m.If(surplus | wrong_end):
                m.d.sync += self.error.eq(1)

        # t+2: the outputs. There is nothing before the first word.
        offsets = data.View(
            data.ArrayLayout(offset_bits(cfg), cfg.masks_per_beat), payload(m, self.offsets, "offsets_2")
        )
        beat_2 = payload(m, self.data, "beat_2")
        m.d.sync += [
            self.valid.eq(taken & ~surplus),
            self.is_value.eq(in_values),
            beat_2.eq(Mux(valid_1 & in_values, held(cfg, beat_1, self.exact), beat_1)),
            self.first.eq(~in_values & (masks_seen == 0)),
            self.region_last.eq(last_1),
            self.before.eq(left),
            *(offsets[word + 1].eq(total) for word, total in enumerate(sums[:-1])),
            payload(m, self.words, "words_2").eq(Cat(word.any() for word in words)),
        ]
        with m.If(self.start):
            m.d.sync += [
                masks_seen.eq(0),
                left.eq(0),
                some_seen.eq(0),
                in_values.eq(0),
                self.record.eq(0),
                self.regions.eq(0),
                self.error.eq(0),
            ]
        return m


def _prefix_sums(m: Module, terms: list, most: int) -> list:
    """Inclusive prefix sums of terms that are at most `most`; of logarithmic depth (Sklansky, 1960).

    In level n the upper half of every 2**(n + 1) terms adds the last sum of the lower half: one sum in two is made
    anew, and none has more bits than it needs.
    """
    for level in range((len(terms) - 1).bit_length()):
        size, sums = 1 << level, list(terms)
        for i in range(len(terms)):
            if i & size:
                sums[i] = Signal(range((i % (2 * size) + 1) * most + 1), name=f"sum_{level}_{i}")
                m.d.comb += sums[i].eq(terms[i] + terms[i // size * size - 1])
        terms = sums
    return terms
