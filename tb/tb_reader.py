"""Bench of the reader: every cycle of a slot against `golden.reading`; under stalls, every beat and its order.

The memory answers each request with a word that tells its address. The bench plays the planner too: it fills the
table of regions, also while a slot reads it, in banks that this slot does not use.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import Phase
from arch.config import Config
from golden import reading
from tb.pins import Pins, command_bits, compare, random_bits

KINDS = len(reading.KINDS)
SEGMENTS, BANKS, TOP = 32, 4, 1 << 32
OUTPUTS = ("rd_req_valid", "rd_req_addr", "rd_resp_ready", "out_valid", "out_kind", "out_run", "out_index", "out_last",
           "out_data", "kind_done", "req_kind", "done")  # fmt: skip
Command = dict[str, int]


def content(cfg: Config, address: int) -> int:
    """What memory holds at a beat address."""
    return (address * 0x9E3779B97F4A7C15 + 1) % (1 << cfg.beat_bits)


@dataclass
class Slot:
    """What one slot is told."""

    fetch: int | None = None
    plan: Command | None = None
    plan_ok: bool = True
    load: Command | None = None
    load_bank: int = 0
    program: int = 0


def random_load(rng: np.random.Generator, longest: int, dense: float = 0.7) -> Command:
    """A command to load: every list there or not, of any size."""

    def some() -> int:
        return int(rng.random() < dense)

    segment = int(rng.integers(0, SEGMENTS))
    return {
        "phase": int(rng.choice(list(Phase))),
        "load_x": some(),
        "load_aux": some(),
        "load_w": some(),
        "x_addr": int(rng.integers(TOP)),
        "x_run": int(rng.integers(0, longest)),
        "x_runs": int(rng.integers(0, 8)),
        "x_stride": int(rng.integers(TOP)),
        "x_cols": int(rng.integers(1, 6)),
        "x_pitch": int(rng.integers(TOP)),
        "aux_addr": int(rng.integers(TOP)),
        "aux_run": int(rng.integers(0, longest)),
        "aux_runs": int(rng.integers(0, 8)),
        "aux_stride": int(rng.integers(TOP)),
        "aux_cols": int(rng.integers(1, 6)),
        "aux_pitch": int(rng.integers(TOP)),
        "w_addr": int(rng.integers(TOP)),
        "w_stride": int(rng.integers(TOP)),
        "header_beats": int(rng.integers(1, 256)),
        "segment": segment,
        "load_segments": int(rng.integers(0, SEGMENTS - segment + 1)),
    }


def random_plan(rng: np.random.Generator, longest: int) -> Command:
    return {
        "plan": int(rng.random() < 0.8),
        "w_addr": int(rng.integers(TOP)),
        "w_stride": int(rng.integers(TOP)),
        "segments": int(rng.integers(0, SEGMENTS + 1)),
        "header_beats": int(rng.integers(0, longest)),
    }


class Bench:
    """Reader, memory and planner's table."""

    def __init__(self, dut: Any, longest: int = 6) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.longest = longest
        self.table = [[(0, 0)] * SEGMENTS for _ in range(BANKS)]
        self.slots = 0

    async def fill(self) -> None:
        """Give every entry of the table a value."""
        for bank in range(BANKS):
            for segment in range(SEGMENTS):
                await self.pins.cycle(**self.entry(bank, segment))
        self.pins.drive(total_we=0)

    def entry(self, bank: int, segment: int) -> dict[str, int]:
        total = int(self.rng.integers(0, self.longest))
        offset = int(self.rng.integers(0, 1 << 16))
        self.table[bank][segment] = (total, offset)
        return {
            "total_we": 1,
            "total_bank": bank,
            "total_segment": segment,
            "total_value": total,
            "offset_value": offset,
        }

    def random_slot(self) -> Slot:
        rng = self.rng
        return Slot(
            int(rng.integers(1 << 16)) if rng.random() < 0.7 else None,
            random_plan(rng, self.longest) if rng.random() < 0.7 else None,
            rng.random() < 0.8,
            random_load(rng, self.longest) if rng.random() < 0.8 else None,
            int(rng.integers(BANKS)),
            int(rng.integers(TOP)),
        )

    def reads(self, slot: Slot, latency: int) -> tuple[list[reading.Runs | None], reading.Reads]:
        """The golden lists of a slot and their schedule."""
        load = slot.load or {}
        first = load.get("segment", 0)
        entries = self.table[slot.load_bank][first : first + load.get("load_segments", 0)]
        lists = reading.lists(
            self.cfg,
            slot.program,
            slot.fetch,
            slot.plan if slot.plan_ok else None,
            slot.load,
            [offset for _, offset in entries],
            [total for total, _ in entries],
        )
        return lists, reading.schedule(lists, latency)

    def inputs(self, slot: Slot) -> dict[str, int]:
        """Levels of a slot; what is not active is noise."""
        rng = self.rng
        plan = slot.plan if slot.plan is not None else random_plan(rng, self.longest) | {"plan": 1}
        load = slot.load if slot.load is not None else random_load(rng, self.longest, 1.0)
        return {
            "fetch_active": int(slot.fetch is not None),
            "fetch_index": slot.fetch if slot.fetch is not None else int(rng.integers(1 << 16)),
            "program_addr": slot.program,
            "plan_active": int(slot.plan is not None),
            "plan_command": command_bits(plan),
            "load_active": int(slot.load is not None),
            "load_command": command_bits(load),
            "load_bank": slot.load_bank,
        }

    async def start(self, slot: Slot) -> None:
        """The cycle of slot_start: levels come one cycle later, plan_ok two."""
        self.slots += 1
        noise = Slot(3, {"plan": 1, "segments": 4, "header_beats": 2}, True, random_load(self.rng, 4, 1.0))
        got = await self.pins.cycle(slot_start=1, plan_ok=1, rd_req_ready=1, rd_resp_valid=0, **self.inputs(noise))
        compare((self.slots, 0), got, {"done": 1, "rd_req_valid": 0, "out_valid": 0, "req_kind": KINDS})
        self.pins.drive(slot_start=0, plan_ok=int(self.rng.integers(2)), **self.inputs(slot))

    async def exact(self, slot: Slot, latency: int) -> None:
        """A slot with a memory that is always ready: every cycle as the law has it."""
        cfg, rng, pins = self.cfg, self.rng, self.pins
        lists, law = self.reads(slot, latency)
        runs = [
            (kind, run, i, i == n - 1)
            for kind, of_kind in enumerate(lists)
            for run, n in enumerate(of_kind.lengths if of_kind else [])
            for i in range(n)
        ]
        request = dict(zip(law.request.tolist(), law.address.tolist(), strict=True))
        response = dict(zip(law.response.tolist(), runs, strict=True))
        await self.start(slot)
        for t in range(1, max(law.response_from[-1], law.request_from[-1]) + 3):
            answered = request.get(t - latency)
            data = content(cfg, answered % TOP) if answered is not None else random_bits(rng, cfg.beat_bits)
            other = (slot.load_bank + int(rng.integers(1, BANKS))) % BANKS
            write = self.entry(other, int(rng.integers(SEGMENTS))) if rng.random() < 0.2 else {"total_we": 0}
            got = await pins.cycle(rd_resp_valid=int(answered is not None), rd_resp_data=data, **write)
            want: dict[str, int | None] = {
                "rd_req_valid": int(t in request),
                "rd_req_addr": request[t] % TOP if t in request else None,
                "out_valid": int(t in response),
                "kind_done": sum(1 << k for k in range(KINDS) if t >= law.response_from[k + 1]),
                "done": int(t >= law.response_from[-1]),
                "req_kind": sum(t >= at for at in law.request_from[1:]),
                "out_kind": sum(t >= at for at in law.response_from[1:]),
            }
            if t in response:
                want |= dict(zip(("out_kind", "out_run", "out_index", "out_last"), response[t], strict=True))
                want["out_data"] = data
            compare((self.slots, t), got, want)
            if t == 1:
                pins.drive(plan_ok=int(slot.plan_ok))
        pins.drive(total_we=0)

    async def stalled(self, slot: Slot, ready: float, answer: float, hold: float, reset_at: int = -1) -> None:
        """A memory and a loader that make the reader wait: the same beats, in order, none lost or asked twice."""
        cfg, rng, pins = self.cfg, self.rng, self.pins
        lists, law = self.reads(slot, 1)
        wanted = deque(zip(law.kind.tolist(), (law.address % TOP).tolist(), strict=True))
        runs = deque(
            (kind, run, i, i == n - 1)
            for kind, of_kind in enumerate(lists)
            for run, n in enumerate(of_kind.lengths if of_kind else [])
            for i in range(n)
        )
        await self.start(slot)
        pending: deque[int] = deque()
        waiting: int | None = None
        offered = False
        pace, last_request = reading.stationary_interval(cfg), -100
        is_update = slot.load is not None and slot.load["phase"] == Phase.WU
        t = 1
        while True:
            can, holds = int(rng.random() < ready), int(rng.random() < hold)
            offered = bool(pending) and (offered or rng.random() < answer)  # once offered it stays
            data = content(cfg, pending[0]) if offered else random_bits(rng, cfg.beat_bits)
            got = await pins.cycle(rd_req_ready=can, hold=holds, rd_resp_valid=int(offered), rd_resp_data=data)
            if waiting is not None:
                compare((self.slots, t), got, {"rd_req_valid": 1, "rd_req_addr": waiting})
            waiting = got["rd_req_addr"] if got["rd_req_valid"] and not can else None
            if holds:
                compare((self.slots, t), got, {"rd_resp_ready": 0})
            compare((self.slots, t), got, {"out_valid": int(offered and got["rd_resp_ready"])})
            if got["out_valid"]:
                names = ("out_kind", "out_run", "out_index", "out_last")
                want = dict(zip(names, runs.popleft(), strict=True))
                compare((self.slots, t), got, want | {"out_data": content(cfg, pending.popleft())})
                offered = False
            if got["rd_req_valid"] and can:
                kind, address = wanted.popleft()
                compare((self.slots, t), got, {"rd_req_addr": address, "req_kind": kind})
                if kind == reading.KINDS.index("aux") and is_update:
                    assert t - last_request >= pace, f"two requests {t - last_request} cycles apart"
                    last_request = t
                pending.append(address)
            finished = sum(1 << k for k in range(KINDS) if not any(r[0] <= k for r in runs))
            assert not got["kind_done"] & ~finished, f"kind done before its last beat in cycle {t}"
            if t == 1:
                pins.drive(plan_ok=int(slot.plan_ok))
            if t == reset_at:
                await pins.cycle(rst=1)
                got = await pins.cycle(rst=0, rd_resp_valid=0, hold=0, rd_req_ready=1)
                compare("after reset", got, {"done": 1, "rd_req_valid": 0, "kind_done": (1 << KINDS) - 1})
                return
            if got["done"] and got["req_kind"] == KINDS:
                break
            t += 1
            assert t < 5000, "the slot does not end"
        assert not wanted and not runs and not pending
        assert got["kind_done"] == (1 << KINDS) - 1
        pins.drive(hold=0, rd_req_ready=1)


