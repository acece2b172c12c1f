"""Timing law: in which cycle of a program each unit does what.

Everything follows from three facts. A slot lasts as long as its slowest stage. The reader issues one
request a cycle in a fixed order and the memory answers a fixed time later. A row takes the sum of the
cycles of its words. So the time of a program is a closed formula over counts; no cycle is simulated.

The constants are pipeline depths, stated here and, independently, in the docstrings of the RTL.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arch.command import WORDS, Phase
from arch.config import Config
from golden.balancer import balance_cycles
from golden.machine import POLICIES, Work
from golden.walk import Walk

Command = dict[str, int]

KINDS = ("fetch", "plan", "x", "aux", "w")


@dataclass(frozen=True)
class Depths:
    """Pipeline depths in cycles; see docs/timing.md for what each counts."""

    first_slot: int = 2  # write of CONTROL to the first slot_start
    fetch: int = 2
    validate: int = 2
    plan: int = 4
    x: int = 2
    aux: int = 3
    w: int = 6
    entries: int = 4
    compute: int = 20
    update: int = 12
    drain: int = 12
    block_record: int = 4
    block_tail: int = 6
    commit: int = 4


DEPTHS = Depths()


@dataclass
class Slot:
    """One slot: which command each stage holds (index or None), when it starts, how long stages take.

    `stages` and `lasts` are in the order fetch, plan, load, compute, drain; `lasts` are cycles from
    the slot's start to the stage's done.
    """

    start: int
    stages: tuple[int | None, ...]
    lasts: tuple[int, ...]

    @property
    def length(self) -> int:
        """Cycles to the next slot's start."""
        return max(self.lasts) + 1


@dataclass
class Schedule:
    """Timing of a program."""

    slots: list[Slot] = field(default_factory=list)
    cycles: int = 0


def schedule(cfg: Config, works: list[Work], latency: int, depths: Depths = DEPTHS) -> Schedule:
    """Slots of a program whose commands did `works`, with memory latency `latency` (cycles)."""
    result, now = Schedule(), depths.first_slot
    fetch: int | None = 0
    plan = load = compute = drain = None
    planned = False
    waits = [w.command.get("wait", 0) for w in works]
    tensor: dict[int | None, bool] = {
        i: bool(w.command.get("drain")) and w.command["phase"] in (Phase.FW, Phase.BW) for i, w in enumerate(works)
    }
    tensor[None] = False
    while any(s is not None for s in (fetch, plan, load, compute, drain)):
        stages = (fetch, plan, load, compute, drain)
        lasts = _lasts(cfg, works, stages, planned, latency, depths)
        slot = Slot(now, stages, lasts)
        result.slots.append(slot)
        now += slot.length
        drain, compute = compute, load
        if plan is not None and waits[plan] and (tensor[load] or tensor[slot.stages[3]]):
            load, planned = None, True
        else:
            load, plan, planned = plan, fetch, False
            fetch = fetch + 1 if fetch is not None and fetch + 1 < len(works) else None
    result.cycles = now
    return result


def _lasts(
    cfg: Config, works: list[Work], stages: tuple[int | None, ...], planned: bool, latency: int, d: Depths
) -> tuple[int, ...]:
    fetch, plan, load, compute, drain = (None if s is None else works[s] for s in stages)
    runs = request_runs(cfg, fetch is not None, None if planned else plan, load)
    last = {kind: when + latency for kind, when in last_requests(runs).items()}
    return (
        last["fetch"] + d.fetch if fetch else 1,
        1 if plan is None else 2 if planned else plan_cycles(cfg, plan, last, d),
        load_cycles(cfg, load, last, d) if load else 1,
        compute_cycles(cfg, compute, d) if compute else 1,
        drain_cycles(cfg, drain, d) if drain else 1,
    )


