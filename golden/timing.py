"""Timing law: in which cycle of a program each unit does what.

Everything follows from three facts. A slot lasts as long as its slowest stage. The reader makes its requests in
a fixed order and the memory answers a fixed time later. A row takes the sum of the cycles of its words. So the time of
a program is a closed formula over counts; no cycle is simulated.

Cycle 0 of a program is its first busy cycle, in which its first slot starts. The constants are pipeline depths
(docs/timing.md says what each counts), stated here and, independently, in the RTL.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arch.command import Phase, Policy
from arch.config import Config
from arch.vector import FIELDS as VECTOR_FIELDS
from golden import reading
from golden.balancer import balance_cycles
from golden.machine import POLICIES, Work
from golden.vector import law
from golden.waits import is_vector
from golden.writing import Writes, block_done, block_writes, flow_done, flow_writes

STAGES = ("plan", "load", "compute", "drain")
PHASE_NAMES = {Phase.FW: "fw", Phase.BW: "bw", Phase.WU: "wu", Phase.NOP: "other"}
MIN_WAIT = 2  # a slot is at least SLOT_END cycles longer than this
SLOT_END = 2  # last stage done to the next slot's start
VALIDATE = 6  # checks of a command
WALK = 6  # pipeline behind the header words
ENTRIES = 6  # first lane group of BW on its bus
TAPS = 4  # first tap of the filter on its bus
SETTLE = 8  # pipeline behind the last beat loaded
COMPUTE_START = 4  # rows start
ROW_START = 13  # rows: start to first operation
FLOW_END = 2  # last row done to stage done
UPDATE_END = 20  # ... in WU, and a cycle for each level of the adder tree
OBSERVE = 13  # last row done to the quantile estimator's observation, likewise
DRAIN_END = 2  # last write to stage done
VECTOR_END = 1  # vector stage done to stage done
COMMIT_EXTRA = 2


@dataclass(frozen=True)
class Slot:
    """One slot of the pipeline of working sets.

    Attributes:
        start: its first cycle.
        stages: index of the command in plan, load, compute and drain, or None.
        lasts: cycles from start until each stage is done; 0 if it has nothing to do.
        reads: what the reader does.
        commit: cycles from start to the commit, or None.
    """

    start: int
    stages: tuple[int | None, ...]
    lasts: tuple[int, ...]
    reads: reading.Reads
    commit: int | None

    @property
    def length(self) -> int:
        """Cycles to the next slot's start."""
        return max(*self.lasts, self.reads.response_from[-1], MIN_WAIT) + SLOT_END


@dataclass
class Schedule:
    """Timing of a program: its slots and its busy cycles."""

    slots: list[Slot] = field(default_factory=list)
    cycles: int = 0


def schedule(cfg: Config, works: list[Work], latency: int, program: int = 0) -> Schedule:
    """Slots of a program whose commands did `works`.

    Args:
        cfg: configuration.
        works: of `golden.machine.Machine.execute`.
        latency: of the memory, cycles from request to answer.
        program: first beat of the program in memory.
    """
    result = Schedule()
    fetch: int | None = 0
    plan = load = compute = drain = None
    fetched = planned = False
    flows = [is_vector(w.command) or _drains_sums(w.command) for w in works]
    while any(stage is not None for stage in (fetch, plan, load, compute, drain)):
        slot = _slot(cfg, works, result.cycles, None if fetched else fetch, (plan, load, compute, drain), planned,
                     latency, program)  # fmt: skip
        result.slots.append(slot)
        result.cycles += slot.length
        held = plan is not None and bool(works[plan].command.get("wait")) and any(
            stage is not None and flows[stage] for stage in (load, compute))  # fmt: skip
        drain, compute = compute, load
        if held:
            load, fetched, planned = None, True, True
        else:
            load, plan, fetched, planned = plan, fetch, False, False
            fetch = fetch + 1 if fetch is not None and fetch + 1 < len(works) else None
    return result


def _slot(
    cfg: Config,
    works: list[Work],
    start: int,
    fetch: int | None,
    stages: tuple[int | None, ...],
    planned: bool,
    latency: int,
    program: int,
) -> Slot:
    plan, load, compute, drain = (None if s is None else works[s] for s in stages)
    planning = None if planned or plan is None else plan.command
    wanted = reading.lists(cfg, program, fetch, planning, load.command if load else None,
                           load.offsets if load else [], load.totals if load else [])  # fmt: skip
    reads = reading.schedule(wanted, latency)
    lasts = (
        plan_cycles(cfg, planning, reads) if planning else 0,
        load_cycles(load.command, reads) if load else 0,
        compute_cycles(cfg, compute) if compute else 0,
    )
    if drain is not None and is_vector(drain.command):
        return Slot(
            start,
            stages,
            (*lasts, vector_start(cfg, reads, latency) + vector_cycles(cfg, drain.command, latency)),
            reads,
            None,
        )
    drained = drained_cycles(cfg, drain) if drain else 0
    commit = drained + 1 if drain is not None and drain.command.get("commit") else None
    last = drained + DRAIN_END if drained else 0
    if commit is not None:
        last += cfg.tensors + COMMIT_EXTRA
    return Slot(start, stages, (*lasts, last), reads, commit)


