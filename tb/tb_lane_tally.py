"""Bench of the lane tally: mask groups as tight as allowed; every counter read back as soon as it may be."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare, random_bits

COUNT_BITS = 16


class Bench:
    """The tally beside plain counters, one list a block."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng = tb.config(), np.random.default_rng(tb.seed())
        self.depth = max(2, self.cfg.gather_depth // self.cfg.block_c)
        self.most = min(4, self.cfg.masks_per_beat)
        self.log2_blocks = 8
        self.pins = Pins(dut, ("read_counts",))
        self.counters: dict[int, list[int]] = {}
        self.pins.drive(load=0, rst=0)

    @property
    def at_once(self) -> int:
        """Words counted in a cycle."""
        return min(self.most, 1 << self.log2_blocks)

    async def cycle(self, **inputs: int) -> int:
        """One cycle; the inputs that do not matter are noise."""
        cfg, rng = self.cfg, self.rng
        noise = {
            "load": 0,
            "log2_blocks": self.log2_blocks,
            "masks": random_bits(rng, self.most * cfg.mask_bits),
            "count": int(rng.integers(self.most + 1)),
            "record_first": int(rng.integers(2)),
            "region_first": int(rng.integers(2)),
            "read_word": int(rng.integers(self.depth)),
        }
        return (await self.pins.cycle(**{**noise, **inputs}))["read_counts"]

    def counted(self, word: int, bits: int, region_first: bool) -> None:
        """A word's ones, group by group."""
        cfg, block = self.cfg, word % (1 << self.log2_blocks)
        before = [0] * cfg.groups_per_word if region_first and word == block else self.counters[block]
        ones = [0] * cfg.groups_per_word
        for bit in range(cfg.mask_bits):
            ones[bit % cfg.block_c // cfg.lane_group] += bits >> bit & 1
        self.counters[block] = [(b + n) % (1 << COUNT_BITS) for b, n in zip(before, ones, strict=True)]

    async def region(self, records: int, words: int, density: float, gap: float = 0.0, log2_blocks: int = 8) -> None:
        """Records of `words` words, 2^log2_blocks a tap; then all counters are read."""
        cfg, rng = self.cfg, self.rng
        idle, self.log2_blocks = 0, log2_blocks
        blocks = min(words, 1 << log2_blocks)
        for block in range(blocks, -(-blocks // self.most) * self.most):
            self.counters.pop(block, None)  # of blocks that do not exist, beside some that do: anything
        for record in range(records):
            for first in range(0, max(words, 1), self.most):
                count = min(self.most, words - first)
                ones = rng.random(self.most * cfg.mask_bits) < density
                masks = sum(1 << i for i in np.flatnonzero(ones).tolist())  # ones beyond `count` words as well
                for _ in range(idle):
                    await self.cycle()
                while rng.random() < gap:
                    await self.cycle()
                await self.cycle(load=1, masks=masks, count=count, record_first=first == 0, region_first=record == 0)
                for i in range(count):
                    word = masks >> i * cfg.mask_bits & (1 << cfg.mask_bits) - 1
                    self.counted(first + i, word, record == 0)
                idle = self.cycles(count) - 1
        await self.read(idle, words)

    def cycles(self, count: int) -> int:
        """Cycles until so many words are counted."""
        return max(-(-count // self.at_once), 1)

    async def read(self, wait: int, words: int) -> None:
        """Every counter, the words counted last first: that is the tightest."""
        for _ in range(wait + 2):
            await self.cycle()
        last = (words - 1) % (1 << self.log2_blocks) // self.at_once
        places = sorted(self.counters, key=lambda block: (block // self.at_once != last, block))
        want = None
        for place in [*places, None]:
            got = await self.cycle(**{} if place is None else {"read_word": place})
            if want is not None:
                compare("read", {"read_counts": got}, {"read_counts": want})
            if place is not None:
                want = sum(n << COUNT_BITS * g for g, n in enumerate(self.counters[place]))


@cocotb.test()
async def corner_cases(dut: Any) -> None:
    """One word, a full group, a word more, as many as there are; no ones, all ones; one record or many."""
    await tb.start(dut)
    bench = Bench(dut)
    most = bench.most
    for words in sorted({1, 2, min(most, bench.depth), min(most + 1, bench.depth), bench.depth}):
        for density in (0.0, 1.0, 0.3):
            for records in (1, 5):
                await bench.region(records, words, density)


@cocotb.test()
async def random_regions(dut: Any) -> None:
    """Ragged groups, gaps or none; counters of positions far behind a region's words keep their counts."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    for trial in range(40):
        words = int(rng.integers(1, bench.depth + 1))
        await bench.region(int(rng.integers(1, 9)), words, float(rng.random()), (0.0, 0.4)[trial % 2])


@cocotb.test()
async def taps(dut: Any) -> None:
    """All taps of a block in one place, as tight as they come: one block, two, as many as there may be."""
    await tb.start(dut)
    bench = Bench(dut)
    deepest = bench.depth.bit_length() - 1
    for log2_blocks in range(min(deepest, 5) + 1):
        for number in (1, 2, 3, 9, 49):
            words = number << log2_blocks
            if words > 255:
                continue
            for records in (1, 4):
                for gap in (0.0, 0.3):
                    await bench.region(records, words, 0.5, gap, log2_blocks)
                await bench.region(records, words, 1.0, log2_blocks=log2_blocks)
            await bench.region(2, max(1, words - 1), 0.5, log2_blocks=log2_blocks)  # ragged
        await bench.region(3, min(bench.depth, 5), 0.5)


@cocotb.test()
async def groups_without_words(dut: Any) -> None:
    """A count of zero counts nothing and takes one cycle."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.region(3, bench.depth, 0.5)
    for _ in range(3):
        await bench.cycle(load=1, count=0, record_first=1, region_first=1)
    await bench.read(0, bench.depth)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset in the middle of a group: nothing more is counted, the next region is right."""
    await tb.start(dut)
    bench = Bench(dut)
    for log2_blocks in range(bench.most.bit_length()):
        for wait in range(bench.most >> log2_blocks):
            await bench.region(2, bench.depth, 0.5)
            bench.log2_blocks = log2_blocks
            await bench.cycle(load=1, count=bench.most, record_first=1, region_first=0)
            for _ in range(wait):
                await bench.cycle()
            await bench.cycle(rst=1)
            bench.pins.drive(rst=0)
            for word in range(bench.most):
                bench.counters.pop(word, None)  # counted or not
            await bench.read(0, bench.depth)
            await bench.region(2, bench.depth, 0.5)
