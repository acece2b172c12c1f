"""Lane tally: nonzero counts of the lane groups of a region, counted while the region is written.

The backward phase shares lane groups out among the rows and needs their counts in the region's
header. Here they are counted from the mask words on their way to memory: up to four words a cycle,
a popcount for each of their lane groups, added to a memory of counters whose entries cover as many
word positions.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config
from rtl.reduction import total

COUNT_BITS = 16
MOST_WORDS = 4


def words_per_cycle(cfg: Config) -> int:
    """Mask words counted in a cycle; a power of two that divides those of a beat."""
    return min(MOST_WORDS, cfg.masks_per_beat)


class LaneTally(wiring.Component):
    """Counters of `groups_per_word` lane groups for each word position of a record.

    A mask beat given with `load` in cycle t is counted in cycles t+1 to t+n, n = ceil(count / words_per_cycle);
    the next may be loaded in cycle t + max(n, 1) or later. A word's counters may be counted again 2
    cycles later, so a record's first word follows that of the record before by 2 cycles or more. Counters are
    readable 2 cycles after their last word was counted. All beats of a record but its last are full. Counters of
    positions behind a record's last word mean nothing.

    Args:
        cfg: widths; there are gather_depth / block_c word positions (what a gather bank can serve).

    Ports:
        load, beat, count: mask beat and how many of its words to count (0 to masks_per_beat).
        record_first: this beat starts a record (word position 0). region_first: it belongs to the first
        record of a region, whose counts replace those of the region before.
        read_word: word position; read_counts: its counters one cycle later (only while nothing is counted),
        lane group g at bits [16 g, 16 g + 16).
    """

    READ_LATENCY = 1

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self.depth = max(2, cfg.gather_depth // cfg.block_c)
        super().__init__(
            {
                "load": In(1),
                "beat": In(cfg.beat_bits),
                "count": In(range(cfg.masks_per_beat + 1)),
                "record_first": In(1),
                "region_first": In(1),
                "read_word": In(range(self.depth)),
                "read_counts": Out(cfg.groups_per_word * COUNT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        at_once = words_per_cycle(cfg)
        shift = at_once.bit_length() - 1
        word_counts = cfg.groups_per_word * COUNT_BITS
        lines = max(2, -(-self.depth // at_once))
        m.submodules.counters = memory = Memory(shape=at_once * word_counts, depth=lines, init=[])
        read, write = memory.read_port(), memory.write_port()

        beat = Signal(cfg.beat_bits, reset_less=True)
        left = Signal(range(cfg.masks_per_beat + 1))
        line = Signal(range(lines))
        first = Signal()
        with m.If(self.load):
            m.d.sync += [beat.eq(self.beat), left.eq(self.count), first.eq(self.region_first)]
            with m.If(self.record_first):
                m.d.sync += line.eq(0)
            with m.Elif(left.any()):
                m.d.sync += line.eq(line + 1)
        with m.Elif(left.any()):
            m.d.sync += [
                beat.eq(beat >> at_once * cfg.mask_bits),
                left.eq(Mux(left > at_once, left - at_once, 0)),
                line.eq(line + 1),
            ]

        # Cycle t+1: read the counters and count the ones; t+2: write the sums back.
        counting, read_lane = Signal(), Signal(range(max(2, at_once)))
        m.d.sync += read_lane.eq(self.read_word[:shift])
        m.d.comb += [
            counting.eq(left.any()),
            read.en.eq(1),
            read.addr.eq(Mux(counting, line, self.read_word >> shift)),
            self.read_counts.eq(read.data.word_select(read_lane, word_counts)),
        ]
        counted = Signal()
        counted_line = Signal.like(line)
        counted_first = Signal()
        m.d.sync += [counted.eq(counting), counted_line.eq(line), counted_first.eq(first)]
        sums = []
        for entry in range(at_once * cfg.groups_per_word):
            word, group = divmod(entry, cfg.groups_per_word)
            lanes = (
                beat[word * cfg.mask_bits + k * cfg.block_c + group * cfg.lane_group + lane]
                for k in range(cfg.block_k)
                for lane in range(cfg.lane_group)
            )
            number = Signal(range(cfg.block_k * cfg.lane_group + 1), name=f"number{entry}")
            added = Signal(COUNT_BITS, name=f"added{entry}")
            before = read.data.word_select(entry, COUNT_BITS)
            m.d.sync += number.eq(Mux(left > word, total(lanes), 0))  # behind the record's words: anything
            m.d.comb += added.eq(Mux(counted_first, 0, before) + number)
            sums.append(added)
        m.d.comb += [write.en.eq(counted), write.addr.eq(counted_line), write.data.eq(Cat(*sums))]
        return m
