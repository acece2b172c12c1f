"""Bench of the gradient buffer: every gradient in its cycle against a list, tile after tile of the same visits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare, random_bits


@dataclass
class Tile:
    """A working set: what its visits do, and which of them are void, in order."""

    add: int
    store: int
    voids: list[int]


class Bench:
    """Working sets one after the other. Memory, error and gradients follow from lists; sums arrive `dots` later."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng, self.dots = tb.config(), np.random.default_rng(tb.seed()), tb.parameters()["dots"]
        self.pins = Pins(dut, ("g", "error"))
        self.room, self.width = self.cfg.gradients, self.cfg.acc_bits
        self.stored: dict[int, int] = {}
        self.sums: dict[int, int] = {}  # by cycle
        self.wanted: dict[int, int] = {}
        self.now, self.count, self.error = 0, 0, 0

    async def cycle(self, start: int = 0, add: int = 0, store: int = 0, void: int | None = None, rst: int = 0) -> None:
        """One cycle; `void` is of a visit, None: there is none."""
        mask = (1 << self.width) - 1
        visit = void is not None
        given = self.sums.pop(self.now, random_bits(self.rng, self.width))
        got = await self.pins.cycle(
            start=start, add=add, store=store, visit_valid=int(visit), rst=rst, sum=given,
            visit_void=int(self.rng.integers(2)) if void is None else void,
        )  # fmt: skip
        compare(self.now, got, {"error": self.error, "g": self.wanted.pop(self.now, None)})
        if visit:
            arrives = self.now + self.dots
            total = random_bits(self.rng, self.width)
            self.sums[arrives] = total  # a void visit's, too, which is to be ignored
            if self.count < self.room:
                g = (0 if void else total) + (self.stored[self.count] if add else 0) & mask
                self.wanted[arrives + 1] = g
                if store:
                    self.stored[self.count] = g
            elif add or store:
                self.error = 1
            else:
                self.wanted[arrives + 1] = 0 if void else total
            self.count += 1
        if start:
            self.count, self.error = 0, 0
        if rst:
            self.error, self.sums, self.wanted = 0, {}, {}
        self.now += 1

    async def tile(self, tile: Tile, pause: float = 0.0, idle: int = 0) -> None:
        """A working set: its visits, with pauses between them, and `idle` cycles before the first."""
        flags = {"add": tile.add, "store": tile.store}
        await self.cycle(start=1, **flags)
        for _ in range(idle):
            await self.cycle(**flags)
        for void in tile.voids:
            while self.rng.random() < pause:
                await self.cycle(**flags)
            await self.cycle(void=void, **flags)

    async def flush(self) -> None:
        """Wait until the last gradient is out; flags mean nothing meanwhile."""
        for _ in range(self.dots + 3):
            await self.cycle(add=int(self.rng.integers(2)), store=int(self.rng.integers(2)))

    def voids(self, count: int, share: float = 0.2) -> list[int]:
        return (self.rng.random(count) < share).astype(int).tolist()


async def begin(dut: Any) -> Bench:
    """A bench in reset state."""
    bench = Bench(dut)
    bench.pins.drive(start=0, visit_valid=0)
    await tb.start(dut)
    return bench


@cocotb.test()
async def maps_of_several_tiles(dut: Any) -> None:
    """Stored, added and stored, added and handed on; working sets without either between maps."""
    bench = await begin(dut)
    rng = bench.rng
    for _ in range(20):
        visits, tiles = int(rng.integers(1, min(60, bench.room) + 1)), int(rng.integers(2, 6))
        for n in range(tiles):
            pause, idle = float(rng.choice([0, 0, 0.5])), int(rng.integers(2, 9))
            await bench.tile(Tile(int(n > 0), int(n < tiles - 1), bench.voids(visits)), pause, idle)
        for _ in range(int(rng.integers(0, 2))):
            await bench.tile(Tile(0, 0, bench.voids(int(rng.integers(0, 30)))), idle=2)
    await bench.flush()


@cocotb.test()
async def one_visit_a_tile(dut: Any) -> None:
    """The shortest distance: what was stored is read by a visit three cycles later, and by one four cycles later."""
    bench = await begin(dut)
    for distance in (3, 4, 5, 3, 3):
        for visits in (1, 1, 2, 3):
            await bench.tile(Tile(0, 1, bench.voids(visits, 0)))
            for n in range(4):
                # First visit to first visit: the visits, the start, and idle cycles between them.
                await bench.tile(Tile(1, int(n < 3), bench.voids(visits)), idle=max(0, distance - visits - 1))
    await bench.flush()


@cocotb.test()
async def every_flag_ends_with_its_visit(dut: Any) -> None:
    """Add, store and void belong to a visit, not to the cycles in which its sum is under way."""
    bench = await begin(dut)
    for add, store in ((0, 1), (1, 0), (0, 0), (1, 1), (1, 0), (0, 1), (1, 0)):
        await bench.tile(Tile(add, store, [0, 1, 1, 0, 0]))
        for _ in range(2):
            await bench.cycle(add=1 - add, store=1 - store)
    await bench.flush()


@cocotb.test()
async def full_and_overflow(dut: Any) -> None:
    """As many gradients as there is room for; one more is an error until the next working set, if it is used."""
    bench = await begin(dut)
    room = bench.room
    await bench.tile(Tile(0, 1, bench.voids(room)))
    await bench.tile(Tile(1, 0, bench.voids(room)), idle=2)
    assert not bench.error
    for add, store in ((0, 1), (1, 0), (1, 1)):
        await bench.tile(Tile(0, 1, bench.voids(room)))
        await bench.flush()
        await bench.tile(Tile(add, store, bench.voids(room + 3)))
        assert bench.error
        for _ in range(5):
            await bench.cycle(add=add)
        bench.stored.clear()  # a surplus gradient may be anywhere
        await bench.flush()
        await bench.tile(Tile(0, 0, bench.voids(room + 5)))
        assert not bench.error
    await bench.flush()


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """After reset nothing that was under way is stored, no error is left, and the next map is exact."""
    bench = await begin(dut)
    most = min(20, bench.room)
    for at in range(1, bench.dots + 6):
        await bench.tile(Tile(0, 1, bench.voids(most)))
        await bench.flush()
        await bench.tile(Tile(0, 1, bench.voids(at)))
        lost = bench.count  # of these, some have been stored before the reset, the others keep the tile before
        await bench.cycle(rst=1)
        for n in range(lost):
            bench.stored.pop(n)
        await bench.tile(Tile(0, 1, bench.voids(lost)))
        await bench.flush()
        await bench.tile(Tile(1, 0, bench.voids(most)))
    await bench.flush()


@cocotb.test()
async def reset_keeps_what_is_stored(dut: Any) -> None:
    """A reset writes nothing: what was complete before it is still there, and what had not arrived never does."""
    bench = await begin(dut)
    await bench.tile(Tile(0, 1, bench.voids(12)))
    await bench.flush()
    before = dict(bench.stored)
    for under_way in (1, 2, bench.dots):
        await bench.tile(Tile(0, 1, bench.voids(under_way)))
        await bench.cycle(rst=1)  # before the first sum has been written
        bench.stored = dict(before)
        for _ in range(bench.dots + 3):
            await bench.cycle()
        await bench.tile(Tile(1, 0, bench.voids(12)))
        await bench.flush()
