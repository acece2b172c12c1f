"""Bench of the drain stage: slots of all kinds one after the other, down to the write port and the exponent table.

What the drainers do is checked in their own benches; here it is that the right one runs, that its beats pass the queue
in every pace of the memory, and when the stage reports peak, commit, error and done.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import FIELDS, Phase
from arch.status import Status
from golden.timing import COMMIT_EXTRA, DRAIN_END
from golden.writing import QUEUE, block_done, block_writes, flow_done, flow_writes, mask_group
from tb import block_model, flow_model
from tb.block_model import BlockJob, BlockModel
from tb.command_rules import Command, good
from tb.flow_model import SHIFT_NEEDED, FlowJob, FlowModel
from tb.pins import Pins, command_bits, compare, random_bits
from tb.script import Script

Job = FlowJob | BlockJob | Command  # a command alone drains nothing
FLOWS = (Phase.FW, Phase.BW)
DEPTH = 16
EXPONENT_BITS = 9
SILENT = ("side_clear", "saturated", "rows_start", "rows_next", "wr_valid", "peak_valid", "commit")
SHOWN = ("done", "error", "assign_unit", "side_addr", "gate_addr", "wr_addr", "wr_data",
         "peak_tensor", "peak_bits", "peak_exponent", "peak_bw")  # fmt: skip
INSIDE = ("reserve", "push", "push_addr", "push_data")
COMMAND_BITS = sum(field.bits for field in FIELDS.values())


class Queue:
    """Beats between the drainers and the write port."""

    def __init__(self) -> None:
        self.reserved, self.asked, self.free, self.room = 0, 0, 0, True
        self.beats: deque[tuple[int, int, int]] = deque()  # first cycle on the port, address, data

    def cycle(self, t: int, want: dict[str, int], ready: bool) -> dict[str, int]:
        """What the port shows in cycle t."""
        self.room = self.reserved < DEPTH - 2  # heard a cycle later
        valid = bool(self.beats) and t >= max(self.beats[0][0], self.free)
        port = {"wr_valid": 1, "wr_addr": self.beats[0][1], "wr_data": self.beats[0][2]} if valid else {}
        if valid and ready:
            self.beats.popleft()
            self.free = t + 1
        self.reserved += self.asked - (valid and ready)
        self.asked = want.get("reserve", 0)  # counts a cycle later
        if want.get("push"):
            self.beats.append((t + QUEUE, want["push_addr"], want["push_data"]))
        return port


class Bench:
    """Slots one after the other."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng = tb.config(), np.random.default_rng(tb.seed())
        self.silent = [*SILENT, *(("rows_mask_next", "rows_info_next") if self.cfg.sparse else ())]
        self.pins = Pins(dut, [*self.silent, *SHOWN])
        self.info_bits = sum(block_model.info_bits(self.cfg))
        self.shift_bits = len(dut.shift)
        self.table = [(0, 0)] * self.cfg.units
        self.place = (0, 0)
        self.old_error = False  # of a drainer that has not been started since
        self.slots = 0
        self.pins.drive(rst=0, slot_start=0, active=0, commit_done=0)

    def flow(self, phase: Phase, **changes: int) -> FlowJob:
        """Partial sums to drain."""
        changes.setdefault("commit", int(self.rng.random() < 0.3))
        return flow_model.random_job(self.cfg, self.rng, phase, out_tensor=self.tensor(), **changes)

    def blocks(self, **changes: int) -> BlockJob:
        """New blocks to drain."""
        most = min(self.cfg.gather_depth // self.cfg.block_c, 2 * self.cfg.masks_per_beat)
        size = int(self.rng.integers(1, 5)), int(self.rng.integers(1, most + 1))
        region = block_model.random_region(self.cfg, self.rng, *size, float(self.rng.random()))
        changes.setdefault("commit", int(self.rng.random() < 0.3))
        return block_model.job_of(self.cfg, self.rng, region, out_tensor=self.tensor(), **changes)

    def other(self, phase: Phase | None = None, **changes: int) -> Command:
        """Nothing to drain: a command of any phase without `drain`, or one that computes nothing."""
        phase = Phase(int(self.rng.integers(4))) if phase is None else phase
        changes.setdefault("commit", int(self.rng.random() < 0.3))
        drain = int(phase == Phase.NOP and self.rng.random() < 0.5)
        return good(self.cfg, phase, drain=drain, out_tensor=self.tensor(), **changes)

    def tensor(self) -> int:
        """Any tensor."""
        return int(self.rng.integers(self.cfg.tensors))

    async def cycle(self, give: dict[str, Any], **inputs: int) -> dict[str, int]:
        """One cycle; what nobody gives is noise."""
        cfg, rng = self.cfg, self.rng
        wide = {"rows_data": cfg.beat_bits}
        if cfg.sparse:
            wide |= {"rows_mask": mask_group(cfg) * cfg.mask_bits, "rows_info": self.info_bits}
        noise = {
            **{name: random_bits(rng, width) for name, width in wide.items()},
            "side_q": give.get("side_q", random_bits(rng, cfg.columns * cfg.acc_bits)),
            "gate_q": give.get("gate_q", random_bits(rng, cfg.columns * cfg.bus_elements)),
            "shift": random_bits(rng, self.shift_bits),
            "ones": random_bits(rng, cfg.operand_bits),
            "acc_exponent": random_bits(rng, EXPONENT_BITS),
        }
        for name in wide:
            noise[name] = give.get(name.removeprefix("rows_"), noise[name])
        row, slot = self.place
        got = await self.pins.cycle(**(noise | inputs), assign_row=row, assign_slot=slot)
        self.place = self.table[got["assign_unit"]]
        return got

    def begin(self, job: Job) -> tuple[Command, Script | None]:
        """Tables for a job; its command, and the model of its drainer."""
        if isinstance(job, FlowJob):
            self.table = job.table
            return job.command, FlowModel(self.cfg, job)
        if isinstance(job, BlockJob):
            self.table = [(row, int(self.rng.integers(self.cfg.units))) for row in job.owners]
            self.table += [(0, 0)] * (self.cfg.units - len(self.table))
            return job.command, BlockModel(self.cfg, job)
        return job, None

    async def play(
        self, job: Job, ready: float = 1.0, active: bool = True, then_wait: int = 0, reset_at: int = -1
    ) -> None:
        """One slot; the memory takes writes with probability `ready`; the slot lasts `then_wait` cycles longer."""
        cfg, rng, queue = self.cfg, self.rng, Queue()
        self.slots += 1
        c, model = self.begin(job)
        flows = isinstance(job, FlowJob) and active
        model = model if active else None
        begins = model is not None or bool(active and c["commit"])
        stores = isinstance(job, BlockJob) and active
        exponent = random_bits(rng, EXPONENT_BITS)
        steady = {"acc_exponent": exponent}
        if isinstance(job, FlowJob):
            steady |= {"shift": job.shift & (1 << self.shift_bits) - 1, "ones": job.ones & (1 << cfg.operand_bits) - 1}
        peak = (model.magnitude if isinstance(model, FlowModel) else 0).bit_length()
        finish, commits, done_from = -1, -1, None if begins else 1
        written: list[tuple[int, int]] = []
        t = 0
        while done_from is None or t < done_from + then_wait or t == 0:
            takes, give, want = bool(rng.random() < ready), {}, {}
            drained = t > 0 and queue.reserved == 0
            if model is not None:
                model.step(t, queue.room)  # type: ignore[attr-defined]
                give, want = model.give.pop(t, {}), model.want.pop(t, {})
                drained &= model.done_from is not None and t >= model.done_from  # type: ignore[attr-defined]
            failed = isinstance(model, BlockModel) and model.error and t >= (model.done_from or 0)
            want |= queue.cycle(t, want, takes)
            if begins and finish < 0 and drained:
                finish = t + 1
            if t == finish:
                want |= {"peak_valid": int(flows), "commit": int(c["commit"] and not failed)}
                if want["peak_valid"]:
                    want |= {"peak_tensor": c["out_tensor"], "peak_bits": peak}
                    want |= {"peak_exponent": exponent, "peak_bw": int(c["phase"] == Phase.BW or c["gradient"])}
                commits = t + cfg.tensors + COMMIT_EXTRA if want["commit"] else -1
                done_from = t + 1 if commits < 0 else commits + 1
            elif t == 0 and stores:
                want["rows_start"] = 1
            error = Status.STORE_OVERFLOW if failed else Status.OK
            got = await self.cycle(
                give,
                **(steady if t >= SHIFT_NEEDED else {}),
                command=command_bits(c),
                active=int(active),
                slot_start=int(t == 0),
                rst=int(t == reset_at),
                wr_ready=int(takes),
                commit_done=int(t == commits),
            )
            silent: dict[str, int | None] = {**dict.fromkeys(self.silent, 0), "error": error}
            silent["done"] = int(t == 0 or (done_from is not None and t >= done_from))
            if self.old_error and (t == 0 or not active):
                silent["error"] = None  # nobody listens: another command's, or none
            known = {name: v for name, v in want.items() if name not in INSIDE and name in got}
            compare((self.slots, t), got, silent | known)
            if got["wr_valid"] and takes:
                written.append((t, got["wr_addr"]))
            if t == reset_at:
                await self.after_reset(c)
                return
            t += 1
        if stores:
            self.old_error = failed
        if ready == 1.0 and active and not failed:
            self.law(job, c, written, t - then_wait)

    def law(self, job: Job, c: Command, written: list[tuple[int, int]], done_from: int) -> None:
        """Golden's cycles of every write, and of the end."""
        last, writes = 1 if c["commit"] else 0, None
        if isinstance(job, FlowJob):
            last, writes = flow_done(self.cfg, c), flow_writes(self.cfg, c)
        if isinstance(job, BlockJob):
            last = block_done(self.cfg, c, job.value_beats())
            writes = block_writes(self.cfg, c, job.value_beats())
        golden = list(zip(writes.cycle.tolist(), writes.address.tolist(), strict=True)) if writes else []
        assert written == [(n, a & (1 << 32) - 1) for n, a in golden]
        end = last + DRAIN_END if last else 1
        assert done_from == end + (self.cfg.tensors + COMMIT_EXTRA) * c["commit"]

    async def after_reset(self, c: Command) -> None:
        """Nothing moves, and nothing is left in the queue."""
        self.pins.drive(rst=0, slot_start=0, active=0)
        self.old_error = False
        for n in range(12):
            got = await self.cycle({}, command=command_bits(c), wr_ready=1, commit_done=0)
            compare(("after reset", n), got, {**dict.fromkeys(self.silent, 0), "done": 1, "error": 0})


async def begin(dut: Any) -> Bench:
    """A bench after reset."""
    await tb.start(dut)
    return Bench(dut)


@cocotb.test()
async def mixed_slots(dut: Any) -> None:
    """Sums, blocks, commits and nothing, in any order; the memory takes all writes, most, few."""
    bench = await begin(dut)
    for trial in range(80):
        kind = int(bench.rng.integers(4))
        job: Job = bench.flow(FLOWS[trial % 2]) if kind < 2 else bench.blocks() if kind == 2 else bench.other()
        await bench.play(job, (1.0, 0.7, 0.1)[trial // 2 % 3], then_wait=trial % 4)


@cocotb.test()
async def nothing_to_drain(dut: Any) -> None:
    """No drain, no commit, or no command: done all the time; a commit alone is one strobe, without a peak."""
    bench = await begin(dut)
    for phase in Phase:
        await bench.play(bench.other(phase=phase, commit=0), then_wait=4)
        await bench.play(bench.other(phase=phase, commit=1), then_wait=4)
        for job in (bench.flow(Phase.BW, commit=1), bench.blocks(commit=1), bench.other(commit=1)):
            await bench.play(job, active=False, then_wait=20)
            await bench.play(job)


@cocotb.test()
async def zero_peak(dut: Any) -> None:
    """Sums that are all zero have a peak of no bits; the smallest one, as many bits as an accumulator."""
    bench = await begin(dut)
    for sums in (0, 1, -1, -(1 << bench.cfg.acc_bits - 1)):
        for phase in FLOWS:
            await bench.play(bench.flow(phase, sums=str(sums), relu=0, gate=0))  # type: ignore[arg-type]
            await bench.play(bench.other(commit=1))


@cocotb.test()
async def store_overflow(dut: Any) -> None:
    """The status stays for the slot, and nothing is committed; it is not that of a later command."""
    bench = await begin(dut)
    for ready in (1.0, 0.3):
        for after in (bench.flow(Phase.FW, commit=1), bench.blocks(commit=1), bench.other(commit=1)):
            for fits in (0, 1):  # no record, or all but the last
                job = bench.blocks(commit=1)
                full = len(job.header) + sum(map(len, job.masks)) + sum(map(len, job.values))
                job.command["limit"] = (full - 1) * fits
                await bench.play(job, ready, then_wait=5)
                assert bench.old_error
                await bench.play(bench.other(commit=0), active=False)
                await bench.play(after, ready)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset while sums or blocks drain, with beats in the queue; then a commit, and all of it once more."""
    bench = await begin(dut)
    for at in (*range(1, 20), 24, 30, 36):
        job = bench.blocks(commit=1) if at % 2 else bench.flow(FLOWS[at // 2 % 2], commit=1)
        await bench.play(job, (0.2, 1.0)[at % 3 == 0], reset_at=at)
        await bench.play(bench.blocks() if at % 4 < 2 else bench.flow(Phase.FW), 0.7)
        await bench.play(bench.other(commit=1))
