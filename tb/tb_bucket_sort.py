"""Bench of the bucket sort: the items in the order of a stable sort, each in its cycle."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare, random_bits

KEY_BITS = 8
LATENCY = 3
STROBES = ("flush", "fill", "next")


class Bench:
    """The lists, and the item that is due at the output."""

    def __init__(self, dut: Any) -> None:
        self.items, self.rng = int(tb.parameters()["items"]), np.random.default_rng(tb.seed())
        self.pins = Pins(dut, ("item",))
        self.t = 0
        self.due: int | None = None
        self.pins.drive(**dict.fromkeys(STROBES, 0), key=0, rst=0)

    async def cycle(self, **inputs: int) -> None:
        """One cycle; the key is noise where it is not given."""
        noise = {"key": random_bits(self.rng, KEY_BITS)}
        got = await self.pins.cycle(**{**dict.fromkeys(STROBES, 0), **noise, **inputs})
        compare(self.t, got, {"item": self.due})
        self.t += 1

    async def gap(self, chance: float) -> None:
        while self.rng.random() < chance:
            await self.cycle()

    async def fill(self, keys: list[int], gap: float = 0.0) -> None:
        """Flush, and all keys; one in the cycle of the flush counts already."""
        self.due = None
        for i, key in enumerate(keys):
            await self.gap(gap)
            await self.cycle(**{"flush": 1} if i == 0 else {}, fill=1, key=key)

    async def sort(self, keys: list[int], gap: float = 0.0, stop: int = -1) -> None:
        """A whole sort, as tight as the documented latency allows; `stop`: so many items are taken, the rest left."""
        await self.fill(keys, gap)
        for _ in range(LATENCY - 1):
            await self.cycle()
        order = sorted(range(len(keys)), key=lambda i: -keys[i])  # stable
        for item in order[:stop] if stop >= 0 else order:
            await self.gap(gap)
            await self.cycle(next=1)
            self.due = item
        await self.cycle()

    async def reset(self) -> None:
        await self.pins.cycle(rst=1, **dict.fromkeys(STROBES, 0))
        self.pins.drive(rst=0)
        self.due = None


@cocotb.test()
async def corner_cases(dut: Any) -> None:
    """One key; all equal; the lowest and the highest; two lists in turn; ascending and descending; as many as fit."""
    await tb.start(dut)
    bench = Bench(dut)
    n, top = bench.items, (1 << KEY_BITS) - 1
    for keys in (
        [0],
        [top],
        [0] * n,
        [top] * n,
        [0x34] * (n - 1),
        [(0, top)[i % 2] for i in range(n)],
        [(0x7F, 0x80, 0x7F, 0x3F, 0x40)[i % 5] for i in range(n)],
        [i * top // n for i in range(n)],
        [top - i * top // n for i in range(n)],
    ):
        await bench.sort(keys)


@cocotb.test()
async def random_keys(dut: Any) -> None:
    """All widths of keys, gaps or none; a sort right after the other."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    for trial in range(24):
        n = int(rng.integers(1, bench.items + 1))
        bits = int(rng.integers(1, KEY_BITS + 1))
        keys = [int(k) << int(rng.integers(KEY_BITS + 1 - bits)) for k in rng.integers(0, 1 << bits, n)]
        await bench.sort(keys, gap=(0.0, 0.3)[trial % 2])


@cocotb.test()
async def flush_in_flight(dut: Any) -> None:
    """Keys just before a flush are lost, and so are items left in their lists; the next sort is right."""
    await tb.start(dut)
    bench = Bench(dut)
    rng, n = bench.rng, bench.items
    for trial in range(16):
        keys = rng.integers(0, 1 << int(rng.integers(1, KEY_BITS + 1)), n).tolist()
        if trial % 2:
            await bench.sort(keys, stop=int(rng.integers(n)))
        else:
            await bench.fill(keys[: int(rng.integers(1, n + 1))])
        await bench.sort(rng.integers(0, 1 << KEY_BITS, int(rng.integers(1, n + 1))).tolist())


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset while items enter or leave; the next sort, which needs no flush then, is right."""
    await tb.start(dut)
    bench = Bench(dut)
    rng, n = bench.rng, bench.items
    for trial in range(8):
        keys = rng.integers(0, 1 << KEY_BITS, n).tolist()
        if trial % 2:
            await bench.sort(keys, stop=int(rng.integers(n)))
        else:
            await bench.fill(keys)
        await bench.reset()
        for key in keys:
            await bench.cycle(fill=1, key=key)
        for _ in range(LATENCY - 1):
            await bench.cycle()
        for item in sorted(range(n), key=lambda i, keys=keys: -keys[i]):
            await bench.cycle(next=1)
            bench.due = item
        await bench.cycle()