def _full(phase: Phase, **changes: int) -> Command:
    """A command that loads one list of each kind."""
    base = {"phase": phase, "load_x": 1, "load_aux": 1, "load_w": 1, "x_addr": 100, "x_run": 3, "x_runs": 2,
            "x_stride": 10, "x_cols": 2, "x_pitch": 70, "aux_addr": 200, "aux_run": 2, "aux_runs": 2,
            "aux_stride": 20, "aux_cols": 2, "aux_pitch": 90, "w_addr": 300,
            "w_stride": 50, "header_beats": 4, "segment": 0, "load_segments": 2}  # fmt: skip
    return base | changes


@cocotb.test()
async def idle_slots(dut: Any) -> None:
    """Nothing to read: done at the sixth cycle; likewise lists without runs, and headers that may not be read."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.fill()
    nothing = {"x_runs": 0, "aux_runs": 0, "load_segments": 0}
    for slot in (
        Slot(),
        Slot(load={**_full(Phase.WU), "load_x": 0, "load_aux": 0, "load_w": 0}),
        Slot(load=_full(Phase.BW, **nothing)),
        Slot(plan={"plan": 0, "segments": 3, "header_beats": 2}),
        Slot(plan={"plan": 1, "segments": 0, "header_beats": 2}),
        Slot(plan={"plan": 1, "segments": 3, "header_beats": 2}, plan_ok=False),
    ):
        assert bench.reads(slot, 7)[1].response_from[-1] == 6
        await bench.exact(slot, 7)


@cocotb.test()
async def one_list_at_a_time(dut: Any) -> None:
    """Runs of no beat and of one; segments up to the last; addresses that wrap."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.fill()
    off = {"load_x": 0, "load_aux": 0, "load_w": 0}
    for latency in (1, 2, 9):
        for index in (0, 1, 65535):
            await bench.exact(Slot(fetch=index, program=TOP - 5), latency)
        for beats, segments in ((1, 1), (1, 8), (0, 2), (5, 3), (255, 1), (2, 32)):
            plan = {"plan": 1, "segments": segments, "header_beats": beats, "w_addr": 7, "w_stride": TOP - 9}
            await bench.exact(Slot(plan=plan), latency)
        for phase in Phase:  # the auxiliary operand is read in all but NOP
            for run, runs in ((1, 1), (0, 3), (1, 4), (3, 2)):
                x = {"load_x": 1, "x_run": run, "x_runs": runs}
                aux = {"load_aux": 1, "aux_run": run, "aux_runs": runs}
                for load in (x, aux):
                    await bench.exact(Slot(load=_full(phase) | off | load), latency)
        for segment, count in ((0, 8), (7, 1), (3, 4), (5, 0), (0, 32), (31, 1), (17, 9)):
            load = _full(Phase.FW, w_stride=0x10000001) | off
            load |= {"load_w": 1, "segment": segment, "load_segments": count}
            for bank in range(BANKS):
                await bench.exact(Slot(load=load, load_bank=bank), latency)


