"""Weight buffer of a row: the mask words and stored values of its records, two banks of each.

The load side writes whole beats in one bank; the compute side reads single words and values from the
other. A mask beat carries the place of its record's first value, and each of its words the number of
values before it in the record: a value is found by counting ones within one word, in any order of
words, which is what makes walking the transpose free.

Format: the modified compressed sparse blocks of Procrustes (Yang et al., MICRO 2020), counted instead
of pointed to (docs/architecture.md, section 3).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.ram import ram


def value_bits(cfg: Config) -> int:
    """Width of the address of a value in a bank."""
    return log2_exact(cfg.value_beats * cfg.values_per_beat, "values of a bank")


def offset_bits(cfg: Config) -> int:
    """Width of a number of values of a bank, 0 to all of them (a word of `load_offsets`)."""
    return value_bits(cfg) + 1


def lane_bits(cfg: Config) -> int:
    """Width of the place of a mask word in its beat."""
    return max(1, log2_exact(cfg.masks_per_beat, "masks_per_beat"))


def place_bits(cfg: Config) -> int:
    """Dense build: width of the number of a word in a bank; its values lie at `place * mask_bits + bit`."""
    return value_bits(cfg) - log2_exact(cfg.mask_bits, "mask_bits")


class WeightBuffer(wiring.Component):
    """Masks and values of a row, double-buffered; in a dense build values alone.

    Latency: mask, offset and base follow mask_beat and mask_lane by `MASK_LATENCY` cycles with `mask_en`
    set (while it is low the read pipeline stands still); value follows value_address by
    `VALUE_LATENCY` cycles and keeps until the next `value_en`. One read of each kind a cycle, beside one write.
    A beat written in cycle t can be read from t + 1 on (through the other bank's turn).

    Args:
        cfg: widths and depths. Without `sparse` the ports of masks do not exist.

    Ports:
        bank: read; the other one is written. load_start: empties the bank that is written.
        mask_we, value_we: write load_data as the next mask beat, value beat. load_offsets: values of the
        record before each mask word, `offset_bits` each.
        mask_full, value_full: combinational, the bank has no room; the write is dropped.
        mask_beat, mask_lane -> mask, offset (values of the record before the word; the top bit of load_offsets
        is not kept, only a word without values can need it), base (value beat at which the record's values begin).
        value_address -> value: an accumulated update, signed 2A.
    """

    MASK_LATENCY = 2
    VALUE_LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._mask_beat_bits = log2_exact(cfg.mask_beats, "mask_beats")
        self._value_beat_bits = log2_exact(cfg.value_beats, "value_beats")
        ports = {
            "bank": In(1),
            "load_start": In(1),
            "value_we": In(1),
            "load_data": In(cfg.beat_bits),
            "value_full": Out(1),
            "value_en": In(1),
            "value_address": In(value_bits(cfg)),
            "value": Out(signed(cfg.delta_bits)),
        }
        if cfg.sparse:
            ports |= {
                "mask_we": In(1),
                "load_offsets": In(cfg.masks_per_beat * offset_bits(cfg)),
                "mask_full": Out(1),
                "mask_en": In(1),
                "mask_beat": In(self._mask_beat_bits),
                "mask_lane": In(lane_bits(cfg)),
                "mask": Out(cfg.mask_bits),
                "offset": Out(value_bits(cfg)),
                "base": Out(self._value_beat_bits),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value_pointer = self._values(m)
        if self._cfg.sparse:
            self._masks(m, value_pointer)
        return m

    def _masks(self, m: Module, value_pointer: Signal) -> None:
        """Mask beats, each with the offsets of its words and the place of its record's values."""
        cfg = self._cfg
        word = data.StructLayout({"mask": cfg.mask_bits, "offset": value_bits(cfg)})
        beat = data.StructLayout({"words": data.ArrayLayout(word, cfg.masks_per_beat), "base": self._value_beat_bits})
        # Both banks share a memory: they are shallow, and a RAM block is not.
        m.submodules.masks = masks = ram(beat.size, 2 * cfg.mask_beats)
        mask_write, mask_read = masks.write_port(), masks.read_port()
        mask_pointer = Signal(self._mask_beat_bits + 1)
        m.d.comb += [
            self.mask_full.eq(mask_pointer[-1]),
            mask_write.en.eq(self.mask_we & ~self.mask_full),
            mask_write.addr.eq(Cat(mask_pointer[:-1], ~self.bank)),
        ]
        m.d.sync += mask_pointer.eq(mask_pointer + mask_write.en)
        with m.If(self.load_start):
            m.d.sync += mask_pointer.eq(0)

        new = Signal(beat)
        m.d.comb += [new.base.eq(value_pointer[:-1]), mask_write.data.eq(new.as_value())]
        for lane in range(cfg.masks_per_beat):
            m.d.comb += [
                new.words[lane].mask.eq(self.load_data.word_select(lane, cfg.mask_bits)),
                new.words[lane].offset.eq(self.load_offsets.word_select(lane, offset_bits(cfg))),
            ]

        read = Signal(beat)
        lane_1 = Signal.like(self.mask_lane, name="mask_lane_1", reset_less=True)
        picked = Signal(word)
        m.d.comb += [
            mask_read.en.eq(self.mask_en),
            mask_read.addr.eq(Cat(self.mask_beat, self.bank)),
            read.as_value().eq(mask_read.data),
            picked.eq(read.words[lane_1]),
        ]
        with m.If(self.mask_en):
            m.d.sync += [
                lane_1.eq(self.mask_lane),
                self.mask.eq(picked.mask),
                self.offset.eq(picked.offset),
                self.base.eq(read.base),
            ]

    def _values(self, m: Module) -> Signal:
        """Value beats. Returns: the place of the next one."""
        cfg = self._cfg
        m.submodules.values = values = ram(cfg.beat_bits, 2 * cfg.value_beats)
        value_write, value_read = values.write_port(), values.read_port()
        value_pointer = Signal(self._value_beat_bits + 1)
        m.d.comb += [
            self.value_full.eq(value_pointer[-1]),
            value_write.en.eq(self.value_we & ~self.value_full),
            value_write.addr.eq(Cat(value_pointer[:-1], ~self.bank)),
            value_write.data.eq(self.load_data),
        ]
        m.d.sync += value_pointer.eq(value_pointer + value_write.en)
        with m.If(self.load_start):
            m.d.sync += value_pointer.eq(0)

        select_bits = log2_exact(cfg.values_per_beat, "values_per_beat")
        value_en_1 = Signal()
        value_lane_1 = Signal(select_bits, reset_less=True)
        m.d.comb += [
            value_read.en.eq(self.value_en),
            value_read.addr.eq(Cat(self.value_address[select_bits:], self.bank)),
        ]
        m.d.sync += value_en_1.eq(self.value_en)
        with m.If(self.value_en):
            m.d.sync += value_lane_1.eq(self.value_address[:select_bits])
        with m.If(value_en_1):
            m.d.sync += self.value.eq(value_read.data.word_select(value_lane_1, cfg.delta_bits))
        return value_pointer
