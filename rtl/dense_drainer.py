"""Drainer of new blocks (WU) in the dense build: the rows' update buffers become a region in memory.

What `rtl.block_drainer` does, without masks and counts: every record has as many beats as every other, and the header
is known beforehand. The buffers hold values where weights are; what lies between them becomes zero here, once for all
rows.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.dense_parser import BEATS_BITS
from rtl.exploration import clip_valid
from rtl.region_walk import RegionWalk, behind


class DenseDrainer(wiring.Component):
    """Records and header of one region -> beats at out_addr, one a cycle.

    Law: that of `rtl.block_drainer.BlockDrainer` with 0 mask beats and ceil(words * mask_bits / values_per_beat) value
    beats a record.

    Args:
        cfg: widths and sizes.

    Ports: those of `BlockDrainer` with the same names and meanings, without those of masks and of rows_info;
        of the command k0, k_end, c0, c_end, bias and bias_tap are used as well.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "command": In(COMMAND),
                "done": Out(1, init=1),
                "error": Out(1),
                "assign_unit": Out(unit_bits(cfg)),
                "assign_row": In(row_bits(cfg)),
                "rows_start": Out(1),
                "rows_next": Out(cfg.rows),
                "rows_data": In(cfg.beat_bits),
                "reserve": Out(1),
                "room": In(1),
                "push": Out(1),
                "push_addr": Out(32),
                "push_data": Out(cfg.beat_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command = self._cfg, self.command
        m = Module()
        m.submodules.walk = walk = RegionWalk(cfg)
        row = Signal(row_bits(cfg), reset_less=True)
        left = Signal(BEATS_BITS)  # beats of the record
        m.d.comb += [
            walk.start.eq(self.start),
            walk.command.eq(command),
            walk.room.eq(self.room),
            walk.assign_row.eq(self.assign_row),
            walk.asks.eq(walk.streaming & left.any()),
            walk.ends.eq(walk.streaming & (left == walk.asks)),
            *(getattr(self, name).eq(getattr(walk, name)) for name in ("assign_unit", "done", "error")),
            self.rows_start.eq(self.start),
            self.reserve.eq(walk.asks | walk.reserves),
        ]
        m.d.sync += self.rows_next.eq(Mux(walk.asks, 1 << row, 0))
        with m.If(walk.asks):
            m.d.sync += left.eq(left - 1)
        with m.If(walk.begins):
            m.d.sync += [row.eq(walk.row), left.eq(walk.value_beats)]

        # What was asked for is there `answer_latency` later, and it is known then which of it are weights.
        asked = Signal(data.StructLayout({"begins": 1, "take": 1}))
        m.d.comb += [asked.begins.eq(walk.begins), asked.take.eq(walk.asks)]
        _, answered, pushed = behind(m, asked, cfg)
        beat, next_addr, addr = Signal(BEATS_BITS), Signal(32), Signal(32, reset_less=True)
        rows_left, columns = Signal(16), Signal(16)  # output channels from this record on; input channels
        begun, word_1, end_1, pushed_1 = Signal(), Signal(), Signal(), Signal()
        m.d.comb += columns.eq(command.c_end - command.c0)
        m.d.sync += [begun.eq(self.start), addr.eq(next_addr)]
        with m.If(begun):
            m.d.sync += [
                next_addr.eq(command.out_addr + command.header_beats),
                rows_left.eq(command.k_end - command.k0 + cfg.block_k),
            ]
        with m.Else():
            m.d.sync += rows_left.eq(rows_left - Mux(answered.begins, cfg.block_k, 0))
            with m.If(walk.header_begins):
                m.d.sync += next_addr.eq(command.out_addr)
            with m.Elif(answered.take | pushed_1):
                m.d.sync += next_addr.eq(next_addr + 1)
        with m.If(answered.begins):
            m.d.sync += beat.eq(0)
        with m.Elif(answered.take):
            m.d.sync += beat.eq(beat + 1)
        taken, kept = Signal(cfg.beat_bits, reset_less=True), Signal(cfg.values_per_beat, reset_less=True)
        weights = self._weights(m, beat, rows_left, columns)
        with m.If(answered.take):
            m.d.sync += [taken.eq(self.rows_data), kept.eq(weights)]
        values = Cat(Mux(kept[i], taken.word_select(i, cfg.delta_bits), 0) for i in range(cfg.values_per_beat))

        # Header words, a cycle after they were asked for, enter a shift register from above.
        total_1, record_1 = Signal(), Signal()
        header, word, size = Signal(cfg.beat_bits, reset_less=True), Signal(32), Signal(16)
        m.d.sync += [
            word_1.eq(walk.word),
            end_1.eq(walk.word & walk.beat_end),
            pushed_1.eq(end_1),
            total_1.eq(walk.word_index == 0),
            record_1.eq(walk.word_index <= command.block_rows),
        ]
        m.d.comb += [
            size.eq(command.words << log2_exact(cfg.mask_bits, "mask_bits")),
            word.eq(Mux(total_1, walk.used, Mux(record_1, Cat(size, size), 0))),
        ]
        with m.If(word_1):
            m.d.sync += header.eq(Cat(header[32:], word))
        m.d.comb += [
            self.push.eq(pushed.take | pushed_1),
            self.push_addr.eq(Mux(pushed_1, next_addr, addr)),
            self.push_data.eq(Mux(pushed_1, header, values)),
        ]
        return m

    def _weights(self, m: Module, beat: Signal, rows: Signal, columns: Signal) -> Value:
        """Which lanes of a beat hold weights of the record.

        A word is a block of a tap; the bias, if there is one, is the last column, in one tap only.
        """
        cfg, command = self._cfg, self.command
        mask, bias_word, fewer = Signal(8), Signal(8), Signal.like(columns)
        m.d.sync += [
            mask.eq((1 << command.log2_blocks) - 1),
            bias_word.eq(command.bias_tap << command.log2_blocks),
            fewer.eq(columns - command.bias),
        ]
        lane_bits, word_bits = log2_exact(cfg.values_per_beat, ""), log2_exact(cfg.mask_bits, "")
        block_c = log2_exact(cfg.block_c, "block_c")
        part = max(0, word_bits - lane_bits)  # of the number of the beat: place in a word
        inner = min(word_bits, lane_bits)
        valid = []
        for lane in range(cfg.values_per_beat):
            word = Cat(Const(lane >> inner, lane_bits - inner), beat[part:])
            bit = Cat(Const(lane & (1 << inner) - 1, inner), beat[:part])
            there = ((word ^ bias_word) & ~mask) == 0  # in the tap of the bias
            here = bit[:block_c] < clip_valid(Mux(there, columns, fewer), word & mask, cfg.block_c)
            valid.append(here & (bit[block_c:] < rows))
        return Cat(*valid)


def dense_words(cfg: Config, words: Value) -> Value:
    """`Config.dense_words` in hardware: whole beats, a power of two of words each."""
    per_beat = cfg.dense_words(1)
    return ((words + (per_beat - 1)) >> log2_exact(per_beat, "words of a beat")) << log2_exact(per_beat, "")
