"""Drainer of new blocks (WU): the rows' update buffers, record by record, become a region in memory.

Records lie in the rows that own their units; this module visits them in stored order, so the region
comes out as if one unit had encoded it. Masks come in groups, each when the lane tally is ready for it,
and are put together here, once for all rows. The words of the header (counts) are only known at the end
and are written last, into the room left for them; their beats are put together where those of masks were.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.csb_encoder import record_info
from rtl.lane_tally import COUNT_BITS, LaneTally, log2_words, words_per_cycle


class BlockDrainer(wiring.Component):
    """Records and header of one region -> beats at out_addr, one a cycle.

    Law: with a write port that is always ready and `start` in cycle s, `done` is high again from cycle

        s + START + sum over records of (RECORD + max(mask_beats + value_beats, words')) + HEADER
          + words_per_beat * header_beats

    where value_beats = ceil(nnz / values_per_beat), and words' = ceil(words / T) (0 mask beats: 1), as long as
    mask_beats = ceil(words / masks_per_beat); T words a cycle pass the lane tally: `lane_tally.words_per_cycle`, but no
    more than the 2^log2_blocks of one tap. A mask group is taken when the tally has used up the one before, and with
    the last one of a beat the beat is due; value beats fill all other cycles, also those of groups within a beat.
    A full write queue adds its stalls. On overflow `done` rises with `error`.

    Args:
        cfg: widths and sizes.

    Ports:
        start: pulse. command: WU command in the drain stage, stable from start to done; one region:
        block_rows records, words, log2_blocks, mask_beats, log2_cycles, groups, header_beats, out_addr, limit are used.
        Lane groups are those of the blocks, each counted over all taps.
        error: the region does not fit `limit` beats; held until the next start. Nothing is written beyond.
        done: nothing is left to push after this cycle (beats may still be in the write queue).
        assign_unit: record looked up; assign_row: its row, one cycle later.
        rows_start: every row: back to the first record. One bit a row: rows_next: read a beat of values;
        rows_mask_next: a mask group; rows_record_next: go to the next record. rows_info: `record_info` of each row's
        current record, one cycle after rows_start or rows_record_next. rows_data, rows_mask: beat, group, one cycle
        after it was asked.
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
                "rows_next": Out(cfg.rows),
                "rows_mask_next": Out(cfg.rows),
                "rows_record_next": Out(cfg.rows),
                "rows_info": In(data.ArrayLayout(record_info(cfg), cfg.rows)),
                "rows_data": In(data.ArrayLayout(cfg.beat_bits, cfg.rows)),
                "rows_mask": In(data.ArrayLayout(words_per_cycle(cfg) * cfg.mask_bits, cfg.rows)),
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
        info = Signal(record_info(cfg), reset_less=True)
        used = Signal(32)  # beats of the records so far
        room, room_next = Signal(signed(33), reset_less=True), Signal(signed(34))  # beats that others may have
        most = words_per_cycle(cfg)
        words_left, values_left = Signal(8), Signal(16)  # words whose group has not been taken, value beats
        part = Signal(range(max(2, cfg.masks_per_beat // most)))  # groups of the beat so far
        tally_left = Signal(range(most + 1))  # cycles
        mask_addr, value_addr, next_addr = Signal(32), Signal(32), Signal(32)

        # CHECK: sizes of the record whose info has arrived.
        value_beats, beats = Signal(16), Signal(17)
        m.d.comb += [
            value_beats.eq((info.nnz + ((1 << lane_bits) - 1)) >> lane_bits),
            beats.eq(value_beats + command.mask_beats),
            room_next.eq(room - beats),
        ]

        # STREAM: mask groups as the tally asks for them, value beats where no beat of masks ends.
        take_group, take_mask, take_value = Signal(), Signal(), Signal()
        last_group, beat_last, first_group = Signal(), Signal(), Signal()  # last, first of the record; last of a beat
        count = Signal(range(most + 1))
        log2_now = log2_words(m, cfg, command.log2_blocks)
        cycles_of_count = Array((count + ((1 << n) - 1)) >> n for n in range(log2_exact(most, "") + 1))[log2_now]
        tally_cycles, tally_after = Signal.like(tally_left), Signal.like(tally_left)
        groups_over, record_end, streaming = Signal(), Signal(), Signal()
        m.d.comb += [
            last_group.eq(words_left <= most),
            count.eq(Mux(last_group, words_left, most)),
            beat_last.eq(last_group | (part == cfg.masks_per_beat // most - 1)),
            take_group.eq(streaming & words_left.any() & ~tally_left.any()),
            take_mask.eq(take_group & beat_last),
            take_value.eq(streaming & values_left.any() & ~take_mask),
            tally_cycles.eq(Mux(take_group, cycles_of_count, tally_left)),
            tally_after.eq(Mux(tally_cycles == 0, 0, tally_cycles - 1)),
            groups_over.eq(~words_left.any() | (take_group & last_group)),
            record_end.eq(streaming & groups_over & (values_left == take_value) & (tally_after == 0)),
            self.rows_next.eq(Mux(take_value, 1 << row, 0)),
            self.rows_mask_next.eq(Mux(take_group, 1 << row, 0)),
            self.rows_record_next.eq(Mux(record_end, 1 << row, 0)),
        ]
        with m.If(streaming):
            m.d.sync += tally_left.eq(tally_after)
        with m.If(take_group):
            m.d.sync += [words_left.eq(words_left - count), part.eq(Mux(beat_last, 0, part + 1)), first_group.eq(0)]
            with m.If(beat_last):
                m.d.sync += mask_addr.eq(mask_addr + 1)
        with m.If(take_value):
            m.d.sync += [values_left.eq(values_left - 1), value_addr.eq(value_addr + 1)]

        # The counts of records wait here for the header.
        m.submodules.infos = infos = Memory(shape=32, depth=cfg.units, init=[])
        infos_write, infos_read = infos.write_port(), infos.read_port()
        cycles_next = (info.visits << command.log2_cycles) + info.empty  # a word takes a cycle at least
        m.d.comb += [
            infos_write.addr.eq(record),
            infos_write.data[:16].eq(info.nnz),
            infos_write.data[16:].eq(cycles_next[:16] | cycles_next[16:].any().replicate(16)),
        ]

        # HEADER: word after word: beats, records, lane groups, zeros.
        word_index, in_beat = Signal(range(256 * cfg.words_per_beat)), Signal(range(max(2, cfg.words_per_beat)))
        group, header_left, header_reserve = Signal(16), Signal(8), Signal()
        take_word, is_total, is_record, is_group, beat_end = Signal(), Signal(), Signal(), Signal(), Signal()
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
                m.d.sync += [
                    next_addr.eq(command.out_addr + command.header_beats),
                    room.eq(command.limit - command.header_beats),
                ]
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
                    values_left.eq(value_beats),
                    words_left.eq(Mux(command.mask_beats.any(), command.words, 0)),
                    tally_left.eq(0),
                    part.eq(0),
                    first_group.eq(1),
                    mask_addr.eq(next_addr),
                    value_addr.eq(next_addr + command.mask_beats),
                    next_addr.eq(next_addr + beats),
                    used.eq(used + beats),
                    room.eq(room_next),
                ]
                m.next = "STREAM"
                with m.If(room_next < 0):  # a sign: no adder behind that of the beats
                    m.d.sync += [self.error.eq(1), self.done.eq(1)]
                    m.next = "IDLE"
            with m.State("STREAM"):
                m.d.comb += streaming.eq(self.room)  # a stall delays everything, so that the order of beats stays
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

        # Beats of values and mask groups: one cycle in the row, one to take them out of R.
        row_1 = Signal.like(row, name="row_1")
        group_1, mask_1, value_1, mask_2, value_2 = Signal(), Signal(), Signal(), Signal(), Signal()
        part_1 = Signal.like(part, name="part_1")
        addr_1, addr_2 = Signal(32, reset_less=True), Signal(32, reset_less=True)
        taken = Signal(cfg.beat_bits, reset_less=True)
        m.d.sync += [
            row_1.eq(row),
            group_1.eq(take_group),
            mask_1.eq(take_mask),
            value_1.eq(take_value),
            mask_2.eq(mask_1),
            value_2.eq(value_1),
            part_1.eq(part),
            tally.count.eq(count),
            tally.record_first.eq(first_group),
            tally.region_first.eq(record == 0),
            addr_1.eq(Mux(take_mask, mask_addr, value_addr)),
            addr_2.eq(addr_1),
        ]
        with m.If(value_1):
            m.d.sync += taken.eq(Array(self.rows_data[r] for r in range(cfg.rows))[row_1])
        m.d.comb += [
            tally.log2_blocks.eq(command.log2_blocks),
            tally.load.eq(group_1),
            tally.masks.eq(Array(self.rows_mask[r] for r in range(cfg.rows))[row_1]),
        ]

        # Header words are known a cycle after they were asked for.
        word_1, end_1, pushed_1 = Signal(), Signal(), Signal()
        total_1, record_1, counts_1, word = Signal(), Signal(), Signal(), Signal(32)
        group_lane_1, in_beat_1 = Signal(range(max(2, cfg.groups_per_word))), Signal.like(in_beat, name="in_beat_1")
        m.d.sync += [
            word_1.eq(take_word),
            end_1.eq(take_word & beat_end),
            pushed_1.eq(end_1),
            total_1.eq(is_total),
            record_1.eq(is_record),
            counts_1.eq(is_group & command.mask_beats.any()),
            group_lane_1.eq(group[:group_bits]),
            in_beat_1.eq(in_beat),
        ]
        counts = Mux(counts_1, tally.read_counts.word_select(group_lane_1, COUNT_BITS), 0)
        m.d.comb += word.eq(Mux(total_1, used, Mux(record_1, infos_read.data, counts)))
        with m.If(pushed_1):
            m.d.sync += next_addr.eq(next_addr + 1)

        # A beat of masks or of the header. The first group is written with zeros beside it: there may be no others.
        lanes, per_group, beside = [], most * cfg.mask_bits // 32, Mux(part_1 == 0, 0, tally.masks)
        for number in range(cfg.words_per_beat):
            lane = Signal(32, name=f"lane{number}", reset_less=True)
            of_group = (tally.masks if number < per_group else beside).word_select(number % per_group, 32)
            mine = (part_1 == number // per_group) | (part_1 == 0)
            with m.If((word_1 & (in_beat_1 == number)) | (group_1 & mine)):
                m.d.sync += lane.eq(Mux(group_1, of_group, word))
            lanes.append(lane)
        m.d.comb += [
            self.push.eq(mask_2 | value_2 | pushed_1),
            self.push_addr.eq(Mux(pushed_1, next_addr, addr_2)),
            self.push_data.eq(Mux(value_2, taken, Cat(*lanes))),
        ]
        return m
