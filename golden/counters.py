"""Counters of a program, as the hardware must show them (`arch.status.Counter`)."""

from __future__ import annotations

import numpy as np

from arch.config import Config
from arch.status import Counter
from golden.machine import Work
from golden.timing import STAGES, Schedule
from golden.trace import accesses
from golden.vector.traffic import vector_traffic
from golden.waits import is_vector


def counters(cfg: Config, works: list[Work], timing: Schedule) -> dict[Counter, int]:
    """Value of every counter after a program whose commands did `works`."""
    walks = [w.walk for w in works if w.walk is not None]
    reads, writes = accesses(cfg, works, timing)
    vector = [vector_traffic(cfg, w.command) for w in works if is_vector(w.command)]
    busy, scan = sum(w.busy for w in walks), sum(w.scan for w in walks)
    waits = dict.fromkeys(("load", "plan", "drain"), 0)
    for slot in timing.slots:
        last = dict(zip(STAGES, slot.lasts, strict=True))
        since = max(1, last["compute"])
        for stage in waits:  # what compute waits for first is counted first
            waits[stage] += max(0, last[stage] - since)
            since = max(since, last[stage])
    return {
        Counter.CYCLES: timing.cycles,
        Counter.BUSY: busy,
        Counter.SCAN: scan,
        Counter.BARRIER: sum(int(w.row_cycles.max()) * cfg.rows for w in walks) - busy - scan,
        Counter.WAIT_LOAD: waits["load"],
        Counter.WAIT_PLAN: waits["plan"],
        Counter.WAIT_DRAIN: waits["drain"],
        Counter.SATURATED: sum(w.saturated for w in works),
        Counter.TRACKED: sum(w.kept for w in works),
        Counter.ADOPTED: sum(w.adopted for w in works),
        Counter.EVICTED: sum(w.evicted for w in works),
        Counter.SEEN: sum(w.seen for w in works),
        Counter.READS: len(reads) + sum(read for read, _ in vector),
        Counter.WRITES: len(writes) + sum(written for _, written in vector),
    }


def row_busy(cfg: Config, works: list[Work]) -> np.ndarray:
    """Cycles in which each row issued an operation, int64 (rows,)."""
    total = np.zeros(cfg.rows, np.int64)
    for work in works:
        if work.walk is not None:
            total += np.bincount(work.walk.word_row, work.walk.word_visits * work.walk.word_positions, cfg.rows).astype(
                np.int64
            )
    return total
