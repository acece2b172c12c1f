"""Bench of a row: controller, PEs, weight update and encoder together, in all phases, against the golden model.

Slots follow each other as in the machine: one working set is loaded, one computes, one is drained, each in banks
of its own that flip between slots. In every cycle: done, busy, scan and the events of the weight update; after it,
partial sums through the side port (which clears them), or new records, beat for beat. The buses also carry what
belongs to other rows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import product
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.command import Phase
from arch.config import Config
from golden.writing import mask_group
from tb.block_model import groups_of, info_bits
from tb.pins import random_bits
from tb.row_jobs import NoRoom, random_job
from tb.row_load import interleaved, merged
from tb.row_model import Cycle
from tb.row_work import EVENTS, Work, make_work

ROWS = 3  # that units are dealt to
ENCODED = 2  # cycles from an event until it can be drained; with `cfg.copies` two more
DRAIN_FROM = 3  # first cycle of a slot in which the side port may be used: 5 after the last MAC
BANKS = ("weight_bank", "tap_bank", "gather_bank", "psum_bank", "stat_bank", "update_bank")
VALID = ("load_valid", "entry_valid", "tap_we", "col_we", "stat_we", "side_read", "side_clear")
DRAIN = ("drain_start", "drain_next", "drain_mask_next", "drain_mask_last", "drain_info_next")
ANSWERS = ("side_q", "drain_data", "drain_mask", "drain_info")
ANSWER = 2  # cycles behind the question, with `cfg.copies` one more
PICKED = ("side_read", "side_clear", "drain_next", "drain_mask_next", "drain_info_next")  # a bit a row of the chain


def pack(numbers: np.ndarray, bits: int) -> int:
    """Signed numbers side by side, the first lowest."""
    return sum((int(n) & (1 << bits) - 1) << i * bits for i, n in enumerate(numbers.ravel()))


def loads(work: Work, rng: np.random.Generator, gap: float) -> list[Cycle]:
    """All that is loaded for a working set: weights and both operands, a beat a cycle; entries and taps beside them."""
    cfg, job, number = work.job.cfg, work.job, work.row
    everywhere = job.phase == Phase.BW
    weights = [
        {**bus, "load_all": int(everywhere), "load_row": int(rng.integers(0, 4) if everywhere else job.owner[0][r])}
        for r, bus in job.beats()
    ]
    for bus in weights:  # the loader marks first beats in every phase; a row ignores the mark in BW
        bus["load_first"] |= int(everywhere and rng.integers(0, 2))
        bus["bus_data"] = bus.pop("load_data")
    entries = [{**bus, "entry_row": int(job.owner[0][unit])} for unit, bus in job.entries()]
    e, a = cfg.bus_elements, cfg.operand_bits
    columns = [
        {"col_we": 1, "col_addr": w, "bus_data": pack(work.gather[:, w * e : (w + 1) * e], a)}
        for w in rng.permutation(cfg.gather_depth // e).tolist()
    ]
    stationary = [
        {"stat_we": 1, "stat_addr": at, "stat_row": row, "bus_data": spread(of[:, at], cfg)}
        for at in range(cfg.psum_depth if job.phase == Phase.WU else 0)
        for row, of in ((number, work.stationary), ((number + 1) % ROWS, 1 - work.stationary))
    ]
    beats = interleaved(rng, weights, columns, stationary)
    return merged(rng, gap, beats, entries, job.tap_writes(rng))


def spread(words: np.ndarray, cfg: Config) -> int:
    """Stationary operands of all columns, both halves, as they lie in a beat; a row looks at no others."""
    beat = np.zeros((cfg.columns, cfg.bus_elements), np.int64)
    beat[:, : cfg.stationary_pack] = words[:, : cfg.stationary_pack]
    return pack(beat, cfg.operand_bits)


def drains(work: Work | None, cfg: Config, rng: np.random.Generator) -> list[tuple[Cycle, Cycle]]:
    """Per cycle of a slot: what drains the working set of the slot before, and what is answered."""
    script: list[tuple[Cycle, Cycle]] = [({}, {})] * DRAIN_FROM
    if work is None or (work.job.phase == Phase.WU and (work.overflows() or work.job.sum_store)):
        return script
    if work.job.phase != Phase.WU:
        for sums in (work.sums, 0 * work.sums):  # cleared behind the first read, but not at once
            script.append(({}, {}))
            for at in rng.permutation(cfg.psum_depth).tolist():
                script.append(
                    ({"side_addr": at, "side_read": 1, "side_clear": 1}, {"side_q": pack(sums[:, at], cfg.acc_bits)})
                )
        return script
    for number, record in enumerate(work.records):
        script += [({"drain_start": 1}, {})] * (number == 0)
        script.append(({"drain_info_next": 1}, {"drain_info": record.info}))
        groups = groups_of(cfg, record.masks)[: -(-work.job.geometry.words // mask_group(cfg))]
        for strobe, output, beats in (
            ("drain_mask_next", "drain_mask", groups),
            ("drain_next", "drain_data", record.values),
        ):
            for index, beat in enumerate(beats):
                script += [({}, {})] * int(rng.random() < 0.2)
                last = {"drain_mask_last": int(index + 1 == len(beats))} if output == "drain_mask" else {}
                script.append(({strobe: 1, **last}, {output: beat}))
    return script


def header_word(cfg: Config, info: int, log2_cycles: int) -> int:
    """What the header says of a record, from what the row shows of it."""
    nnz_bits, visits_bits, _ = info_bits(cfg)
    nnz, visits, empty = info & (1 << nnz_bits) - 1, info >> nnz_bits & (1 << visits_bits) - 1, info >> 2 * nnz_bits
    return nnz | min((visits << log2_cycles) + empty, (1 << 16) - 1) << 16


class Row:
    """A row under test: its ports, its number, and the bank parity of the next slot."""

    def __init__(self, dut: Any, cfg: Config, rng: np.random.Generator) -> None:
        self.dut, self.cfg, self.rng = dut, cfg, rng
        self.shown: dict[str, int] = {}
        self.number, self.parity = int(rng.integers(0, ROWS)), 0
        self.psum_bank, self.carry = 0, np.zeros((cfg.columns, cfg.psum_depth), np.int64)
        self.computed: Work | None = None
        self.chained: tuple[Cycle, Cycle] | None = None  # asked and answered by other rows in the cycle before

    def write(self, given: Cycle) -> None:
        """Drive ports that change."""
        for name, value in given.items():
            if self.shown.get(name) != value:
                getattr(self.dut, name).value = value & (1 << len(getattr(self.dut, name))) - 1
                self.shown[name] = value

    async def slot(self, compute: Work | None, load: Work | None, reset_at: int = -1, accumulate: bool = False) -> None:
        """Load, compute and drain; ends when all are through. `accumulate` leaves the sums to the next slot."""
        given, rng, cfg = tb.parameters(), self.rng, self.cfg
        begin = int(rng.integers(1, 4))
        first = begin + given["start_latency"]
        shown = compute.cycles if compute else []
        end = first + len(shown)
        to_event = given["dot_latency"] + given["gradient_latency"] + given["update_latency"]
        # Copies of load_start and of banks are a cycle behind.
        loading = [{}] * cfg.copies + loads(load, rng, float(rng.choice([0, 0.3]))) if load else []
        drain = drains(None if self.carry.any() else self.computed, cfg, rng)
        events = compute.events if compute else {}
        updating = compute is not None and compute.job.phase == Phase.WU and not compute.job.sum_store
        self.write({"load_exact": int(load is not None and load.job.phase == Phase.WU)})
        self.write({**dict.fromkeys(BANKS, self.parity), "psum_bank": self.psum_bank, "number": self.number})
        due: defaultdict[int, Cycle] = defaultdict(dict)
        if compute:
            job = compute.job
            sums = {"sum_add": int(job.sum_add), "sum_store": int(job.sum_store)}
            self.write({**job.settings(), **compute.constants, **sums})
        last = end + (to_event + ENCODED + 2 * cfg.copies if updating else 2) if compute else 0
        for t in range(max(last, len(loading) + 1, len(drain) + ANSWER + cfg.copies)):
            strobes, shows = drain[t] if t < len(drain) else ({}, {})
            self.write(
                dict.fromkeys((*VALID, *DRAIN), 0)
                | (loading[t - 1] if 0 < t <= len(loading) else {})
                | strobes
                | {"load_start": int(t == 0 and load is not None)}
                | {"compute_start": int(t == begin and compute is not None), "rst": int(t == reset_at)}
            )
            passed, before = self.neighbours("drain_info" in due.get(t + 1, {}))
            await RisingEdge(self.dut.clk)
            now = shown[t - first - 1] if first < t <= end else {}  # what is counted comes a cycle later
            wanted = {
                "done": int(not compute or not begin + 1 < t < end),
                "is_busy": now.get("is_busy", 0),
                "is_scan": now.get("is_scan", 0),
                "load_error": 0,
                **{name: int(name in events.get(t - first - to_event - 1, ())) for name in EVENTS},
                **dict.fromkeys(ANSWERS[: 1 if not cfg.copies else 4 if cfg.sparse else 2], 0),  # else they stay
                **due.get(t, {}),
                **passed,
            }
            if before is None:
                wanted = {name: word for name, word in wanted.items() if name not in ANSWERS}
            else:
                wanted |= {name: wanted[name] | word for name, word in before.items()}
            shows_info = "drain_info" in due.pop(t, {})
            if t == 0 and self.computed is None:
                del wanted["load_error"]
            seen = {name: int(getattr(self.dut, name).value) for name in wanted}
            if shows_info and wanted["drain_info"]:
                seen["drain_info"] = header_word(cfg, seen["drain_info"], self.computed.job.log2_cycles)
            assert seen == wanted, f"cycle {t} (first operation in {first}): {seen}, not {wanted}"
            for name, word in shows.items():
                due[t + ANSWER + cfg.copies][name] = word
            if t == reset_at:
                self.write(dict.fromkeys(("rst", "compute_start", *VALID, *DRAIN), 0))
                self.computed = self.chained = None
                return
        assert reset_at < 0, "the slot ended before the reset"
        if updating:
            assert int(self.dut.update_error.value) == compute.overflows()
        if compute:
            assert int(self.dut.sum_error.value) == compute.sums_overflow()
        self.computed, self.parity = compute, 1 - self.parity
        if compute and compute.job.phase != Phase.WU:
            compute.sums = compute.sums + self.carry
            self.carry = compute.sums * accumulate
            self.psum_bank ^= not accumulate

    def neighbours(self, info: bool) -> tuple[Cycle, Cycle | None]:
        """The other rows of the chain, this cycle: anything is asked of those behind, and answered by those before.

        Args:
            info: this row shows an info in the next cycle, so no other does; one is compared by what it says.

        Returns: what is to be seen: the questions of the cycle before, passed on, and the answers of then, which join
        those of the row; None if they are not known, and nothing where there are no other rows.
        """
        rows = self.cfg.chain_rows
        if rows == 1:
            return {}, {}
        questions = [name for name in (*PICKED, "side_addr", "drain_start", "drain_mask_last") if name in self.shown]
        self.write({name: self.shown[name] & 1 | int(self.rng.integers(1 << rows - 1)) << 1 for name in PICKED})
        asked = {f"{name}_on": self.shown[name] >> (name in PICKED) for name in questions}
        answers = {name: random_bits(self.rng, len(getattr(self.dut, name))) for name in ANSWERS}
        answers["drain_info"] *= not info
        self.write({f"{name}_before": word for name, word in answers.items()})
        last, self.chained = self.chained, (asked, answers)
        return last or ({}, None)

    async def chain(self, works: list[Work], together: int = 1) -> None:
        """Slot after slot, three working sets under way; the sums of `together` of them are drained at once."""
        before: Work | None = None
        for n, work in enumerate([*works, None, None]):
            await self.slot(before, work, accumulate=before is not None and n % together > 0)
            before = work

    async def scrub(self) -> None:
        """Zero all partial sums, as after power-up."""
        self.chained = None
        for bank in (0, 1):
            self.write({"psum_bank": bank})
            for at in range(self.cfg.psum_depth):
                self.write({"side_addr": at, "side_clear": 1})
                await RisingEdge(self.dut.clk)
        self.write({"side_clear": 0})


async def environment(dut: Any) -> Row:
    """A row in reset state without partial sums."""
    row = Row(dut, tb.config(), np.random.default_rng(tb.seed()))
    row.write(dict.fromkeys((*VALID, *DRAIN, "compute_start", "load_start"), 0))
    await tb.start(dut)
    await row.scrub()
    return row


def work(row: Row, phase: Phase, constants: Cycle | None = None, **shape: Any) -> Work:
    """A random working set with its results; with `rows=1` all of it belongs to the row under test."""
    job = random_job(row.cfg, row.rng, phase, **{"rows": ROWS, **shape})
    job.owner = (job.owner[0] + row.number) % ROWS, job.owner[1]
    return make_work(job, row.number, row.rng, **(constants or {}))


def some(row: Row, phase: Phase, **shape: Any) -> list[Work]:
    """A random working set, or none if this shape does not fit."""
    try:
        return [work(row, phase, **shape)]
    except NoRoom:
        return []


@cocotb.test()
async def forward_and_backward(dut: Any) -> None:
    """Partial sums of every place equal the golden products, and zero elsewhere; back to back."""
    row = await environment(dut)
    works = []
    for phase in (Phase.FW, Phase.BW, Phase.BW, Phase.FW):
        for positions in (1, 2, 3):
            for density, dense_visits in ((0.3, False), (0.1, True)):
                works.append(work(row, phase, positions=positions, density=density, dense_visits=dense_visits,
                                  segments=int(row.rng.integers(1, 3))))  # fmt: skip
    assert sum(w.sums.any() for w in works) > 10
    await row.chain([works[n] for n in row.rng.permutation(len(works))])


@cocotb.test()
async def sums_over_working_sets(dut: Any) -> None:
    """Three working sets add up in the same bank before it is drained: layers wider than the gather memory."""
    row = await environment(dut)
    await row.chain([work(row, Phase(n % 4 // 3), density=0.4, rows=1) for n in range(12)], together=3)


@cocotb.test()
async def weight_updates(dut: Any) -> None:
    """New records equal the golden region, events come in their cycles; empty words and rows among them."""
    row = await environment(dut)
    works = []
    for positions in (1, 2, 3):
        for density, period, dense in (
            (0.3, 2, False),
            (0.02, 1, False),
            (0.3, 0, True),
            (0.0, 6, False),
            (0.2, 3, False),
        ):
            for rows in (1, ROWS):
                works.append(work(row, Phase.WU, positions=positions, density=density, log2_period=period, dense=dense,
                                  words=1, records=3, rows=rows))  # fmt: skip
    totals = [sum(w.counts()[name] for w in works) for name in EVENTS]
    assert min(totals) > 0 and not any(w.overflows() for w in works)
    await row.chain([works[n] for n in row.rng.permutation(len(works))])


@cocotb.test()
async def all_phases_mixed(dut: Any) -> None:
    """Phases follow each other in any order; rows without work and words without visits in between."""
    row = await environment(dut)
    works = []
    for n in range(24):
        phase = Phase(int(row.rng.integers(0, 3)))
        density = float(row.rng.choice([0, 0.05, 0.4]))
        works.append(work(row, phase, positions=int(row.rng.integers(1, 4)), density=density,
                          dense_visits=n % 5 == 0, records=int(row.rng.integers(1, 4)), log2_period=n % 7))  # fmt: skip
    assert any(not w.cycles for w in works)
    await row.chain(works)


@cocotb.test()
async def convolutions(dut: Any) -> None:
    """Filters over tiles of maps and over any boxes, in all phases; void taps, biases, depthwise filters."""
    row = await environment(dut)
    works = []
    for n, (phase, kernel) in enumerate(product((Phase.FW, Phase.BW, Phase.WU), ((3, 3), (1, 2), (2, 2), (4, 1)))):
        for boxes in ("tile", "any"):
            shape = {"kernel": kernel, "boxes": boxes, "positions": 8, "density": 0.3, "log2_period": n % 3}
            shape |= {"dense_visits": n % 5 == 0, "records": int(row.rng.integers(1, 4)), "words": 1 + n % 2}
            works += some(row, phase, **shape) + some(row, phase, **shape, depthwise=phase != Phase.BW)
    assert len(works) > 20 and any(w.job.depthwise for w in works)
    assert sum("visit_void" in c for w in works for c in w.cycles) > 5
    await row.chain([works[n] for n in row.rng.permutation(len(works))])


def tiles(row: Row, count: int, **shape: Any) -> list[Work]:
    """The tiles of a map: the same weights, other boxes and operands; all but the last store their gradients."""
    works: list[Work] = []
    job = work(row, Phase.WU, **shape).job
    for n in range(count):
        tile = random_job(row.cfg, row.rng, Phase.WU, **{"rows": ROWS, **shape})
        # The slots of the units were dealt for so many positions.
        boxes = tile.boxes if n and tile.positions <= 1 << job.log2_positions else job.boxes
        now = replace(job, boxes=boxes, sum_add=n > 0, sum_store=n < count - 1, deltas=[])
        works.append(make_work(now, row.number, row.rng, works[-1] if works else None))
    return works


@cocotb.test()
async def maps_of_several_tiles(dut: Any) -> None:
    """Gradients are stored, added to and at last update the weights; other working sets come before and after."""
    row = await environment(dut)
    works, maps = [], 0
    for n in range(14):
        kernel = ((2, 2), (1, 1), (3, 1))[n % 3]
        shape = {"kernel": kernel, "boxes": ("tile", "any")[n % 2], "positions": 4, "density": (0.0, 0.2, 0.5)[n % 3]}
        shape |= {"records": 1 + n % 2, "log2_period": n % 4, "rows": (1, ROWS)[n % 2], "dense": n % 5 == 4}
        for _ in range(20):
            try:
                given = tiles(row, int(row.rng.integers(2, 5)), **shape)
            except NoRoom:
                break
            if not any(w.sums_overflow() for w in given):
                works += given
                maps += 1
                break
        works += some(row, Phase(n % 3), density=0.3)
    assert maps > 5 and sum(w.counts()["seen"] for w in works) > 100
    await row.chain(works)


@cocotb.test()
async def more_gradients_than_room(dut: Any) -> None:
    """One visit more than can be stored: sum_error; as many are exact, and so is what comes next."""
    row = await environment(dut)
    cfg = row.cfg
    words = min(cfg.gather_depth // cfg.block_c, cfg.gradients // cfg.mask_bits, 4)
    records = cfg.gradients // (words * cfg.mask_bits)
    shape = {"density": 0.0, "words": words, "rows": 1, "missing": (0, 0), "log2_period": 0, "dense_visits": False}
    full = tiles(row, 2, records=records, **shape)
    assert len(full[0].gradients) == cfg.gradients
    over = tiles(row, 2, records=records + 1, **shape)
    assert over[0].sums_overflow()
    await row.chain([*full, over[0], *full, work(row, Phase.FW), over[0], work(row, Phase.WU, density=0.3), *full])


@cocotb.test()
async def update_buffer_overflow(dut: Any) -> None:
    """More new weights than the update buffer holds: update_error; the next working set is exact again."""
    row = await environment(dut)
    cfg = row.cfg
    room = cfg.value_beats * cfg.values_per_beat
    words = min(cfg.gather_depth // cfg.block_c, 8)
    records = room // (words * cfg.mask_bits) + 1
    shape = {"density": 0.0, "words": words, "records": records, "rows": 1, "missing": (0, 0), "log2_period": 0}
    full = work(row, Phase.WU, {"theta": 0, "lr": 3, "shift": 0}, **shape)
    assert full.overflows()
    await row.chain([full, work(row, Phase.WU, density=0.3, rows=1), full, work(row, Phase.FW, rows=1)])


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """After reset in the middle of a working set the row is silent, and the next one is exact."""
    row = await environment(dut)
    for at in (3, 12, 20, 27, 40):
        for phase in (Phase.FW, Phase.WU):
            one, two = (work(row, phase, density=0.6, rows=1) for _ in range(2))
            await row.slot(None, one)
            await row.slot(one, two, reset_at=at)
            await row.scrub()
            await row.slot(None, None)
            await row.chain([two])