def request_runs(cfg: Config, fetch: bool, plan: Work | None, load: Work | None) -> dict[str, tuple[list[int], int]]:
    """For each kind the lengths of its runs and the cycles from one request to the next."""
    runs: dict[str, tuple[list[int], int]] = {kind: ([], 1) for kind in KINDS}
    if fetch:
        runs["fetch"] = ([-(-WORDS // cfg.words_per_beat)], 1)
    if plan and plan.command.get("plan"):
        runs["plan"] = ([plan.command["header_beats"]] * plan.command["segments"], 1)
    if load:
        c = load.command
        if c.get("load_x"):
            runs["x"] = ([c["x_run"]] * c["x_runs"], 1)
        if c.get("load_aux"):
            tau = cfg.bus_elements // cfg.stationary_pack if c["phase"] == Phase.WU else 1
            runs["aux"] = ([c["aux_run"]] * c["aux_runs"], tau)
        if c.get("load_w"):
            runs["w"] = (load.totals, 1)
    return runs


def last_requests(runs: dict[str, tuple[list[int], int]]) -> dict[str, int]:
    """Cycle, from the slot's start, of the last request of each kind."""
    at, last = 1, {}
    for kind in KINDS:
        lengths, tau = runs[kind]
        if not lengths:
            at += 1
            last[kind] = at - 1
            continue
        for n in lengths:
            at += 1 + n * tau
            last[kind] = at - tau
    return last


def plan_cycles(cfg: Config, work: Work, last: dict[str, int], d: Depths) -> int:
    """Stage plan: headers arrive, are walked word by word, then the balancer runs."""
    c = work.command
    if not c.get("plan"):
        return d.validate
    words = c["segments"] * (1 + c["block_rows"] + c["groups"])
    from arch.command import Policy

    return last["plan"] + words + balance_cycles(c["units"], cfg.rows, POLICIES[Policy(c["policy"])]) + d.plan


def load_cycles(cfg: Config, work: Work, last: dict[str, int], d: Depths) -> int:
    """Stage load: the last beat of each kind, and in BW the entries of the lane groups."""
    c, done = work.command, 1
    if c.get("load_x"):
        done = max(done, last["x"] + d.x)
    if c.get("load_aux"):
        done = max(done, last["aux"] + d.aux)
    if c.get("load_w"):
        done = max(done, last["w"] + d.w)
        if c["phase"] == Phase.BW:
            done = max(done, c["units"] + d.entries)
    return done


def compute_cycles(cfg: Config, work: Work, d: Depths) -> int:
    """Stage compute: the slowest row."""
    if work.walk is None:
        return 1
    return int(work.walk.row_cycles.max()) + d.compute + (d.update if work.command["phase"] == Phase.WU else 0)


def drain_cycles(cfg: Config, work: Work, d: Depths) -> int:
    """Stage drain: one partial sum a cycle, or the new blocks record by record."""
    c = work.command
    cycles = 1
    if c.get("drain"):
        if c["phase"] == Phase.WU:
            records = sum(max(c["mask_beats"] + n, c["words"]) + d.block_record for n in work.drained)
            cycles = records + c["groups"] + c["header_beats"] + d.block_tail
        else:
            cycles = c["positions"] * c["out_run"] * cfg.bus_elements + d.drain
    return cycles + (cfg.tensors + d.commit if c.get("commit") else 0)


def walk_of(work: Work) -> Walk | None:
    """Row lists of a command, if it computed."""
    return work.walk


def phase_cycles(works: list[Work], schedule: Schedule) -> dict[str, int]:
    """Cycles by phase: a slot belongs to the phase of the oldest command that holds it up."""
    names = {Phase.FW: "fw", Phase.BW: "bw", Phase.WU: "wu", Phase.NOP: "other"}
    out = {"fw": 0, "bw": 0, "wu": 0, "other": schedule.cycles - sum(s.length for s in schedule.slots)}
    for slot in schedule.slots:
        slowest = int(np.argmax(slot.lasts))
        index = slot.stages[slowest]
        phase = "other" if index is None or slowest == 0 else names[Phase(works[index].command["phase"])]
        out[phase] += slot.length
    return out
