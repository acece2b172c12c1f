"""Events of energy: against a slow count from the trace, against the RTL's counters, and predicted against executed."""

from __future__ import annotations

from collections import Counter as Tally

import numpy as np
import pytest

from arch.command import Phase, Policy
from arch.config import Config
from arch.status import Counter, Register
from golden import regenerate, timing
from golden.counters import counters
from golden.energy import events, step
from golden.energy.events import EVENTS, Events
from golden.machine import Work
from golden.trace import operations
from golden.waits import is_vector
from scripts.lockstep import Lockstep
from tests import test_predict_forecast as forecasts
from tests.programs import LATENCY, TINY, Case, last_step, make, minibatch

CASES = {
    "sparse": Case(TINY, (40, 30, 10, 4), 12, 24, decay=0.3),
    "early": Case(TINY, (33, 17, 5), 9, 5, decay=0.99),
    "eight bits": Case(TINY.with_(operand_bits=8, bus_elements=4), (33, 17, 5), 9, 12, budget=0.5, decay=0.3, theta=2),
    "dense mode": Case(TINY, (33, 17, 5), 9, 4, budget=None),
    "dense build": Case(TINY.with_(sparse=False), (33, 17, 5), 9, 4, budget=None, policy=Policy.NONE),
}


def slow(cfg: Config, work: Work, decay: int) -> Events:
    """Counted one by one, from the trace of a command and from its fields."""
    c, out = work.command, Tally[str]()
    phase = Phase(c["phase"])
    if c.get("load_x"):
        for _ in range(c["x_runs"]):
            for _ in range(c["x_run"]):
                out["loaded_beat"] += 1
                for _ in range(cfg.rows * cfg.columns):
                    out["gather_write"] += 1
    if c.get("load_aux") and phase != Phase.NOP:
        for _ in range(c["aux_runs"]):
            for beat in range(c["aux_run"]):
                out["loaded_beat"] += 1
                if phase != Phase.WU:
                    out["gate_write"] += 1
                    continue
                for channel in range(beat * cfg.bus_elements, (beat + 1) * cfg.bus_elements, cfg.stationary_pack):
                    out["stationary_write"] += cfg.columns * (channel < c["out_channels"])
    if c.get("load_w"):
        for region in work.regions:
            for record in range(region.geometry.records):
                takers = cfg.rows if phase == Phase.BW else 1
                values = int(region.value_beats()[record])
                out["mask_write"] += takers * region.geometry.mask_beats
                out["rounded_beat"] += values * (phase != Phase.WU)
                for _ in ("low", "high")[: 1 + (phase == Phase.WU)]:
                    out["value_write"] += takers * values
                out["loaded_beat"] += region.geometry.mask_beats + values
    if work.walk is not None:
        scale = regenerate.decayed(c.get("scale", 0), decay)
        stored = {(q, p) for q, region in enumerate(work.regions) for p in region.stored.tolist()}
        for visit in zip(*(a.tolist() for a in work.walk.visit_source), strict=True):
            out["visit"] += 1
            out["tap_read"] += 1
            out["value_read"] += (visit in stored) * (2 if phase == Phase.WU else 1)
            out["regeneration"] += phase != Phase.WU and scale > 0
            out["update"] += phase == Phase.WU
        for op in operations(cfg, work, 0)[2].tolist():
            out["row_operation"] += 1
            for _ in range(cfg.columns):
                out["gather_read"] += 1
                for name in ("mac", "psum_read", "psum_write") if op & 3 == 1 else ("dot", "stationary_read"):
                    out[name] += 1
        row_cycles = Tally[int]()
        for row, cycles in zip(work.walk.word_row.tolist(), work.walk.word_cycles.tolist(), strict=True):
            row_cycles[row] += cycles
            passed_over = cycles == 0 and work.walk.passed > 0
            out["word"] += not passed_over
            out["mask_read"] += cfg.sparse and not passed_over
            out["tap_read"] += not passed_over
        assert [row_cycles[r] for r in range(cfg.rows)] == work.walk.row_cycles.tolist()
        out["tap_write"] = cfg.rows
    if c.get("drain") and phase == Phase.WU:
        out["encoded_value"] = work.kept
        out["encoded_mask"] = out["mask_read"]
        out["encoded_read"] = sum(work.drained)
        for _ in work.drained if c["mask_beats"] else ():
            out["encoded_group"] += len(range(0, c["words"], min(4, cfg.masks_per_beat)))
        beats = c["header_beats"] + c["mask_beats"] * len(work.drained) + sum(work.drained)
        out["written_bits"] = beats * cfg.beat_bits
    elif c.get("drain"):
        for _ in range(c["positions"]):
            for channel in range(c["out_run"] * cfg.bus_elements):
                out["requantised"] += cfg.columns
                out["gate_read"] += 1
                if channel < c["out_channels"]:
                    out["psum_side"] += cfg.columns
        out["written_bits"] = c["positions"] * c["out_run"] * cfg.beat_bits
    return dict(out)


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_the_trace(name: str) -> None:
    trainer, programs, decay = last_step(CASES[name], seed=5)
    cfg = trainer.cfg
    seen = events.none()
    for work in (work for works in programs for work in works):
        found, wanted = events.of_command(cfg, work, decay), slow(cfg, work, decay)
        for event, count in wanted.items():
            assert found[event] == count, f"{event} of {work.command}"
        for event in found.keys() - wanted.keys() - {"read_bits", "header_read", "header_write", "balanced"}:
            assert found[event] == (found["written_bits"] // cfg.beat_bits if event == "drained_beat" else 0), event
        seen = events.summed((seen, found))
    needed = {"mac", "dot", "value_read", "word", "update", "psum_side", "stationary_write", "gate_write"}
    needed |= {"regeneration"} if name == "early" else set()
    needed |= {"mask_read", "mask_write", "balanced"} if name != "dense build" else set()
    assert all(seen[event] > 0 for event in needed)
    if name == "sparse":  # all kinds of words: stored and not, explored and not
        assert 0 < seen["value_read"] < seen["visit"]
        assert seen["regeneration"] == 0


@pytest.mark.parametrize("name", ["sparse", "early"])
def test_counts_are_the_counters_of_the_rtl(name: str) -> None:
    """A lock-step run; after every program the counters read back are the events."""
    case, rng = CASES[name], np.random.default_rng(5)
    trainer, harness = make(case, trace=False)
    checked = 0

    class Reading(Lockstep):
        def ran(self, program: list, works: list[Work]) -> None:
            nonlocal checked
            super().ran(program, works)
            cfg, decay = trainer.cfg, trainer.machine.decay
            cycles = timing.schedule(cfg, works, LATENCY).cycles
            found = events.summed([*(events.of_command(cfg, w, decay) for w in works), events.of_time(cycles)])
            read = {counter: harness.read(Register.COUNTER + counter) for counter in Counter}
            assert read[Counter.CYCLES] == found["cycle"]
            assert read[Counter.BUSY] == found["row_operation"]
            assert read[Counter.BUSY] * cfg.columns == found["mac"] + found["dot"] == found["gather_read"]
            assert read[Counter.READS] * cfg.beat_bits == found["read_bits"]
            assert read[Counter.WRITES] * cfg.beat_bits == found["written_bits"]
            assert read[Counter.WRITES] == found["drained_beat"]
            assert read[Counter.SEEN] == found["update"]
            assert read[Counter.TRACKED] == found["encoded_value"]
            rows = [harness.read(Register.ROW_COUNTER + row) for row in range(cfg.rows)]
            assert sum(rows) == found["row_operation"]
            walked = sum(int(w.walk.row_cycles.sum()) for w in works if w.walk is not None)
            assert read[Counter.BUSY] + read[Counter.SCAN] == walked
            checked += 1

    Reading(trainer, harness)
    x, y = minibatch(case, rng)
    for _ in range(case.steps):
        following = minibatch(case, rng)
        trainer.step(x, y, following[0])
        x, y = following
    assert checked == 2 * case.steps


def test_vector_commands_on_the_rtl() -> None:
    """A step of a graph: beats that convolutions and vector commands move, as the RTL's counters say."""
    graph = forecasts.GRAPHS["residual"]()
    case = Case(forecasts.TINY, graph, 8, 4, budget=0.3, period=2, decay=0.3)
    trainer, harness = make(case, trace=False)
    seen: list[Events] = []

    class Reading(Lockstep):
        def ran(self, program: list, works: list[Work]) -> None:
            super().ran(program, works)
            cfg = trainer.cfg
            found = step.of_programs(cfg, [works], LATENCY, 0)
            assert self.harness.read(Register.COUNTER + Counter.READS) * cfg.beat_bits == found.total["read_bits"]
            assert self.harness.read(Register.COUNTER + Counter.WRITES) * cfg.beat_bits == found.total["written_bits"]
            assert self.harness.read(Register.COUNTER + Counter.BUSY) == found.total["row_operation"]
            seen.append(found.events["vector"])

    Reading(trainer, harness)
    rng = np.random.default_rng(5)
    x, y = minibatch(case, rng)
    for _ in range(case.steps):
        following = minibatch(case, rng)
        trainer.step(x, y, following[0])
        x, y = following
    assert len(seen) == case.steps
    assert all(one["vector"] > 0 and one["softmax"] > 0 and one["record"] > 0 for one in seen)


@pytest.mark.parametrize("name", ["sparse", "dense build"])
def test_golden_counters_agree(name: str) -> None:
    trainer, programs, decay = last_step(CASES[name], seed=5)
    cfg = trainer.cfg
    found = step.of_programs(cfg, programs, LATENCY, decay).total
    wanted = Tally[Counter]()
    for works in programs:
        wanted.update(counters(cfg, works, timing.schedule(cfg, works, LATENCY)))
    assert found["cycle"] == wanted[Counter.CYCLES]
    assert found["row_operation"] == wanted[Counter.BUSY]
    assert found["read_bits"] == wanted[Counter.READS] * cfg.beat_bits
    assert found["written_bits"] == wanted[Counter.WRITES] * cfg.beat_bits
    assert found["update"] == wanted[Counter.SEEN]


@pytest.mark.parametrize(("name", "cfg", "batch", "period", "budget"), forecasts.CASES)
def test_predicted_events_are_those_of_the_machine(
    name: str, cfg: Config, batch: int, period: int, budget: float | None
) -> None:
    trainer, works, masks, number = forecasts.trained(name, cfg, batch, period, budget)
    counted, _ = forecasts.forecast(trainer, masks, number)
    for wanted, found in zip(works, counted, strict=True):
        if not is_vector(wanted.command):
            assert (found.kept, found.seen) == (wanted.kept, wanted.seen)
        assert events.of_command(cfg, found, 0) == events.of_command(cfg, wanted, 0), wanted.command


def test_phases_hold_all_events() -> None:
    trainer, programs, decay = last_step(CASES["sparse"], seed=5)
    cfg = trainer.cfg
    whole = step.of_programs(cfg, programs, LATENCY, decay)
    parts = [events.of_command(cfg, work, decay) for works in programs for work in works]
    parts += [events.of_time(timing.schedule(cfg, works, LATENCY).cycles) for works in programs]
    assert whole.total == events.summed(parts)
    assert whole.total.keys() == EVENTS.keys()
    assert whole.events["fw"]["dot"] == 0 < whole.events["fw"]["mac"]
    assert whole.events["wu"]["mac"] == 0 < whole.events["wu"]["dot"]
    assert whole.cycles == {p: e["cycle"] for p, e in whole.events.items()}


def test_shares_sum_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        weights = dict(enumerate(rng.integers(0, 9, 5).tolist()))
        weights[0] += 1
        whole = int(rng.integers(0, 1000))
        parts = step.shares(whole, weights)
        assert sum(parts.values()) == whole
        assert all(abs(parts[i] - whole * w / sum(weights.values())) < 1 for i, w in weights.items())


def test_mean_of_steps() -> None:
    trainer, programs, decay = last_step(CASES["sparse"], seed=5)
    cfg = trainer.cfg
    one = step.of_programs(cfg, programs, LATENCY, decay)
    two = step.of_programs(cfg, programs[:1], LATENCY, decay)
    both = step.mean([one, two])
    assert both.total["mac"] == (one.total["mac"] + two.total["mac"]) / 2
    assert sum(both.cycles.values()) == (sum(one.cycles.values()) + sum(two.cycles.values())) / 2