@cocotb.test()
async def rows_of_runs(dut: Any) -> None:
    """Rows of one run, of all, of a number that leaves the last row short; one row only; empty runs; many rows."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.fill()
    off = {"load_x": 0, "load_aux": 0, "load_w": 0}
    for phase in (Phase.FW, Phase.BW, Phase.WU):
        for runs, cols in ((6, 1), (6, 2), (7, 3), (5, 5), (5, 9), (12, 4), (1, 1), (4, 65535), (300, 17)):
            for run in (0, 1, 3):
                far = {"stride": TOP - 3, "pitch": 0x12345678}
                for near in ({"stride": run, "pitch": 100}, far):
                    for name in ("x", "aux"):
                        tile = {"run": run, "runs": runs, "cols": cols, **near}
                        load = {f"load_{name}": 1} | {f"{name}_{what}": value for what, value in tile.items()}
                        await bench.exact(Slot(load=_full(phase) | off | load), 3)
        await bench.exact(Slot(load=_full(phase, x_runs=6, x_cols=2, aux_runs=5, aux_cols=3)), 3)


@cocotb.test()
async def random_slots(dut: Any) -> None:
    """Everything mixed, latencies from 1 on, the table written meanwhile."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.fill()
    for trial in range(80):
        await bench.exact(bench.random_slot(), (1, 2, 3, 8, 20)[trial % 5])


