"""Bench of the row queue: its head in every cycle against a sorted list of (load, row)."""

from __future__ import annotations

from bisect import insort
from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare

TOP = 0xFFFF
INPUTS = ("init", "step", "full")


class Bench:
    """The queue beside its model: open rows in order; loads unbounded."""

    def __init__(self, dut: Any) -> None:
        self.rows = int(tb.parameters()["rows"])
        self.rng = np.random.default_rng(tb.seed())
        self.pins = Pins(dut, ("row", "load"))
        self.state = [(0, r) for r in range(self.rows)]
        self.cycles = 0
        self.pins.drive(**dict.fromkeys(INPUTS, 0), count=0)

    async def cycle(self, init: bool = False, step: bool = False, count: int = 0, full: bool = False) -> None:
        got = await self.pins.cycle(init=int(init), step=int(step), count=count, full=int(full))
        if self.state:
            load, row = self.state[0]
            compare(self.cycles, got, {"row": row, "load": load % (1 << 17)})
        if init:
            self.state = [(0, r) for r in range(self.rows)]
        elif step and self.state:
            load, row = self.state.pop(0)
            if not full:
                insort(self.state, (load + count, row))
        self.cycles += 1


@cocotb.test()
async def random_steps(dut: Any) -> None:
    """Gaps, ties, rows that fill up until all are full; loads far beyond 2**17."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    for limit, full, step in ((1, 0.02, 0.7), (3, 0.1, 1.0), (TOP + 1, 0.01, 1.0), (TOP + 1, 0.3, 0.5), (9, 0.0, 1.0)):
        await bench.cycle(init=True, step=bool(rng.integers(2)), count=5)
        for _ in range(1500):
            again = not bench.state or rng.random() < 0.003
            count = int(rng.integers(limit))
            await bench.cycle(again, rng.random() < step, count, rng.random() < full)


@cocotb.test()
async def largest_counts(dut: Any) -> None:
    """Every count 65535, then 65535 and 0 in turn: loads go round 2**17 many times and stay in order."""
    await tb.start(dut)
    bench = Bench(dut)
    for small in (TOP, 0, TOP - 1):
        for n in range(40 * bench.rows):
            await bench.cycle(step=True, count=small if n % 2 else TOP)
        assert max(bench.state)[0] > 4 << 17
    for n in range(bench.rows):
        await bench.cycle(step=True, count=TOP, full=True)
        assert len(bench.state) == bench.rows - 1 - n


@cocotb.test()
async def idle_and_reset(dut: Any) -> None:
    """Nothing moves without a step, whatever count and full say; reset empties every row."""
    await tb.start(dut)
    bench = Bench(dut)
    for _ in range(10):
        await bench.cycle(count=77, full=True)
    for n in range(3):
        for _ in range(7):
            await bench.cycle(step=True, count=3, full=n == 1 and len(bench.state) > 1)
        await tb.reset(dut, 1)
        bench.state = [(0, r) for r in range(bench.rows)]
        bench.pins.drive(step=0)
        await bench.cycle()
