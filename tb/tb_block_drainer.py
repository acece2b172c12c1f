"""Bench of the drainers of new blocks, sparse and dense: the region in memory is the golden one, beat for beat.

The bench plays assignment table, rows and write queue. A row answers once, when its answer is due: counts, a beat, a
mask group; everything else that the unit could read is noise. A dense build has no masks, no counts, and no ports for
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import FIELDS
from golden.csb import Region
from golden.writing import BLOCK_DONE, QUEUE, block_done, block_writes, mask_group
from tb.block_model import BlockJob, BlockModel, info_bits, job_of, most_records, random_region
from tb.pins import Pins, command_bits, compare, random_bits

COMMAND_BITS = sum(field.bits for field in FIELDS.values())


class Bench:
    """Regions one after the other."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng = tb.config(), np.random.default_rng(tb.seed())
        self.silent = ["rows_start", "rows_next", "reserve", "push"]
        self.silent += ["rows_mask_next", "rows_info_next"] if self.cfg.sparse else []
        flags = ["rows_mask_last"] if self.cfg.sparse else []
        self.pins = Pins(dut, [*self.silent, *flags, "done", "error", "assign_unit", "push_addr", "push_data"])
        self.info_bits = sum(info_bits(self.cfg))
        self.owner = 0  # answer of the assignment table
        self.owners = [0] * self.cfg.units
        self.error = 0
        self.jobs = 0
        self.pins.drive(rst=0, start=0)

    async def cycle(self, room: bool, given: dict[str, Any], **inputs: int) -> dict[str, int]:
        """One cycle; what the rows do not say is noise."""
        cfg, rng = self.cfg, self.rng
        noise = {"start": 0, "command": random_bits(rng, COMMAND_BITS)}
        widths = {"data": cfg.beat_bits}
        if cfg.sparse:
            widths |= {"mask": mask_group(cfg) * cfg.mask_bits, "info": self.info_bits}
        for name, width in widths.items():
            noise[f"rows_{name}"] = given[name] if name in given else random_bits(rng, width)
        got = await self.pins.cycle(**(noise | inputs), room=int(room), assign_row=self.owner)
        self.owner = self.owners[got["assign_unit"]]
        return got

    async def idle(self, cycles: int) -> None:
        """Nothing to do: nothing moves, an error stays."""
        for t in range(cycles):
            got = await self.cycle(bool(self.rng.integers(2)), {})
            compare(("idle", t), got, {**dict.fromkeys(self.silent, 0), "done": 1, "error": self.error})

    async def play(self, job: BlockJob, room: float = 1.0, reset_at: int = -1, then_idle: int = 3) -> None:
        """One region; there is room with probability `room` in each cycle."""
        cfg, rng, c, model = self.cfg, self.rng, job.command, BlockModel(self.cfg, job)
        self.jobs += 1
        self.owners[: len(job.owners)] = job.owners
        command, pushed, t = command_bits(c), [], 0
        while model.done_from is None or t < model.done_from:
            free = bool(rng.random() < room)
            model.step(t, free)
            inputs = {"command": command, "start": int(t == 0), "rst": int(t == reset_at)}
            got = await self.cycle(free, model.give.pop(t, {}), **inputs)
            self._compare(t, got, model)
            if got["push"]:
                pushed.append((t + QUEUE, got["push_addr"]))
            if t == reset_at:
                self.pins.drive(rst=0)
                self.error = 0
                await self.idle(1 if t % 3 == 0 else 12)
                return
            t += 1
        self.error = int(model.error)
        if room == 1.0 and not model.error and job.header:  # the law without pauses
            writes = block_writes(cfg, c, job.value_beats())
            golden = [(int(n), int(a) & (1 << 32) - 1) for n, a in zip(writes.cycle, writes.address, strict=True)]
            last = [(t + QUEUE, (c["out_addr"] + c["header_beats"] - 1) & (1 << 32) - 1)]
            assert pushed + last == golden
            assert t + BLOCK_DONE == block_done(cfg, c, job.value_beats())
        # The last beat is pushed in the first cycle in which the unit is done.
        got = await self.cycle(bool(rng.integers(2)), model.give.pop(t, {}))
        self._compare(t, got, model)
        assert not model.want
        await self.idle(then_idle)

    def _compare(self, t: int, got: dict[str, int], model: BlockModel) -> None:
        done = model.done_from is not None and t >= model.done_from
        want: dict[str, int | None] = {**dict.fromkeys(self.silent, 0), "done": int(done), "error": 0}
        if t == 0:
            want |= {"rows_start": 1, "done": 1, "error": self.error}
        elif done:
            want["error"] = int(model.error)
        specified = model.want.pop(t, {})
        compare((self.jobs, t), got, want | {name: v for name, v in specified.items() if name in got})


async def begin(dut: Any) -> tuple[Bench, Callable[..., Region], Callable[..., BlockJob]]:
    """A bench after reset, what makes its regions, and what makes work of a region."""
    await tb.start(dut)
    bench = Bench(dut)
    return (
        bench,
        lambda *args, **given: random_region(bench.cfg, bench.rng, *args, **given),
        lambda region, **given: job_of(bench.cfg, bench.rng, region, **given),
    )


