"""Bench of the row controller: every operation of every cycle against the row model and the golden trace.

Slots follow each other as in the machine: while a working set computes from one bank, the next is loaded into
the other, at random pace, among beats and entries of other rows. What must be constant only during compute is
random outside it. `row_model` says what each cycle shows; this file only adds START_LATENCY and the rest of the
interface. Outputs that mean nothing in a cycle are not looked at in it; what is known of a visit is shown some
cycles before its last operation.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.command import Phase
from arch.config import Config
from golden.csb import Region
from tb.box_jobs import sub_batches
from tb.row_jobs import fitting, random_job
from tb.row_load import Load, load, merged
from tb.row_model import Job

ALWAYS = ("op", "is_busy", "is_scan", "done", "visit_valid", "visit_void", "visit_word_last", "load_error")
ROW = 0
SIGNED = ("value", "visit_delta")
EARLY = {"visit_bit": "visit_lead", "visit_record_last": "visit_lead", "visit_next_explored": "visit_lead",
         "visit_next_count": "visit_lead", "visit_has_value": "delta_lead", "visit_delta": "delta_lead"}  # fmt: skip


class Driver:
    """Ports with the values they last got: writing costs more than comparing."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.shown, self.tap_bank = dut, dict[str, int](), 0

    def write(self, name: str, value: int) -> None:
        if self.shown.get(name) != value:
            getattr(self.dut, name).value = value
            self.shown[name] = value

    def read(self, name: str) -> int:
        handle = getattr(self.dut, name).value
        return handle.to_signed() if name in SIGNED else int(handle)


LOAD = ("load_valid", "load_is_value", "load_data", "load_before", "load_offsets", "load_words", "load_mine",
        "load_first", "load_slot", "load_channel", "load_kb", "load_cb", "entry_valid", "entry_mine", "entry_slot",
        "entry_word", "entry_group", "entry_record_base", "entry_cb", "tap_we", "tap", "box", "count")  # fmt: skip
STROBES = ("load_valid", "entry_valid", "tap_we")


async def slot(
    driver: Driver,
    cfg: Config,
    rng: np.random.Generator,
    bank: int,
    compute: Job | None,
    loading: Load | None,
    row: int = ROW,
    reset_at: int = -1,
) -> None:
    """One slot: `compute` from `bank` while `loading` goes to the other one; ends when both are through.

    The bank of the taps flips whenever taps have been loaded, that of the weights as the caller says.
    """
    given, latency = tb.parameters(), tb.parameters()["start_latency"]
    leads = {name: given[lead] for name, lead in EARLY.items()}
    dut, has_trace = driver.dut, cfg.trace
    begin = int(rng.integers(0, 4))
    shown = compute.cycles(row) if compute else []
    records = compute.golden_records(row) if compute and has_trace else {}
    first = begin + latency
    done = first + len(shown)
    cycles = loading.cycles if loading else []
    settings = compute.settings() if compute else {}
    weights = loading is not None and bool(loading.errors)
    driver.write("tap_bank", driver.tap_bank)
    driver.tap_bank ^= any("tap_we" in c for c in cycles)
    error: int | None = None  # not known before the first load_start
    for t in range(max(done + 1 if compute else 4, len(cycles) + 2)):
        driver.write("bank", bank)
        driver.write("load_start", int(t == 0 and weights))
        driver.write("load_exact", loading.exact if weights else int(rng.integers(2)))
        bus = cycles[t - 1] if 0 < t <= len(cycles) else {}
        if t == 0 and weights:  # lost
            bus = {"load_valid": 1, "load_mine": 1, "load_first": 1, "load_is_value": int(rng.integers(0, 2))}
        for name in LOAD:
            if name in bus or name in STROBES:
                driver.write(name, bus.get(name, 0))
            elif rng.random() < 0.1:
                driver.write(name, int(rng.integers(0, 1 << min(62, len(getattr(dut, name))))))
        driver.write("compute_start", int(compute is not None and t == begin))
        for name, value in settings.items():
            inside = begin <= t <= done
            if inside or rng.random() < 0.1:
                width = len(getattr(dut, name))
                driver.write(name, value if inside else int(rng.integers(0, 1 << min(width, 62))))
        driver.write("rst", int(t == reset_at))
        await RisingEdge(dut.clk)
        wanted = shown[t - first] if compute and first <= t < done else {}
        idle = not compute or t <= begin or t >= done
        seen = {name: driver.read(name) for name in ALWAYS}
        expected = {name: wanted.get(name, 0) for name in ALWAYS} | {"done": int(idle)}
        expected["load_error"] = seen["load_error"] if error is None else error
        assert seen == expected, f"cycle {t} (first operation in {first}): {seen}, not {expected}"
        now = {name: value for name, value in wanted.items() if name not in seen and name not in leads}
        for name, lead in leads.items():
            if 0 <= t + lead - first < len(shown) and name in shown[t + lead - first]:
                now[name] = shown[t + lead - first][name]
        for name, value in now.items():
            got = driver.read(name)
            assert got == value, f"{name} in cycle {t} (operation {t - first}): {got}, not {value}; {wanted}"
        if cfg.sparse and int(dut.factor_enable.value):  # what multiplies stands beside the controller
            driver.write("scaled", dut.factor.value.to_signed() * settings["scale_t"])
        if has_trace:
            got, want = int(dut.trace_record.value), records.get(t - first, 0)
            assert got == want, f"trace in cycle {t} (operation {t - first}): {got:#x}, not {want:#x}"
        if weights:
            error = ([0, *loading.errors])[min(t, len(cycles))]
        if t == reset_at:
            driver.write("rst", 0)
            return
    assert reset_at < 0, "the slot ended before the reset"


