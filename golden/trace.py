"""The trace the array must show: for every cycle and row what is issued, from the row lists.

One record (arch.trace) per cycle and row; zero where nothing is issued. Addresses follow from the
definitions in docs/architecture.md, section 4.
"""

from __future__ import annotations

import numpy as np

from arch.command import Phase
from arch.config import Config
from arch.trace import RECORD
from golden.csb import Region
from golden.machine import Work
from golden.timing import Schedule

MAC, DOT = 1, 2


def expected(cfg: Config, works: list[Work], schedule: Schedule, start_latency: int) -> np.ndarray:
    """Trace of a program.

    Args:
        cfg: configuration.
        works: what the commands did.
        schedule: its slots.
        start_latency: cycles from a slot's start to the first operation of a row.

    Returns:
        uint64 (cycles, rows).
    """
    out = np.zeros((schedule.cycles, cfg.rows), np.uint64)
    for slot in schedule.slots:
        index = slot.stages[3]
        if index is None or works[index].walk is None:
            continue
        row, cycle, record = operations(cfg, works[index], index)
        out[slot.start + start_latency + cycle, row] = record
    return out


def operations(cfg: Config, work: Work, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, cycle from the first operation, record) of every operation of a command."""
    walk, c = work.walk, work.command
    assert walk is not None and work.slots is not None
    phase, steps = Phase(c["phase"]), np.arange(walk.positions)
    segment, position = walk.visit_source
    gather, unit, lane, value = _where(cfg, work, phase, segment, position)
    slot = work.slots[1][unit].astype(np.int64)
    stride = c["log2_positions"]
    if phase == Phase.WU:
        psum = (slot * cfg.block_k + lane) // cfg.stationary_pack << stride
    else:
        psum = (slot << c["log2_lanes"]) + lane << stride
    fixed = (DOT if phase == Phase.WU else MAC) | int(phase) << 2 | (index & 255) << 4
    record = np.full((len(segment), walk.positions), fixed, np.uint64)
    record |= (gather[:, None] + steps * c["gather_stride"]).astype(np.uint64) << np.uint64(RECORD["gather"].low)
    record |= (psum[:, None] + steps).astype(np.uint64) << np.uint64(RECORD["psum"].low)
    record |= (value & 0xFFFF).astype(np.uint64)[:, None] << np.uint64(RECORD["value"].low)
    cycle = walk.visit_start[:, None] + steps
    row = np.repeat(walk.word_row[walk.visit_word], walk.positions)
    return row, cycle.ravel(), record.ravel()


def _where(
    cfg: Config, work: Work, phase: Phase, segment: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(gathered channel, unit, lane, broadcast value) of every visit."""
    regions: list[Region] = work.regions
    gather, unit, lane, value = (np.zeros(len(segment), np.int64) for _ in range(4))
    for q, region in enumerate(regions):
        g, at = region.geometry, segment == q
        p = position[at]
        k, c = g.k_of[p] - g.k0, g.c_of[p] - g.c0
        if phase == Phase.BW:
            gather[at], unit[at] = k, q * g.groups + g.group_of[p] % g.groups
            lane[at] = c % cfg.lane_group
        else:
            gather[at], unit[at] = q * work.command["c_step"] + c, k // cfg.block_k
            lane[at] = k % cfg.block_k
        if phase != Phase.WU:
            value[at] = work.operand[q][p]
    return gather, unit, lane, value
