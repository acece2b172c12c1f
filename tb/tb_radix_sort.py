"""Bench of the digit tables: the position of every item of every pass, in its cycle; the sort they make."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare, random_bits

DIGITS = ((0, 6), (6, 6))  # lowest bit, bits
KEY_BITS = 12
SWEEP = 64
LATENCY = 2
ANY = -1  # position of no interest
STROBES = ("flush", "sum", "fill", "place")


class Bench:
    """The tables; what is due to come out of them, by cycle."""

    def __init__(self, dut: Any) -> None:
        self.items, self.rng = int(tb.parameters()["items"]), np.random.default_rng(tb.seed())
        self.pins = Pins(dut, ("position", "placed"))
        self.t = 0
        self.due: dict[int, int] = {}
        self.pins.drive(**dict.fromkeys(STROBES, 0), address=0, key=0, digit=0, rst=0)

    async def cycle(self, **inputs: int) -> None:
        """One cycle; key, address and digit are noise where they are not given."""
        rng = self.rng
        noise = {"address": int(rng.integers(SWEEP)), "key": random_bits(rng, KEY_BITS), "digit": int(rng.integers(2))}
        got = await self.pins.cycle(**{**dict.fromkeys(STROBES, 0), **noise, **inputs})
        position = self.due.pop(self.t, None)
        compare(self.t, got, {"placed": int(position is not None), "position": None if position == ANY else position})
        self.t += 1

    async def gap(self, chance: float) -> None:
        while self.rng.random() < chance:
            await self.cycle()

    async def sweep(self) -> None:
        for address in range(SWEEP):
            await self.cycle(sum=1, address=address)

    async def sort(self, keys: list[int], gap: float = 0.0, stop: int = -1) -> None:
        """A whole sort, as tight as the documented latencies allow; `stop`: reset after so many items placed."""
        for i, key in enumerate(keys or [None]):
            await self.gap(gap)
            first = {"flush": 1} if i == 0 else {}  # a key in the cycle of the flush counts
            await self.cycle(**first, **({} if key is None else {"fill": 1, "key": key}))
        for _ in range(LATENCY if keys else 0):
            await self.cycle()
        await self.sweep()
        order, placed = list(range(len(keys))), 0
        for digit, (low, bits) in enumerate(DIGITS):
            values = [keys[i] >> low & (1 << bits) - 1 for i in range(len(keys))]
            following = sorted(order, key=lambda i, values=values: values[i])  # stable
            place = {item: position for position, item in enumerate(following)}
            for item in order:
                await self.gap(gap)
                self.due[self.t + LATENCY] = place[item]
                await self.cycle(place=1, digit=digit, key=keys[item])
                placed += 1
                if placed == stop:
                    await self.pins.cycle(rst=1, place=0)
                    self.pins.drive(rst=0)
                    self.due, self.t = {}, 0
                    for _ in range(4):
                        await self.cycle()
                    return
            order = following
        for _ in range(LATENCY if keys else 0):
            await self.cycle()
        assert not self.due
        assert [keys[i] for i in order] == sorted(keys)
        assert order == sorted(range(len(keys)), key=lambda i: (keys[i], i))


@cocotb.test()
async def corner_cases(dut: Any) -> None:
    """No key; one; all equal; the lowest and highest of every digit; ascending and descending; as many as fit."""
    await tb.start(dut)
    bench = Bench(dut)
    n = bench.items
    await bench.sort([])
    await bench.sort([bench.items])
    await bench.sort([])
    for keys in (
        [0] * n,
        [0xFFF] * n,
        [0x345] * (n - 1),
        [(0x03F, 0xFC0, 0x820, 0)[i % 4] for i in range(n)],
        [i * (0xFFF // n) for i in range(n)],
        [0xFFF - i * (0xFFF // n) for i in range(n)],
    ):
        await bench.sort(keys)


@cocotb.test()
async def random_keys(dut: Any) -> None:
    """All widths of keys, gaps or none; a sort right after the other."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    for trial in range(12):
        n = int(rng.integers(1, bench.items + 1))
        bits = int(rng.integers(1, KEY_BITS + 1))
        keys = [int(k) << int(rng.integers(KEY_BITS + 1 - bits)) for k in rng.integers(0, 1 << bits, n)]
        await bench.sort(keys, gap=(0.0, 0.3)[trial % 2])


@cocotb.test()
async def flush_in_flight(dut: Any) -> None:
    """Keys just before a flush are not counted, the last item before it has no position; the next sort is right."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    for trial in range(16):
        await bench.cycle(flush=1)
        strobe, number = ("fill", "place")[trial % 2], int(rng.integers(1, 6))
        for i in range(number):
            if strobe == "place" and i < number - 1:
                bench.due[bench.t + LATENCY] = ANY
            await bench.cycle(**{strobe: 1})
        await bench.sort(rng.integers(0, 1 << KEY_BITS, int(rng.integers(1, bench.items + 1))).tolist())


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset while items are placed; nothing comes out, and the next sort is right."""
    await tb.start(dut)
    bench = Bench(dut)
    for stop in (1, 2, bench.items, 2 * bench.items + 1):
        keys = [int(k) for k in bench.rng.integers(0, 1 << KEY_BITS, bench.items)]
        await bench.sort(keys, stop=stop)
        await bench.sort(keys[::-1])
