"""Update buffer of a row of the dense build: each new value goes to the place that its old one had.

Words keep their order and their size, so the number of a value's word and its bit are its address, and a record's
counts are known beforehand. Positions that are no weights are not written; the drainer puts zeros there.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.csb_decoder import bit_bits
from rtl.ram import ram
from rtl.weight_buffer import place_bits


class DenseEncoder(wiring.Component):
    """Values of the working set in compute are written, those of the last one are read.

    Latency: as `rtl.csb_encoder.CsbEncoder`: an input in cycle t can be drained from cycle t + LATENCY on, drain_data
    comes one cycle after drain_next and stays until the next.

    Args:
        cfg: widths and depths.

    Ports:
        start: a working set begins: back to the first word, clear error. Inputs of that cycle are lost.
        bank: bank written; the drain reads the other one.
        valid, candidate, bit, word_last, record_last: of `WeightUpdate`. record_last acts with word_last only; the next
        record begins with a fresh beat.
        error: a value did not fit; stays until start. What did not fit is dropped.
        drain_start: back to the first beat. drain_next: read a beat and move on.
    """

    LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "bank": In(1),
                "valid": In(1),
                "candidate": In(signed(cfg.delta_bits)),
                "bit": In(bit_bits(cfg)),
                "word_last": In(1),
                "record_last": In(1),
                "error": Out(1),
                "drain_start": In(1),
                "drain_next": In(1),
                "drain_data": Out(cfg.beat_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        lanes = cfg.values_per_beat
        m.submodules.values = memory = ram(cfg.beat_bits, 2 * cfg.value_beats)
        write, read = memory.write_port(granularity=cfg.delta_bits), memory.read_port()

        place = Signal(place_bits(cfg))  # of the word; its top bit: beyond a bank of exact values
        full, next_word = Signal(), Signal.like(place)
        per_beat = cfg.dense_words(1)
        m.d.comb += [
            full.eq(place[-1]),
            next_word.eq(Mux(self.record_last, (place | (per_beat - 1)) + 1, place + 1)),
        ]
        with m.If(self.start):
            m.d.sync += [place.eq(0), self.error.eq(0)]
        with m.Else():
            with m.If(self.word_last & ~full):
                m.d.sync += place.eq(next_word)
            with m.If(self.valid & full):
                m.d.sync += self.error.eq(1)

        address = Cat(self.bit, place[:-1])
        split = log2_exact(lanes, "values_per_beat")
        we, beat = Signal(), Signal(range(cfg.value_beats), reset_less=True)
        bank, lane = Signal(reset_less=True), Signal(split, reset_less=True)
        value = Signal(cfg.delta_bits, reset_less=True)
        m.d.sync += we.eq(self.valid & ~full & ~self.start)
        with m.If(self.valid):
            m.d.sync += [beat.eq(address[split:]), lane.eq(address[:split]), bank.eq(self.bank)]
            m.d.sync += value.eq(self.candidate)
        m.d.comb += [
            write.en.eq(Mux(we, 1 << lane, 0)),
            write.addr.eq(Cat(beat, bank)),
            write.data.eq(value.replicate(lanes)),
        ]

        pointer = Signal(range(cfg.value_beats))
        m.d.comb += [
            read.en.eq(self.drain_next),
            read.addr.eq(Cat(pointer, ~self.bank)),
            self.drain_data.eq(read.data),
        ]
        m.d.sync += pointer.eq(Mux(self.drain_start, 0, pointer + self.drain_next))
        return m
