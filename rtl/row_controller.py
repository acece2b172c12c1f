"""Controller of a row: from loaded records to one operation a cycle for the PEs of the row.

    walker -> weight buffer (mask) -> visiting rule -> decoder -> value read, weight regeneration -> operation
           -> exploration         -^                           -> box of the tap, addresses       -^
           -> positions of the tap -------------------^           hazard distance

The stages before the decoder advance together when it takes a word; those after it never stop. Every row
runs its own list; nothing here waits for another row or for memory, so a working set takes a time that
follows from its masks alone (docs/architecture.md, section 4):

    first operation or scan cycle: START_LATENCY cycles after compute_start, whatever the words hold
    one cycle an operation, one cycle a word without visits, none in between
    done: START_LATENCY + sum over words of max(1, n * U) cycles after compute_start
    FW without initial weights: words that hold no weight are passed over, one cycle a mask beat that has no other
    WU: a visit without positions (U = 0: its tap meets padding alone) takes a cycle; FW and BW have no such visits
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch import trace
from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.box_walk import AXES, PITCH_BITS
from rtl.csb_decoder import CsbDecoder, bit_bits
from rtl.exploration import (
    LOG2_PERIOD_BITS,
    SALT,
    STEP_BITS,
    Exploration,
    VisitRule,
    clip_valid,
    group_bits,
    valid_lanes,
    valid_rows,
)
from rtl.reduction import total
from rtl.regenerate import FACTOR_BITS, SCALE_BITS, WORD_BITS, Regenerate
from rtl.row_coordinates import (
    COUNT_BITS,
    LOG2_BLOCKS_BITS,
    WORD_COUNT_BITS,
    cb_bits,
    channel_bits,
    kb_bits,
    slot_bits,
    walk_layout,
    word_bits,
)
from rtl.row_operation import operate
from rtl.row_trace import trace_record
from rtl.row_walker import RowWalker, connect_list
from rtl.row_word import end_layout, word_end, word_layout
from rtl.tap_table import TAP_BITS, TapMemory, box_layout, position_bits
from rtl.weight_buffer import WeightBuffer, offset_bits, value_bits
from rtl.weight_update import word_count_bits

ERROR_MASK = 1
ERROR_VALUE = 2


class RowController(wiring.Component):
    """Everything of a row but its datapath; see the module docstring for the timing law.

    Args:
        cfg: widths and sizes; with `cfg.trace` the port `trace` exists.

    Ports, load side. They fill the bank of weights and entries that compute does not read (`bank`).
        load_start: empties that bank and clears load_error; what else is presented in this cycle is lost.
        load_exact: what is loaded is for WU; constant from load_start to the last beat.
        load_valid with load_data: a beat, of values if load_is_value, otherwise of masks, taken if load_mine. Mask
        beats of a record come first, then its values. load_before: values of the record in the mask beats
        before this one; load_offsets: of the beat before each mask word, `rtl.weight_buffer.offset_bits` each, lowest
        word lowest; load_words: which of them hold a weight.
        load_first: with a mask beat, the first of its record: the row (if load_mine) takes the record as an entry:
        load_slot, load_channel (gathered channel of word 0), load_kb, load_cb (block of word 0, absolute).
        Low in BW, where every row takes every beat and entries come by the entry bus.
        entry_valid, entry_mine: a unit of BW, and whether it is this row's: entry_slot, entry_word (its word in a
        record), entry_group (in that word, `wide` the first of two), entry_record_base (mask beat, in the bank, of
        record 0 of its segment), entry_cb (absolute block column). Not in one cycle with load_first.
        tap_we, tap, box, count: a tap of the command that loads, see `rtl.tap_table`.
        load_error: 0, or 1: no room for a mask beat or an entry, or 2: none for a value beat. The first one
        stays until load_start. What has no room is dropped.
    Ports, compute side; constant from compute_start until done:
        bank: weights and entries read; tap_bank: taps read. phase; words, mask_beats: of a record; block_rows: records
        of a segment; log2_blocks, taps; gather_image, ..., psum_col: steps through a box; log2_positions; k0: output
        channel of record 0 (BW); k_end, c_end: one past the last valid channels; bias, bias_tap: the last input channel
        exists in that tap only; depthwise: the gathered channel is the output channel; wide: BW, a unit is two lane
        groups; salt, scale_t; dense_mode, step, log2_period (exploration).
        command: index for the trace.
        compute_start: begin; only when done. done: high from reset; falls one cycle after compute_start.
    Ports, operation (registered; see `RowControl`): op, value, gather_addr, psum_addr (WU: address of the
        stationary operand), half, bypass, dot_first, dot_last. Beside op they mean nothing in idle cycles.
        is_busy, is_scan: this cycle issues an operation, or is the one of a word without visits. In BW such words are
        passed over while one with visits is under way.
        trace: the record of this cycle, all zero without an operation.
    Ports factor_enable, factor, scaled: the product of `rtl.regenerate`, made outside; FW and BW only.
    Ports, visit (WU only, low otherwise), in the cycle of the last position's operation:
        visit_void: its tap has no positions, this is a cycle without an operation.
        visit_valid; visit_word_last: last visit of its word, or, in its scan cycle and without visit_valid, a word that
        has none. `DELTA_LEAD` cycles before visit_valid: visit_has_value, visit_delta (zero without value).
        `VISIT_LEAD` cycles before: visit_bit, and with visit_word_last visit_record_last: last word of its record,
        visit_next_explored: the word is explored in the next step (low in dense mode), visit_next_count: its number of
        valid positions.

    Raises:
        ValueError: cfg.sparse is False.
    """

    START_LATENCY = RowWalker.LATENCY + WeightBuffer.MASK_LATENCY + CsbDecoder.LATENCY + Regenerate.LATENCY + 1
    VISIT_LEAD = Regenerate.LATENCY + 1  # what the decoder knows need not wait for the operation
    DELTA_LEAD = 2  # value and operation register

    def __init__(self, cfg: Config) -> None:
        if not cfg.sparse:
            raise ValueError("RowController needs sparse = True, not False")
        self._cfg = cfg
        ports = {
            "load_start": In(1),
            "load_exact": In(1),
            "load_valid": In(1),
            "load_is_value": In(1),
            "load_data": In(cfg.beat_bits),
            "load_before": In(value_bits(cfg)),
            "load_offsets": In(cfg.masks_per_beat * offset_bits(cfg)),
            "load_words": In(cfg.masks_per_beat),
            "load_mine": In(1),
            "load_first": In(1),
            "load_slot": In(slot_bits(cfg)),
            "load_channel": In(channel_bits(cfg)),
            "load_kb": In(kb_bits(cfg)),
            "load_cb": In(cb_bits(cfg)),
            "entry_valid": In(1),
            "entry_mine": In(1),
            "entry_slot": In(slot_bits(cfg)),
            "entry_word": In(word_bits(cfg)),
            "entry_group": In(group_bits(cfg)),
            "entry_record_base": In(log2_exact(cfg.mask_beats, "mask_beats")),
            "entry_cb": In(cb_bits(cfg)),
            "tap_we": In(1),
            "tap": In(TAP_BITS),
            "box": In(box_layout(cfg)),
            "count": In(position_bits(cfg)),
            "load_error": Out(2),
            "bank": In(1),
            "tap_bank": In(1),
            "phase": In(2),
            "words": In(WORD_COUNT_BITS),
            "mask_beats": In(WORD_COUNT_BITS),
            "block_rows": In(COUNT_BITS),
            "log2_blocks": In(LOG2_BLOCKS_BITS),
            "taps": In(TAP_BITS),
            **{f"{name}_{axis}": In(PITCH_BITS) for name in ("gather", "psum") for axis in AXES},
            "log2_positions": In(4),
            "k0": In(COUNT_BITS),
            "k_end": In(COUNT_BITS),
            "c_end": In(COUNT_BITS),
            "bias": In(1),
            "bias_tap": In(TAP_BITS),
            "depthwise": In(1),
            "wide": In(1),
            "salt": In(WORD_BITS),
            "scale_t": In(SCALE_BITS),
            "dense_mode": In(1),
            "step": In(STEP_BITS),
            "log2_period": In(LOG2_PERIOD_BITS),
            "command": In(trace.RECORD["command"].bits),
            "compute_start": In(1),
            "done": Out(1, init=1),
            "op": Out(2),
            "value": Out(signed(cfg.operand_bits)),
            "gather_addr": Out(channel_bits(cfg)),
            "psum_addr": Out(slot_bits(cfg)),
            "half": Out(1),
            "bypass": Out(2),
            "dot_first": Out(1),
            "dot_last": Out(1),
            "is_busy": Out(1),
            "is_scan": Out(1),
            "visit_valid": Out(1),
            "visit_void": Out(1),
            "visit_bit": Out(bit_bits(cfg)),
            "visit_has_value": Out(1),
            "visit_delta": Out(signed(cfg.delta_bits)),
            "visit_word_last": Out(1),
            "visit_record_last": Out(1),
            "visit_next_explored": Out(1),
            "visit_next_count": Out(word_count_bits(cfg)),
            "factor_enable": Out(1),
            "factor": Out(signed(FACTOR_BITS)),
            "scaled": In(signed(FACTOR_BITS + SCALE_BITS)),
        }
        if cfg.trace:
            ports["trace"] = Out(trace.BITS)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = WeightBuffer(self._cfg)
        m.submodules.walker = walker = RowWalker(self._cfg)
        m.submodules.decoder = decoder = CsbDecoder(self._cfg, word_layout(self._cfg).size)
        m.submodules.taps = taps = TapMemory(self._cfg)
        self._load(m, buffer, walker)
        m.submodules.regenerate = regenerate = Regenerate(self._cfg)
        m.submodules.exploration = exploration = Exploration()
        self._hash(m, walker, decoder, regenerate, exploration)
        self._decode(m, buffer, walker, taps, decoder, exploration)
        operate(m, self._cfg, self, buffer, taps, decoder, regenerate)
        if self._cfg.trace:
            m.d.comb += self.trace.eq(trace_record(self))
        return m

    def _load(self, m: Module, buffer: WeightBuffer, walker: RowWalker) -> None:
        beat = Signal()
        m.d.comb += [
            beat.eq(self.load_valid & self.load_mine),
            buffer.bank.eq(self.bank),
            buffer.load_start.eq(self.load_start),
            buffer.load_exact.eq(self.load_exact),
            buffer.mask_we.eq(beat & ~self.load_is_value),
            buffer.value_we.eq(beat & self.load_is_value),
            buffer.load_data.eq(self.load_data),
            buffer.load_before.eq(self.load_before),
            buffer.load_offsets.eq(self.load_offsets),
            walker.mask_push.eq(buffer.mask_we),
            walker.mask_words.eq(self.load_words),
            walker.record_push.eq(beat & ~self.load_is_value & self.load_first),
        ]
        connect_list(m, self, walker)
        pushed = walker.record_push | walker.group_push
        with m.If(self.load_start):
            m.d.sync += self.load_error.eq(0)
        with m.Elif(self.load_error == 0):
            with m.If((buffer.mask_we & buffer.mask_full) | (pushed & walker.full)):
                m.d.sync += self.load_error.eq(ERROR_MASK)
            with m.Elif(buffer.value_we & buffer.value_full):
                m.d.sync += self.load_error.eq(ERROR_VALUE)

    def _hash(
        self, m: Module, walker: RowWalker, decoder: CsbDecoder, regenerate: Regenerate, exploration: Exploration
    ) -> None:
        """What is hashed: in FW and BW the position that the decoder visits, in WU the walker's word."""
        updating, explores = Signal(name="hashes_words"), Signal()
        walk = data.View(word_layout(self._cfg), decoder.tags_out)
        block_c = log2_exact(self._cfg.block_c, "block_c")
        m.d.comb += [
            updating.eq(self.phase == Phase.WU),
            explores.eq(updating & ~self.dense_mode & decoder.ready),
            regenerate.enable.eq(decoder.first & ~updating),
            regenerate.hash_enable.eq(explores),
            regenerate.k.eq(Mux(updating, walker.info.kb, Cat(decoder.bit[block_c:], walk.kb))),
            regenerate.c.eq(Mux(updating, walker.info.cb, Cat(decoder.bit[:block_c], walk.cb))),
            regenerate.tap.eq(Mux(updating, walker.info.tap, walk.tap)),
            regenerate.salt.eq(Mux(updating, SALT, self.salt)),
            regenerate.scale_t.eq(self.scale_t),
            self.factor_enable.eq(regenerate.factor_enable),
            self.factor.eq(regenerate.factor),
            regenerate.scaled.eq(self.scaled),
            exploration.enable.eq(explores),
            exploration.hash.eq(regenerate.hash),
            exploration.step.eq(self.step),
            exploration.log2_period.eq(self.log2_period),
        ]

    def _decode(
        self,
        m: Module,
        buffer: WeightBuffer,
        walker: RowWalker,
        taps: TapMemory,
        decoder: CsbDecoder,
        exploration: Exploration,
    ) -> None:
        """From the walker's word (stage 0) to the decoder's (stage 2): read, hash and clip, then the rule."""
        cfg = self._cfg
        m.submodules.rule = rule = VisitRule(cfg)
        advance = Signal()
        # From registers, so that they are early in every cycle; there before the first word.
        updating, explores, regenerates = Signal(), Signal(), Signal()
        m.d.sync += [
            updating.eq(self.phase == Phase.WU),
            explores.eq((self.phase == Phase.WU) & ~self.dense_mode),
            regenerates.eq((self.phase != Phase.WU) & self.scale_t.any()),
        ]
        m.d.comb += [
            advance.eq(decoder.ready),
            walker.start.eq(self.compute_start),
            walker.phase.eq(self.phase),
            walker.words.eq(self.words),
            walker.mask_beats.eq(self.mask_beats),
            walker.block_rows.eq(self.block_rows),
            walker.k0.eq(self.k0),
            walker.log2_blocks.eq(self.log2_blocks),
            walker.taps.eq(self.taps),
            walker.every.eq(updating | regenerates),
            walker.advance.eq(advance),
            buffer.mask_en.eq(advance),
            buffer.mask_read.eq(walker.valid & ~walker.info.null),
            buffer.mask_beat.eq(walker.beat),
            buffer.mask_lane.eq(walker.lane),
            taps.bank.eq(self.tap_bank),
            taps.tap_we.eq(self.tap_we),
            taps.tap.eq(self.tap),
            taps.box_in.eq(self.box),
            taps.count_in.eq(self.count),
            taps.count_en.eq(advance),
        ]

        valid_1, valid_2 = Signal(), Signal()
        walk_1, walk_2 = Signal(walk_layout(cfg), reset_less=True), Signal(word_layout(cfg), reset_less=True)
        rows_2 = Signal.like(rule.rows, name="rows_2", reset_less=True)
        lanes_2 = Signal.like(rule.lanes, name="lanes_2", reset_less=True)
        record_last_2 = Signal(reset_less=True)
        valid_k_1, valid_c_1 = Signal(range(cfg.block_k + 1)), Signal(range(cfg.block_c + 1))
        valid_c_2 = Signal.like(valid_c_1, name="valid_c_2", reset_less=True)
        c_inner, c_last = Signal.like(self.c_end), Signal.like(self.c_end)  # without and with the bias
        # Read a stage ahead of its use: whether there are positions decides whether all these stages move.
        rows_1, lanes_1 = Signal.like(rule.rows, name="rows_1"), Signal.like(rule.lanes, name="lanes_1")
        # Nor can it wait until the rule has been applied: both answers are there, whether all is visited or not.
        nothing_2, nothing_stored_2 = Signal(reset_less=True), Signal(reset_less=True)
        positions_1 = Cat(Mux(row, lanes_1, 0) for row in rows_1)
        count_2, void_2 = Signal.like(taps.count, name="count_2", reset_less=True), Signal(reset_less=True)
        m.d.sync += c_inner.eq(self.c_end - 1)
        m.d.comb += [
            c_last.eq(Mux(self.bias & (walk_1.tap != self.bias_tap), c_inner, self.c_end)),
            taps.count_tap.eq(walker.info.tap),
            rule.mask.eq(buffer.mask),
            rule.rows.eq(rows_2),
            rule.lanes.eq(lanes_2),
            rule.everything.eq((exploration.explored & explores) | regenerates),
            valid_k_1.eq(clip_valid(self.k_end, walk_1.kb, cfg.block_k)),
            valid_c_1.eq(clip_valid(c_last, walk_1.cb, cfg.block_c)),
            rows_1.eq(valid_rows(cfg, valid_k_1)),
            lanes_1.eq(valid_lanes(cfg, valid_c_1, self.phase == Phase.BW, walk_1.group, self.wide)),
        ]
        with m.If(advance):
            m.d.sync += [
                valid_1.eq(walker.valid),
                walk_1.eq(walker.info),
                valid_2.eq(valid_1),
                *(walk_2[name].eq(walk_1[name]) for name, _ in word_layout(cfg)),
                rows_2.eq(rows_1),
                lanes_2.eq(lanes_1),
                nothing_2.eq(~positions_1.any()),
                nothing_stored_2.eq(~(positions_1 & buffer.mask_next).any()),
                record_last_2.eq(walk_1.record_last),
                count_2.eq(taps.count),
                void_2.eq(taps.count == 0),
                valid_c_2.eq(valid_c_1),
            ]
        word, end = Signal(word_layout(cfg)), Signal(end_layout(cfg))
        m.d.comb += [
            end.void.eq(void_2),
            end.record_last.eq(record_last_2),
            end.next_explored.eq(exploration.explored_next & explores),
            end.next_count.eq(total(Mux(row, valid_c_2, 0) for row in rows_2)),  # no multiplier for so few rows
            word.eq(walk_2),
            decoder.positions.eq(count_2),
            decoder.valid.eq(valid_2),
            decoder.visit.eq(rule.visit),
            decoder.none.eq(walk_2.null | (void_2 & ~updating) | Mux(rule.everything, nothing_2, nothing_stored_2)),
            decoder.mask.eq(buffer.mask),
            decoder.offset.eq(buffer.base + buffer.offset),
            decoder.skip.eq((self.phase == Phase.BW) & ~walk_2.final),
            decoder.tags.eq(word.as_value()),
        ]
        with m.If(self.phase == Phase.WU):
            m.d.comb += word_end(cfg, word).eq(end)
