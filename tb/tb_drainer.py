"""Bench of the drainer of partial sums: every element at its place and time, every beat as golden has it.

The bench plays assignment table, rows, gate buffer and write queue. What a neighbour shows is right only in the cycle
that the law names, and noise in all others; so are command, shift and ones outside the time they must be stable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import FIELDS, Phase
from golden.writing import QUEUE, flow_done, flow_writes
from tb.flow_model import SHIFT_NEEDED, FlowJob, FlowModel, random_job, room_for
from tb.pins import Pins, command_bits, compare, random_bits

SILENT = ("reserve", "push", "side_clear", "saturated")
OUTPUTS = (*SILENT, "done", "assign_unit", "side_addr", "gate_addr", "push_addr", "push_data", "magnitude")
COMMAND_BITS = sum(field.bits for field in FIELDS.values())
FLOWS = (Phase.FW, Phase.BW)


class Bench:
    """Working sets one after the other."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng, self.pins = tb.config(), np.random.default_rng(tb.seed()), Pins(dut, OUTPUTS)
        self.shift_bits = len(dut.shift)
        self.place = (0, 0)  # answer of the assignment table
        self.table: list[tuple[int, int]] = [(0, 0)] * self.cfg.units
        self.magnitude: int | None = None
        self.jobs = 0
        self.pins.drive(rst=0, start=0)

    async def cycle(self, room: bool, side_q: int | None = None, **inputs: int) -> dict[str, int]:
        """One cycle; inputs not given are noise."""
        cfg, rng = self.cfg, self.rng
        noise = {
            "start": 0,
            "command": random_bits(rng, COMMAND_BITS),
            "shift": random_bits(rng, self.shift_bits),
            "ones": random_bits(rng, cfg.operand_bits),
            "side_q": random_bits(rng, cfg.columns * cfg.acc_bits) if side_q is None else side_q,
            "gate_q": random_bits(rng, cfg.columns * cfg.bus_elements),
        }
        row, slot = self.place
        got = await self.pins.cycle(**(noise | inputs), room=int(room), assign_row=row, assign_slot=slot)
        self.place = self.table[got["assign_unit"]]
        return got

    async def idle(self, cycles: int) -> None:
        """Nothing to do: nothing moves, whatever the command looks like."""
        for t in range(cycles):
            got = await self.cycle(bool(self.rng.integers(2)))
            compare(("idle", t), got, {**dict.fromkeys(SILENT, 0), "done": 1, "magnitude": self.magnitude})

    async def play(self, job: FlowJob, room: float = 1.0, reset_at: int = -1, then_idle: int = 3) -> None:
        """One working set; there is room with probability `room` in each cycle."""
        cfg, rng, c, model = self.cfg, self.rng, job.command, FlowModel(self.cfg, job)
        self.jobs += 1
        self.table = job.table
        command, pushed = command_bits(c), []
        steady = {"shift": job.shift & (1 << self.shift_bits) - 1, "ones": job.ones & (1 << cfg.operand_bits) - 1}
        t = 0
        while model.done_from is None or t < model.done_from:
            free = bool(rng.random() < room)
            model.step(t, free)
            inputs = dict(model.give.pop(t, {}), command=command, start=int(t == 0), rst=int(t == reset_at))
            got = await self.cycle(free, **inputs, **(steady if t >= SHIFT_NEEDED else {}))
            before = {"done": 1, "magnitude": self.magnitude} if t == 0 else {"done": 0}
            compare((self.jobs, t), got, dict.fromkeys(SILENT, 0) | before | model.want.pop(t, {}))
            if got["push"]:
                pushed.append((t + QUEUE, got["push_addr"]))
            if t == reset_at:
                self.pins.drive(rst=0)
                self.magnitude = 0
                await self.idle(0 if t % 3 == 0 else 12)
                return
            t += 1
        assert not model.give and not model.want
        self.magnitude = model.magnitude
        if room == 1.0:  # the law without pauses
            writes = flow_writes(cfg, c)
            assert pushed == [
                (n, a & (1 << 32) - 1)
                for n, a in zip(*map(np.ndarray.tolist, (writes.cycle, writes.address)), strict=True)
            ]
            assert t + QUEUE == flow_done(cfg, c)
        await self.idle(then_idle)


async def begin(dut: Any) -> tuple[Bench, Callable[..., FlowJob]]:
    """A bench after reset, and what makes it work."""
    await tb.start(dut)
    bench = Bench(dut)
    return bench, lambda phase, **given: random_job(bench.cfg, bench.rng, phase, **given)


