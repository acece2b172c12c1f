"""Records of a region, found ahead of the drain: whose each is, and how many beats it has.

A record's row stands in the assignment table, its size in the row's update buffer, and both are cycles away. The next
records are therefore looked up while earlier ones are written, and wait in a queue: they follow each other without a
gap, however far the rows are.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.csb_encoder import record_info
from rtl.dense_parser import record_beats
from rtl.row import Row

VALUE_BEATS_BITS = 16


class RecordFetch(wiring.Component):
    """Units in ascending order -> queue of records.

    Law: with `start` in cycle s the first record shows in cycle s + `ready(cfg)`. A record taken in cycle t makes room
    for one that shows in t + `ready(cfg)` at the latest; as many as that are under way, so that one a cycle may be
    taken.

    Args:
        cfg: widths and sizes. Without `sparse` all records have the same size, and the rows are not asked.

    Ports:
        start: pulse, when nothing is under way: all records were taken, or one that does not fit. command: from the
        cycle after start on, see `BlockDrainer`.
        assign_unit: unit looked up; assign_row: its row, one cycle later.
        rows_info_next: one bit a row, next record; rows_info: its `record_info`, `Row.answered(cfg)` cycles later.
        valid: a record waits: row, value_beats, and whether it fits with all before it into `limit` beats; one that
        does not is the last. pop: take it.
        record: read_word: its word of the header, one cycle later: nnz, and cycles in the next update.
    """

    READY = 9  # of rows that are asked one by one
    DEPTH = 16  # at least

    @classmethod
    def ready(cls, cfg: Config) -> int:
        """Cycles from the start to the first record."""
        return cls.READY + cfg.chain_rows - 1

    @classmethod
    def depth(cls, cfg: Config) -> int:
        """Places of the queue, a power of two."""
        return max(cls.DEPTH, 1 << (cls.ready(cfg) - 1).bit_length())

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        asked = {
            "rows_info_next": Out(cfg.rows),
            "rows_info": In(record_info(cfg)),
            "record": In(unit_bits(cfg)),
            "read_word": Out(32),
        }
        super().__init__(
            {
                "start": In(1),
                "command": In(COMMAND),
                "assign_unit": Out(unit_bits(cfg)),
                "assign_row": In(row_bits(cfg)),
                **(asked if cfg.sparse else {}),
                "valid": Out(1),
                "row": Out(row_bits(cfg)),
                "value_beats": Out(VALUE_BEATS_BITS),
                "fits": Out(1),
                "pop": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command = self._cfg, self.command
        m = Module()

        # A unit is looked up if there will be room for its record; the last one that did not fit ends it all.
        fetching, bad, go = Signal(), Signal(), Signal()
        unit, next_unit = Signal(16, reset_less=True), Signal(16)
        places = Signal(range(self.depth(cfg) + 1), reset_less=True)
        m.d.comb += [
            self.assign_unit.eq(unit),
            next_unit.eq(unit + 1),
            go.eq(fetching & places.any() & ~bad),
        ]
        m.d.sync += places.eq(places + self.pop - go)
        with m.If(self.start):
            m.d.sync += [fetching.eq(1), places.eq(self.depth(cfg))]
        with m.Elif(go):
            m.d.sync += fetching.eq(next_unit != command.block_rows)
        with m.Elif(bad):
            m.d.sync += fetching.eq(0)  # or the next region would not begin with unit 0
        with m.If(~fetching):
            m.d.sync += unit.eq(0)
        with m.Elif(go):
            m.d.sync += unit.eq(next_unit)

        # The question to the row and its answer, with the row's number beside.
        valid, row = go, self.assign_row
        steps = 3 + Row.answered(cfg)  # table, register of the question, the row, register of the answer
        for step in range(1, steps + 1):
            valid_next = Signal(name=f"valid_{step}")
            m.d.sync += valid_next.eq(valid)
            valid = valid_next
            if step == 1 and cfg.sparse:
                m.d.sync += self.rows_info_next.eq(Mux(valid, 1 << row, 0))
            if step > 1:
                row_next = Signal.like(self.row, name=f"row_{step}", reset_less=True)
                m.d.sync += row_next.eq(row)
                row = row_next
        begun = Signal()
        m.d.sync += begun.eq(self.start)
        value_beats = self._size(m, valid, begun)

        beats, room, room_next = Signal(17), Signal(signed(33), reset_less=True), Signal(signed(34))
        width = len(self.row) + VALUE_BEATS_BITS + 1
        m.submodules.queue = queue = SyncFIFOBuffered(width=width, depth=self.depth(cfg))
        m.d.comb += [
            beats.eq(value_beats + command.mask_beats),
            room_next.eq(room - beats),
            queue.w_en.eq(valid & ~bad),
            queue.w_data.eq(Cat(row, value_beats, room_next >= 0)),
            Cat(self.row, self.value_beats, self.fits).eq(queue.r_data),
            self.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.pop),
        ]
        with m.If(self.start):
            m.d.sync += bad.eq(0)
        with m.Elif(begun):
            m.d.sync += room.eq(command.limit - command.header_beats)
        with m.Elif(queue.w_en):
            m.d.sync += [room.eq(room_next), bad.eq(room_next < 0)]
        return m

    def _size(self, m: Module, valid: Signal, begun: Signal) -> Signal:
        """Value beats of the record whose info has arrived; what the header says of it is kept."""
        cfg, command = self._cfg, self.command
        value_beats = Signal(VALUE_BEATS_BITS)
        if not cfg.sparse:
            m.d.comb += value_beats.eq(record_beats(cfg, command.words))
            return value_beats
        lane_bits = log2_exact(cfg.values_per_beat, "values_per_beat")
        info = Signal(record_info(cfg), reset_less=True)
        record = Signal(unit_bits(cfg), reset_less=True)
        m.submodules.infos = infos = Memory(shape=32, depth=cfg.units, init=[])
        write, read = infos.write_port(), infos.read_port()
        cycles_next = (info.visits << command.log2_cycles) + info.empty  # a word takes a cycle at least
        m.d.sync += [info.eq(self.rows_info), record.eq(Mux(begun, 0, record + valid))]
        m.d.comb += [
            value_beats.eq((info.nnz + ((1 << lane_bits) - 1)) >> lane_bits),
            write.en.eq(valid),
            write.addr.eq(record),
            write.data[:16].eq(info.nnz),
            write.data[16:].eq(cycles_next[:16] | cycles_next[16:].any().replicate(16)),
            read.addr.eq(self.record),
            self.read_word.eq(read.data),
        ]
        return value_beats