@cocotb.test()
async def long_lists(dut: Any) -> None:
    """Records of more than 256 beats and a long gathered operand, at full pace."""
    await tb.start(dut)
    bench = Bench(dut, longest=400)
    await bench.fill()
    await bench.exact(Slot(5, None, True, _full(Phase.WU, x_run=300, aux_run=40), 2), 16)


@cocotb.test()
async def stalls(dut: Any) -> None:
    """Memory not ready, slow to answer, responses held."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.fill()
    for trial in range(60):
        ready, answer, hold = ((0.5, 1.0, 0.0), (1.0, 0.4, 0.0), (1.0, 1.0, 0.6), (0.4, 0.5, 0.3))[trial % 4]
        await bench.stalled(bench.random_slot(), ready, answer, hold)
        if trial % 10 == 0:
            await bench.exact(bench.random_slot(), 3)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset anywhere in a slot; the memory forgets what it was asked; the next slot is exact."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.fill()
    plan = {"plan": 1, "segments": 2, "header_beats": 2, "w_addr": 1000}
    for at in (1, 2, 5, 9, 14, 20, 30, 37):
        slot = Slot(1, plan, True, _full(Phase.WU), 1)
        await bench.stalled(slot, 1.0, 0.8, 0.2, reset_at=at)
        await bench.exact(bench.random_slot(), 4)