def most_words(bench: Bench) -> int:
    """Words that a record of an update may have."""
    return min(bench.cfg.gather_depth // bench.cfg.block_c, 255)


@cocotb.test()
async def random_regions(dut: Any) -> None:
    """Any size and density; a queue that is never, often or nearly always full; the next one at once or later."""
    bench, region, job = await begin(dut)
    rng, most = bench.rng, most_words(bench)
    for trial in range(45):
        words = int(rng.integers(1, min(most, 2 * bench.cfg.masks_per_beat) + 1))
        new = region(int(rng.integers(1, 7)), words, (0.03, 0.3, 0.8)[trial % 3])
        await bench.play(job(new), (1.0, 0.6, 0.15)[trial // 3 % 3], then_idle=trial % 4)


@cocotb.test()
async def filters(dut: Any) -> None:
    """Several taps: lane groups are those of the blocks, counted over all taps; one block of a tap, or many."""
    bench, region, job = await begin(dut)
    most = most_words(bench)
    for log2_blocks in range(4):
        for taps in (2, 3, 9, 25, 49):
            blocks = 1 << log2_blocks
            if blocks > most or blocks * taps > 255:
                continue
            for density in (0.1, 0.9):
                for room in (1.0, 0.5):
                    bias_tap = int(bench.rng.integers(-1, taps))
                    new = region(3, blocks, density, taps=taps, bias_tap=bias_tap)
                    await bench.play(job(new), room, then_idle=0)


@cocotb.test()
async def empty_and_full(dut: Any) -> None:
    """Nothing stored: records of masks alone, one after the other; everything stored, ragged edges or none."""
    bench, region, job = await begin(dut)
    per, most = bench.cfg.masks_per_beat, most_words(bench)
    for density in (0.0, 1.0):
        for words in sorted({min(words, most) for words in (1, 2, 5, per, per + 1, most)}):
            for records in (1, 4):
                for ragged in (False, True):
                    await bench.play(job(region(records, words, density, ragged=ragged)), then_idle=0)


@cocotb.test()
async def many_records(dut: Any) -> None:
    """As many records as there may be units, of one row or of all; the header is longer than the records."""
    bench, region, job = await begin(dut)
    new = region(most_records(bench.cfg), 1, 0.1)
    for room in (1.0, 0.5):
        await bench.play(job(new), room)
    one_row = job(new)
    one_row.owners = [bench.cfg.rows - 1] * len(one_row.owners)
    await bench.play(one_row)


@cocotb.test()
async def headers(dut: Any) -> None:
    """More beats than the words need: zeros; none at all: done all the same."""
    bench, region, job = await begin(dut)
    for room in (1.0, 0.4):
        for extra in (1, 3):
            new = region(3, 2, 0.3)
            await bench.play(job(new, header_beats=new.geometry.header_beats + extra, limit=1 << 31), room)
        await bench.play(job(region(2, 1, 0.3), header_beats=0), room)


@cocotb.test()
async def no_masks(dut: Any) -> None:
    """A command without mask beats: records of values alone, of none at all, and no counts of lane groups."""
    bench, region, job = await begin(dut)
    for density in (0.0, 0.5):
        for words in (1, min(bench.cfg.masks_per_beat, most_words(bench))):
            for room in (1.0, 0.5):
                new = region(4, words, density)
                bare = job(new, mask_beats=0)
                bare.masks = [[] for _ in bare.owners]
                counts = [sum(bare.value_beats()), *bare.counts]
                words_of_header = counts + [0] * (len(bare.header) * bench.cfg.words_per_beat - len(counts))
                bare.header = [
                    sum(word << 32 * i for i, word in enumerate(words_of_header[at : at + bench.cfg.words_per_beat]))
                    for at in range(0, len(words_of_header), bench.cfg.words_per_beat)
                ]
                await bench.play(bare, room, then_idle=0)
                await bench.play(job(new), room)


@cocotb.test()
async def limits(dut: Any) -> None:
    """Exactly enough beats; one too few: the last record does not fit; none does. Then a region that does."""
    bench, region, job = await begin(dut)
    for room in (1.0, 0.4):
        for spare in (0, -1):
            new = region(4, 3, 0.5)
            full = len(new.encode())
            await bench.play(job(new, limit=full + spare), room, then_idle=(0, 5)[room < 1])
            assert bench.error == (spare < 0)
        head = new.geometry.header_beats
        for limit in (0, head, head + new.geometry.mask_beats + int(new.value_beats()[0]) - 1):
            await bench.play(job(new, limit=limit), room)
            assert bench.error
        await bench.play(job(new), room)
        await bench.play(job(new, limit=(1 << 32) - 1, out_addr=(1 << 32) - 3), room)
    # So many records that some have not been looked up when there is no room: the next region begins with the first.
    many = region(most_records(bench.cfg), 1, 0.1)
    for limit in (many.geometry.header_beats + 1, 1 << 31):
        await bench.play(job(many, limit=limit))
        assert bench.error == (limit < 1 << 31)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset in any cycle: records, header, overflow; all is silent at once; the next region is right."""
    bench, region, job = await begin(dut)
    for at in (*range(24), 30, 40):
        new = region(3, min(3, most_words(bench)), 0.5)
        await bench.play(job(new), (1.0, 0.7)[at % 2], reset_at=at)
        await bench.play(job(region(2, 2, 0.5)), 0.7, then_idle=0)