@cocotb.test()
async def random_working_sets(dut: Any) -> None:
    """Both phases, any size; a queue that is never, often or nearly always full; the next one at once or later."""
    bench, job = await begin(dut)
    for trial in range(60):
        await bench.play(job(FLOWS[trial % 2]), (1.0, 0.6, 0.1)[trial // 2 % 3], then_idle=trial % 4)


@cocotb.test()
async def ragged_edges(dut: Any) -> None:
    """Channels around the end of a beat, with and without the constant one; beats of padding alone; no channel."""
    bench, job = await begin(dut)
    e = bench.cfg.bus_elements
    for phase in FLOWS:
        for channels in (0, 1, e - 1, e, e + 1, 2 * e):
            for ones in (0, 1):
                tight = max(1, -(-(channels + ones) // e))
                for run in (tight, tight + 2):
                    await bench.play(job(phase, out_channels=channels, ones=ones, out_run=run), then_idle=0)


@cocotb.test()
async def one_and_all(dut: Any) -> None:
    """A single beat; as many sums as the rows hold, of as many positions as there may be, or of one."""
    bench, job = await begin(dut)
    cfg = bench.cfg
    for phase in FLOWS:
        await bench.play(job(phase, out_channels=1, ones=0, out_run=1, positions=1, log2_positions=0))
        for wide in range(2 if phase == Phase.BW and cfg.groups_per_word > 1 else 1):
            lanes = cfg.lane_group << wide if phase == Phase.BW else cfg.block_k
            deepest = min(cfg.psum_depth // lanes, cfg.gate_beats * cfg.bus_elements).bit_length() - 1
            for log2_positions in (0, deepest):
                given = {"positions": 1 << log2_positions, "log2_positions": log2_positions, "ones": 0, "wide": wide}
                channels = room_for(cfg, phase, log2_positions, wide)
                channels = min(channels, cfg.gate_beats * cfg.bus_elements >> log2_positions)
                await bench.play(job(phase, out_channels=channels, out_run=-(-channels // cfg.bus_elements), **given))


@cocotb.test()
async def ends_of_the_range(dut: Any) -> None:
    """All sums zero, all the largest, all the smallest; every shift from -31 to 63; with ReLU and gate, and without."""
    bench, job = await begin(dut)
    low, high = -(1 << bench.cfg.acc_bits - 1), (1 << bench.cfg.acc_bits - 1) - 1
    for shift in range(-31, 64):
        await bench.play(job(FLOWS[shift % 2], shift=shift, positions=1), then_idle=0)
    for phase in FLOWS:
        for rule in (0, 1):
            for sums in (0, low, high, -1, 1):
                for shift in (-31, 0, bench.cfg.acc_bits - bench.cfg.operand_bits, 63):
                    given = job(phase, shift=shift, sums=str(sums), positions=1, out_channels=3, relu=rule, gate=rule)
                    await bench.play(given, then_idle=0)


@cocotb.test()
async def addresses_wrap(dut: Any) -> None:
    """The last address of memory, and strides as large as the address: all modulo 2**32."""
    bench, job = await begin(dut)
    last = (1 << 32) - 1
    for phase in FLOWS:
        for addr, stride in ((last, 0), (0, last), (last, last), (last - 1, 1)):
            for pitch in (0, 1, last):
                await bench.play(job(phase, out_addr=addr, out_stride=stride, out_pitch=pitch, out_cols=3, positions=7,
                                     log2_positions=3, out_run=3, out_channels=2))  # fmt: skip


@cocotb.test()
async def rows_of_positions(dut: Any) -> None:
    """Rows of one position, of all, of a number that leaves the last row short; with pauses and without."""
    bench, job = await begin(dut)
    for phase in FLOWS:
        for positions, cols in ((6, 1), (6, 2), (7, 3), (5, 5), (5, 9), (8, 4), (1, 1), (8, 65535)):
            for run in (1, 2):
                for room in (1.0, 0.5):
                    given = {"positions": positions, "log2_positions": 3, "out_cols": cols, "out_run": run}
                    await bench.play(job(phase, out_channels=1, ones=0, **given), room)


@cocotb.test()
async def a_long_wait(dut: Any) -> None:
    """No room at all, in the middle of everything: begun beats leave, nothing else moves, then it goes on."""
    bench, job = await begin(dut)
    for phase in FLOWS:
        await bench.play(job(phase, out_channels=2 * bench.cfg.bus_elements + 1), 0.02)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset in any cycle: all is silent at once and stays so; the next working set is right."""
    bench, job = await begin(dut)
    for at in (*range(16), 20, 25):
        phase = FLOWS[at % 2]
        await bench.play(
            job(phase, out_channels=3 * bench.cfg.bus_elements, positions=2, log2_positions=1), reset_at=at
        )
        await bench.play(job(phase), 0.7, then_idle=0)
