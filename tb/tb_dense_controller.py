"""Bench of the dense row controller: the slots of `tb_row_controller`, on regions that store every weight.

The model of a row is the same for both builds; what a dense row does not have is left out of what it must show.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import Phase
from arch.config import Config
from tb.box_jobs import sub_batches
from tb.row_jobs import NoRoom, fitting, random_job
from tb.row_load import Load, load, merged
from tb.row_model import Cycle, Job
from tb.tb_row_controller import LOAD, ROW, Driver, chain, most_words, slot

ABSENT = {"load_is_value", "load_before", "load_offsets", "load_words", "mask_beats", "salt", "scale_t",
          "dense_mode", "step", "log2_period", "visit_has_value", "visit_next_explored",
          "visit_next_count"}  # fmt: skip
PHASES = (Phase.FW, Phase.BW, Phase.WU)


class DenseJob(Job):
    """A working set of a dense row: no masks, nothing that only sparse rows show."""

    def settings(self) -> Cycle:
        """Those of a dense row."""
        settings = super().settings() | {"record_words": self.cfg.dense_words(self.geometry.words)}
        return {name: value for name, value in settings.items() if name not in ABSENT}

    def cycles(self, row: int) -> list[Cycle]:
        """Those of a dense row."""
        return [{n: v for n, v in cycle.items() if n not in ABSENT} for cycle in super().cycles(row)]


def dense(job: Job) -> DenseJob:
    """A random job for a dense row."""
    return DenseJob(**{f.name: getattr(job, f.name) for f in fields(Job)})


def jobs_of(cfg: Config, rng: np.random.Generator, phase: Phase, **shape: Any) -> list[Job]:
    """A random job, or none if this shape does not fit."""
    return [dense(job) for job in fitting(cfg, rng, phase, **shape)]


def job_of(cfg: Config, rng: np.random.Generator, phase: Phase, **shape: Any) -> Job:
    """A random job."""
    return dense(random_job(cfg, rng, phase, **shape))


class _Port:
    """Stands for an input that a dense row does not have."""

    value = 0

    def __len__(self) -> int:
        return 1


class _Dut:
    """The row, with stand-ins for the inputs of a sparse one."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut

    def __getattr__(self, name: str) -> Any:
        return _Port() if name in ABSENT else getattr(self._dut, name)


async def environment(dut: Any) -> tuple[Driver, Config, np.random.Generator]:
    """A row in reset state."""
    assert set(LOAD) - ABSENT <= {handle._name for handle in dut}, "a port of the load side is missing"
    assert not ABSENT & {handle._name for handle in dut}, "a port of sparse rows is there"
    await tb.start(dut)
    return Driver(_Dut(dut)), tb.config(), np.random.default_rng(tb.seed())


