"""Bench of the row walker: every word of every list, in its cycle, against the order of docs/architecture.md.

Slots as in the machine: a list is walked while the next one is collected in the other bank. `advance` pauses at
random once the first word has come; while it is low nothing may move.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.command import Phase
from tb.row_jobs import fitting, random_job
from tb.row_model import Cycle, Job

LATENCY = 2
STROBES = ("load_start", "record_push", "mask_push", "group_push", "start")
SETTINGS = ("phase", "words", "mask_beats", "block_rows", "k0", "log2_blocks", "taps", "every")
ROW = 0


def pushes(job: Job) -> list[Cycle]:
    """The entries of the row and the flags of its mask beats, in order."""
    groups = [
        {"group_push": 1} | {name.replace("entry", "group").replace("record_", ""): v for name, v in bus.items()}
        for unit, bus in job.entries()
        if job.owner[0][unit] == ROW
    ]
    records = []
    for record, bus in job.beats():
        if not bus["load_is_value"] and (job.phase == Phase.BW or job.owner[0][record] == ROW):
            push = {"mask_push": 1, "mask_words": bus.pop("load_words")}
            if bus["load_first"]:
                push |= {"record_push": 1} | {name.replace("load", "record"): v for name, v in bus.items()}
            records.append(push)
    names = ("push", "slot", "word", "words", "group", "base", "channel", "kb", "cb")
    return [{n: v for n, v in push.items() if n.split("_")[1] in names} for push in groups + records]


def walk(job: Job | None) -> list[Cycle]:
    """The words of the row, from the definition: place in the weight buffer and what is known beside it."""
    if job is None:
        return []
    cfg, g, result = job.cfg, job.geometry, []
    words, backward = job.words(ROW), job.phase == Phase.BW
    places: dict[tuple[int, int], int] = {}
    for n, w in enumerate(words):
        # In BW all records are in the buffer, otherwise those of the row, one behind the other.
        record = w.segment * g.records + w.record if backward else places.setdefault((w.segment, w.record), len(places))
        is_last = n + 1 == len(words) or (words[n + 1].segment, words[n + 1].record) != (w.segment, w.record)
        beat, lane = divmod(job.number(w), cfg.masks_per_beat)
        place = {"beat": record * g.mask_beats + beat, "lane": lane}
        info = {
            "slot": w.slot,
            "kb": g.k0 // cfg.block_k + w.record,
            "cb": job.regions[w.segment].geometry.c0 // cfg.block_c + w.block,
            "channel": w.record * cfg.block_k if backward else (w.segment * g.blocks + w.block) * cfg.block_c,
            "tap": w.tap,
            "record_last": int(not backward and is_last),
            "final": int(n == len(words) - 1),
            "null": 0,
        }
        result.append(place | info | ({"group": w.group} if backward else {}))
    return result or [{"null": 1, "final": 1}]


class Bench:
    """Drives slots and compares."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.cfg, self.rng = dut, tb.config(), np.random.default_rng(tb.seed())
        self.layout = tb.parameters()["layout"]
        self.depth = max(self.cfg.mask_beats, self.cfg.psum_depth // self.cfg.lane_group)
        self.shown: dict[str, int] = {}

    def write(self, name: str, value: int) -> None:
        """Drive a port if it changes."""
        if self.shown.get(name) != value:
            getattr(self.dut, name).value = value
            self.shown[name] = value

    def word(self) -> Cycle:
        """The word at the outputs."""
        info = int(self.dut.info.value)
        fields = {name: info >> low & (1 << width) - 1 for name, (low, width) in self.layout.items()}
        return {"beat": int(self.dut.beat.value), "lane": int(self.dut.lane.value)} | fields

    async def slot(
        self, bank: int, job: Job | None, load: list[Cycle] | None, pause: float = 0.0, reset_at: int = -1
    ) -> None:
        """Walk `job` in `bank` while `load` is pushed into the other one."""
        rng, words = self.rng, walk(job)
        begin, shows, held = int(rng.integers(0, 3)), -1, 0
        settings = job.settings() | {"every": int(job.every)} if job else {}
        t = 0
        while t < len(load or []) + 4 or (job and shows < len(words)):
            push = load[t - 1] if load and 0 < t <= len(load) else {}
            if load is not None and t == 0:  # lost
                push = {"record_push": 1}
            inside = job is not None and begin <= t
            advance = int(not inside or t <= begin + LATENCY or rng.random() >= pause)
            given = dict.fromkeys(STROBES, 0) | push | {"bank": bank, "advance": advance}
            given |= {"load_start": int(load is not None and t == 0), "start": int(job is not None and t == begin)}
            for name in SETTINGS:
                if inside and shows < len(words):
                    given[name] = settings[name]
                elif rng.random() < 0.2:
                    given[name] = int(rng.integers(0, 1 << len(getattr(self.dut, name))))
            for name, value in given.items():
                self.write(name, value)
            self.write("rst", int(t == reset_at))
            await RisingEdge(self.dut.clk)
            if inside and t == begin + LATENCY:
                shows = 0
            self.compare(t, words, shows)
            if load is not None and t > 0:
                assert int(self.dut.full.value) == int(held == self.depth), f"full in cycle {t}, {held} entries"
            if load is not None and t == 0:
                held = 0
            elif push.get("record_push") or push.get("group_push"):
                held = min(held + 1, self.depth)
            if 0 <= shows < len(words) and advance:
                shows += 1
            if t == reset_at:
                self.write("rst", 0)
                return
            t += 1
        assert reset_at < 0, "the slot ended before the reset"

    def compare(self, t: int, words: list[Cycle], shows: int) -> None:
        """The outputs of a cycle in which word number `shows` is due (none: -1 or past the last)."""
        due = 0 <= shows < len(words)
        assert int(self.dut.valid.value) == due, f"valid in cycle {t}: word {shows} of {len(words)}"
        if due:
            got, want = self.word(), words[shows]
            assert {name: got[name] for name in want} == want, f"word {shows} in cycle {t}: {got}, not {want}"

    async def chain(self, jobs: list[Job]) -> int:
        """Slot after slot; the words walked."""
        before = None
        for n, job in enumerate([*jobs, None]):
            await self.slot(n % 2, before, pushes(job) if job else None, float(self.rng.choice([0, 0.5])))
            before = job
        return sum(len(walk(job)) for job in jobs)


async def start(dut: Any) -> Bench:
    """A bench in reset state."""
    bench = Bench(dut)
    for name in (*STROBES, "bank", "advance"):
        bench.write(name, 0)
    await tb.start(dut)
    return bench


def jobs(bench: Bench, shapes: list[Cycle], **more: Any) -> list[Job]:
    """Random jobs of all phases, those that fit."""
    result = []
    for shape in shapes:
        for phase in (Phase.FW, Phase.BW, Phase.WU):
            segments = 1 if phase == Phase.WU else shape.get("segments", 1)
            given = {"density": 0.1, **shape, "segments": segments, **more}
            result += fitting(bench.cfg, bench.rng, phase, **given)
    return result


@cocotb.test()
async def random_lists(dut: Any) -> None:
    """Records and lane groups of one segment or several, any number of words, pauses."""
    bench = await start(dut)
    most = max(1, bench.cfg.gather_depth // (2 * bench.cfg.block_c))
    shapes = [
        {"words": int(bench.rng.integers(1, most + 1)), "records": int(bench.rng.integers(1, 6)), "segments": 1 + n % 2}
        for n in range(40)
    ]
    given = jobs(bench, shapes)
    assert len(given) > 40
    assert await bench.chain([given[n] for n in bench.rng.permutation(len(given))]) > 300


@cocotb.test()
async def taps(dut: Any) -> None:
    """Records of several taps, of one block or several: tap after tap in FW and WU, a block column in BW."""
    bench = await start(dut)
    shapes = []
    for n in range(60):
        kernel = tuple(bench.rng.integers(1, 8, 2).tolist()) if n % 3 else (3, 3)
        shapes.append({"kernel": kernel, "boxes": "tile", "words": int(bench.rng.integers(1, 5)), "rows": 1 + n % 2,
                       "records": int(bench.rng.integers(1, 4)), "segments": 1 + n % 2})  # fmt: skip
    shapes += [{"kernel": (2, 2), "boxes": "tile", "empty_row": ROW, "records": 1}] * 8
    given = jobs(bench, shapes) + jobs(bench, [{"kernel": (7, 7), "boxes": "tile", "records": 1, "density": 0.01}])
    assert len(given) > 20 and len({job.taps for job in given}) > 5
    assert await bench.chain([given[n] for n in bench.rng.permutation(len(given))]) > 500


@cocotb.test()
async def smallest_lists(dut: Any) -> None:
    """No entry, one entry of one word, several of one word, one of several: two after each other in every order."""
    bench = await start(dut)
    shapes: list[Cycle] = [
        {"empty_row": ROW, "records": 2},
        {"records": 1, "rows": 1},
        {"records": 4, "rows": 1},
        {"records": 1, "words": 2, "rows": 1, "density": 1.0},
    ]
    kinds = [jobs(bench, [shape], missing=(0, 0)) for shape in shapes]
    assert [len(walk(kind[0])) for kind in kinds] == [1, 1, 4, 2] and walk(kinds[0][0])[0]["null"]
    for one in kinds:
        for other in kinds:
            await bench.chain([one[0], other[1], one[1], other[2], one[2], other[0]])


@cocotb.test()
async def full_list(dut: Any) -> None:
    """As many entries as the list holds are walked; more are dropped; the next list is empty again."""
    bench = await start(dut)
    cfg = bench.cfg
    job = random_job(cfg, bench.rng, Phase.BW, records=2, density=0.1, rows=1, missing=(0, 0))
    entry = next(push for push in pushes(job) if "group_push" in push)
    # The list of a made-up working set: lane group 0 over and over, in other slots.
    full = [{**entry, "group_slot": n % cfg.psum_depth} for n in range(bench.depth + 3)]
    small = jobs(bench, [{"records": 1, "rows": 1}])[0]
    for bank in (0, 1):
        await bench.slot(bank, None, full)
        await bench.slot(1 - bank, None, None)
        bench.write("start", 1)
        for name, value in job.settings().items():
            if name in SETTINGS:
                bench.write(name, value)
        await RisingEdge(dut.clk)
        bench.write("start", 0)
        slots = []
        for _ in range(2 * bench.depth + 6):
            await RisingEdge(dut.clk)
            if int(dut.valid.value):
                slots.append(bench.word()["slot"])
        assert slots == [n % cfg.psum_depth for n in range(bench.depth) for _ in range(2)]
        await bench.chain([small, small])


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """After reset no word comes, both lists are empty, and the next working set is exact."""
    bench = await start(dut)
    for at in range(2, 9):
        given = jobs(bench, [{"words": 1, "records": 8, "rows": 1}])
        for job in given:
            await bench.slot(1, None, pushes(job))
            await bench.slot(0, job, pushes(job), reset_at=at)
            for bank in (0, 1):
                await bench.slot(bank, random_job(bench.cfg, bench.rng, job.phase, empty_row=ROW), None)
            await bench.chain([job])
