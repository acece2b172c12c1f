"""Bench of the command processor: a pipeline of working sets, every output of every cycle.

The bench plays reader and engines: in each slot every stage takes a time of its own, and may end with an error. The
model knows slots only; what must be seen in each cycle follows from the slot's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import FIELDS, MAGIC, WORDS, Phase, pack
from arch.status import Status
from arch.vector import MAGIC as VECTOR
from tb.pins import Pins, command_bits, compare, random_bits

FETCH, KINDS, MIN_WAIT, SLOT_END = 0, 5, 2, 2
STAGES = ("plan", "load", "compute", "drain")
BANKS = ("gather", "weight", "tap", "stat", "psum", "update")
OUTPUTS = (
    "busy", "finish", "finish_status", "finish_index", "slot_start", "fetch_active", "fetch_index", "plan_active",
    *(f"{stage}_{what}" for stage in STAGES for what in ("valid", "command", "index")),
    "load_total_bank", "load_bank", "drain_bank", "drain_gate_bank", *(f"{name}_bank" for name in BANKS),
    "scrubbing", "scrub_addr", "wait_load", "wait_plan", "wait_drain",
)  # fmt: skip
Command = dict[str, int]
Errors = dict[tuple[int, str], Status]  # by index of the command and stage


def flows(c: Command) -> bool:
    """Whether a command drains partial sums."""
    return bool(c["drain"]) and c["phase"] in (Phase.FW, Phase.BW)


def writes(c: Command) -> bool:
    """Whether a command that waits waits for this one."""
    return flows(c) or c["magic"] == VECTOR


def carried(c: Command) -> Command:
    """What the pipeline carries of a command: of a vector command, that it is one, and a NOP."""
    if c["magic"] != VECTOR:
        return c
    return dict.fromkeys(FIELDS, 0) | {"phase": int(Phase.NOP), "magic": VECTOR}


@dataclass
class Item:
    """A command on its way."""

    index: int
    command: Command
    total_bank: int = 0
    bank: int = 0
    gate_bank: int = 0


@dataclass
class State:
    """What is where; None: nothing."""

    fetch: int | None = None
    fetched: bool = False
    planned: bool = False
    stages: dict[str, Item | None] = field(default_factory=lambda: dict.fromkeys(STAGES))
    banks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BANKS, 0))

    def any(self) -> bool:
        """Whether there is anything left."""
        return self.fetch is not None or any(item is not None for item in self.stages.values())

    def advance(self, program: list[Command]) -> None:
        """End of a slot."""
        at, banks = self.stages, self.banks
        plan, load, compute = at["plan"], at["load"], at["compute"]
        if compute is not None:
            banks["psum"] ^= flows(compute.command)
            updates = not compute.command["ahead"] and not compute.command["sum_store"]
            banks["update"] ^= compute.command["phase"] == Phase.WU and updates
        if load is not None:
            banks["gather"] ^= load.command["load_x"]
            banks["weight"] ^= load.command["load_w"]
            banks["tap"] ^= load.command["phase"] != Phase.NOP and not load.command["ahead"]
            banks["stat"] ^= load.command["load_aux"] and load.command["phase"] == Phase.WU
        waits = plan is not None and bool(plan.command["wait"]) and any(
            item is not None and writes(item.command) for item in (load, compute)
        )  # fmt: skip
        at["drain"], at["compute"] = compute, load
        if waits:
            at["load"], self.fetched, self.planned = None, True, True
            return
        at["load"] = plan
        at["plan"] = Item(self.fetch, carried(program[self.fetch])) if self.fetch is not None else None
        self.fetch = self.fetch + 1 if self.fetch is not None and self.fetch + 1 < len(program) else None
        self.fetched = self.planned = False


class Bench:
    """Programs one after the other; banks live on from one to the next."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.state, self.cycles = State(), 0
        self.bubbles = self.slots = 0

    def random_command(self, **changes: int) -> Command:
        """Any content, more often than not with flags that matter here."""
        c = {name: random_bits(self.rng, f.bits) for name, f in FIELDS.items()}
        magic = MAGIC if changes or self.rng.random() < 0.8 else VECTOR
        return c | {"magic": magic, "wait": int(self.rng.random() < 0.3)} | changes

    def beats(self, c: Command) -> list[int]:
        """A command as it lies in memory."""
        word = int.from_bytes(pack(**c).astype("<u4").tobytes(), "little")
        bits = self.cfg.beat_bits
        return [word >> at & (1 << bits) - 1 for at in range(0, 32 * WORDS, bits)]

    async def cycle(self, want: dict[str, int | None], **inputs: int) -> None:
        """One cycle, compared."""
        got = await self.pins.cycle(**inputs)
        compare(self.cycles, got, {"scrubbing": 0, "slot_start": 0, "finish": 0, **want})
        self.cycles += 1

    def quiet(self) -> dict[str, int | None]:
        """What an idle processor shows."""
        return {"busy": 0, **dict.fromkeys((f"{stage}_valid" for stage in STAGES), 0), "fetch_active": 0,
                "wait_load": 0, "wait_plan": 0, "wait_drain": 0, **self.banks()}  # fmt: skip

    def banks(self) -> dict[str, int]:
        return {f"{name}_bank": int(value) for name, value in self.state.banks.items()}

    async def run(self, program: list[Command], times: tuple[int, ...] = (0, 1, 2, 3, 9), errors: Errors | None = None,
                  reset_at: int = -1) -> tuple[Status, int]:  # fmt: skip
        """A program from start to the end of busy; how it ended, and where."""
        state = self.state
        await self.cycle(self.quiet(), start=1, commands=len(program), reader_done=1, in_valid=0)
        self.pins.drive(start=0)
        if not program:
            await self.cycle({"busy": 1, "finish": 1, "finish_status": Status.PROGRAM, "finish_index": 0})
            await self.cycle(self.quiet())
            return Status.PROGRAM, 0
        state.fetch, state.fetched, state.planned = 0, False, False
        status, where = Status.OK, 0
        end = self.cycles + reset_at if reset_at >= 0 else -1
        while state.any() and status == Status.OK:
            failed = {stage: (errors or {}).get((item.index, stage), Status.OK)
                      for stage, item in state.stages.items() if item is not None}  # fmt: skip
            if state.planned:
                failed["plan"] = Status.OK  # a command that waits has been planned
            for stage, code in failed.items():  # the last is the oldest
                if code != Status.OK:
                    status, where = code, state.stages[stage].index
            if await self._slot(program, times, failed, status, where, end):
                return Status.OK, -1
            self.bubbles += state.stages["plan"] is not None and state.planned
            state.advance(program)
        if status != Status.OK:
            state.fetch, state.stages = None, dict.fromkeys(STAGES)
            await self._scrub()
        await self.cycle(self.quiet())
        state.stages = dict.fromkeys(STAGES)
        return status, where

    async def _slot(self, program: list[Command], times: tuple[int, ...], failed: dict[str, Status], status: Status,
                    where: int, end: int) -> bool:  # fmt: skip
        """One slot; whether it was cut short by a reset in cycle `end`."""
        state, rng, cfg = self.state, self.rng, self.cfg
        self.slots += 1
        lasts = {stage: int(rng.choice(times)) for stage in STAGES}
        fetches = state.fetch is not None and not state.fetched
        beats = self.beats(program[state.fetch]) if fetches else []
        reader = int(rng.choice(times)) + 2 * len(beats)  # the reader is done from here on
        arrive = sorted(rng.choice(np.arange(1, reader), len(beats), replace=False).tolist()) if beats else []
        length = max(MIN_WAIT, reader, *lasts.values()) + SLOT_END
        final = state.fetch is None and all(state.stages[s] is None for s in STAGES[:3])
        total_bank, plan_bank, gate_bank = (int(rng.integers(4)) for _ in range(3))
        still: dict[str, int | None] = {"busy": 1, "fetch_active": int(fetches), **self.banks()}
        still["plan_active"] = int(state.stages["plan"] is not None and not state.planned)
        if fetches:
            still["fetch_index"] = state.fetch
        commands = {}  # all there from the second cycle on
        for stage, item in state.stages.items():
            still[f"{stage}_valid"] = int(item is not None)
            if item is not None:
                commands[f"{stage}_command"] = command_bits(item.command)
                still[f"{stage}_index"] = item.index
        load, drain = state.stages["load"], state.stages["drain"]
        if load is not None:
            still |= {"load_total_bank": load.total_bank, "load_bank": load.bank}
        if drain is not None:
            still |= {"drain_bank": drain.bank, "drain_gate_bank": drain.gate_bank}
        for t in range(length):
            done = {stage: int(t == 0 or t >= last) for stage, last in lasts.items()}
            over = t > 0 and done["compute"]
            waits = {
                "wait_load": int(over and not done["load"]),
                "wait_plan": int(over and done["load"] and not done["plan"]),
                "wait_drain": int(over and done["load"] and done["plan"] and not done["drain"]),
            }
            ends = t == length - 1
            finish = {"finish": int(ends and (final or status != Status.OK))}
            if finish["finish"]:
                finish |= {"finish_status": status, "finish_index": where}
            given = {"in_valid": int(t in arrive), "in_kind": FETCH if t in arrive else int(rng.integers(1, KINDS + 1)),
                     "in_index": arrive.index(t) if t in arrive else int(rng.integers(1 << 16)),
                     "in_data": beats[arrive.index(t)] if t in arrive else random_bits(rng, cfg.beat_bits)}  # fmt: skip
            if t not in arrive:
                given["in_valid"] = int(rng.integers(2))
            noise = {
                f"{stage}_error": int(rng.integers(16)) if state.stages[stage] is None
                else failed[stage] if done[stage] and t else 0
                for stage in STAGES
            }  # fmt: skip
            given |= noise | {f"{stage}_done": value for stage, value in done.items()}
            given["reader_done"] = int(t == 0 or t >= reader)
            given["plan_total_bank"] = total_bank if t >= 2 else int(rng.integers(4))
            given["plan_bank"] = plan_bank if t >= 2 else int(rng.integers(4))
            given["load_gate_bank"] = gate_bank if t >= 2 else int(rng.integers(4))
            given["rst"] = int(self.cycles == end)
            shown = still | (commands if t else {})
            await self.cycle(shown | waits | finish | {"slot_start": int(t == 0)}, **given)
            if given["rst"]:
                self.state = State()
                await self.cycle(self.quiet(), rst=0, in_valid=0)
                for _ in range(4):
                    await self.cycle(self.quiet())
                return True
        if state.stages["plan"] is not None:
            state.stages["plan"].total_bank, state.stages["plan"].bank = total_bank, plan_bank
        if load is not None:
            load.gate_bank = gate_bank
        return False

    async def _scrub(self) -> None:
        """Both banks of partial sums, one after the other."""
        for _ in range(2):
            for addr in range(self.cfg.psum_depth):
                await self.cycle({**self.quiet(), "busy": 1, "scrubbing": 1, "scrub_addr": addr})
            self.state.banks["psum"] ^= 1

    async def scrub(self) -> None:
        """A scrub that the host asks for."""
        await self.cycle(self.quiet(), scrub=1)
        self.pins.drive(scrub=0)
        await self._scrub()
        await self.cycle(self.quiet())