async def chain(driver: Driver, cfg: Config, rng: np.random.Generator, jobs: list[Job], row: int = ROW) -> int:
    """Slot after slot, banks alternating; each job is loaded while the one before it computes. Operations issued."""
    before: Job | None = None
    for index, job in enumerate([*jobs, None]):
        loading = load(cfg, rng, job, row, float(rng.choice([0, 0, 0.4]))) if job else None
        assert loading is None or not loading.errors or loading.errors[-1] == 0, "the job does not fit"
        await slot(driver, cfg, rng, index % 2, before, loading, row)
        before = job
    return sum("op" in c for job in jobs for c in job.cycles(row))


async def environment(dut: Any) -> tuple[Driver, Config, np.random.Generator]:
    """A row in reset state, all inputs driven."""
    driver = Driver(dut)
    await tb.start(dut)
    return driver, tb.config(), np.random.default_rng(tb.seed())


def most_words(cfg: Config, positions: int, segments: int = 1) -> int:
    """Mask words of a record of which the gathered operands fit, at most 3."""
    return min(3, cfg.gather_depth // (positions * segments * cfg.block_c))


@cocotb.test()
async def random_working_sets(dut: Any) -> None:
    """All phases, numbers of positions, densities and shapes, back to back."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    kinds = ((0.05, False), (0.4, False), (0.1, True))
    shapes = product((Phase.FW, Phase.BW, Phase.WU), (1, 2, 3, 5, 255), kinds, range(3))
    for phase, positions, (density, dense_visits), _ in shapes:
        segments = 1 if phase == Phase.WU else int(rng.integers(1, 3))
        words = int(rng.integers(1, max(1, most_words(cfg, positions, segments)) + 1))
        shape = {"segments": segments, "words": words, "records": int(rng.integers(1, 4))}
        shape |= {"density": density / min(positions, 5), "log2_period": int(rng.integers(0, 7))}
        jobs += fitting(cfg, rng, phase, positions=positions, dense_visits=dense_visits, **shape)
    assert len(jobs) > 50
    order = rng.permutation(len(jobs))
    assert await chain(driver, cfg, rng, [jobs[n] for n in order]) > 500


@cocotb.test()
async def convolutions(dut: Any) -> None:
    """Filters of all shapes over tiles of maps and over any boxes; void taps; biases; depthwise; all phases."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    kernels = ((3, 3), (1, 1), (2, 3), (5, 1), (1, 7), (3, 2))
    for n, (phase, kernel, boxes) in enumerate(product((Phase.FW, Phase.BW, Phase.WU), kernels, ("tile", "any"))):
        for visits in (False, True):
            shape = {"kernel": kernel, "boxes": boxes, "positions": 12, "dense_visits": visits, "words": 1 + n % 2,
                     "records": int(rng.integers(1, 4)), "density": 0.1 if visits else 0.4, "log2_period": n % 4,
                     "segments": 1 if phase == Phase.WU else 1 + n // 2 % 2}  # fmt: skip
            jobs += fitting(cfg, rng, phase, **shape)
            if phase != Phase.BW:
                jobs += fitting(cfg, rng, phase, **shape | {"depthwise": True, "words": 1, "segments": 1})
    assert len(jobs) > 30
    cycles = [c for job in jobs for c in job.cycles(ROW)]
    assert sum("op" in c for c in cycles) > 1000 and sum("visit_void" in c for c in cycles) > 20
    await chain(driver, cfg, rng, [jobs[n] for n in rng.permutation(len(jobs))])


@cocotb.test()
async def large_filter(dut: Any) -> None:
    """The largest filter, few of whose taps meet anything."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    for phase, visits in product((Phase.FW, Phase.BW, Phase.WU), (False, True)):
        jobs += fitting(cfg, rng, phase, kernel=(7, 7), boxes="tile", positions=2, records=1, density=0.05,
                        dense_visits=visits, log2_period=2)  # fmt: skip
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def empty_rows_and_empty_words(dut: Any) -> None:
    """No entry at all in any phase, records of zeros only, and both between rows with work: scans and nulls."""
    driver, cfg, rng = await environment(dut)
    jobs, words = [], most_words(cfg, 1)
    for phase in (Phase.FW, Phase.BW, Phase.WU):
        sparse = {"density": 0.0, "log2_period": 6, "step": 0}
        jobs += [
            random_job(cfg, rng, phase, words=words, empty_row=ROW),
            random_job(cfg, rng, phase, words=words, records=4, **sparse),
            random_job(cfg, rng, phase, words=words, empty_row=ROW),
            random_job(cfg, rng, phase, words=1, records=1, rows=1, density=0.5),
            random_job(cfg, rng, phase, words=1, records=1, rows=1, density=0.0, log2_period=6),
            random_job(cfg, rng, phase, words=words, records=4, density=1.5 / cfg.mask_bits, log2_period=6),
        ]
    scans = sum("is_scan" in c for job in jobs for c in job.cycles(ROW))
    assert scans > 20 and any(not job.words(ROW) for job in jobs)
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def everything_stored(dut: Any) -> None:
    """Full masks, whole blocks; each weight visited in each phase, U = 1 and 2, dense mode too."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    for phase in (Phase.FW, Phase.BW, Phase.WU):
        for positions in (1, 2):
            for more in ({}, {"dense": True}, {"dense_visits": True}):
                if phase == Phase.WU and "dense_visits" in more:
                    continue
                jobs.append(
                    random_job(cfg, rng, phase, positions=positions, density=1.0, missing=(0, 0), records=2, **more)
                )
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def ragged_edges(dut: Any) -> None:
    """The last valid channels at any place of a block, words outside; coordinates at both ends of their range."""
    driver, cfg, rng = await environment(dut)
    jobs, words = [], most_words(cfg, 1)
    for phase in (Phase.FW, Phase.BW, Phase.WU):
        for short in {0, 1, cfg.block_c, words * cfg.block_c - 1, *rng.integers(0, words * cfg.block_c, 4).tolist()}:
            for at in ((0, 0), (8192 // cfg.block_k - 2, 0), (0, 8192 // cfg.block_c - words)):
                missing = (int(rng.integers(0, cfg.block_k)), min(short, words * cfg.block_c - 1))
                jobs.append(random_job(cfg, rng, phase, words=words, records=2, density=0.2, missing=missing, at=at,
                                       dense_visits=bool(rng.integers(0, 2)), log2_period=1))  # fmt: skip
        for kernel, at in product(((1, 3), (2, 1)), ((0, 0), (8192 // cfg.block_k - 2, 0))):
            jobs += fitting(cfg, rng, phase, kernel=kernel, boxes="any", positions=4, words=words, records=2, at=at,
                            density=0.2, dense_visits=bool(rng.integers(0, 2)), log2_period=1)  # fmt: skip
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def hazards(dut: Any) -> None:
    """Partial sums that come back after one, two, three and more cycles: all bypass distances occur."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    for positions in (1, 2, 3, 4):
        for phase, density in ((Phase.FW, 1.0), (Phase.BW, 1.0), (Phase.FW, 0.2), (Phase.BW, 0.3)):
            records = 4 if phase == Phase.BW else 1
            jobs += fitting(cfg, rng, phase, positions=positions, density=density, records=records, missing=(0, 0))
    distances = {c.get("bypass", 0) for job in jobs for c in job.cycles(ROW)}
    assert distances == {0, 1, 2, 3}
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def exploration(dut: Any) -> None:
    """Every step of a period: a word is explored in one of them and announced in the one before."""
    driver, cfg, rng = await environment(dut)
    jobs, explored = [], 0
    kernels = [k for k in ((3, 3), (1, 3), (2, 1)) if fitting(cfg, rng, Phase.WU, kernel=k, records=2, boxes="tile")]
    for kernel, step in product(kernels, range(4)):  # the taps of a block are explored in steps of their own
        jobs += fitting(cfg, rng, Phase.WU, kernel=kernel, boxes="tile", positions=2, records=2, density=0.02, rows=1,
                        at=(3, 2), log2_period=2, step=step)  # fmt: skip
    for period in (0, 1, 2, 3):
        for step in range(1 << period):
            job = random_job(cfg, rng, Phase.WU, words=most_words(cfg, 1), records=2, density=0.02, rows=1,
                             at=(5, 1), log2_period=period, step=step)  # fmt: skip
            jobs.append(job)
            explored += sum(c.get("visit_next_explored", 0) for c in job.cycles(ROW)) if period == 3 else 0
    assert explored == len(jobs[-1].words(ROW))
    jobs.append(random_job(cfg, rng, Phase.WU, density=0.5, log2_period=0, dense=True))
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def full_buffers_and_overflow(dut: Any) -> None:
    """Masks, values, entries to the last place without error; one more sets the error and harms nothing before it."""
    driver, cfg, rng = await environment(dut)
    beat = {"load_exact": 0, "load_valid": 1, "load_mine": 1, "load_first": 0, "load_is_value": 0, "load_data": 1,
            "load_before": 0, "load_offsets": 0}  # fmt: skip
    surplus = {
        "mask": beat,
        "value": {**beat, "load_is_value": 1},
        "entry": {"entry_valid": 1, "entry_mine": 1, "entry_slot": 0, "entry_word": 0},
    }
    before: Job | None = None
    kinds = (("mask", "value"), ("value", "mask"), ("entry", "value"), ("mask", "entry"), ("value", "entry"))
    for index, (kind, other) in enumerate(kinds):
        job = random_job(cfg, rng, Phase.BW, records=min(cfg.mask_beats, 4), density=0.1, rows=1)
        taken = load(cfg, rng, job, ROW, 0.0).cycles
        left = {
            "mask": cfg.mask_beats - sum(c.get("load_is_value", 1) == 0 for c in taken),
            "value": cfg.rounded_beats - sum(c.get("load_is_value", 0) for c in taken),
            "entry": max(cfg.mask_beats, cfg.psum_depth // cfg.lane_group) - len(job.entries()),
        }
        # After what does not fit, another thing that does not: the first error stays.
        more = [surplus[kind]] * (left[kind] + 2) + [surplus[other]] * (left[other] + 1)
        loading = load(cfg, rng, job, ROW, 0.1, more)
        fits = len(loading.cycles) - len(more) + left[kind]
        assert loading.errors[fits - 1] == 0 and loading.errors[fits] == loading.errors[-1] == 1 + (kind == "value")
        await slot(driver, cfg, rng, index % 2, before, loading)
        before = None if "entry" in (kind, other) else job  # the surplus lane groups that fit would be walked
    await slot(driver, cfg, rng, 1, before, None)


@cocotb.test()
async def value_bank_filled_by_one_record(dut: Any) -> None:
    """As many values as a bank holds, all before one more word: its offset does not fit, and is not needed."""
    driver, cfg, rng = await environment(dut)
    room = cfg.rounded_beats * cfg.values_per_beat
    shape = {"words": room // cfg.mask_bits + 1, "records": 1, "rows": 16, "missing": (0, 0), "density": 1.0}
    for dense_visits in (False, True):
        job = random_job(cfg, rng, Phase.BW, dense_visits=dense_visits, **shape)
        full = job.regions[0]
        region = Region(full.geometry, full.stored[:room], full.delta[:room])
        await chain(driver, cfg, rng, [replace(job, regions=[region], deltas=[])])


@cocotb.test()
async def bank_computed_again(dut: Any) -> None:
    """A working set without new weights computes from the same bank, with other constants of the same kind of phase."""
    driver, cfg, rng = await environment(dut)
    for phase, settings in ((Phase.FW, ((9000, False), (77, False))), (Phase.WU, ((0, True), (0, False), (0, True)))):
        job = random_job(cfg, rng, phase, words=most_words(cfg, 2), records=3, density=0.3, positions=2)
        await slot(driver, cfg, rng, 1, None, load(cfg, rng, job, ROW, 0.0))
        for scale, dense in settings:
            again = replace(job, scale=scale, dense=dense, command=scale)
            again.boxes = sub_batches(int(rng.integers(1, job.positions + 1)), job.channels)
            await slot(driver, cfg, rng, 0, job, Load(merged(rng, 0.2, again.tap_writes(rng))))
            job = again
        await slot(driver, cfg, rng, 0, job, None)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Whatever the row was doing, after reset it is done and silent, and the next working set is exact."""
    driver, cfg, rng = await environment(dut)
    for at in (1, 5, 9, 14, 16, 19, 22, 30):
        for phase in (Phase.FW, Phase.WU):
            shape = {"density": 0.8, "rows": 1, "missing": (0, 0), "log2_period": 2}
            job, other = (random_job(cfg, rng, phase, **shape) for _ in range(2))
            await slot(driver, cfg, rng, 1, None, load(cfg, rng, job, ROW, 0.0))
            await slot(driver, cfg, rng, 0, job, load(cfg, rng, other, ROW, 0.0), reset_at=at)
            await slot(driver, cfg, rng, 1, None, None)
            await chain(driver, cfg, rng, [other])
