"""CSB encoder of a row: turns kept weights into records, in the update buffer, ready to be drained.

Weights are updated in stored order, so new masks, values and counts simply append: no sorting, no
pointers. A row encodes its own records alone, in one bank, while the other one is drained.

Unused lanes must read as zero, and no register collects a beat: the first word (value) of a beat
writes the whole beat, zeros beside it, and each later one writes its own lane.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.ram import ram
from rtl.weight_update import word_count_bits

COUNT_BITS = 24
INFO_BITS = 16
LOG2_POSITIONS_BITS = 4
COUNTS = ("kept", "seen", "adopted", "evicted", "saturated")


def info_depth(cfg: Config) -> int:
    """Records of a bank: each takes at least one mask beat (without masks, one value beat)."""
    return cfg.mask_beats if cfg.sparse else cfg.value_beats


class _Appender:
    """Lane-granular appending to one bank of a beat memory: pointer, room, registered write.

    A write presented in cycle t reaches the memory at the end of cycle t + 1. `close` ends a beat.
    """

    def __init__(
        self,
        m: Module,
        name: str,
        depth: int,
        lanes: int,
        lane_bits: int,
        *,
        start: Signal,
        bank: Signal,
        push: Signal,
        word: object,
        close: object,
    ) -> None:
        m.submodules[name] = memory = ram(lanes * lane_bits, 2 * depth)
        write = memory.write_port(granularity=lane_bits)
        self.read = memory.read_port()
        self.full = Signal(name=f"{name}_full")
        beat = Signal(range(depth + 1), name=f"{name}_beat")
        lane = Signal(range(max(2, lanes)), name=f"{name}_lane")
        we, word_1 = Signal(name=f"{name}_we"), Signal(lane_bits, name=f"{name}_word", reset_less=True)
        place = Signal(range(2 * depth), name=f"{name}_place", reset_less=True)
        lane_1 = Signal.like(lane, name=f"{name}_lane_1", reset_less=True)
        next_lane = Signal(range(lanes + 1), name=f"{name}_next_lane")
        first, beside = Signal(name=f"{name}_first"), Signal(lane_bits, name=f"{name}_beside")
        taken = Signal(name=f"{name}_taken")
        beat_bits = log2_exact(depth, name)
        m.d.comb += [
            self.full.eq(beat[beat_bits]),
            taken.eq(push & ~self.full),
            next_lane.eq(lane + taken),
            first.eq(lane_1 == 0),
            beside.eq(Mux(first, 0, word_1)),
            write.en.eq(Cat(we & (first | (lane_1 == i)) for i in range(lanes))),
            write.addr.eq(place),
            write.data.eq(Cat(word_1, *[beside] * (lanes - 1))),
        ]
        m.d.sync += we.eq(taken & ~start)
        with m.If(taken):
            m.d.sync += [word_1.eq(word), place.eq(Cat(beat[:beat_bits], bank)), lane_1.eq(lane)]
        with m.If(start):
            m.d.sync += [beat.eq(0), lane.eq(0)]
        with m.Elif((next_lane == lanes) | (close & next_lane.any())):
            m.d.sync += [beat.eq(beat + 1), lane.eq(0)]
        with m.Else():
            m.d.sync += lane.eq(next_lane)


class CsbEncoder(wiring.Component):
    """Update buffer of a row: records of the working set in compute are written, the last one's are read.

    A record is its mask beats, its values from a fresh beat on, and its info: nnz and cycles_next (the sum over
    words of max(1, n << log2_positions), n = next_explored ? next_count : kept; at most 65535). It has
    ceil(words / masks_per_beat) mask beats, lanes
    without a word are zero; so a command's mask_beats must be exactly that. Without `sparse` there
    are no masks.

    Latency: an input in cycle t is counted in cycle t + 1 and can be drained from cycle t + `LATENCY` on
    (drain_start or drain_next in that cycle). One input a cycle, no stall. Drain: `drain_nnz` and
    `drain_cycles_next` are those of the next record one cycle after drain_record_next, and those of the first
    record one cycle after drain_start; `drain_data` comes one cycle after drain_next and stays until the next.

    Args:
        cfg: widths and depths.

    Ports:
        start: a working set begins: empty the bank, clear counts and error. Inputs of that cycle are lost.
        bank: bank written; the drain reads the other one.
        log2_positions: cycles of a visit, their logarithm, rounded up; constant from start to the last input.
        valid, keep, candidate, bit, word_last, record_last, next_explored, next_count, adopted, evicted,
        saturated: of `WeightUpdate`. record_last acts with word_last only.
        error: mask words, values or records did not fit; stays until start. What did not fit is
        dropped, what came before is kept; counts and info go on.
        count_kept, count_seen, count_adopted, count_evicted, count_saturated: of the working set, 24 bits.
        drain_start: back to the first record. drain_next: read a beat of drain_kind (0 mask, 1 value) and
        move on in it. drain_record_next: info of the next record.
    """

    LATENCY = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "bank": In(1),
                "log2_positions": In(LOG2_POSITIONS_BITS),
                "valid": In(1),
                "keep": In(1),
                "candidate": In(signed(cfg.delta_bits)),
                "bit": In(max(1, log2_exact(cfg.mask_bits, "mask_bits"))),
                "word_last": In(1),
                "record_last": In(1),
                "next_explored": In(1),
                "next_count": In(word_count_bits(cfg)),
                "adopted": In(1),
                "evicted": In(1),
                "saturated": In(1),
                "error": Out(1),
                **{f"count_{name}": Out(COUNT_BITS) for name in COUNTS},
                "drain_start": In(1),
                "drain_kind": In(1),
                "drain_next": In(1),
                "drain_record_next": In(1),
                "drain_data": Out(cfg.beat_bits),
                "drain_nnz": Out(INFO_BITS),
                "drain_cycles_next": Out(INFO_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        keep, record_end = Signal(), Signal()
        m.d.comb += [keep.eq(self.valid & self.keep), record_end.eq(self.word_last & self.record_last)]

        # What the current word and record have gathered so far.
        word_kept, word_kept_now = Signal(word_count_bits(cfg)), Signal(word_count_bits(cfg))
        nnz, nnz_now = Signal(INFO_BITS), Signal(INFO_BITS)
        cycles, cycles_now, cycles_sum = Signal(INFO_BITS), Signal(INFO_BITS), Signal(INFO_BITS + 1)
        visits = Signal(word_count_bits(cfg))  # of this word in the next update
        m.d.comb += [
            word_kept_now.eq(word_kept + keep),
            nnz_now.eq(nnz + keep),
            visits.eq(Mux(self.next_explored, self.next_count, word_kept_now)),
            cycles_sum.eq(cycles + Mux(visits.any(), visits << self.log2_positions, 1)),
            cycles_now.eq(cycles_sum[:INFO_BITS] | cycles_sum[-1].replicate(INFO_BITS)),
        ]
        m.d.sync += [word_kept.eq(word_kept_now), nnz.eq(nnz_now)]
        with m.If(self.word_last):
            m.d.sync += [word_kept.eq(0), cycles.eq(cycles_now)]
        with m.If(record_end):
            m.d.sync += [nnz.eq(0), cycles.eq(0)]

        info = data.StructLayout({"nnz": INFO_BITS, "cycles_next": INFO_BITS})
        common = {"start": self.start, "bank": self.bank}
        infos = _Appender(
            m, "infos", info_depth(cfg), 1, info.size, push=record_end, word=Cat(nnz_now, cycles_now), close=0, **common
        )
        values = _Appender(
            m,
            "values",
            cfg.value_beats,
            cfg.values_per_beat,
            cfg.delta_bits,
            push=keep,
            word=self.candidate,
            close=record_end,
            **common,
        )
        overflow = (record_end & infos.full) | (keep & values.full)
        if cfg.sparse:
            mask, mask_now = Signal(cfg.mask_bits), Signal(cfg.mask_bits)
            m.d.comb += mask_now.eq(mask | (keep << self.bit))
            m.d.sync += mask.eq(Mux(self.word_last | self.start, 0, mask_now))
            masks = _Appender(
                m,
                "masks",
                cfg.mask_beats,
                cfg.masks_per_beat,
                cfg.mask_bits,
                push=self.word_last,
                word=mask_now,
                close=record_end,
                **common,
            )
            overflow = overflow | (self.word_last & masks.full)

        with m.If(overflow):
            m.d.sync += self.error.eq(1)
        counts = [getattr(self, f"count_{name}") for name in COUNTS]
        for count, event in zip(counts, (keep, 1, self.adopted, self.evicted, self.saturated), strict=True):
            m.d.sync += count.eq(count + (self.valid & event))
        with m.If(self.start):
            m.d.sync += [r.eq(0) for r in (word_kept, nnz, cycles, self.error, *counts)]

        # Drain: the other bank, from pointers that only move on.
        other = Signal()
        m.d.comb += other.eq(~self.bank)
        record, next_record = Signal(range(info_depth(cfg))), Signal(range(info_depth(cfg)))
        m.d.comb += [
            next_record.eq(Mux(self.drain_start, 0, record + self.drain_record_next)),
            infos.read.addr.eq(Cat(next_record, other)),
            Cat(self.drain_nnz, self.drain_cycles_next).eq(infos.read.data),
        ]
        m.d.sync += record.eq(next_record)
        kind = Signal(reset_less=True)
        with m.If(self.drain_next):
            m.d.sync += kind.eq(self.drain_kind)
        memories = [(1, values, cfg.value_beats), *([(0, masks, cfg.mask_beats)] if cfg.sparse else [])]
        for chosen, appender, depth in memories:
            taken, pointer = Signal(name=f"drains{chosen}"), Signal(range(depth), name=f"drain_beat{chosen}")
            m.d.comb += [
                taken.eq(self.drain_next & (self.drain_kind == chosen)),
                appender.read.en.eq(taken),
                appender.read.addr.eq(Cat(pointer, other)),
            ]
            m.d.sync += pointer.eq(Mux(self.drain_start, 0, pointer + taken))
        m.d.comb += self.drain_data.eq(Mux(kind, values.read.data, masks.read.data) if cfg.sparse else values.read.data)
        return m