@cocotb.test()
async def random_programs(dut: Any) -> None:
    """Programs of 1 to 12 commands, all phases, waits; stages of all speeds."""
    await tb.start(dut)
    bench = Bench(dut)
    for trial in range(40):
        program = [bench.random_command() for _ in range(int(bench.rng.integers(1, 13)))]
        times = ((0, 1, 2, 3, 9), (0,), (5,), (0, 30))[trial % 4]
        assert await bench.run(program, times) == (Status.OK, 0)
    assert bench.bubbles > 20


@cocotb.test()
async def no_commands(dut: Any) -> None:
    """A program of zero commands: one busy cycle, Status.PROGRAM; of one: five slots."""
    await tb.start(dut)
    bench = Bench(dut)
    for _ in range(3):
        assert await bench.run([]) == (Status.PROGRAM, 0)
        slots = bench.slots
        assert await bench.run([bench.random_command()], (0,)) == (Status.OK, 0)
        assert bench.slots == slots + 5


@cocotb.test()
async def waiting(dut: Any) -> None:
    """Bubbles: none behind a command that does not drain partial sums, two behind one that does, all the way."""
    await tb.start(dut)
    bench = Bench(dut)
    for phase in Phase:
        for drain in (0, 1):
            before = bench.random_command(phase=int(phase), drain=drain, wait=0)
            bubbles = 2 if drain and phase in (Phase.FW, Phase.BW) else 0
            for between in (0, 1, 2):
                other = [bench.random_command(phase=int(Phase.NOP), wait=0) for _ in range(between)]
                slots = bench.slots
                await bench.run([before, *other, bench.random_command(wait=1), bench.random_command(wait=0)])
                assert bench.slots - slots == 7 + between + max(0, bubbles - between)
    chain = [bench.random_command(phase=int(Phase.FW), drain=1, wait=1) for _ in range(5)]
    slots = bench.slots
    await bench.run(chain)
    assert bench.slots - slots == 5 + 4 + 2 * 4


