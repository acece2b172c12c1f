"""Bench of the tap builder: the box of every tap, in its cycle, against `golden.boxes`, and the law of `over`."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import FIELDS, MOST_KERNEL, Phase
from golden.boxes import boxes
from tb.box_jobs import Fields, anything, sub_batches, tile, unused
from tb.pins import Pins, command_bits, compare

FIRST = 4
OUTPUTS = ("over", "tap_we", "tap", "box", "count")


class Bench:
    """Slots one after the other; between them the outputs keep silent."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.places = tb.parameters()["layout"]

    def noise(self) -> Fields:
        """A command of which every bit is random."""
        return {name: int(self.rng.integers(1 << field.bits)) for name, field in FIELDS.items()}

    async def cycle(self, t: int, want: dict[str, int | None], **inputs: int) -> None:
        got = await self.pins.cycle(**inputs)
        fields = {name: got["box"] >> low & (1 << width) - 1 for name, (low, width) in self.places.items()}
        compare(t, got | fields, want)

    def wanted(self, fields: Fields) -> list[dict[str, int | None]]:
        """What is written of every tap."""
        box, result = boxes(fields), []
        for tap, count in enumerate(box.counts.tolist()):
            row, col = divmod(tap, fields["kernel_cols"])
            want: dict[str, int | None] = {"tap_we": 1, "tap": tap, "count": count}
            if count:
                want |= {"gather": int(box.gather[tap][0]), "psum": int(box.psum[tap][0])}
                want |= {"rows": fields[f"row{row}_count"], "cols": fields[f"col{col}_count"]}
            result.append(want)
        return result

    async def slot(self, fields: Fields, active: int = 1, longer: int = 0, reset_at: int = -1, **more: int) -> None:
        """A slot with a command of these boxes; it ends when the taps are over, and `longer` cycles later."""
        command = self.noise() | {"phase": int(self.rng.integers(3)), "ahead": 0} | fields | more
        computes = active and command["phase"] != Phase.NOP and not command["ahead"]
        taps = self.wanted(fields) if computes else []
        over = FIRST + len(taps) if computes else 1
        for t in range(over + longer + 1):
            if t == 0:
                inputs = {"slot_start": 1, "active": int(self.rng.integers(2)), "command": command_bits(self.noise())}
            else:
                inputs = {"slot_start": 0, "active": active, "command": command_bits(command)}
            want: dict[str, int | None] = {"tap_we": 0}
            if FIRST <= t < FIRST + len(taps):
                want = taps[t - FIRST]
            await self.cycle(t, want | ({"over": int(t >= over)} if t else {}), **inputs, rst=int(t == reset_at))
            if t == reset_at:
                for later in range(1, 10):
                    await self.cycle(t + later, {"tap_we": 0, "over": 1}, slot_start=0, rst=0)
                return
        assert reset_at < 0, "the slot ended before the reset"


async def start(dut: Any) -> Bench:
    """A bench in reset state."""
    bench = Bench(dut)
    bench.pins.drive(slot_start=0, active=0, command=0)
    await tb.start(dut)
    return bench


def kernel(rng: np.random.Generator) -> tuple[int, int]:
    """A filter of any size."""
    rows, cols = rng.integers(1, MOST_KERNEL + 1, 2).tolist()
    return rows, cols


@cocotb.test()
async def boxes_of_every_kind(dut: Any) -> None:
    """Tiles of both directions, sub-batches and arbitrary boxes, void taps among them; noise where nothing depends."""
    bench = await start(dut)
    cfg, rng = bench.cfg, bench.rng
    void = 0
    for n in range(60):
        room = cfg.psum_depth, cfg.gather_depth
        fields = (
            tile(rng, kernel(rng), bool(n & 4), *room),
            anything(rng, kernel(rng), *room),
            sub_batches(int(rng.integers(1, cfg.psum_depth + 1)), int(rng.integers(1, 3))),
        )[n % 3]
        counts = boxes(fields).counts
        void += int((counts == 0).any() and (counts > 0).any())
        await bench.slot(unused(rng, fields), longer=int(rng.choice([0, 0, 5])))
    assert void > 5


@cocotb.test()
async def most_taps_and_most_positions(dut: Any) -> None:
    """The largest filter; as many positions as there are partial sums, in images, rows or columns."""
    bench = await start(dut)
    cfg, rng = bench.cfg, bench.rng
    await bench.slot(anything(rng, (MOST_KERNEL, MOST_KERNEL), cfg.psum_depth, cfg.gather_depth))
    point = sub_batches(1, 1)
    for images, rows, cols in ((cfg.psum_depth, 1, 1), (1, cfg.psum_depth, 1), (1, 1, cfg.psum_depth), (2, 1, 2)):
        await bench.slot(point | {"images": images, "row0_count": rows, "col0_count": cols})
    last = {"row0_gather": cfg.gather_depth - 2, "col0_gather": 1, "row0_psum": 1, "col0_psum": cfg.psum_depth - 2}
    await bench.slot(point | last)


@cocotb.test()
async def no_taps(dut: Any) -> None:
    """A stage without command, a command that computes nothing, and one that loads ahead, between others."""
    bench = await start(dut)
    fields = tile(bench.rng, (3, 2), False, bench.cfg.psum_depth, bench.cfg.gather_depth)
    for kind in ({"active": 0}, {"phase": int(Phase.NOP)}, {"ahead": 1}):
        for longer in (0, 1, 7):
            await bench.slot(fields, longer=longer, **kind)
            await bench.slot(fields)
            await bench.slot(fields, longer=longer, **kind)
            await bench.slot(fields, longer=1, **kind)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """After reset no tap comes, all are over, and the next slot is exact."""
    bench = await start(dut)
    for at in range(12):
        fields = tile(bench.rng, (3, 3), True, bench.cfg.psum_depth, bench.cfg.gather_depth)
        await bench.slot(fields, reset_at=at)
        await bench.slot(fields)
