"""Drainer of new blocks (WU): the rows' update buffers, record by record, become a region in memory.

Records lie in the rows that own their units; this module visits them in stored order, so the region
comes out as if one unit had encoded it. The words of the header (counts) are only known at the end
and are written last, into the room left for them.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.lane_tally import COUNT_BITS, LaneTally, log2_words, words_per_cycle


class BlockDrainer(wiring.Component):
    """Records and header of one region -> beats at out_addr, one a cycle.

    Law: with a write port that is always ready and `start` in cycle s, `done` is high again from cycle

        s + START + sum over records of (RECORD + max(mask_beats + value_beats, words')) + HEADER
          + words_per_beat * header_beats

    where value_beats = ceil(nnz / values_per_beat), and words' = ceil(words / T) (0 mask beats: 1), as long as
    mask_beats = ceil(words / masks_per_beat); T words a cycle pass the lane tally: `lane_tally.words_per_cycle`, but no
    more than the 2^log2_blocks of one tap. A record's mask beats are due every masks_per_beat / T cycles, when the
    tally has used up the one before; value beats fill the cycles between and after.
    A full write queue adds its stalls. On overflow `done` rises with `error`.

    Args:
        cfg: widths and sizes.

    Ports:
        start: pulse. command: WU command in the drain stage, stable from start to done; one region:
        block_rows records, words, log2_blocks, mask_beats, groups, header_beats, out_addr, limit are used. Lane groups
        are those of the blocks, each counted over all taps.
        error: the region does not fit `limit` beats; held until the next start. Nothing is written beyond.
        done: nothing is left to push after this cycle (beats may still be in the write queue).
        assign_unit: record looked up; assign_row: its row, one cycle later.
        rows_start: every row: back to the first record. rows_kind: 0 mask, 1 value beat. rows_next, rows_record_next:
        one bit a row: read a beat of rows_kind; go to the next record. rows_info: nnz | cycles_next << 16 of each row's
        current record, one cycle after rows_start or rows_record_next. rows_data: beat, one cycle after rows_next.
        reserve, room, push, push_addr, push_data: see `WriteQueue`.
    """

    START = 3  # start -> counts of the first record at hand
    RECORD = 2  # take the counts, check them
    HEADER = 3  # the tally settles; the last word enters its beat

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
                "rows_kind": Out(1),
                "rows_next": Out(cfg.rows),
                "rows_record_next": Out(cfg.rows),
                "rows_info": In(data.ArrayLayout(32, cfg.rows)),
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
        lane_bits = log2_exact(cfg.values_per_beat, "values_per_beat")
        m = Module()
        m.submodules.tally = tally = LaneTally(cfg)

        record, next_record = Signal(16), Signal(16)
        row = Signal(row_bits(cfg), reset_less=True)
        info = Signal(32, reset_less=True)
        used = Signal(32)  # beats of the records so far
        masks_left, values_left = Signal(8), Signal(16)
        words_left, tally_left = Signal(8), Signal(range(cfg.masks_per_beat + 1))  # tally_left: cycles
        mask_addr, value_addr, next_addr = Signal(32), Signal(32), Signal(32)

        # CHECK: sizes of the record whose info has arrived.
        value_beats, beats, used_next = Signal(16), Signal(17), Signal(33)
        m.d.comb += [
            value_beats.eq((info[:16] + ((1 << lane_bits) - 1)) >> lane_bits),
            beats.eq(value_beats + command.mask_beats),
            used_next.eq(used + beats),
        ]

        # STREAM: mask beats as the tally asks for them, value beats in between.
        take_mask, take_value, first_mask = Signal(), Signal(), Signal()
        count = Signal(range(cfg.masks_per_beat + 1))
        most = log2_exact(words_per_cycle(cfg), "words of a cycle")
        log2_now = log2_words(m, cfg, command.log2_blocks)
        cycles_of_count = Array((count + ((1 << n) - 1)) >> n for n in range(most + 1))[log2_now]
        tally_cycles, tally_after = Signal.like(tally_left), Signal.like(tally_left)
        record_end, streaming = Signal(), Signal()
        m.d.comb += [
            take_mask.eq(streaming & self.room & masks_left.any() & ~tally_left.any()),
            take_value.eq(streaming & self.room & values_left.any() & ~take_mask),
            count.eq(Mux(words_left < cfg.masks_per_beat, words_left, cfg.masks_per_beat)),
            tally_cycles.eq(Mux(take_mask, cycles_of_count, tally_left)),
            tally_after.eq(Mux(tally_cycles == 0, 0, tally_cycles - 1)),
            record_end.eq(streaming & (masks_left == take_mask) & (values_left == take_value) & (tally_after == 0)),
        ]
        m.d.comb += [
            self.rows_kind.eq(take_value),
            self.rows_next.eq(Mux(take_mask | take_value, 1 << row, 0)),
            self.rows_record_next.eq(Mux(record_end, 1 << row, 0)),
        ]
        with m.If(streaming):
            m.d.sync += tally_left.eq(tally_after)
        with m.If(take_mask):
            m.d.sync += [
                masks_left.eq(masks_left - 1),
                words_left.eq(words_left - count),
                mask_addr.eq(mask_addr + 1),
                first_mask.eq(0),
            ]
        with m.If(take_value):
            m.d.sync += [values_left.eq(values_left - 1), value_addr.eq(value_addr + 1)]

        # The counts of records wait here for the header.
        m.submodules.infos = infos = Memory(shape=32, depth=cfg.units, init=[])
        infos_write, infos_read = infos.write_port(), infos.read_port()
        m.d.comb += [infos_write.addr.eq(record), infos_write.data.eq(info)]

        # HEADER: word after word: beats, records, lane groups, zeros.
        word_index, in_beat = Signal(range(256 * cfg.words_per_beat)), Signal(range(max(2, cfg.words_per_beat)))
        group, header_left = Signal(16), Signal(8)
        take_word, is_total, is_record, is_group = Signal(), Signal(), Signal(), Signal()
        beat_end = Signal()
        header_reserve = Signal()
        group_bits = log2_exact(cfg.groups_per_word, "groups_per_word")
        m.d.comb += [
            is_total.eq(word_index == 0),
            is_record.eq(~is_total & (word_index <= command.block_rows)),
            is_group.eq((word_index > command.block_rows) & (group < command.groups)),
            beat_end.eq(in_beat == cfg.words_per_beat - 1),
            infos_read.en.eq(1),
            infos_read.addr.eq(word_index - 1),
            tally.read_word.eq(group >> group_bits),
        ]
        with m.If(take_word):
            m.d.sync += [word_index.eq(word_index + 1), in_beat.eq(Mux(beat_end, 0, in_beat + 1))]
            with m.If(is_group):
                m.d.sync += group.eq(group + 1)

        assign_unit = Signal(16)
        m.d.comb += [
            next_record.eq(record + 1),
            self.assign_unit.eq(assign_unit),
            self.rows_start.eq(self.start),
            self.reserve.eq(take_mask | take_value | header_reserve),
        ]
        with m.If(self.start):
            m.d.sync += [self.done.eq(0), self.error.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [record.eq(0), used.eq(0)]
                with m.If(self.start):
                    m.d.sync += assign_unit.eq(0)
                    m.next = "LOOKUP"
            with m.State("LOOKUP"):
                m.d.sync += next_addr.eq(command.out_addr + command.header_beats)
                m.next = "ROW"
            with m.State("ROW"):
                m.d.sync += [row.eq(self.assign_row), assign_unit.eq(1)]
                m.next = "INFO"
            with m.State("INFO"):
                m.d.sync += info.eq(Array(self.rows_info[r] for r in range(cfg.rows))[row])
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += infos_write.en.eq(1)
                m.d.sync += [
                    masks_left.eq(command.mask_beats),
                    values_left.eq(value_beats),
                    words_left.eq(command.words),
                    tally_left.eq(0),
                    first_mask.eq(1),
                    mask_addr.eq(next_addr),
                    value_addr.eq(next_addr + command.mask_beats),
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
                    m.d.sync += [record.eq(next_record), row.eq(self.assign_row), assign_unit.eq(assign_unit + 1)]
                    m.next = "INFO"
                    with m.If(next_record == command.block_rows):
                        m.d.sync += [word_index.eq(0), in_beat.eq(0), group.eq(0), header_left.eq(command.header_beats)]
                        m.d.sync += next_addr.eq(command.out_addr)
                        m.next = "SETTLE"
            with m.State("SETTLE"):  # the last word counted is on its way into the tally's memory
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

        # Beats of records: one cycle in the row, one to take it out of R.
        row_1 = Signal.like(row, name="row_1")
        mask_1, value_1, mask_2, value_2 = Signal(), Signal(), Signal(), Signal()
        count_1, count_2 = Signal.like(count), Signal.like(count)
        first_1, first_2, region_1, region_2 = Signal(), Signal(), Signal(), Signal()
        addr_1, addr_2 = Signal(32, reset_less=True), Signal(32, reset_less=True)
        taken = Signal(cfg.beat_bits, reset_less=True)
        m.d.sync += [
            row_1.eq(row),
            mask_1.eq(take_mask),
            value_1.eq(take_value),
            mask_2.eq(mask_1),
            value_2.eq(value_1),
            count_1.eq(count),
            count_2.eq(count_1),
            first_1.eq(first_mask),
            first_2.eq(first_1),
            region_1.eq(record == 0),
            region_2.eq(region_1),
            addr_1.eq(Mux(take_mask, mask_addr, value_addr)),
            addr_2.eq(addr_1),
        ]
        with m.If(mask_1 | value_1):
            m.d.sync += taken.eq(Array(self.rows_data[r] for r in range(cfg.rows))[row_1])
        m.d.comb += [
            tally.log2_blocks.eq(command.log2_blocks),
            tally.load.eq(mask_2),
            tally.beat.eq(taken),
            tally.count.eq(count_2),
            tally.record_first.eq(first_2),
            tally.region_first.eq(region_2),
        ]

        # Header words, a cycle after they were asked for, enter a shift register from above.
        word_1, end_1, pushed_1 = Signal(), Signal(), Signal()
        total_1, record_1, group_1 = Signal(), Signal(), Signal()
        group_lane_1 = Signal(range(max(2, cfg.groups_per_word)))
        header = Signal(cfg.beat_bits, reset_less=True)
        word = Signal(32)
        m.d.sync += [
            word_1.eq(take_word),
            end_1.eq(take_word & beat_end),
            pushed_1.eq(end_1),
            total_1.eq(is_total),
            record_1.eq(is_record),
            group_1.eq(is_group),
            group_lane_1.eq(group[:group_bits]),
        ]
        m.d.comb += word.eq(
            Mux(
                total_1,
                used,
                Mux(
                    record_1,
                    infos_read.data,
                    Mux(group_1 & command.mask_beats.any(), tally.read_counts.word_select(group_lane_1, COUNT_BITS), 0),
                ),
            )
        )
        with m.If(word_1):
            m.d.sync += header.eq(Cat(header[32:], word))
        with m.If(pushed_1):
            m.d.sync += next_addr.eq(next_addr + 1)

        m.d.comb += [
            self.push.eq(mask_2 | value_2 | pushed_1),
            self.push_addr.eq(Mux(pushed_1, next_addr, addr_2)),
            self.push_data.eq(Mux(pushed_1, header, taken)),
        ]
        return m