@cocotb.test()
async def random_working_sets(dut: Any) -> None:
    """All phases, numbers of positions and shapes, back to back."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    for phase, positions, _ in product(PHASES, (1, 2, 3, 5, 40), range(3)):
        segments = 1 if phase == Phase.WU else int(rng.integers(1, 3))
        words = int(rng.integers(1, max(1, most_words(cfg, positions, segments)) + 1))
        shape = {"segments": segments, "words": words, "records": int(rng.integers(1, 4))}
        jobs += jobs_of(cfg, rng, phase, positions=positions, **shape)
    assert len(jobs) > 20
    order = rng.permutation(len(jobs))
    assert await chain(driver, cfg, rng, [jobs[n] for n in order]) > 500


@cocotb.test()
async def convolutions(dut: Any) -> None:
    """Filters of all shapes over tiles of maps and over any boxes; void taps; biases; depthwise; all phases."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    kernels = ((3, 3), (1, 1), (2, 3), (5, 1), (1, 7), (3, 2), (2, 1))
    for n, (phase, kernel, boxes) in enumerate(product(PHASES, kernels, ("tile", "any"))):
        for records in (1, 2, 3):
            shape = {"kernel": kernel, "boxes": boxes, "positions": 12, "words": 1 + n % 2, "records": records,
                     "segments": 1 if phase == Phase.WU else 1 + records // 2 % 2}  # fmt: skip
            jobs += jobs_of(cfg, rng, phase, **shape)
            if phase != Phase.BW:
                jobs += jobs_of(cfg, rng, phase, **shape | {"depthwise": True, "words": 1, "segments": 1})
    assert len(jobs) > 20 and {job.depthwise for job in jobs} == {False, True}
    cycles = [c for job in jobs for c in job.cycles(ROW)]
    assert sum("op" in c for c in cycles) > 1000 and sum("visit_void" in c for c in cycles) > 20
    await chain(driver, cfg, rng, [jobs[n] for n in rng.permutation(len(jobs))])


@cocotb.test()
async def rows_without_work(dut: Any) -> None:
    """No entry at all in any phase, between rows with work; words beyond the last channel: scans and nulls."""
    driver, cfg, rng = await environment(dut)
    jobs, words = [], most_words(cfg, 1)
    for phase in PHASES:
        beyond = (0, words * cfg.block_c - 1)
        jobs += [
            job_of(cfg, rng, phase, words=words, empty_row=ROW),
            job_of(cfg, rng, phase, words=words, records=2, rows=1, missing=beyond, at=(1, 1)),
            job_of(cfg, rng, phase, words=words, empty_row=ROW),
            job_of(cfg, rng, phase, words=1, records=1, rows=1),
        ]
    scans = sum("is_scan" in c for job in jobs for c in job.cycles(ROW))
    assert (scans > 5 or words == 1) and any(not job.words(ROW) for job in jobs)
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def ragged_edges(dut: Any) -> None:
    """The last valid channels at any place of a block, words outside; coordinates at both ends of their range."""
    driver, cfg, rng = await environment(dut)
    jobs, words = [], most_words(cfg, 1)
    for phase in PHASES:
        for short in {0, 1, cfg.block_c, words * cfg.block_c - 1, *rng.integers(0, words * cfg.block_c, 4).tolist()}:
            for at in ((0, 0), (8192 // cfg.block_k - 2, 0), (0, 8192 // cfg.block_c - words)):
                missing = (int(rng.integers(0, cfg.block_k)), min(short, words * cfg.block_c - 1))
                jobs.append(job_of(cfg, rng, phase, words=words, records=2, missing=missing, at=at))
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def hazards(dut: Any) -> None:
    """Partial sums that come back after one, two, three and more cycles."""
    driver, cfg, rng = await environment(dut)
    jobs = []
    for positions, phase, records in product((1, 2, 3, 4), (Phase.FW, Phase.BW), (1, 3)):
        missing = (cfg.block_k - 1, 0) if records == 1 else (0, 0)
        jobs += jobs_of(cfg, rng, phase, positions=positions, records=records, missing=missing, rows=1)
    distances = {c.get("bypass", 0) for job in jobs for c in job.cycles(ROW)}
    # Blocks of one column come back to a sum after a word at the earliest.
    assert distances == {0, 1, 2, 3} if cfg.block_c > 1 else distances > {0, 1}
    await chain(driver, cfg, rng, jobs)


@cocotb.test()
async def full_bank_and_overflow(dut: Any) -> None:
    """A bank filled to its last value; a beat more, an entry more: the error, which the next load clears."""
    driver, cfg, rng = await environment(dut)
    beat = {"load_exact": 0, "load_valid": 1, "load_mine": 1, "load_first": 0, "load_is_value": 1, "load_data": 1,
            "load_before": 0, "load_offsets": 0}  # fmt: skip
    entry = {"entry_valid": 1, "entry_mine": 1, "entry_slot": 0, "entry_word": 0}
    job = None
    for records in range(cfg.rounded_beats, 0, -1):
        try:
            job = job_of(cfg, rng, Phase.BW, records=records, rows=1, words=1, missing=(0, 0))
            break
        except NoRoom:
            continue
    assert job is not None
    taken = load(cfg, rng, job, ROW, 0.0).cycles
    beats, entries = cfg.rounded_beats - sum("load_valid" in c for c in taken), len(job.entries())
    words = cfg.rounded_beats * cfg.values_per_beat // cfg.mask_bits
    room = max(min(cfg.rounded_beats, words), cfg.psum_depth // cfg.lane_group) - entries
    for index, more in enumerate(([beat] * (beats + 2), [entry] * (room + 2) + [beat] * (beats + 1))):
        loading = load(cfg, rng, job, ROW, 0.1, more)
        assert 2 in loading.errors and loading.errors[len(loading.cycles) - len(more)] in (0, 2)
        await slot(driver, cfg, rng, 0, None, loading)
        if index == 0:  # what had no room harms nothing
            await slot(driver, cfg, rng, 1, job, None)
    await chain(driver, cfg, rng, [job])


@cocotb.test()
async def bank_computed_again(dut: Any) -> None:
    """A working set without new weights computes from the same bank."""
    driver, cfg, rng = await environment(dut)
    for phase in PHASES:
        job = job_of(cfg, rng, phase, words=most_words(cfg, 2), records=2, positions=2)
        await slot(driver, cfg, rng, 1, None, load(cfg, rng, job, ROW, 0.0))
        for command in range(2):
            again = replace(job, command=command)
            again.boxes = sub_batches(int(rng.integers(1, job.positions + 1)), job.channels)
            await slot(driver, cfg, rng, 0, job, Load(merged(rng, 0.2, again.tap_writes(rng))))
            job = again
        await slot(driver, cfg, rng, 0, job, None)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Whatever the row was doing, after reset it is done and silent, and the next working set is exact."""
    driver, cfg, rng = await environment(dut)
    for at in (1, 5, 9, 12, 14, 16, 19, 24):
        for phase in (Phase.FW, Phase.WU):
            job, other = (job_of(cfg, rng, phase, rows=1, missing=(0, 0), records=2) for _ in range(2))
            await slot(driver, cfg, rng, 1, None, load(cfg, rng, job, ROW, 0.0))
            await slot(driver, cfg, rng, 0, job, load(cfg, rng, other, ROW, 0.0), reset_at=at)
            await slot(driver, cfg, rng, 1, None, None)
            await chain(driver, cfg, rng, [other])
