"""Walker of a row: its list of entries, and the mask words they stand for, in order, one a cycle.

In FW and WU an entry is a record (block row) that the row owns, and its words (taps, and blocks within a tap) are
walked one after the other; where only stored weights are wanted (FW, once the initial weights have vanished), words
that hold none are passed over: flags beside each mask beat say which do, and the walk jumps from flag to flag. In BW
an entry is a lane group, and its words are those of one block column, record by record and tap by tap: the transpose,
by walking the other way. Entries are collected while a working set loads, in one of two banks, and walked while it
computes.

Order and addresses: docs/architecture.md, section 4. In a dense build every word takes the same room, so its place is
all that is needed of it.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.exploration import group_bits
from rtl.payload import payload
from rtl.ram import ram
from rtl.reduction import some
from rtl.row_coordinates import (
    COUNT_BITS,
    LOG2_BLOCKS_BITS,
    WORD_COUNT_BITS,
    base_bits,
    cb_bits,
    channel_bits,
    entry_depth,
    kb_bits,
    record_bits,
    slot_bits,
    walk_layout,
    word_bits,
)
from rtl.tap_table import TAP_BITS
from rtl.weight_buffer import lane_bits


class RowWalker(wiring.Component):
    """Entry list and address sequence of a row.

    Latency: the first word is at the outputs `LATENCY` cycles after `start`, a row without entries shows a null
    word there. Of a mask beat whose words are all to be passed over, the first is walked. A new word every cycle
    with `advance` set, which must be high in those first cycles; outputs are registered and stay while it is low.

    Args:
        cfg: sizes. The list holds `entry_depth` entries.

    Ports, load side (writes the list of the other bank):
        bank: list that is walked. load_start: empty the other one.
        record_push with record_slot, record_channel (gathered channel of word 0), record_kb, record_cb (block of
        word 0): a record that the row owns.
        group_push with group_slot, group_word (number in its record), group_group (in its word), group_base (mask
        beat, dense: word, of record 0 of its segment), group_cb: a lane group that it owns. Not in one cycle with
        record_push.
        full: combinational, the list has no room; a push is dropped.
        mask_push, mask_words (sparse): a mask beat that the row takes, and which of its words hold a weight. The beats
        of its records come in the order of the records. Dropped if `cfg.mask_beats` are there.
    Ports, compute side (all but start and advance constant from start to the final word):
        start: begin. phase: FW and WU walk records, BW lane groups. words: mask words of a record, at least 1.
        mask_beats: mask beats that these take, dense: words that a record takes in the bank. block_rows: records of a
        segment, at least 1. k0: first output channel of record 0 (BW). log2_blocks: blocks of a tap; taps: of the
        filter (BW).
        every (sparse): FW and WU walk all words.
        valid, info: a mask word, see `walk_layout`. Sparse: beat, lane: where it is; dense: place: its number in the
        bank.
    """

    LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._beat_bits = base_bits(cfg)
        self._record = data.StructLayout({"kb": kb_bits(cfg), "channel": channel_bits(cfg)})
        self._group = data.StructLayout({"word": word_bits(cfg), "group": group_bits(cfg), "base": self._beat_bits})
        place = (
            {"beat": Out(self._beat_bits), "lane": Out(lane_bits(cfg))}
            if cfg.sparse
            else {"place": Out(self._beat_bits)}
        )
        flags = {"mask_push": In(1), "mask_words": In(cfg.masks_per_beat), "every": In(1)} if cfg.sparse else {}
        super().__init__(
            {
                "bank": In(1),
                "load_start": In(1),
                "record_push": In(1),
                "record_slot": In(slot_bits(cfg)),
                "record_channel": In(channel_bits(cfg)),
                "record_kb": In(kb_bits(cfg)),
                "record_cb": In(cb_bits(cfg)),
                "group_push": In(1),
                "group_slot": In(slot_bits(cfg)),
                "group_word": In(word_bits(cfg)),
                "group_group": In(group_bits(cfg)),
                "group_base": In(self._beat_bits),
                "group_cb": In(cb_bits(cfg)),
                "full": Out(1),
                **flags,
                "start": In(1),
                "phase": In(2),
                "words": In(WORD_COUNT_BITS),
                "mask_beats": In(record_bits(cfg)),
                "block_rows": In(COUNT_BITS),
                "k0": In(COUNT_BITS),
                "log2_blocks": In(LOG2_BLOCKS_BITS),
                "taps": In(TAP_BITS),
                "advance": In(1),
                "valid": Out(1),
                **place,
                "info": Out(walk_layout(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        depth = entry_depth(cfg)
        m = Module()
        entry = data.StructLayout(
            {
                "slot": slot_bits(cfg),
                "cb": cb_bits(cfg),
                "of": data.UnionLayout({"record": self._record, "group": self._group}),
            }
        )
        m.submodules.entries = memory = ram(entry.size, 2 * depth)
        write, read = memory.write_port(), memory.read_port()

        # Load side.
        counts = [Signal(range(depth + 1), name=f"count_{bank}") for bank in range(2)]
        loaded, new = Signal.like(counts[0], name="loaded"), Signal(entry)
        m.d.comb += [
            loaded.eq(Mux(self.bank, counts[0], counts[1])),
            self.full.eq(loaded[-1]),
            write.en.eq((self.record_push | self.group_push) & ~self.full),
            write.addr.eq(Cat(loaded[:-1], ~self.bank)),
            write.data.eq(new.as_value()),
            new.slot.eq(Mux(self.group_push, self.group_slot, self.record_slot)),
            new.cb.eq(Mux(self.group_push, self.group_cb, self.record_cb)),
        ]
        with m.If(self.group_push):
            m.d.comb += [
                new.of.group.word.eq(self.group_word),
                new.of.group.group.eq(self.group_group),
                new.of.group.base.eq(self.group_base),
            ]
        with m.Else():
            m.d.comb += [new.of.record.kb.eq(self.record_kb), new.of.record.channel.eq(self.record_channel)]
        for bank, count in enumerate(counts):
            with m.If(self.bank != bank):
                m.d.sync += count.eq(Mux(self.load_start, 0, count + write.en))

        # Compute side. The entry under way is always what the memory shows: the address of the next cycle's
        # entry is known in this one. Whether the walk steps, known late, decides on the read alone, not on its address.
        active, row_empty = Signal(), Signal()
        pointer, next_pointer = Signal(range(depth), reset_less=True), Signal(range(depth))
        inner = Signal(
            COUNT_BITS, reset_less=True
        )  # FW, WU: mask beat (dense: word) of the record; BW: record of the segment
        tap = Signal(TAP_BITS, reset_less=True)  # BW: tap of the record, words before it
        tap_word = Signal(WORD_COUNT_BITS, reset_less=True)
        before = Signal(
            self._beat_bits, reset_less=True
        )  # mask beats (dense: words) before that one (BW: before that record)
        inner_done, inner_last, entry_last, step, leave = Signal(), Signal(), Signal(), Signal(), Signal()
        inner_count, inner_next = Signal(COUNT_BITS), Signal(COUNT_BITS)
        count, backward, now = Signal.like(counts[0], name="walked"), Signal(), Signal(entry)
        m.d.comb += [
            count.eq(Mux(self.bank, counts[1], counts[0])),
            row_empty.eq(count == 0),
            now.as_value().eq(read.data),
            inner_count.eq(Mux(self.phase == Phase.BW, self.block_rows, self.mask_beats if cfg.sparse else self.words)),
            inner_next.eq(Mux(inner_last, 0, inner + 1)),
            entry_last.eq(row_empty | (pointer + 1 == count)),
            step.eq(active & self.advance),
            leave.eq(step & ((inner_done & inner_last) | row_empty)),
            next_pointer.eq(Mux(self.start, 0, pointer + 1)),
            read.addr.eq(Cat(next_pointer, self.bank)),
            read.en.eq(self.start | leave),
        ]
        m.d.sync += backward.eq(self.phase == Phase.BW)
        with m.If(read.en):
            m.d.sync += pointer.eq(next_pointer)
        tap_last = Signal()
        m.d.comb += tap_last.eq((tap + 1 == self.taps) if cfg.maps else 1)
        with m.If(step & backward & cfg.maps):
            m.d.sync += [
                tap.eq(Mux(tap_last, 0, tap + 1)),
                tap_word.eq(Mux(tap_last, 0, tap_word + (1 << self.log2_blocks)[:WORD_COUNT_BITS])),
            ]
        with m.If(step & inner_done):
            # Known before the words of a beat are, for it decides which of them are wanted.
            m.d.sync += [inner.eq(inner_next), inner_last.eq(inner_next + 1 == inner_count)]
            with m.If(backward):
                m.d.sync += before.eq(Mux(inner_last, 0, before + self.mask_beats))
            with m.Elif(Const(1) if cfg.sparse else inner_last):
                m.d.sync += before.eq(before + (1 if cfg.sparse else self.mask_beats))
        with m.If(leave & entry_last):
            m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(1), inner.eq(0), before.eq(0), tap.eq(0), tap_word.eq(0)]
            m.d.sync += inner_last.eq(inner_count == 1)
        number = Signal(word_bits(cfg))  # of the word in its record
        if cfg.sparse:
            lane, beat_done = self._lane(m, step, before, inner_last)
            m.d.comb += [inner_done.eq(Mux(backward, tap_last, beat_done)), number.eq(Cat(lane, inner))]
        else:
            m.d.comb += [inner_done.eq(~backward | tap_last), number.eq(inner)]

        record, group, info = now.of.record, now.of.group, payload(m, self.info, "walked_info")
        word, in_tap, of_tap = Signal(word_bits(cfg)), Signal(word_bits(cfg)), Signal(TAP_BITS)
        # A block is less than the blocks of a tap, so no bits meet: an adder less between memory and register.
        m.d.comb += [
            word.eq(Mux(backward, group.word | tap_word, number)),
            in_tap.eq(number & ((1 << self.log2_blocks) - 1)[: len(number)]),
            of_tap.eq(Mux(backward, tap, number >> self.log2_blocks)),
        ]
        places = ("beat", "lane") if cfg.sparse else ("place",)
        place = {name: payload(m, getattr(self, name), f"walked_{name}") for name in places}
        lanes = log2_exact(cfg.masks_per_beat, "masks_per_beat")
        block_k, block_c = log2_exact(cfg.block_k, "block_k"), log2_exact(cfg.block_c, "block_c")
        with m.If(self.advance):
            m.d.sync += self.valid.eq(active)
        with m.If(step):
            if cfg.sparse:
                behind = Mux(backward, group.base + word[lanes:], 0)
                m.d.sync += [place["beat"].eq(before + behind), place["lane"].eq(word[:lanes])]
            else:
                m.d.sync += place["place"].eq(before + Mux(backward, group.base, 0) + word)
            m.d.sync += [
                info.slot.eq(now.slot),
                info.kb.eq(Mux(backward, self.k0[block_k:], record.kb) + Mux(backward, inner, 0)),
                info.cb.eq(now.cb + Mux(backward, 0, in_tap)),
                info.channel.eq(Mux(backward, inner << block_k, record.channel + (in_tap << block_c))),
                info.tap.eq(of_tap),
                info.group.eq(group.group),
                info.record_last.eq(inner_done & inner_last & ~backward),
                info.final.eq(row_empty | (inner_done & inner_last & entry_last)),
                info.null.eq(row_empty),
            ]
        return m

    def _lane(self, m: Module, step: Value, before: Value, inner_last: Value) -> tuple[Value, Value]:
        """Walk within a mask beat (FW, WU): the lane of the word under way, and whether it is the beat's last."""
        cfg = self._cfg
        at_once = cfg.masks_per_beat
        m.submodules.flags = memory = ram(at_once, 2 * cfg.mask_beats)
        write, read = memory.write_port(), memory.read_port()
        counts = [Signal(range(cfg.mask_beats + 1), name=f"beats_{bank}") for bank in range(2)]
        loaded = Signal.like(counts[0], name="beats_loaded")
        m.d.comb += [
            loaded.eq(Mux(self.bank, counts[0], counts[1])),
            write.en.eq(self.mask_push & ~loaded[-1]),
            write.addr.eq(Cat(loaded[:-1], ~self.bank)),
            write.data.eq(self.mask_words),
        ]
        for bank, count in enumerate(counts):
            with m.If(self.bank != bank):
                m.d.sync += count.eq(Mux(self.load_start, 0, count + write.en))

        # As with the entries, the memory always shows the flags of the beat under way.
        begins, passed = Signal(), Signal(at_once)  # no lane of the beat is behind us; those that are
        wanted, rest_less, lowest = (Signal(at_once, name=name) for name in ("wanted", "rest_less", "lowest"))
        beat_done, next_beat = Signal(), Signal.like(before, name="next_beat")
        bits = log2_exact(at_once, "masks_per_beat")
        rest = self.words[:bits]  # words of the last beat of a record, 0 if it is full
        inside = Cat(~inner_last | (rest == 0) | (rest > lane) for lane in range(at_once))
        m.d.comb += [
            passed.eq(Cat(~begins & (self.lane >= lane) for lane in range(at_once))),
            wanted.eq(inside & (read.data | self.every.replicate(at_once)) & ~passed),
            rest_less.eq(wanted - 1),
            lowest.eq(wanted & ~rest_less),
            beat_done.eq(~some(wanted)[1]),
            next_beat.eq(Mux(self.start, 0, Mux(beat_done, before + 1, before))),
            read.addr.eq(Cat(next_beat[: len(loaded) - 1], self.bank)),
            read.en.eq(self.start | step),
        ]
        with m.If(step):
            m.d.sync += begins.eq(beat_done)
        with m.If(self.start):
            m.d.sync += begins.eq(1)
        lane = Cat(Cat(lowest[i] for i in range(at_once) if i >> n & 1).any() for n in range(bits))
        return lane, beat_done


def connect_list(m: Module, row: wiring.Component, walker: RowWalker) -> None:
    """Hand what a controller's load side has for the list on to its walker; all but `record_push` and the masks."""
    record = {f"record_{name}": getattr(row, f"load_{name}") for name in ("slot", "channel", "kb", "cb")}
    group = {f"group_{name}": getattr(row, f"entry_{name}") for name in ("slot", "word", "group", "cb")}
    rest = {
        "bank": row.bank,
        "load_start": row.load_start,
        "group_push": row.entry_valid & row.entry_mine,
        "group_base": row.entry_record_base,
    }
    m.d.comb += [getattr(walker, name).eq(value) for name, value in (record | group | rest).items()]
