"""Bench of the box walk: both addresses of every position against `golden.boxes`, with pauses between positions."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import MOST_KERNEL
from golden.boxes import boxes
from tb.box_jobs import STEPS, Fields, anything, box_of, sub_batches, tile, unused
from tb.pins import Pins, compare


class Bench:
    """Visits one after the other; an address stays until the next position is issued."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, ("gather", "psum")), tb.config(), np.random.default_rng(tb.seed())
        self.want: dict[str, int | None] = {"gather": None, "psum": None}
        self.now = 0

    async def cycle(self, box: int, first: int, issue: int, place: tuple[int, int] | None = None) -> None:
        """One cycle; `place` is where its position lies."""
        cfg, rng = self.cfg, self.rng
        bases = {"gather_base": int(rng.integers(cfg.gather_depth)), "psum_base": int(rng.integers(cfg.psum_depth))}
        got = await self.pins.cycle(first=first, issue=issue, box=box, **bases)
        compare(self.now, got, self.want)
        self.now += 1
        if first:
            self.bases = bases
        if place is not None:
            self.want = {
                "gather": (self.bases["gather_base"] + place[0]) % cfg.gather_depth,
                "psum": (self.bases["psum_base"] + place[1]) % cfg.psum_depth,
            }

    async def visits(self, fields: Fields, count: int, pause: float) -> int:
        """So many visits to random taps of a command, back to back but for pauses. The positions visited."""
        met = boxes(fields)
        taps = [tap for tap in range(len(met.counts)) if met.counts[tap]]
        self.pins.drive(**{name: fields[name] for name in STEPS})
        positions = 0
        for tap in self.rng.choice(taps, count).tolist() if taps else []:
            box = box_of(self.cfg, self.rng, fields, tap)["box"]
            for n, place in enumerate(zip(met.gather[tap].tolist(), met.psum[tap].tolist(), strict=True)):
                while self.rng.random() < pause:
                    await self.cycle(box, 0, 0)
                await self.cycle(box, int(n == 0), 1, place)
            positions += len(met.gather[tap])
        return positions


async def start(dut: Any) -> Bench:
    """A bench in reset state."""
    bench = Bench(dut)
    bench.pins.drive(first=0, issue=0, box=0)
    await tb.start(dut)
    return bench


@cocotb.test()
async def boxes_of_every_kind(dut: Any) -> None:
    """Tiles of both directions, sub-batches and arbitrary boxes; steps that nothing depends on are noise."""
    bench = await start(dut)
    cfg, rng = bench.cfg, bench.rng
    positions = 0
    for n in range(60):
        kernel = tuple(rng.integers(1, MOST_KERNEL + 1, 2).tolist())
        fields = (
            tile(rng, kernel, bool(n & 4), cfg.psum_depth, cfg.gather_depth),
            anything(rng, kernel, cfg.psum_depth, cfg.gather_depth),
            sub_batches(int(rng.integers(1, min(40, cfg.psum_depth) + 1)), int(rng.integers(1, 3))),
        )[n % 3]
        positions += await bench.visits(unused(rng, fields), 8, float(rng.choice([0, 0, 0.4])))
    assert positions > 500


@cocotb.test()
async def single_rows_and_columns(dut: Any) -> None:
    """Loops of one turn at each of the three levels, in every combination."""
    bench = await start(dut)
    steps = dict(zip(STEPS, (7, 3, 1, 5, 2, 1), strict=True))
    for shape in range(27):
        images, rows, cols = 1 + shape // 9, 1 + shape // 3 % 3, 1 + shape % 3
        fields = sub_batches(1, 1) | {"images": images, "row0_count": rows, "col0_count": cols} | steps
        assert await bench.visits(unused(bench.rng, fields), 3, 0.2) == 3 * images * rows * cols


@cocotb.test()
async def longest_loops(dut: Any) -> None:
    """As many images, rows or columns as there are partial sums."""
    bench = await start(dut)
    names = ("images", "row0_count", "col0_count")
    for name, axis in zip(names, ("image", "row", "col"), strict=True):
        fields = sub_batches(1, 1) | {name: bench.cfg.psum_depth, f"psum_{axis}": 1, f"gather_{axis}": 1}
        await bench.visits(fields, 1, 0)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Whatever was under way, the first visit after reset is exact."""
    bench = await start(dut)
    fields = sub_batches(1, 1) | {"images": 2, "row0_count": 2, "col0_count": 3}
    fields |= dict(zip(STEPS, (6, 3, 1, 6, 3, 1), strict=True))
    for done in range(1, 13):
        bench.pins.drive(**{name: fields[name] for name in STEPS})
        box = box_of(bench.cfg, bench.rng, fields, 0)["box"]
        for n in range(done):
            await bench.cycle(box, int(n == 0), 1, (n, n))
            bench.want = {"gather": None, "psum": None}
        await tb.reset(dut, 1)
        bench.pins.drive(issue=0, first=0)
        await bench.visits(fields, 2, 0)
