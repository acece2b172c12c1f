"""Lane tally: nonzero counts of the lane groups of a region, counted while the region is written.

The backward phase shares lane groups out among the rows and needs their counts in the region's
header. Here they are counted from the mask words on their way to memory: up to four words a cycle (a
mask group, in which they come), a popcount for each of their lane groups, added to a memory of counters
whose entries cover as many blocks. A word is a block of one tap of the filter; all taps of a block are
counted in the same place.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.reduction import total

COUNT_BITS = 16
MOST_WORDS = 4


def words_per_cycle(cfg: Config) -> int:
    """Most mask words counted in a cycle, those of a mask group; a power of two that divides those of a beat."""
    return min(MOST_WORDS, cfg.masks_per_beat)


def log2_words(m: Module, cfg: Config, log2_blocks: Value) -> Signal:
    """Log2 of the words counted in a cycle: at most those of one tap, since each block has one place."""
    most = log2_exact(words_per_cycle(cfg), "words of a cycle")
    number = Signal(range(max(2, most + 1)))
    m.d.comb += number.eq(Mux(log2_blocks < most, log2_blocks, most))
    return number


class LaneTally(wiring.Component):
    """Counters of `groups_per_word` lane groups for each block of a tap.

    Word n of a record belongs to block n mod 2^log2_blocks. A mask group given with `load` in cycle t is counted in
    cycles t+1 to t+n, n = ceil(count / T), T = min(words_per_cycle, 2^log2_blocks); the next may be loaded in cycle t +
    max(n, 1) or later. Counters may be counted again in the next cycle: what is being written is handed on. They are
    readable 2 cycles after their last word was counted. All groups of a record but its last are full. Counters of
    blocks behind a record's last word mean nothing.

    Args:
        cfg: widths; there are gather_depth / block_c blocks (what a gather bank can serve).

    Ports:
        log2_blocks: 0 to 8; stable from the first load of a region until its last word is counted.
        load, masks, count: mask group and how many of its words to count (0 to words_per_cycle).
        record_first: this group starts a record (word 0). region_first: it belongs to the first record of a region,
        whose counts replace those of the region before.
        read_word: block; read_counts: its counters one cycle later (only while nothing is counted), lane group g at
        bits [16 g, 16 g + 16).
    """

    READ_LATENCY = 1

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self.depth = max(2, cfg.gather_depth // cfg.block_c)
        super().__init__(
            {
                "log2_blocks": In(4),
                "load": In(1),
                "masks": In(words_per_cycle(cfg) * cfg.mask_bits),
                "count": In(range(words_per_cycle(cfg) + 1)),
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
        shift = log2_exact(at_once, "words of a cycle")
        word_counts = cfg.groups_per_word * COUNT_BITS
        lines = max(2, -(-self.depth // at_once))
        m.submodules.counters = memory = Memory(shape=at_once * word_counts, depth=lines, init=[])
        write = memory.write_port()
        read = memory.read_port(transparent_for=(write,))

        masks = Signal(at_once * cfg.mask_bits, reset_less=True)
        left, word = Signal(range(at_once + 1)), Signal(range(max(2, at_once)))  # word: the first one counted now
        line = Signal(range(lines))
        # Lines of a tap; one that holds fewer blocks than a line has room for is one line.
        words_now = Signal(range(at_once + 1))
        last_line = Signal(8)
        m.d.comb += words_now.eq(1 << log2_words(m, cfg, self.log2_blocks))
        m.d.sync += last_line.eq(((1 << self.log2_blocks) - 1) >> shift)
        first, next_line, tap_ends = Signal(), Signal.like(line), Signal()
        m.d.comb += [
            tap_ends.eq(left.any() & (line == last_line)),
            next_line.eq(Mux(tap_ends, 0, line + left.any())),
        ]
        with m.If(self.load):
            m.d.sync += [
                masks.eq(self.masks),
                left.eq(self.count),
                word.eq(0),
                line.eq(Mux(self.record_first, 0, next_line)),
            ]
        with m.Elif(left.any()):
            m.d.sync += [
                left.eq(Mux(left > words_now, left - words_now, 0)),
                word.eq(word + words_now),
                line.eq(next_line),
            ]
        with m.If(self.load & self.record_first):
            m.d.sync += first.eq(self.region_first)
        with m.Elif(tap_ends):
            m.d.sync += first.eq(0)

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
        ones = [[self._ones(masks, n, group) for group in range(cfg.groups_per_word)] for n in range(at_once)]
        sums = []
        for entry in range(at_once * cfg.groups_per_word):
            place, group = divmod(entry, cfg.groups_per_word)
            # The words that are ever counted in this place: every one, every other, every fourth.
            step = place.bit_length()
            counted_here = [ones[n][group] for n in range(place, at_once, 1 << step)]
            here = Array(counted_here)[word[step:shift]] if len(counted_here) > 1 else counted_here[0]
            number = Signal(range(cfg.block_k * cfg.lane_group + 1), name=f"number{entry}")
            added = Signal(COUNT_BITS, name=f"added{entry}")
            before = read.data.word_select(entry, COUNT_BITS)
            m.d.sync += number.eq(Mux(left > place, here, 0))  # behind the record's words: nothing
            m.d.comb += added.eq(Mux(counted_first, 0, before) + number)
            sums.append(added)
        m.d.comb += [write.en.eq(counted), write.addr.eq(counted_line), write.data.eq(Cat(*sums))]
        return m

    def _ones(self, masks: Value, word: int, group: int) -> Value:
        """Ones of a word of the mask group in one of its lane groups."""
        cfg = self._cfg
        lanes = range(group * cfg.lane_group, (group + 1) * cfg.lane_group)
        return total(masks[word * cfg.mask_bits + k * cfg.block_c + c] for k in range(cfg.block_k) for c in lanes)