def _drains_sums(c: dict[str, int]) -> bool:
    return bool(c.get("drain")) and c["phase"] in (Phase.FW, Phase.BW)


def vector_start(cfg: Config, reads: reading.Reads, latency: int) -> int:
    """Cycles from a slot's start until the vector stage starts: the reader is done, the command fetched again."""
    return reads.response_from[-1] + 1 + reading.command_beats(cfg) + latency


def vector_cycles(cfg: Config, c: dict[str, int], latency: int) -> int:
    """Cycles of a vector command from there on until the stage is done."""
    given = dict.fromkeys(VECTOR_FIELDS, 0) | c
    return law.cycles(cfg, cfg.vector_elements, cfg.vector_group, given, latency) + VECTOR_END


def plan_cycles(cfg: Config, c: dict[str, int], reads: reading.Reads) -> int:
    """Stage plan: checks; headers arrive, are walked word by word (lane groups: in BW only), then the balancer runs.

    A plan that keeps the units where they are ends with the walk.
    """
    if not c.get("plan"):
        return VALIDATE + 1
    begin = max(VALIDATE + 1, reads.response_from[2])
    groups = c["groups"] if c["phase"] == Phase.BW else 0
    words = c["segments"] * (1 + c["block_rows"] + groups)
    balancer = balance_cycles(c["units"], cfg.rows, POLICIES[Policy(c.get("policy", 0))])
    return begin + words + WALK + (0 if c.get("keep") else balancer) + 1


def load_cycles(c: dict[str, int], reads: reading.Reads) -> int:
    """Stage load: the last beat, the taps, and in BW the entries of the lane groups."""
    if is_vector(c):
        return 0
    computes = c["phase"] != Phase.NOP and not c.get("ahead")
    taps = TAPS + c["kernel_rows"] * c["kernel_cols"] if computes else 0
    if not (c.get("load_x") or c.get("load_aux") or c.get("load_w")):
        return taps
    entries = ENTRIES + c["units"] if c["phase"] == Phase.BW and c.get("load_w") else 0
    return max(reads.response_from[5], entries, taps) + SETTLE


def rows_done(work: Work) -> int:
    """Cycles from a slot's start until the last row is done."""
    assert work.walk is not None
    return COMPUTE_START + ROW_START + int(work.walk.row_cycles.max())


def tree_levels(cfg: Config) -> int:
    """Levels of the adder tree of a row."""
    return cfg.columns.bit_length() - 1


def compute_cycles(cfg: Config, work: Work) -> int:
    """Stage compute: the slowest row, and in WU the way of the last gradient to the threshold."""
    if work.walk is None:
        return 0
    update = work.command["phase"] == Phase.WU and not work.command.get("sum_store")
    return rows_done(work) + (UPDATE_END + tree_levels(cfg) if update else FLOW_END)


def drain_writes(cfg: Config, work: Work) -> Writes | None:
    """What the drain stage writes, if it does."""
    if is_vector(work.command) or not work.command.get("drain"):
        return None
    if work.command["phase"] == Phase.WU:
        return block_writes(cfg, work.command, work.drained)
    return flow_writes(cfg, work.command)


def drained_cycles(cfg: Config, work: Work) -> int:
    """Cycles from a slot's start until everything is written that the drain stage writes; 0 if it has no work."""
    if not work.command.get("drain"):
        return 1 if work.command.get("commit") else 0
    if work.command["phase"] == Phase.WU:
        return block_done(cfg, work.command, work.drained)
    return flow_done(cfg, work.command)


def phase_of(c: dict[str, int]) -> str:
    """Phase under which a command's cycles and beats are booked, see `golden.measure.PHASES`."""
    return "vector" if is_vector(c) else PHASE_NAMES[Phase(c["phase"])]


def phase_cycles(works: list[Work], timing: Schedule) -> dict[str, int]:
    """Cycles by phase: a slot belongs to the command that takes longest in it, one that only fetches to `other`."""
    out = {"fw": 0, "bw": 0, "wu": 0, "vector": 0, "other": 0}
    for slot in timing.slots:
        slowest = int(np.argmax(slot.lasts))
        index = slot.stages[slowest]
        command = {"phase": int(Phase.NOP)} if index is None else works[index].command
        out[phase_of(command)] += slot.length
    return out
