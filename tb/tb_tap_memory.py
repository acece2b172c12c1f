"""Bench of the tap memory: two banks of boxes and counts against dictionaries."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import MOST_KERNEL
from tb.pins import Pins, compare, random_bits

TAPS = MOST_KERNEL**2


class Bench:
    """Writes to one bank, reads of both kinds from the other; what was never written is not compared."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.rng = Pins(dut, ("count", "box")), np.random.default_rng(tb.seed())
        self.widths = len(dut.box), len(dut.count)
        self.banks: list[dict[int, tuple[int, int]]] = [{}, {}]
        self.want: dict[str, int | None] = {"count": None, "box": None}
        self.now = 0

    async def cycle(self, bank: int, tap: int | None, count_tap: int | None, box_tap: int | None, rst: int = 0) -> None:
        """One cycle; None: no write, or no read, with noise on the address."""
        rng = self.rng
        box, count = (random_bits(rng, width) for width in self.widths)
        noise = rng.integers(0, TAPS, 3).tolist()
        asked = [n if t is None else t for t, n in zip((tap, count_tap, box_tap), noise, strict=True)]
        got = await self.pins.cycle(
            bank=bank, tap_we=int(tap is not None), tap=asked[0], box_in=box, count_in=count, rst=rst,
            count_en=int(count_tap is not None), count_tap=asked[1], box_en=int(box_tap is not None), box_tap=asked[2],
        )  # fmt: skip
        compare(self.now, got, self.want)
        read = self.banks[bank]
        if count_tap is not None:
            self.want["count"] = read.get(count_tap, (0, None))[1]
        if box_tap is not None:
            self.want["box"] = read.get(box_tap, (None, 0))[0]
        if rst:
            self.want = {"count": None, "box": None}
        if tap is not None:
            self.banks[1 - bank][tap] = box, count
        self.now += 1


async def start(dut: Any) -> Bench:
    """A bench in reset state whose banks are both full."""
    bench = Bench(dut)
    bench.pins.drive(bank=0, tap_we=0, count_en=0, box_en=0)
    await tb.start(dut)
    for bank in (0, 1):
        for tap in bench.rng.permutation(TAPS).tolist():
            await bench.cycle(bank, tap, None, None)
    return bench


@cocotb.test()
async def every_place(dut: Any) -> None:
    """Every tap of both banks, while the other bank is written with something else."""
    bench = await start(dut)
    for bank in (0, 1, 0):
        for tap, count_tap, box_tap in zip(*(bench.rng.permutation(TAPS).tolist() for _ in range(3)), strict=True):
            await bench.cycle(bank, tap, count_tap, box_tap)
            if bench.rng.random() < 0.2:
                await bench.cycle(bank, None, None, None)


@cocotb.test()
async def random_traffic(dut: Any) -> None:
    """Reads and writes with pauses, the bank flipping; each output keeps its value while its enable is low."""
    bench = await start(dut)
    rng, bank = bench.rng, 0
    for n in range(3000):
        bank ^= int(rng.random() < 0.02)
        share = (0.2, 0.9)[n // 500 % 2]
        taps = (int(rng.integers(TAPS)) if rng.random() < share else None for _ in range(3))
        await bench.cycle(bank, *taps, rst=int(n % 101 == 100))
