"""Drainer of new blocks (WU) in the dense build: the rows' update buffers become a region in memory.

What `rtl.block_drainer` does, without masks and counts: every record has as many beats as every other, and the header
is known beforehand. The buffers hold values where weights are; what lies between them becomes zero here, once for all
rows.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.command import COMMAND
from rtl.dense_parser import BEATS_BITS
from rtl.drainer import row_bits, unit_bits
from rtl.exploration import clip_valid


class DenseDrainer(wiring.Component):
    """Records and header of one region -> beats at out_addr, one a cycle.

    Law: that of `rtl.block_drainer.BlockDrainer` with 0 mask beats and ceil(words * mask_bits / values_per_beat) value
    beats a record.

    Args:
        cfg: widths and sizes.

    Ports: those of `BlockDrainer` with the same names and meanings, without rows_kind, rows_record_next and rows_info;
        of the command k0, k_end, c0, c_end, bias and bias_tap are used as well.
    """

    START = 3
    RECORD = 2
    HEADER = 3

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
                "rows_data": In(data.ArrayLayout(cfg.beat_bits, cfg.rows)),
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
        record, next_record = Signal(16), Signal(16)
        row = Signal(row_bits(cfg), reset_less=True)
        used, used_next = Signal(32), Signal(33)  # beats of the records so far
        beat, left = Signal(BEATS_BITS), Signal(BEATS_BITS)  # of the record
        value_addr, next_addr = Signal(32), Signal(32)
        rows_left, columns = Signal(16), Signal(16)  # output channels from this record on; input channels
        beats = Signal(BEATS_BITS)
        m.d.comb += [
            beats.eq(record_beats(cfg, command.words)),
            used_next.eq(used + beats),
            next_record.eq(record + 1),
            columns.eq(command.c_end - command.c0),
        ]

        take, streaming, record_end = Signal(), Signal(), Signal()
        header_left, in_beat = Signal(8), Signal(range(max(2, cfg.words_per_beat)))
        take_word, beat_end, header_reserve = Signal(), Signal(), Signal()
        word_index = Signal(range(256 * cfg.words_per_beat))
        m.d.comb += [
            take.eq(streaming & self.room & left.any()),
            record_end.eq(streaming & (left == take)),
            beat_end.eq(in_beat == cfg.words_per_beat - 1),
            self.rows_start.eq(self.start),
            self.rows_next.eq(Mux(take, 1 << row, 0)),
            self.reserve.eq(take | header_reserve),
        ]
        with m.If(take):
            m.d.sync += [beat.eq(beat + 1), left.eq(left - 1), value_addr.eq(value_addr + 1)]
        with m.If(take_word):
            m.d.sync += [word_index.eq(word_index + 1), in_beat.eq(Mux(beat_end, 0, in_beat + 1))]

        assign_unit = Signal(16)
        m.d.comb += self.assign_unit.eq(assign_unit)
        with m.If(self.start):
            m.d.sync += [self.done.eq(0), self.error.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [record.eq(0), used.eq(0)]
                with m.If(self.start):
                    m.d.sync += assign_unit.eq(0)
                    m.next = "LOOKUP"
            with m.State("LOOKUP"):
                m.d.sync += [
                    next_addr.eq(command.out_addr + command.header_beats),
                    rows_left.eq(command.k_end - command.k0),
                ]
                m.next = "ROW"
            with m.State("ROW"):
                m.d.sync += [row.eq(self.assign_row), assign_unit.eq(1)]
                m.next = "TURN"
            with m.State("TURN"):  # as long as a record's counts take in the sparse build
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    beat.eq(0),
                    left.eq(beats),
                    value_addr.eq(next_addr),
                    next_addr.eq(next_addr + beats),
                    used.eq(used_next),
                ]
                m.next = "STREAM"
                with m.If(used_next + command.header_beats > command.limit):
                    m.d.sync += [self.error.eq(1), self.done.eq(1)]
                    m.next = "IDLE"
            with m.State("STREAM"):
                m.d.comb += streaming.eq(1)
                with m.If(record_end):
                    m.d.sync += [
                        record.eq(next_record),
                        row.eq(self.assign_row),
                        assign_unit.eq(assign_unit + 1),
                        rows_left.eq(rows_left - cfg.block_k),
                    ]
                    m.next = "TURN"
                    with m.If(next_record == command.block_rows):
                        m.d.sync += [word_index.eq(0), in_beat.eq(0), header_left.eq(command.header_beats)]
                        m.d.sync += next_addr.eq(command.out_addr)
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "SETTLED"
            with m.State("SETTLED"):
                m.next = "HEADER"
                with m.If(header_left == 0):
                    m.next = "FLUSH"
            with m.State("HEADER"):
                m.d.comb += [
                    take_word.eq(self.room | in_beat.any()),
                    header_reserve.eq(take_word & ~in_beat.any()),
                ]
                with m.If(take_word & beat_end):
                    m.d.sync += header_left.eq(header_left - 1)
                    with m.If(header_left == 1):
                        m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"

        # Beats of records: one cycle in the row, one to take it out of R and to know its weights.
        take_1, take_2, row_1 = Signal(), Signal(), Signal.like(row, name="row_1")
        beat_1, rows_1 = Signal.like(beat, name="beat_1"), Signal.like(rows_left, name="rows_1")
        addr_1, addr_2 = Signal(32, reset_less=True), Signal(32, reset_less=True)
        taken, kept = Signal(cfg.beat_bits, reset_less=True), Signal(cfg.values_per_beat, reset_less=True)
        m.d.sync += [
            take_1.eq(take),
            take_2.eq(take_1),
            row_1.eq(row),
            beat_1.eq(beat),
            rows_1.eq(rows_left),
            addr_1.eq(value_addr),
            addr_2.eq(addr_1),
        ]
        weights = self._weights(m, beat_1, rows_1, columns)
        with m.If(take_1):
            m.d.sync += taken.eq(Array(self.rows_data[r] for r in range(cfg.rows))[row_1])
            m.d.sync += kept.eq(weights)
        values = Cat(Mux(kept[i], taken.word_select(i, cfg.delta_bits), 0) for i in range(cfg.values_per_beat))

        # Header words, a cycle after they were asked for, enter a shift register from above.
        word_1, end_1, pushed_1, total_1, record_1 = Signal(), Signal(), Signal(), Signal(), Signal()
        header, word, size = Signal(cfg.beat_bits, reset_less=True), Signal(32), Signal(16)
        m.d.sync += [
            word_1.eq(take_word),
            end_1.eq(take_word & beat_end),
            pushed_1.eq(end_1),
            total_1.eq(word_index == 0),
            record_1.eq(word_index <= command.block_rows),
        ]
        m.d.comb += [
            size.eq(command.words << log2_exact(cfg.mask_bits, "mask_bits")),
            word.eq(Mux(total_1, used, Mux(record_1, Cat(size, size), 0))),
        ]
        with m.If(word_1):
            m.d.sync += header.eq(Cat(header[32:], word))
        with m.If(pushed_1):
            m.d.sync += next_addr.eq(next_addr + 1)
        m.d.comb += [
            self.push.eq(take_2 | pushed_1),
            self.push_addr.eq(Mux(pushed_1, next_addr, addr_2)),
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


def record_beats(cfg: Config, words: Value) -> Value:
    """Value beats of a record of `words` words."""
    values = words << log2_exact(cfg.mask_bits, "mask_bits")
    return (values + (cfg.values_per_beat - 1)) >> log2_exact(cfg.values_per_beat, "values_per_beat")


def dense_words(cfg: Config, words: Value) -> Value:
    """`Config.dense_words` in hardware: whole beats, a power of two of words each."""
    per_beat = cfg.dense_words(1)
    return ((words + (per_beat - 1)) >> log2_exact(per_beat, "words of a beat")) << log2_exact(per_beat, "")
