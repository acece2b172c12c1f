"""Weight buffer of a row: the mask words and stored values of its records, two banks of each.

The load side writes whole beats in one bank; the compute side reads single words and values from the
other. A mask beat carries the place of its first value, and each of its words the number of values
before it in the beat: a value is found by counting ones within one word, in any order of words,
which is what makes walking the transpose free.

A value is exact (2A bits, WU) or rounded to a weight (A bits, FW and BW; `rtl.rounding`). Low and high halves of the
values lie in two memories, read and written together where values are exact; rounded ones fill the low memory, then
the high one.

Format: the modified compressed sparse blocks of Procrustes (Yang et al., MICRO 2020), counted instead
of pointed to (docs/architecture.md, section 3).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.payload import payload
from rtl.ram import ram
from rtl.reduction import chosen


def value_bits(cfg: Config) -> int:
    """Width of the address of a rounded value in a bank (an exact one has an address in the lower half)."""
    return log2_exact(cfg.rounded_beats * cfg.values_per_beat, "values of a bank")


def offset_bits(cfg: Config) -> int:
    """Width of the number of values that a beat has before one of its mask words."""
    return max(1, (cfg.beat_bits - cfg.mask_bits).bit_length())


def lane_bits(cfg: Config) -> int:
    """Width of the place of a mask word in its beat."""
    return max(1, log2_exact(cfg.masks_per_beat, "masks_per_beat"))


def place_bits(cfg: Config) -> int:
    """Dense build: width of the number of a word in a bank; its values lie at `place * mask_bits + bit`."""
    return value_bits(cfg) - log2_exact(cfg.mask_bits, "mask_bits")


class WeightBuffer(wiring.Component):
    """Masks and values of a row, double-buffered; in a dense build values alone.

    Latency: mask, offset and base follow mask_beat and mask_lane, presented with mask_read, by `MASK_LATENCY` cycles
    with `mask_en` set (while it is low the read pipeline stands still); value follows value_address by
    `VALUE_LATENCY` cycles and keeps until the next `value_en`. One read of each kind a cycle, beside one write.
    A beat written in cycle t can be read from t + 1 on (through the other bank's turn).

    Args:
        cfg: widths and depths. Without `sparse` the ports of masks do not exist.

    Ports:
        bank: read; the other one is written. load_start: empties the bank that is written.
        mask_we, value_we: write load_data as the next mask beat, value beat. load_exact: of values, all 2A bits count,
        otherwise either half of each is its rounded value; constant from load_start on. load_before: values of the
        record in the mask beats before this one, modulo those of a bank. load_offsets: values of the beat before each
        of its mask words, `offset_bits` each.
        mask_full, value_full: combinational, the bank has no room; the write is dropped.
        mask_read, mask_beat, mask_lane -> mask, base and offset, whose sum is the place of the word's first value, if
        it has one. mask_next: combinational, what mask will be with the next mask_en.
        value_address -> value: with `exact` (constant while a bank is read) an accumulated update, signed 2A; without,
        its low A bits are a rounded one, and the others anything.
    """

    MASK_LATENCY = 2
    VALUE_LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._mask_beat_bits = log2_exact(cfg.mask_beats, "mask_beats")
        self._value_beat_bits = log2_exact(cfg.rounded_beats, "value_beats")
        ports = {
            "bank": In(1),
            "load_start": In(1),
            "value_we": In(1),
            "load_exact": In(1),
            "load_data": In(cfg.beat_bits),
            "value_full": Out(1),
            "exact": In(1),
            "value_en": In(1),
            "value_address": In(value_bits(cfg)),
            "value": Out(signed(cfg.delta_bits)),
        }
        if cfg.sparse:
            ports |= {
                "mask_we": In(1),
                "load_before": In(value_bits(cfg)),
                "load_offsets": In(cfg.masks_per_beat * offset_bits(cfg)),
                "mask_full": Out(1),
                "mask_en": In(1),
                "mask_read": In(1),
                "mask_beat": In(self._mask_beat_bits),
                "mask_lane": In(lane_bits(cfg)),
                "mask": Out(cfg.mask_bits),
                "mask_next": Out(cfg.mask_bits),
                "offset": Out(offset_bits(cfg)),
                "base": Out(value_bits(cfg)),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value_pointer = self._values(m)
        if self._cfg.sparse:
            self._masks(m, value_pointer)
        return m

    def _masks(self, m: Module, value_pointer: Signal) -> None:
        """Mask beats, each with the place of its values and the offsets of its words."""
        cfg = self._cfg
        word = data.StructLayout({"mask": cfg.mask_bits, "offset": offset_bits(cfg)})
        beat = data.StructLayout({"words": data.ArrayLayout(word, cfg.masks_per_beat), "base": value_bits(cfg)})
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

        new, first_value = Signal(beat), Signal(value_bits(cfg))  # of the record
        m.d.comb += [
            first_value.eq(value_pointer << log2_exact(cfg.values_per_beat, "values_per_beat")),
            new.base.eq(first_value + self.load_before),
            mask_write.data.eq(new.as_value()),
        ]
        for lane in range(cfg.masks_per_beat):
            m.d.comb += [
                new.words[lane].mask.eq(self.load_data.word_select(lane, cfg.mask_bits)),
                new.words[lane].offset.eq(self.load_offsets.word_select(lane, offset_bits(cfg))),
            ]

        read = Signal(beat)
        lane_1 = Signal.like(self.mask_lane, name="mask_lane_1", reset_less=True)
        picked = Signal(word)
        words = [read.words[lane].as_value() for lane in range(cfg.masks_per_beat)]
        m.d.comb += [
            mask_read.en.eq(self.mask_en & self.mask_read),
            mask_read.addr.eq(Cat(self.mask_beat, self.bank)),
            read.as_value().eq(mask_read.data),
            picked.as_value().eq(chosen(m, words, lane_1, "word")),
            self.mask_next.eq(picked.mask),
        ]
        shown = {name: payload(m, getattr(self, name), f"{name}_2") for name in ("mask", "offset", "base")}
        with m.If(self.mask_en):
            m.d.sync += [
                lane_1.eq(self.mask_lane),
                shown["mask"].eq(picked.mask),
                shown["offset"].eq(picked.offset),
                shown["base"].eq(read.base),
            ]

    def _values(self, m: Module) -> Signal:
        """Value beats, in two memories of half a value a lane. Returns: the number of the next one in its bank."""
        cfg, half = self._cfg, self._cfg.operand_bits
        pointer = Signal(self._value_beat_bits + 1)
        lane_bits = log2_exact(cfg.values_per_beat, "values_per_beat")
        we, is_high = Signal(), self.value_address[-1]
        lane_1, en_1, high_1 = Signal(lane_bits, reset_less=True), Signal(), Signal(reset_less=True)
        m.d.comb += [
            self.value_full.eq(pointer[-1] | (self.load_exact & pointer[-2])),
            we.eq(self.value_we & ~self.value_full),
        ]
        m.d.sync += [pointer.eq(pointer + we), en_1.eq(self.value_en)]
        with m.If(self.load_start):
            m.d.sync += pointer.eq(0)
        with m.If(self.value_en):
            m.d.sync += [lane_1.eq(self.value_address[:lane_bits]), high_1.eq(is_high & ~self.exact)]

        read = []
        for name, index in (("low", 0), ("high", 1)):
            m.submodules[name] = values = ram(cfg.beat_bits // 2, 2 * cfg.value_beats)
            write_port, read_port = values.write_port(), values.read_port()
            lanes = (self.load_data.word_select(2 * lane + index, half) for lane in range(cfg.values_per_beat))
            m.d.comb += [
                write_port.en.eq(we & (self.load_exact | (pointer[-2] == index))),
                write_port.addr.eq(Cat(pointer[:-2], ~self.bank)),
                write_port.data.eq(Cat(lanes)),
                read_port.en.eq(self.value_en & (self.exact | (is_high == index))),
                read_port.addr.eq(Cat(self.value_address[lane_bits:-1], self.bank)),
            ]
            halves = [read_port.data.word_select(lane, half) for lane in range(cfg.values_per_beat)]
            read.append(chosen(m, halves, lane_1, f"{name}_lane"))
        value = payload(m, self.value, "value_2")
        with m.If(en_1):
            m.d.sync += value.eq(Cat(Mux(high_1, read[1], read[0]), read[1]))
        return pointer
