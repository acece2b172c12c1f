"""Bench of the fetch of records: whose each is, how many beats it has, whether it fits, in every cycle of its queue.

The bench plays assignment table, rows and the drainer that takes records. A row answers once, when its answer is due;
everything else is noise. A region may end anywhere: with its last record, or with the first that does not fit, of which
those behind it have been looked up or not; the next region begins with unit 0 all the same.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from golden.writing import hops
from tb.block_model import INFO, KNOWN, LOOK_UP, BlockJob, info_bits, job_of, most_records, random_region, records
from tb.pins import Pins, command_bits, compare, random_bits

FIRST_LOOK_UP = 1  # start -> unit 0 is looked up
SHOWN = KNOWN + 1  # unit looked up -> its record shows, if it is the next


class Bench:
    """Regions one after the other."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng = tb.config(), np.random.default_rng(tb.seed())
        asks = ["rows_info_next", "read_word"] if self.cfg.sparse else []
        self.pins = Pins(dut, ["valid", "row", "value_beats", "fits", "assign_unit", *asks])
        self.hops = hops(self.cfg)
        self.owners = [0] * self.cfg.units
        self.owner = 0  # answer of the assignment table
        self.regions = 0
        self.pins.drive(rst=0, start=0, pop=0)

    def job(self, records: int, words: int, density: float, **changes: int) -> BlockJob:
        """A region of any content."""
        return job_of(self.cfg, self.rng, random_region(self.cfg, self.rng, records, words, density), **changes)

    async def cycle(self, info: int | None = None, **inputs: int) -> dict[str, int]:
        """One cycle; what no row says is noise."""
        if self.cfg.sparse:
            inputs["rows_info"] = random_bits(self.rng, sum(info_bits(self.cfg))) if info is None else info
        got = await self.pins.cycle(**inputs, assign_row=self.owner)
        self.owner = self.owners[got["assign_unit"]]
        return got

    async def play(self, job: BlockJob, pace: float = 1.0, reset_at: int = -1) -> int:
        """One region, a record taken with probability `pace` in each cycle in which there is one.

        Returns: records taken.
        """
        cfg, c, rng = self.cfg, job.command, self.rng
        self.regions += 1
        self.owners[: len(job.owners)] = job.owners
        fits = (np.cumsum(job.beats()) + c["header_beats"] <= c["limit"]).tolist()
        last = fits.index(False) if False in fits else len(fits) - 1
        looked_up: list[int] = []  # cycle of each record
        taken: list[int] = []
        asks, infos, settled = {}, {}, -1
        asked_word: int | None = None
        t = 0
        while len(taken) <= last or t <= settled:
            n = len(looked_up)
            room = n < len(taken) + records(cfg)
            if t >= FIRST_LOOK_UP and n < len(fits) and room and (n <= last or t < looked_up[last] + KNOWN + self.hops):
                looked_up.append(t)
                asks[t + LOOK_UP], infos[t + INFO + self.hops] = 1 << job.owners[n], job.infos[n]
                settled = t + SHOWN + self.hops
            shown = len(taken)
            valid = shown <= last and shown < len(looked_up)
            valid = valid and t >= max(looked_up[shown] + SHOWN + self.hops, taken[-1] + 1 if taken else 0)
            pop = bool(valid and rng.random() < pace)
            known = sum(at + SHOWN + self.hops <= t for at in looked_up[: last + 1])
            word = int(rng.integers(known)) if known else None
            inputs = {"record": word or 0} if cfg.sparse else {}
            got = await self.cycle(infos.get(t), start=int(t == 0), command=command_bits(c), pop=int(pop), **inputs)
            want: dict[str, int | None] = {"valid": valid}
            if valid:
                want |= {"row": job.owners[shown], "value_beats": len(job.values[shown]), "fits": fits[shown]}
            if cfg.sparse:
                want |= {"rows_info_next": asks.get(t, 0)}
                want |= {} if asked_word is None else {"read_word": job.counts[asked_word]}
            compare((self.regions, t), got, want)
            asked_word = word
            if pop:
                taken.append(t)
            if t == reset_at:
                self.pins.drive(rst=1, pop=0)
                await self.cycle(start=0)
                self.pins.drive(rst=0)
                silent = ["valid", "rows_info_next"] if cfg.sparse else ["valid"]
                for _ in range(30):
                    compare("after reset", await self.cycle(), dict.fromkeys(silent, 0))
                break
            t += 1
        self.pins.drive(pop=0)
        return len(taken)


@cocotb.test()
async def paces(dut: Any) -> None:
    """Regions of a few records and of as many as there may be, taken as they come, sometimes, hardly ever."""
    await tb.start(dut)
    bench = Bench(dut)
    most = most_records(bench.cfg)
    for pace in (1.0, 0.5, 0.1):
        for count in (1, 2, 7, most):
            assert await bench.play(bench.job(count, 2, 0.4), pace) == count


@cocotb.test()
async def no_room(dut: Any) -> None:
    """Any record may be the first that does not fit; the next region, at once, begins with its first."""
    await tb.start(dut)
    bench = Bench(dut)
    most = min(3 * records(bench.cfg), most_records(bench.cfg))
    for last in (0, 1, most // 2, most - 1):
        for pace in (1.0, 0.3):
            job = bench.job(most, 2, 0.4)
            job.command["limit"] = job.command["header_beats"] + sum(job.beats()[: last + 1]) - 1
            assert await bench.play(job, pace) == last + 1
            assert await bench.play(bench.job(3, 1, 0.5), pace) == 3


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset in any cycle: no record is left, none is asked for; the next region is right."""
    await tb.start(dut)
    bench = Bench(dut)
    for cycle in (*range(14), 20, 40):
        await bench.play(bench.job(9, 2, 0.4), 0.3, reset_at=cycle)
        assert await bench.play(bench.job(5, 1, 0.5), 0.7) == 5
