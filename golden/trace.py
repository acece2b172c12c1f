"""The trace the machine must show: what every row issues and the central units do in every cycle of a program.

Rows: one record (`arch.trace.RECORD`) a cycle and row, from the row lists; zero where nothing is issued. Addresses
follow from the definitions in docs/architecture.md, section 4. Central units: from the timing law alone.
"""

from __future__ import annotations

import numpy as np

from arch.command import Phase
from arch.config import Config
from arch.trace import CENTRAL, RECORD
from golden.boxes import boxes
from golden.csb import Region
from golden.machine import Work
from golden.reading import KINDS
from golden.timing import (
    COMPUTE_START,
    OBSERVE,
    ROW_START,
    STAGES,
    Schedule,
    drain_writes,
    rows_done,
    tree_levels,
)
from golden.waits import is_vector

MAC, DOT = 1, 2


def rows(cfg: Config, works: list[Work], schedule: Schedule) -> np.ndarray:
    """Trace of a program.

    Args:
        cfg: configuration.
        works: what the commands did.
        schedule: its slots.

    Returns:
        uint64 (cycles, rows).
    """
    out = np.zeros((schedule.cycles, cfg.rows), np.uint64)
    for slot in schedule.slots:
        index = slot.stages[STAGES.index("compute")]
        if index is None or works[index].walk is None:
            continue
        row, cycle, record = operations(cfg, works[index], index)
        out[slot.start + COMPUTE_START + ROW_START + cycle, row] = record
    return out


def operations(cfg: Config, work: Work, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, cycle from the first operation, record) of every operation of a command."""
    walk, c = work.walk, work.command
    assert walk is not None and work.slots is not None
    phase = Phase(c["phase"])
    segment, position = walk.visit_source
    gather, unit, lane, tap, value = _where(cfg, work, phase, segment, position)
    slot = work.slots[1][unit].astype(np.int64)
    stride = c["log2_positions"]
    if phase == Phase.WU:
        psum = (slot * cfg.block_k + lane) // cfg.stationary_pack << stride
    else:
        psum = (slot << c["log2_lanes"]) + lane << stride
    box = boxes(c)
    count = box.counts[tap]  # operations of every visit
    visit = np.repeat(np.arange(len(tap)), count)
    steps = np.arange(len(visit)) - np.repeat(np.cumsum(count) - count, count)
    met = np.repeat((np.cumsum(box.counts) - box.counts)[tap], count) + steps
    record = np.full(len(visit), (DOT if phase == Phase.WU else MAC) | int(phase) << 2 | (index & 255) << 4, np.uint64)
    record |= (gather[visit] + np.concatenate(box.gather)[met]).astype(np.uint64) << np.uint64(RECORD["gather"].low)
    record |= (psum[visit] + np.concatenate(box.psum)[met]).astype(np.uint64) << np.uint64(RECORD["psum"].low)
    record |= (value[visit] & 0xFFFF).astype(np.uint64) << np.uint64(RECORD["value"].low)
    cycle = walk.visit_start[visit] + steps
    return walk.word_row[walk.visit_word][visit], cycle, record


def _where(
    cfg: Config, work: Work, phase: Phase, segment: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(gathered channel, unit, lane, tap, broadcast value) of every visit."""
    regions: list[Region] = work.regions
    gather, unit, lane, tap, value = (np.zeros(len(segment), np.int64) for _ in range(5))
    for q, region in enumerate(regions):
        g, at = region.geometry, segment == q
        p = position[at]
        k, c, tap[at] = g.k_of[p] - g.k0, g.c_of[p] - g.c0, g.tap_of[p]
        if phase == Phase.BW:
            wide = work.command.get("wide", 0)
            gather[at], unit[at] = k, q * (g.groups >> wide) + (g.group_of[p] % g.groups >> wide)
            lane[at] = c % (cfg.lane_group << wide)
        else:
            channel = k if work.command.get("depthwise") else q * work.command["c_step"] + c
            gather[at], unit[at] = channel, k // cfg.block_k
            lane[at] = k % cfg.block_k
        if phase != Phase.WU:
            value[at] = work.operand[q][p]
    return gather, unit, lane, tap, value


def central(cfg: Config, works: list[Work], timing: Schedule) -> np.ndarray:
    """What the central units do in every cycle of a program: uint64 (cycles,), see `arch.trace.CENTRAL`."""
    columns = {name: np.zeros(timing.cycles, np.uint64) for name in CENTRAL}
    columns["busy"][:] = 1
    columns["done"][:] = 0b11111
    columns["request_kind"][:] = columns["response_kind"][:] = len(KINDS)
    columns["finish"][-1] = 1
    for slot in timing.slots:
        here = {name: column[slot.start : slot.start + slot.length] for name, column in columns.items()}
        here["slot_start"][0] = 1
        for side, first in (("request", slot.reads.request_from), ("response", slot.reads.response_from)):
            for kind in range(len(KINDS)):
                here[f"{side}_kind"][first[kind] : first[kind + 1]] = kind
        here["request"][slot.reads.request] = 1
        here["response"][slot.reads.response] = 1
        for number, (name, index) in enumerate(zip(STAGES, slot.stages, strict=True)):
            if index is not None:
                here["valid"][:] |= np.uint64(1 << number)
                here[f"{name}_index"][:] = index
            here["done"][1 : max(1, slot.lasts[number])] &= ~np.uint64(1 << number)
        here["done"][1 : slot.reads.response_from[-1]] &= ~np.uint64(1 << len(STAGES))
        compute, drain = (None if index is None else works[index] for index in slot.stages[2:])
        if compute is not None and compute.walk is not None:
            here["compute_start"][COMPUTE_START] = 1
            if compute.command["phase"] == Phase.WU and not compute.command.get("sum_store"):
                here["observe"][rows_done(compute) + OBSERVE + tree_levels(cfg)] = 1
        writes = drain_writes(cfg, drain) if drain is not None else None
        if writes is not None:
            here["write"][writes.cycle] = 1
        if slot.commit is not None:
            here["commit"][slot.commit] = 1
    record = np.zeros(timing.cycles, np.uint64)
    for name, place in CENTRAL.items():
        record |= (columns[name] & np.uint64((1 << place.bits) - 1)) << np.uint64(place.low)
    return record


def accesses(cfg: Config, works: list[Work], timing: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """Requests and writes of a program: two int64 arrays (n, 2) of cycle and beat address."""
    reads, writes = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
    for slot in timing.slots:
        reads.append(np.stack([slot.start + slot.reads.request, slot.reads.address], 1))
        drain = slot.stages[3]
        wrote = drain_writes(cfg, works[drain]) if drain is not None else None
        if wrote is not None:
            writes.append(np.stack([slot.start + wrote.cycle, wrote.address], 1))
    return np.concatenate(reads), np.concatenate(writes)


def vector_windows(works: list[Work], timing: Schedule) -> list[tuple[int, int]]:
    """Cycles [first, end) in which the memory is the vector engine's, whose single beats no law predicts."""
    return [
        (slot.start + slot.reads.response_from[-1] + 1, slot.start + slot.length)
        for slot in timing.slots
        if slot.stages[3] is not None and is_vector(works[slot.stages[3]].command)
    ]
