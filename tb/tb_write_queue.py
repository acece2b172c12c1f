"""Bench of the write queue: credits, order and every cycle of the write port, under all paces."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare, random_bits

LATENCY = 2
OUTPUTS = ("room", "idle", "wr_valid", "wr_addr", "wr_data")


class Bench:
    """The queue beside its model."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng = tb.config(), np.random.default_rng(tb.seed())
        self.depth = int(tb.parameters()["depth"])
        self.pins = Pins(dut, OUTPUTS)
        self.pins.drive(rst=0)
        self.forget()

    def forget(self) -> None:
        self.room = True
        self.t = self.reserved = self.asked = self.owed = self.written = 0
        self.queue: deque[tuple[int, int, int]] = deque()  # cycle of its push, address, data
        self.free = 0  # first cycle in which the port may show another beat

    async def cycle(self, reserve: bool, push: bool, ready: bool) -> None:
        """One cycle; strobes are dropped where they are not allowed."""
        room = self.reserved < self.depth - 2
        reserve = reserve and self.room  # heard a cycle later
        self.room = room
        push = push and self.owed + reserve > 0
        addr, data = random_bits(self.rng, 32), random_bits(self.rng, self.cfg.beat_bits)
        got = await self.pins.cycle(
            reserve=int(reserve), push=int(push), push_addr=addr, push_data=data, wr_ready=int(ready)
        )
        valid = bool(self.queue) and self.t >= max(self.queue[0][0] + LATENCY, self.free)
        want: dict[str, int | None] = {"room": room, "idle": self.reserved == 0, "wr_valid": valid}
        if valid:
            want |= {"wr_addr": self.queue[0][1], "wr_data": self.queue[0][2]}
        compare(self.t, got, want)
        if push:
            self.queue.append((self.t, addr, data))
        if valid and ready:
            self.queue.popleft()
            self.free = self.t + 1
            self.written += 1
        self.reserved += self.asked - (valid and ready)
        self.asked = int(reserve)  # counts a cycle later
        self.owed += reserve - push
        self.t += 1

    async def random(self, cycles: int, reserve: float, push: float, ready: float) -> None:
        for _ in range(cycles):
            a, b, c = self.rng.random(3).tolist()
            await self.cycle(a < reserve, b < push, c < ready)

    async def flush(self) -> None:
        for _ in range(3 * self.depth + 8):
            await self.cycle(False, True, True)
        assert not self.queue and self.reserved == self.asked == 0


@cocotb.test()
async def paces(dut: Any) -> None:
    """Every mixture of slow and fast: reservations, pushes, memory."""
    await tb.start(dut)
    bench = Bench(dut)
    for reserve in (0.2, 0.7, 1.0):
        for push in (0.2, 0.7, 1.0):
            for ready in (0.1, 0.5, 1.0):
                await bench.random(120, reserve, push, ready)
        await bench.flush()


@cocotb.test()
async def full_and_empty(dut: Any) -> None:
    """All places reserved, then all pushed, with the memory shut; then all written; one beat alone."""
    await tb.start(dut)
    bench = Bench(dut)
    for _ in range(3):
        for _ in range(bench.depth + 3):
            await bench.cycle(True, False, False)
        assert bench.reserved == bench.depth
        for _ in range(bench.depth + 5):
            await bench.cycle(False, True, False)
        await bench.flush()
        await bench.cycle(True, True, True)
        await bench.flush()


@cocotb.test()
async def full_speed(dut: Any) -> None:
    """A memory that always takes writes: a beat a cycle, and room at all times: 3 places cover the way."""
    await tb.start(dut)
    bench = Bench(dut)
    beats = 200
    for _ in range(beats):
        await bench.cycle(True, True, True)
    assert bench.written == beats - LATENCY
    await bench.flush()


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset empties it, whatever it holds."""
    await tb.start(dut)
    bench = Bench(dut)
    for cycles in (1, 2, 3, 5, 9, 20):
        await bench.random(cycles, 1.0, 0.8, 0.3)
        bench.pins.drive(reserve=0, push=0)
        await tb.reset(dut, 1)
        bench.forget()
        await bench.random(10, 0.0, 0.0, 1.0)
        await bench.random(60, 0.6, 0.6, 0.6)
        await bench.flush()