@cocotb.test()
async def errors_of_every_stage(dut: Any) -> None:
    """One stage fails; several fail in one slot, and the oldest command's error is reported; then a clean program."""
    await tb.start(dut)
    bench = Bench(dut)
    codes = dict(zip(STAGES, (Status.HEADER, Status.VALUE_OVERFLOW, Status.UPDATE_OVERFLOW, Status.STORE_OVERFLOW),
                     strict=True))  # fmt: skip
    for subset in range(1, 16):
        chosen = [stage for i, stage in enumerate(STAGES) if subset >> i & 1]
        # In the slot in which command 5 is planned, 4 loads, 3 computes and 2 drains.
        errors = {(5 - STAGES.index(stage), stage): codes[stage] for stage in chosen}
        program = [bench.random_command(wait=0) for _ in range(8)]
        assert await bench.run(program, errors=errors) == (codes[chosen[-1]], 5 - STAGES.index(chosen[-1]))
        assert await bench.run(program[:3]) == (Status.OK, 0)
    for index, stage in ((0, "plan"), (0, "drain"), (7, "drain"), (7, "plan")):
        program = [bench.random_command() for _ in range(8)]
        assert await bench.run(program, errors={(index, stage): codes[stage]}) == (codes[stage], index)


@cocotb.test()
async def error_while_another_waits(dut: Any) -> None:
    """The command ahead of a waiting one fails; the waiting command was planned and has nothing to report."""
    await tb.start(dut)
    bench = Bench(dut)
    program = [bench.random_command(phase=int(Phase.BW), drain=1, wait=0), bench.random_command(wait=1)]
    assert await bench.run(program, errors={(0, "drain"): Status.STORE_OVERFLOW}) == (Status.STORE_OVERFLOW, 0)
    assert await bench.run(program, errors={(1, "plan"): Status.FIELD}) == (Status.FIELD, 1)
    assert await bench.run(program) == (Status.OK, 0)


@cocotb.test()
async def scrub(dut: Any) -> None:
    """Clears all partial sums of both banks, and leaves everything else as it was."""
    await tb.start(dut)
    bench = Bench(dut)
    for _ in range(3):
        await bench.run([bench.random_command(phase=int(Phase.FW), drain=1)])
        await bench.scrub()
        await bench.scrub()


@cocotb.test()
async def many_commands(dut: Any) -> None:
    """More than 256 commands."""
    await tb.start(dut)
    bench = Bench(dut)
    program = [bench.random_command(wait=0) for _ in range(300)]
    assert await bench.run(program, (0,)) == (Status.OK, 0)
    assert await bench.run(program, (0,), {(299, "load"): Status.HEADER}) == (Status.HEADER, 299)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset anywhere in a program: idle at once, all banks zero; the next program runs."""
    await tb.start(dut)
    bench = Bench(dut)
    for at in (0, 1, 2, 5, 17, 30, 41, 60):
        program = [bench.random_command() for _ in range(8)]
        assert await bench.run(program, (4,), reset_at=at) == (Status.OK, -1)
        assert await bench.run(program[:3]) == (Status.OK, 0)
