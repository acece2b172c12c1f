"""Controller of a row of the dense build: every valid weight in turn, found by its address.

    walker -> bounds of the word -> counters (k, c, position) -> value read, rounding -> operation
                                                              -> addresses, hazard distance -^

No masks, so nothing is decoded or counted: the valid positions of a word are a rectangle, and a value lies where the
numbers of its word and bit say, in any order of words. The law is that of `rtl.row_controller`, so one golden
model serves both builds; this pipeline is shorter, and waits at the start instead:

    first operation or scan cycle: START_LATENCY cycles after compute_start
    one cycle an operation, one cycle a word without valid positions, none in between
    done: START_LATENCY + sum over words of max(1, n * U) cycles after compute_start
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch import trace
from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.box_walk import AXES, PITCH_BITS
from rtl.csb_decoder import bit_bits
from rtl.exploration import clip_valid, group_bits
from rtl.row_control import Op
from rtl.row_controller import ERROR_VALUE, RowController
from rtl.row_coordinates import (
    COUNT_BITS,
    LOG2_BLOCKS_BITS,
    WORD_COUNT_BITS,
    base_bits,
    cb_bits,
    channel_bits,
    kb_bits,
    record_bits,
    slot_bits,
    word_bits,
)
from rtl.row_trace import trace_record
from rtl.row_walker import RowWalker, connect_list
from rtl.tap_table import TAP_BITS, TapMemory, box_layout, position_bits
from rtl.visit_address import Visit, visit_address
from rtl.weight_buffer import WeightBuffer, place_bits


class DenseController(wiring.Component):
    """The row controller of a dense build; see the module docstring for the timing law.

    Args:
        cfg: widths and sizes; with `cfg.trace` the port `trace` exists.

    Ports: those of `rtl.row_controller.RowController` with the same names and meanings, without load_is_value,
    load_before, load_offsets, salt, scale_t, dense_mode, step, log2_period, visit_has_value, visit_next_explored and
    visit_next_count, and with these differences:
        load_valid: a value beat. load_first: the first beat of a record.
        entry_record_base: number, in the bank, of the first word of record 0 of its segment.
        record_words (for mask_beats): words that a record takes in the bank, `Config.dense_words`.
        load_error: 0, or 2: no room for a value beat or an entry.

    Raises:
        ValueError: cfg.sparse is True.
    """

    START_LATENCY = RowController.START_LATENCY
    #: Cycles from the walker's start to the operation: walker, bounds, counters, value, rounding.
    LATENCY = RowWalker.LATENCY + 2 + WeightBuffer.VALUE_LATENCY + 1
    VISIT_LEAD = WeightBuffer.VALUE_LATENCY + 1
    DELTA_LEAD = 1

    def __init__(self, cfg: Config) -> None:
        if cfg.sparse:
            raise ValueError("DenseController needs sparse = False, not True")
        self._cfg = cfg
        ports = {
            "load_start": In(1),
            "load_exact": In(1),
            "load_valid": In(1),
            "load_data": In(cfg.beat_bits),
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
            "entry_record_base": In(base_bits(cfg)),
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
            "record_words": In(record_bits(cfg)),
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
            "visit_delta": Out(signed(cfg.delta_bits)),
            "visit_word_last": Out(1),
            "visit_record_last": Out(1),
        }
        if cfg.trace:
            ports["trace"] = Out(trace.BITS)
        self._block_k, self._block_c = log2_exact(cfg.block_k, "block_k"), log2_exact(cfg.block_c, "block_c")
        #: A word with its valid positions: rows 0..k_last, columns c_first..c_last of its block.
        self._word = data.StructLayout(
            {
                "slot": slot_bits(cfg),
                "channel": channel_bits(cfg),
                "place": place_bits(cfg),
                "tap": TAP_BITS,
                "k_last": max(1, self._block_k),
                "c_first": max(1, self._block_c),
                "c_last": max(1, self._block_c),
                "empty": 1,
                "record_last": 1,
                "final": 1,
                "null": 1,
            }
        )
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = WeightBuffer(self._cfg)
        m.submodules.walker = walker = RowWalker(self._cfg)
        m.submodules.taps = taps = TapMemory(self._cfg)
        self._load(m, buffer, walker)
        self._operate(m, buffer, taps, self._count(m, taps, self._bound(m, walker, taps)))
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
            buffer.value_we.eq(beat),
            buffer.load_data.eq(self.load_data),
            walker.record_push.eq(beat & self.load_first),
        ]
        connect_list(m, self, walker)
        pushed = walker.record_push | walker.group_push
        with m.If(self.load_start):
            m.d.sync += self.load_error.eq(0)
        with m.Elif((beat & buffer.value_full) | (pushed & walker.full)):
            m.d.sync += self.load_error.eq(ERROR_VALUE)

    def _bound(self, m: Module, walker: RowWalker, taps: TapMemory) -> tuple[Signal, Signal, Signal]:
        """The word that follows the one in the counters, with its bounds. Returns: valid, word, take."""
        cfg = self._cfg
        # One bit waits in place of the whole pipeline.
        starts = Signal(self.START_LATENCY - self.LATENCY)
        m.d.sync += starts.eq(Cat(self.compute_start, starts))
        valid, take, ready = Signal(), Signal(name="take"), Signal()
        word, info = Signal(self._word, reset_less=True), walker.info
        m.d.comb += [
            ready.eq(~valid | take),
            walker.start.eq(starts[-1]),
            walker.phase.eq(self.phase),
            walker.words.eq(self.words),
            walker.mask_beats.eq(self.record_words),
            walker.block_rows.eq(self.block_rows),
            walker.k0.eq(self.k0),
            walker.log2_blocks.eq(self.log2_blocks),
            walker.taps.eq(self.taps),
            walker.advance.eq(ready),
            taps.bank.eq(self.tap_bank),
            taps.tap_we.eq(self.tap_we),
            taps.tap.eq(self.tap),
            taps.box_in.eq(self.box),
            taps.count_in.eq(self.count),
            taps.count_en.eq(ready),
            taps.count_tap.eq(info.tap),
        ]
        c_inner, c_last = Signal.like(self.c_end), Signal.like(self.c_end)  # without and with the bias
        m.d.sync += c_inner.eq(self.c_end - 1)
        m.d.comb += c_last.eq(Mux(self.bias & (info.tap != self.bias_tap), c_inner, self.c_end))
        rows, columns = Signal(range(cfg.block_k + 1)), Signal(range(cfg.block_c + 1))
        first, end = Signal(range(cfg.block_c + 1)), Signal(range(cfg.block_c + 1))
        m.d.comb += [
            rows.eq(clip_valid(self.k_end, info.kb, cfg.block_k)),
            columns.eq(clip_valid(c_last, info.cb, cfg.block_c)),
            end.eq(columns),
        ]
        if cfg.groups_per_word > 1:
            lanes = log2_exact(cfg.lane_group, "lane_group")
            past = Signal(range(cfg.block_c + 1))
            m.d.comb += past.eq((info.group + 1 + self.wide) << lanes)
            with m.If(self.phase == Phase.BW):
                m.d.comb += [first.eq(info.group << lanes), end.eq(Mux(past < columns, past, columns))]
        with m.If(ready):
            m.d.sync += [
                valid.eq(walker.valid),
                word.slot.eq(info.slot),
                word.channel.eq(info.channel),
                word.place.eq(walker.place),
                word.tap.eq(info.tap),
                word.k_last.eq(rows - 1),
                word.c_first.eq(first),
                word.c_last.eq(end - 1),
                word.empty.eq(info.null | (rows == 0) | (end <= first)),
                word.record_last.eq(info.record_last),
                word.final.eq(info.final),
                word.null.eq(info.null),
            ]
        return valid, word, take

    def _count(self, m: Module, taps: TapMemory, source: tuple[Signal, Signal, Signal]) -> dict[str, Value]:
        """Counters: a visit a cycle for each position, rows of the block outermost. Returns: stage 0."""
        valid, following, take = source
        busy, word = Signal(), Signal(self._word, reset_less=True)
        k, c = (Signal(shape, reset_less=True) for shape in (self._word["k_last"].shape, self._word["c_last"].shape))
        position, count = Signal(position_bits(self._cfg), reset_less=True), Signal.like(taps.count, reset_less=True)
        void, empty = Signal(reset_less=True), Signal()
        first, last, row_end, word_end = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            first.eq(position == 0),
            empty.eq(word.empty | (void & (self.phase != Phase.WU))),
            last.eq(void | (position + 1 == count)),
            row_end.eq(c == word.c_last),
            word_end.eq(last & row_end & (k == word.k_last)),
            take.eq(~busy | empty | word_end),
        ]
        with m.If(take):
            m.d.sync += [count.eq(taps.count), void.eq(taps.count == 0)]
            m.d.sync += [busy.eq(valid), word.eq(following), k.eq(0), c.eq(following.c_first), position.eq(0)]
        with m.Elif(last):
            m.d.sync += [position.eq(0), c.eq(Mux(row_end, word.c_first, c + 1)), k.eq(k + row_end)]
        with m.Else():
            m.d.sync += position.eq(position + 1)
        issue = busy & ~empty
        return {
            "issue": issue,
            "first": issue & first,
            "last": issue & last,
            "void": issue & void,
            "scan": busy & empty & ~word.null,
            "null": busy & word.null,
            "word_last": busy & take & ~word.null,
            "final": busy & take & word.final,
            "k": k[: self._block_k],
            "c": c[: self._block_c],
            "record_last": word.record_last,
            "slot": word.slot,
            "channel": word.channel,
            "place": word.place,
            "tap": word.tap,
        }

    def _operate(self, m: Module, buffer: WeightBuffer, taps: TapMemory, visit: dict[str, Value]) -> None:
        """From the counters (stage 0) to the operation (stage 3, the output registers)."""
        cfg = self._cfg
        updating = Signal()
        m.d.comb += updating.eq(self.phase == Phase.WU)

        def until(last: int, source: Value, name: str, since: int = 0, *, flag: bool = True) -> list[Value]:
            """`source` at stage `since` and its copies up to stage `last`, indexed by stage."""
            stages = [source] * (since + 1)
            for stage in range(since + 1, last + 1):
                copy = Signal(source.shape(), name=f"{name}_{stage}", reset_less=not flag)
                m.d.sync += copy.eq(stages[-1])
                stages.append(copy)
            return stages

        names = ("issue", "first", "last", "void", "scan", "null", "word_last")
        flags = {name: until(2, visit[name], name) for name in names}
        issue, first, last = flags["issue"], flags["first"], flags["last"]
        final = until(3, visit["final"], "final")

        m.d.comb += [
            buffer.exact.eq(updating),
            buffer.value_en.eq(visit["first"]),
            buffer.value_address.eq(Cat(visit["c"], visit["k"], visit["place"])),
        ]
        with m.If(first[2]):
            m.d.sync += self.value.eq(Mux(updating, 0, buffer.value[: cfg.operand_bits]))

        begins = Visit(*(visit[name] for name in ("first", "k", "c", "slot", "channel", "tap")))
        gather, psum, half_1 = visit_address(m, cfg, self, taps, begins, first[1], issue[1])
        half = until(2, half_1, "half", since=1, flag=False)[2]

        # The hazard: how long ago did a MAC touch this partial sum?
        acts = Signal()
        m.d.comb += acts.eq(issue[2] & ~flags["void"][2])
        bypass, valid, address = Signal(2), acts & ~updating, psum
        near = []
        for distance in range(1, 4):
            valid_d, address_d = Signal(name=f"mac_{distance}"), Signal.like(psum, name=f"mac_psum_{distance}")
            m.d.sync += [valid_d.eq(valid), address_d.eq(address)]
            valid, address = valid_d, address_d
            near.append(valid_d & (address_d == psum))
        m.d.comb += bypass.eq(Mux(near[0], 1, Mux(near[1], 2, Mux(near[2], 3, 0))))

        m.d.sync += [
            self.op.eq(Mux(acts, Mux(updating, Op.DOT, Op.MAC), Op.NOP)),
            self.is_busy.eq(acts),
            self.is_scan.eq(flags["scan"][2] | flags["void"][2]),
            self.dot_first.eq(first[2] & updating),
            self.dot_last.eq(last[2] & updating),
            self.visit_valid.eq(last[2] & updating),
            self.visit_void.eq(flags["void"][2]),
            self.visit_word_last.eq(flags["word_last"][2] & updating),
            self.gather_addr.eq(gather),
            self.psum_addr.eq(psum),
            self.half.eq(half),
            self.bypass.eq(Mux(updating, 0, bypass)),
        ]
        m.d.comb += [
            self.visit_bit.eq(Cat(visit["c"], visit["k"])),
            self.visit_record_last.eq(visit["record_last"]),
            self.visit_delta.eq(buffer.value),
        ]

        # A row without entries is done where the first operation would have been.
        with m.If(self.compute_start):
            m.d.sync += self.done.eq(0)
        with m.Elif((final[3] & ~self.done) | flags["null"][2]):
            m.d.sync += self.done.eq(1)
