"""Loader: distributes what the reader brings for the working set in the load stage.

Over one bus: gathered operand to all PEs, stationary operand to the rows that own its channels,
and records, through the `RecordParser`, to the weight buffers of the rows. The ReLU gate goes to its buffer, one bit an
element. In BW it also builds the rows' entry lists, one unit (lane group or pair) a cycle.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import Config, log2_exact
from arch.status import Status
from rtl.assignment import row_bits, unit_bits
from rtl.command import COMMAND
from rtl.dense_parser import DenseParser, record_beats
from rtl.exploration import group_bits
from rtl.list_walker import KINDS, RUN_BITS, Kind
from rtl.load_entries import load_entries
from rtl.load_operands import load_gate, load_gathered
from rtl.load_stationary import load_stationary
from rtl.payload import payload
from rtl.reader import BANK_BITS, SEGMENT_BITS
from rtl.record_parser import RecordParser
from rtl.row_control import gather_word_bits
from rtl.row_controller import ERROR_MASK, ERROR_VALUE
from rtl.row_coordinates import base_bits, cb_bits, channel_bits, kb_bits, slot_bits, word_bits
from rtl.weight_buffer import offset_bits, value_bits


class Loader(wiring.Component):
    """The load stage.

    Law, from the cycle s of `slot_start`; P_5 is the cycle in which the reader's kind_done[W] rises:

        not active: done from s + 1
        nothing to load: done when `taps_over` is
        otherwise: done from max(P_5, e, t) + SETTLE; e = s + ENTRIES + units in BW with load_w, else e = 0; t the cycle
          from which `taps_over` is high

    SETTLE covers the pipelines behind the last beat and the errors of the rows. Latencies from the
    cycle t in which a beat is given on `in_*`:

        X, W: on the bus in t + LATENCY
        WU stationary: piece p of aux_interval(cfg) on the bus in t + LATENCY + 1 + p; `hold` is high in t + 1 to
          t + aux_interval(cfg) - 1, and in the cycle after them behind the last beat of all
        gate (all but WU): written in t + GATE_LATENCY
        BW entry of unit n: on the entry bus in s + ENTRIES + n; `load_start` (with load_w) in s + 1

    Args:
        cfg: widths and sizes.

    Ports, in:
        slot_start, active, command: as for every engine; stable from the cycle after slot_start.
        in_valid, in_kind, in_run, in_index, in_last, in_data, kind_done: from the reader. hold: to it.
        assign_unit: to the assignment table's load port (the bank comes from the command processor);
        assign_row, assign_slot: its answer one cycle later. A register stands between it and the rows.
        row_error: load_error of the rows, 2 bits each, row r at bits [2r, 2r + 2).
        taps_over: level, the taps of the filter have passed (`TapTable`), valid from s + 1 on: low in s + 1 to
        s + TAPS + taps - 1 for a command that computes, otherwise high.
    Ports, out, to all rows; a row compares row numbers with its own:
        bus_data: a beat; column n at bits [n * E * A, (n + 1) * E * A). What it is says one of col_we, stat_we,
        load_valid; there are never two of them.
        col_we, col_addr: operands to gather; word address in the gather bank.
        stat_we, stat_row, stat_addr: stationary operands; `stationary_pack` of them a column, lowest channel lowest, in
        the lowest bits of a column, the others zero.
        load_start: empty the load bank. load_exact: values are as stored (WU), otherwise rounded.
        load_valid, load_is_value, load_before, load_offsets, load_words (which words hold a value),
        load_first, load_row, load_slot, load_channel, load_kb, load_cb, load_all: load bus; a row takes a beat if
        load_all (BW) or if load_row is its number. load_first is low in BW. load_channel: gathered channel of the first
        word: of the segment, or with `depthwise` of the record.
        entry_valid, entry_row, entry_slot, entry_word, entry_group, entry_record_base, entry_cb: entry bus (BW).
    Ports, out:
        gate_we, gate_bank, gate_addr, gate_data: to the gate buffer. `gate_bank` is the bank of the command in the
        load stage, from s + 2 on: the next one for an FW or BW command with load_aux, otherwise as before.
        done, error: level; `error` is a `Status`, cleared by slot_start and valid when done: MASK_OVERFLOW,
        VALUE_OVERFLOW (of a row), HEADER (what is loaded contradicts `records`); the first of these that applies.
    """

    LATENCY = RecordParser.LATENCY + 1
    GATE_LATENCY = 1
    ENTRIES = 6
    SETTLE = 8

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        row, unit = row_bits(cfg), unit_bits(cfg)
        masks = {
            "load_is_value": Out(1),
            "load_before": Out(value_bits(cfg)),
            "load_offsets": Out(cfg.masks_per_beat * offset_bits(cfg)),
            "load_words": Out(cfg.masks_per_beat),
        }
        super().__init__(
            {
                "slot_start": In(1),
                "active": In(1),
                "command": In(COMMAND),
                "in_valid": In(1),
                "in_kind": In(range(KINDS + 1)),
                "in_run": In(RUN_BITS),
                "in_index": In(RUN_BITS),
                "in_last": In(1),
                "in_data": In(cfg.beat_bits),
                "kind_done": In(KINDS),
                "hold": Out(1),
                "assign_unit": Out(unit),
                "assign_row": In(row),
                "assign_slot": In(unit),
                "row_error": In(2 * cfg.rows),
                "taps_over": In(1),
                "bus_data": Out(cfg.beat_bits),
                "col_we": Out(1),
                "col_addr": Out(gather_word_bits(cfg)),
                "stat_we": Out(1),
                "stat_row": Out(row),
                "stat_addr": Out(log2_exact(cfg.psum_depth, "psum_depth")),
                "gate_we": Out(1),
                "gate_bank": Out(BANK_BITS),
                "gate_addr": Out(log2_exact(cfg.gate_beats, "gate_beats")),
                "gate_data": Out(cfg.columns * cfg.bus_elements),
                "load_start": Out(1),
                "load_exact": Out(1),
                "load_valid": Out(1),
                **(masks if cfg.sparse else {}),
                "load_first": Out(1),
                "load_row": Out(row),
                "load_slot": Out(slot_bits(cfg)),
                "load_channel": Out(channel_bits(cfg)),
                "load_kb": Out(kb_bits(cfg)),
                "load_cb": Out(cb_bits(cfg)),
                "load_all": Out(1),
                "entry_valid": Out(1),
                "entry_row": Out(row),
                "entry_slot": Out(slot_bits(cfg)),
                "entry_word": Out(word_bits(cfg)),
                "entry_group": Out(group_bits(cfg)),
                "entry_record_base": Out(base_bits(cfg)),
                "entry_cb": Out(cb_bits(cfg)),
                "done": Out(1),
                "error": Out(4),
            }
        )

    def elaborate(self, platform: object) -> Module:
        command = self.command
        m = Module()
        begin, works, weights, back = Signal(), Signal(), Signal(), Signal()
        m.d.sync += begin.eq(self.slot_start)
        m.d.comb += [
            works.eq(self.active & (command.load_x | command.load_aux | command.load_w)),
            weights.eq(works & command.load_w),
            back.eq(command.phase == Phase.BW),
        ]
        load_gathered(m, self._cfg, self, self.LATENCY)
        load_gate(m, self._cfg, self, begin & works & command.phase.matches(Phase.FW, Phase.BW) & command.load_aux)
        piece_unit, piece_valid, piece, is_piece = load_stationary(m, self._cfg, self)
        first_block, block_step = self._first_block(m)
        parser = self._weights(m, begin & weights, back, first_block, block_step)
        next_unit = self._owner(m, parser)
        # One beat a cycle comes in, and as long after as it takes to know where it goes it is on the bus.
        m.d.sync += payload(m, self.bus_data, "bus_data_3").eq(Mux(is_piece, piece, parser.data))
        entry_unit, entries_over = load_entries(m, self._cfg, self, begin, weights & back, first_block, block_step)

        # The assignment table is asked for one thing at a time: in WU the pieces are over before records end.
        with m.If(back):
            m.d.comb += self.assign_unit.eq(entry_unit)
        with m.Elif(piece_valid):
            m.d.comb += self.assign_unit.eq(piece_unit)
        with m.Else():
            m.d.comb += self.assign_unit.eq(next_unit)

        # Done, and what went wrong.
        busy, over, idle = Signal(), Signal(), Signal()
        settled = Signal(range(self.SETTLE))
        mask_error, value_error, header_error = Signal(), Signal(), Signal()
        errors = [self.row_error.word_select(row, 2) for row in range(self._cfg.rows)]
        m.d.sync += [
            mask_error.eq(Cat(error == ERROR_MASK for error in errors).any()),
            value_error.eq(Cat(error == ERROR_VALUE for error in errors).any()),
            header_error.eq(parser.error | (parser.regions != command.load_segments)),
        ]
        m.d.comb += [
            idle.eq(~works & (self.taps_over | ~self.active)),
            self.done.eq(~busy | idle),
            over.eq(self.kind_done[Kind.W] & (entries_over | ~(weights & back)) & self.taps_over),
        ]
        with m.If(self.slot_start):
            m.d.sync += [busy.eq(1), settled.eq(0), self.error.eq(Status.OK)]
        with m.Elif(idle):
            m.d.sync += busy.eq(0)
        with m.Elif(busy & works & over):
            m.d.sync += settled.eq(settled + 1)
            with m.If(settled == self.SETTLE - 1):
                m.d.sync += busy.eq(0)
                with m.If(~weights):
                    pass  # the rows still show the errors of an earlier load
                with m.Elif(mask_error):
                    m.d.sync += self.error.eq(Status.MASK_OVERFLOW)
                with m.Elif(value_error):
                    m.d.sync += self.error.eq(Status.VALUE_OVERFLOW)
                with m.Elif(header_error):
                    m.d.sync += self.error.eq(Status.HEADER)
        return m

    def _first_block(self, m: Module) -> tuple[Signal, Signal]:
        """Block column of the first segment loaded (from s + 3 on), and block columns a segment."""
        command = self.command
        shift = log2_exact(self._cfg.block_c, "block_c")
        blocks, step = Signal(cb_bits(self._cfg)), Signal(cb_bits(self._cfg))
        # One adder a cycle: six terms, three sums, two; the last is made where it is used.
        terms = [Mux(command.segment[bit], command.c_step << bit, 0) for bit in range(SEGMENT_BITS)] + [command.c0]
        pairs = [Signal(22, name=f"first_block_pair{i}", reset_less=True) for i in range(len(terms) // 2)]
        sums = [Signal(22, name=f"first_block_sum{i}", reset_less=True) for i in range(2)]
        m.d.sync += [pair.eq(terms[2 * i] + terms[2 * i + 1]) for i, pair in enumerate(pairs)]
        m.d.sync += [sums[0].eq(pairs[0] + pairs[1]), sums[1].eq(pairs[2])]
        m.d.comb += [blocks.eq((sums[0] + sums[1]) >> shift), step.eq(command.c_step >> shift)]
        return blocks, step

    def _weights(
        self, m: Module, start: Value, back: Signal, first_block: Signal, block_step: Signal
    ) -> wiring.Component:
        """W: records, with the coordinates of the first word of each."""
        command, shown = self.command, dict[str, Value]()
        m.submodules.parser = parser = RecordParser(self._cfg) if self._cfg.sparse else DenseParser(self._cfg)
        if self._cfg.sparse:
            m.d.comb += parser.mask_beats.eq(command.mask_beats)
            shown |= {name: getattr(parser, name) for name in ("is_value", "before", "offsets", "words")}
        else:
            m.d.comb += parser.record_beats.eq(record_beats(self._cfg, command.words))
        m.d.comb += [
            self.load_start.eq(start),
            self.load_exact.eq(command.phase == Phase.WU),
            parser.exact.eq(self.load_exact),
            parser.start.eq(self.slot_start),
            parser.records.eq(command.records),
            parser.in_valid.eq(self.in_valid & (self.in_kind == Kind.W)),
            parser.in_last.eq(self.in_last),
            parser.in_data.eq(self.in_data),
            self.load_all.eq(back),
        ]
        m.d.sync += self.load_valid.eq(parser.valid)
        first_kb, kb = (Signal.like(self.load_kb, name=name, reset_less=True) for name in ("first_kb", "kb"))
        m.d.sync += [
            first_kb.eq((command.k0 >> log2_exact(self._cfg.block_k, "block_k")) + command.record0),
            kb.eq(first_kb + parser.record),
        ]
        loading = Signal()  # a beat of this slot has passed
        channel = Signal.like(self.load_channel, name="channel", reset_less=True)
        cb = Signal.like(self.load_cb, name="cb", reset_less=True)
        with m.If(self.slot_start):
            m.d.sync += loading.eq(0)
        with m.Elif(parser.valid):
            m.d.sync += loading.eq(1)
        with m.If(parser.valid & parser.region_last):
            m.d.sync += [
                channel.eq(channel + command.c_step),
                cb.eq(cb + block_step),
            ]
        with m.Elif(~loading & ~parser.valid):
            m.d.sync += [channel.eq(0), cb.eq(first_block)]
        with m.If(command.depthwise):
            m.d.sync += channel.eq(parser.record << log2_exact(self._cfg.block_k, "block_k"))
        shown |= {"first": parser.first & ~back, "kb": kb, "channel": channel, "cb": cb}
        for name, value in shown.items():
            m.d.sync += payload(m, getattr(self, f"load_{name}"), f"load_{name}_{self.LATENCY}").eq(value)
        return parser

    def _owner(self, m: Module, parser: wiring.Component) -> Value:
        """The row and the slot of a record, from registers: the table has been asked for those of the next one.

        Record 0 is looked up when the slot begins, and remembered, since every region starts with it.

        Returns: unit to look up; in the other cycles of a slot the table may be asked for something else, up to two
        cycles before a record ends.
        """
        owner, first = (
            Signal(
                data.StructLayout({"row": len(self.load_row), "slot": len(self.load_slot)}), name=name, reset_less=True
            )
            for name in ("owner", "first_owner")
        )
        begins, begun = Signal(), Signal()
        row, slot = Signal.like(self.load_row, reset_less=True), Signal.like(self.load_slot, reset_less=True)
        m.d.sync += [
            begins.eq(self.slot_start),
            begun.eq(begins),
            row.eq(owner.row),
            slot.eq(owner.slot),
            payload(m, self.load_row, "load_row_3").eq(row),
            payload(m, self.load_slot, "load_slot_3").eq(slot),
        ]
        found = Cat(self.assign_row, self.assign_slot[: len(self.load_slot)])
        with m.If(begun):
            m.d.sync += [owner.eq(found), first.eq(found)]
        with m.Elif(parser.returns):
            m.d.sync += owner.eq(first)
        with m.Elif(parser.moves):
            m.d.sync += owner.eq(found)
        after = Signal.like(self.assign_unit, name="after")
        m.d.comb += after.eq(Mux(parser.returns, 1, Mux(parser.moves, parser.record + 2, parser.record + 1)))
        return Mux(begins, 0, after)
