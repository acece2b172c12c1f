"""Drainer of new blocks (WU): the rows' update buffers, record by record, become a region in memory.

Records lie in the rows that own their units; this module visits them in stored order, so the region
comes out as if one unit had encoded it. Masks come in groups, each when the lane tally is ready for it,
and are put together here, once for all rows. The words of the header (counts) are only known at the end
and are written last, into the room left for them; their beats are put together where those of masks were.

Rows are far: what is decided in one cycle comes back `answer_latency` later (`rtl.region_walk`). Nothing that is
decided depends on what comes back (sizes of records wait in `RecordFetch`), so a beat leaves in every cycle.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.csb_encoder import record_info
from rtl.lane_tally import COUNT_BITS, LaneTally, log2_words, words_per_cycle
from rtl.region_walk import RegionWalk, behind


class BlockDrainer(wiring.Component):
    """Records and header of one region -> beats at out_addr, one a cycle.

    Law: with a write port that is always ready and `start` in cycle s, `done` is high again from cycle

        s + START + sum over records of max(mask_beats + value_beats, words') + HEADER + words_per_beat * header_beats
          + 2 * (chain_rows - 1)

    where START and HEADER are those of `RegionWalk`, value_beats = ceil(nnz / values_per_beat), and words' =
    ceil(words / T) (0 mask beats: 1), as long as mask_beats = ceil(words / masks_per_beat); T words a cycle pass the
    lane tally: `lane_tally.words_per_cycle`, but no more than the 2^log2_blocks of one tap. A mask group is taken when
    the tally has used up the one before, and with the last one of a beat the beat is due; value beats fill all other
    cycles, also those of groups within a beat. A beat due in cycle t is pushed in t + `answer_latency` + 1. A full
    write queue adds its stalls. On overflow, found when the record's first beat would be due, `done` rises with `error`
    HEADER + chain_rows - 1 cycles later.

    Args:
        cfg: widths and sizes.

    Ports:
        start: pulse. command: WU command in the drain stage, stable from the cycle after start to done; one region:
        block_rows records, words, log2_blocks, mask_beats, log2_cycles, groups, header_beats, out_addr, limit are used.
        Lane groups are those of the blocks, each counted over all taps.
        error: the region does not fit `limit` beats; held until the next start. Nothing is written beyond.
        done: nothing is left to push after this cycle (beats may still be in the write queue).
        assign_unit: record looked up; assign_row: its row, one cycle later.
        rows_start: every row: back to the first record. One bit a row: rows_next: read a beat of values;
        rows_mask_next: a mask group; rows_info_next: counts of the next record. rows_mask_last: the mask group is the
        last one of its record. rows_data, rows_mask, rows_info: answers, `Row.answered(cfg)` cycles after a question.
        reserve, room, push, push_addr, push_data: see `WriteQueue`.
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
                "rows_mask_next": Out(cfg.rows),
                "rows_mask_last": Out(1),
                "rows_info_next": Out(cfg.rows),
                "rows_info": In(record_info(cfg)),
                "rows_data": In(cfg.beat_bits),
                "rows_mask": In(words_per_cycle(cfg) * cfg.mask_bits),
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
        m.submodules.tally = tally = LaneTally(cfg)
        m.submodules.walk = walk = RegionWalk(cfg)
        m.d.comb += [walk.start.eq(self.start), walk.command.eq(command), walk.room.eq(self.room)]
        m.d.comb += [getattr(walk, name).eq(getattr(self, name)) for name in ("assign_row", "rows_info")]
        m.d.comb += [
            getattr(self, name).eq(getattr(walk, name)) for name in ("assign_unit", "rows_info_next", "done", "error")
        ]

        # Mask groups as the tally asks for them, value beats where no beat of masks ends.
        row = Signal(row_bits(cfg), reset_less=True)
        most = words_per_cycle(cfg)
        words_left, values_left = Signal(8), Signal(16)  # words whose group has not been taken, value beats
        part = Signal(range(max(2, cfg.masks_per_beat // most)))  # groups of the beat so far
        tally_left = Signal(range(most + 1))  # cycles
        take_group, take_mask, take_value = Signal(), Signal(), Signal()
        last_group, beat_last, first_group = Signal(), Signal(), Signal()  # last, first of the record; last of a beat
        count = Signal(range(most + 1))
        log2_now = log2_words(m, cfg, command.log2_blocks)
        cycles_of_count = Array((count + ((1 << n) - 1)) >> n for n in range(log2_exact(most, "") + 1))[log2_now]
        tally_cycles, tally_after = Signal.like(tally_left), Signal.like(tally_left)
        groups_over = Signal()
        m.d.comb += [
            last_group.eq(words_left <= most),
            count.eq(Mux(last_group, words_left, most)),
            beat_last.eq(last_group | (part == cfg.masks_per_beat // most - 1)),
            take_group.eq(walk.streaming & words_left.any() & ~tally_left.any()),
            take_mask.eq(take_group & beat_last),
            take_value.eq(walk.streaming & values_left.any() & ~take_mask),
            tally_cycles.eq(Mux(take_group, cycles_of_count, tally_left)),
            tally_after.eq(Mux(tally_cycles == 0, 0, tally_cycles - 1)),
            groups_over.eq(~words_left.any() | (take_group & last_group)),
            walk.asks.eq(take_mask | take_value),
            walk.ends.eq(walk.streaming & groups_over & (values_left == take_value) & (tally_after == 0)),
            self.rows_start.eq(self.start),
            self.reserve.eq(walk.asks | walk.reserves),
        ]
        m.d.sync += [
            self.rows_next.eq(Mux(take_value, 1 << row, 0)),
            self.rows_mask_next.eq(Mux(take_group, 1 << row, 0)),
            self.rows_mask_last.eq(last_group),
        ]
        with m.If(walk.streaming):
            m.d.sync += tally_left.eq(tally_after)
        with m.If(take_group):
            m.d.sync += [words_left.eq(words_left - count), part.eq(Mux(beat_last, 0, part + 1)), first_group.eq(0)]
        with m.If(take_value):
            m.d.sync += values_left.eq(values_left - 1)
        with m.If(walk.begins):
            m.d.sync += [
                row.eq(walk.row),
                values_left.eq(walk.value_beats),
                words_left.eq(Mux(command.mask_beats.any(), command.words, 0)),
                tally_left.eq(0),
                part.eq(0),
                first_group.eq(1),
            ]

        # The header: beats, records, lane groups, zeros.
        group, is_total, is_record, is_group = Signal(16), Signal(), Signal(), Signal()
        group_bits = log2_exact(cfg.groups_per_word, "groups_per_word")
        m.d.comb += [
            is_total.eq(walk.word_index == 0),
            is_record.eq(~is_total & (walk.word_index <= command.block_rows)),
            is_group.eq((walk.word_index > command.block_rows) & (group < command.groups)),
            walk.record.eq(walk.word_index - 1),
            tally.read_word.eq(group >> group_bits),
        ]
        with m.If(walk.header_begins):
            m.d.sync += group.eq(0)
        with m.Elif(walk.word & is_group):
            m.d.sync += group.eq(group + 1)

        # What was asked for is there `answer_latency` later, and a cycle after that it is pushed.
        asked = Signal(
            data.StructLayout(
                {
                    "begins": 1,
                    "group": 1,
                    "mask": 1,
                    "value": 1,
                    "part": part.shape(),
                    "count": count.shape(),
                    "record_first": 1,
                    "region_first": 1,
                }
            )
        )
        m.d.comb += [
            asked.begins.eq(walk.begins),
            asked.group.eq(take_group),
            asked.mask.eq(take_mask),
            asked.value.eq(take_value),
            asked.part.eq(part),
            asked.count.eq(count),
            asked.record_first.eq(first_group),
            asked.region_first.eq(walk.first),
        ]
        before, answered, pushed = behind(m, asked, cfg)

        # Masks and values of a record have places of their own, each beat behind the one before.
        next_addr, mask_addr, value_addr = (Signal(32, name=f"{name}_addr") for name in ("next", "mask", "value"))
        addr, begun = Signal(32, reset_less=True), Signal()
        pushed_1 = Signal()
        m.d.sync += [begun.eq(self.start), addr.eq(Mux(answered.mask, mask_addr, value_addr))]
        with m.If(begun):
            m.d.sync += next_addr.eq(command.out_addr + command.header_beats)
        with m.Elif(walk.header_begins):
            m.d.sync += next_addr.eq(command.out_addr)
        with m.Elif(before.mask | before.value | pushed_1):
            m.d.sync += next_addr.eq(next_addr + 1)
        with m.If(answered.begins):  # all beats of the records before it have been counted, a cycle earlier
            m.d.sync += [mask_addr.eq(next_addr), value_addr.eq(next_addr + command.mask_beats)]
        with m.Else():
            m.d.sync += [mask_addr.eq(mask_addr + answered.mask), value_addr.eq(value_addr + answered.value)]

        taken = Signal(cfg.beat_bits, reset_less=True)
        with m.If(answered.value):
            m.d.sync += taken.eq(self.rows_data)
        m.d.comb += [
            tally.log2_blocks.eq(command.log2_blocks),
            tally.load.eq(answered.group),
            tally.masks.eq(self.rows_mask),
            tally.count.eq(answered.count),
            tally.record_first.eq(answered.record_first),
            tally.region_first.eq(answered.region_first),
        ]

        # Header words are known a cycle after they were asked for.
        word_1, end_1 = Signal(), Signal()
        total_1, record_1, counts_1, word = Signal(), Signal(), Signal(), Signal(32)
        group_lane_1, in_beat_1 = (
            Signal(range(max(2, cfg.groups_per_word))),
            Signal.like(walk.in_beat, name="in_beat_1"),
        )
        m.d.sync += [
            word_1.eq(walk.word),
            end_1.eq(walk.word & walk.beat_end),
            pushed_1.eq(end_1),
            total_1.eq(is_total),
            record_1.eq(is_record),
            counts_1.eq(is_group & command.mask_beats.any()),
            group_lane_1.eq(group[:group_bits]),
            in_beat_1.eq(walk.in_beat),
        ]
        counts = Mux(counts_1, tally.read_counts.word_select(group_lane_1, COUNT_BITS), 0)
        m.d.comb += word.eq(Mux(total_1, walk.used, Mux(record_1, walk.read_word, counts)))

        # A beat of masks or of the header. The first group is written with zeros beside it: there may be no others.
        lanes, per_group, beside = [], most * cfg.mask_bits // 32, Mux(answered.part == 0, 0, self.rows_mask)
        for number in range(cfg.words_per_beat):
            lane = Signal(32, name=f"lane{number}", reset_less=True)
            of_group = (self.rows_mask if number < per_group else beside).word_select(number % per_group, 32)
            mine = (answered.part == number // per_group) | (answered.part == 0)
            with m.If((word_1 & (in_beat_1 == number)) | (answered.group & mine)):
                m.d.sync += lane.eq(Mux(answered.group, of_group, word))
            lanes.append(lane)
        m.d.comb += [
            self.push.eq(pushed.mask | pushed.value | pushed_1),
            self.push_addr.eq(Mux(pushed_1, next_addr, addr)),
            self.push_data.eq(Mux(pushed.value, taken, Cat(*lanes))),
        ]
        return m
