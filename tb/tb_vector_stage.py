"""Bench of the vector stage: random commands on a memory with a latency; bytes, reports and cycles."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch import vector as arch
from arch.status import Status
from arch.vector import Op
from golden.vector import law
from golden.vector.real import word
from golden.vector.stage import Outcome, VectorMemory, check, run
from tb.vector_work import Job, random_job

OUTPUTS = ("done", "rd_req_valid", "rd_req_addr", "rd_resp_ready", "wr_valid", "wr_addr", "wr_data")
REPORTS = ("saturated", "peak_valid", "peak_tensor", "peak_bits", "peak_exponent", "peak_bw")


class Bench:
    """The stage, its memory and its exponent table."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.cfg = dut, tb.config()
        given = tb.parameters()
        self.elements, self.group = int(given["elements"]), int(given["group"])
        self.rng = np.random.default_rng(tb.seed())

    async def play(self, job: Job, latency: int = 1, stall: float = 0.0, reset_at: int | None = None) -> int:
        """Run a job; compares everything with golden, the cycle of `done` too if the memory does not stall."""
        dut, cfg = self.dut, self.cfg
        wanted = job.image.copy()
        outcome = run(VectorMemory(cfg, wanted), job.command, job.exponents, job.learning)
        words = arch.pack(**job.command)
        dut.rst.value = 0
        dut.command.value = int.from_bytes(words.astype("<u4").tobytes(), "little")
        dut.learning.value = job.learning
        memory = job.image.copy()
        answers: deque[tuple[int, int]] = deque()  # cycle in which it is there, data
        saturated, peak = 0, None
        dut.start.value = 1
        ready, writes_ready, showing = 1, 1, False
        dut.rd_req_ready.value, dut.wr_ready.value, dut.rd_resp_valid.value = 1, 1, 0
        outputs = {name: getattr(dut, name) for name in OUTPUTS}
        limit = 4000 + 40 * law.cycles(cfg, self.elements, self.group, job.command, latency)
        t = 0
        while True:
            await RisingEdge(dut.clk)
            got = {
                name: int(handle.value)
                for name, handle in outputs.items()
                if name not in ("rd_req_addr", "wr_addr", "wr_data")
            }
            if t == reset_at:
                return t
            saturated += int(dut.saturated.value)
            if int(dut.peak_valid.value):
                assert peak is None, "a second report"
                peak = tuple(int(getattr(dut, name).value) for name in REPORTS[2:])
            if t and got["done"]:
                break
            assert t < limit, f"not done after {t} cycles"
            if showing and got["rd_resp_ready"]:
                answers.popleft()
            if got["rd_req_valid"] and ready:
                addr = int(dut.rd_req_addr.value)
                answers.append((t + latency, int.from_bytes(memory[addr].tobytes(), "little")))
            if got["wr_valid"] and writes_ready:
                beat = int(dut.wr_data.value).to_bytes(cfg.beat_bits // 8, "little")
                memory[int(dut.wr_addr.value)] = np.frombuffer(beat, np.uint8)
            t += 1
            dut.start.value = 0
            held = showing and bool(answers) and not got["rd_resp_ready"]  # an answer once shown stays
            showing = bool(answers) and answers[0][0] <= t and (held or self.rng.random() >= stall)
            dut.rd_resp_valid.value = int(showing)
            if showing:
                dut.rd_resp_data.value = answers[0][1]
            ready, writes_ready = (int(self.rng.random() >= stall) for _ in range(2))
            dut.rd_req_ready.value, dut.wr_ready.value = ready, writes_ready
            # The exponent table answers in the cycle after.
            tensor = int(dut.exponent_tensor.value)
            dut.exponent.value = (job.exponents[tensor] if tensor < len(job.exponents) else 0) & 0xFF
        self.compare(job, outcome, memory, wanted, saturated, peak)
        if not stall:
            expected = law.cycles(cfg, self.elements, self.group, job.command, latency)
            assert t == expected, f"done after {t} cycles, not {expected}: {job.command}"
        return t

    def compare(
        self, job: Job, outcome: Outcome, memory: np.ndarray, wanted: np.ndarray, saturated: int, peak: tuple | None
    ) -> None:
        """Status, reports, every byte."""
        dut, c = self.dut, job.command
        assert int(dut.error.value) == outcome.status, f"status {int(dut.error.value)}, not {outcome.status!r}: {c}"
        different = np.argwhere((memory != wanted).any(axis=1)).ravel()
        assert not len(different), f"beats {different.tolist()[:8]} differ: {c}"
        if outcome.status != Status.OK:
            assert peak is None
            return
        assert saturated == outcome.saturated, f"{saturated} saturated, not {outcome.saturated}: {c}"
        if c["op"] in (Op.AFFINE, Op.POOL, Op.UNPOOL):
            exponent = 0 if outcome.peak is None else min(255, max(-256, outcome.peak - 1))
            assert peak is not None
            assert peak[0] == c["out_tensor"] and peak[1] == (outcome.peak is not None) and peak[3] == c["backward"]
            if outcome.peak is not None:
                assert peak[2] == exponent & 0x1FF, f"peak {peak}, not {outcome.peak}: {c}"
        else:
            assert peak is None
        if c["op"] == Op.SOFTMAX:
            found = (int(dut.loss.value), int(dut.right.value))
            assert found == (outcome.loss, outcome.right), f"loss and right {found}, not {outcome}: {c}"


async def begin(dut: Any) -> Bench:
    for name in ("start", "rd_resp_valid", "exponent", "learning", "command"):
        getattr(dut, name).value = 0
    await tb.start(dut)
    return Bench(dut)


async def mixed(dut: Any, op: Op, count: int) -> None:
    """Random commands of an operation, without stalls and with."""
    bench = await begin(dut)
    for index in range(count):
        job = random_job(bench.rng, bench.cfg, op)
        latency = int(bench.rng.choice([1, 2, 5, 16, 40]))
        await bench.play(job, latency, stall=0.0 if index % 3 else float(bench.rng.choice([0.1, 0.5, 0.8])))


@cocotb.test()
async def affine(dut: Any) -> None:
    """Random AFFINE commands."""
    await mixed(dut, Op.AFFINE, 40)


@cocotb.test()
async def reduce(dut: Any) -> None:
    """Random REDUCE commands."""
    await mixed(dut, Op.REDUCE, 16)


@cocotb.test()
async def coefficients(dut: Any) -> None:
    """Random COEFFICIENTS commands."""
    await mixed(dut, Op.COEFFICIENTS, 6)


@cocotb.test()
async def pool(dut: Any) -> None:
    """Random POOL commands."""
    await mixed(dut, Op.POOL, 20)


@cocotb.test()
async def unpool(dut: Any) -> None:
    """Random UNPOOL commands."""
    await mixed(dut, Op.UNPOOL, 20)


@cocotb.test()
async def softmax(dut: Any) -> None:
    """Random SOFTMAX commands."""
    await mixed(dut, Op.SOFTMAX, 8)


@cocotb.test()
async def refusals(dut: Any) -> None:
    """Commands that cannot be done: a status, no access, done; the next one is right."""
    bench = await begin(dut)
    cfg, rng = bench.cfg, bench.rng
    cases: list[tuple[Op, dict[str, int]]] = [
        (Op.AFFINE, {"magic": 0x5CB1}),
        (Op.AFFINE, {"valid": cfg.columns + 1}),
        (Op.AFFINE, {"clip": 3}),
        (Op.AFFINE, {"gate": 3}),
        (Op.AFFINE, {"step": 3}),
        (Op.REDUCE, {"batches": 1, "positions": 0}),
        (Op.REDUCE, {"batches": 1 << 15, "positions": 1 << 15}),
        (Op.SOFTMAX, {"channels": 1025}),
        (Op.POOL, {"in_height": 3, "out_height": 4, "step": 1, "padding": 0}),
        (Op.UNPOOL, {"window_width": 1, "padding": 1}),
        (Op.POOL, {"in_height": 4, "out_height": 3, "step": 2, "padding": 0}),
    ]
    cases += [(op, {name: 0}) for op in Op for name in ("batches", "channels", "valid")]
    cases += [(Op.POOL, {name: 0}) for name in ("in_height", "out_width", "window_height", "step")]
    cases += [(op, {"op": value}) for op, value in ((Op.AFFINE, 6), (Op.SOFTMAX, 15))]
    for op, change in cases:
        job = random_job(rng, cfg, op)
        job.command |= change
        assert check(cfg, job.command) != Status.OK
        assert await bench.play(job) == law.SETUP
    await bench.play(random_job(rng, cfg, Op.AFFINE))


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset in any cycle: the next command is right."""
    bench = await begin(dut)
    for index in range(24):
        op = Op(index % len(Op))
        job = random_job(bench.rng, bench.cfg, op)
        whole = law.cycles(bench.cfg, bench.elements, bench.group, job.command, 3)
        await bench.play(job, 3, stall=0.2 * (index % 2), reset_at=int(bench.rng.integers(1, whole)))
        await tb.reset(dut)
        await bench.play(random_job(bench.rng, bench.cfg, Op(bench.rng.integers(len(Op)))), 3)


@cocotb.test()
async def ends_of_the_range(dut: Any) -> None:
    """Every element the lowest or the highest; with the largest coefficients, every activation function."""
    bench = await begin(dut)
    cfg, rng = bench.cfg, bench.rng
    top = (1 << cfg.operand_bits - 1) - 1
    for index, value in enumerate((top, -top - 1, 0) * 3):
        for op in (Op.AFFINE, Op.REDUCE, Op.POOL, Op.UNPOOL, Op.SOFTMAX):
            change = {"a_factor": word(2.0**60), "b_factor": word(-(2.0**60)), "c_term": word(0.0), "clip": index // 3}
            job = random_job(rng, cfg, op, **change)
            if op != Op.AFFINE or not job.command["records"]:
                VectorMemory(cfg, job.image).elements[:] = value
            job.exponents[:] = [int(rng.integers(-14, 10))] * len(job.exponents)
            await bench.play(job, 2)


@cocotb.test()
async def long_streams(dut: Any) -> None:
    """Many positions, one to three operands: as many beats a cycle as the law says; more channels than a group."""
    bench = await begin(dut)
    cfg, rng = bench.cfg, bench.rng
    for has_b, gate, records in ((0, 0, 0), (1, 0, 1), (1, 2, 0), (0, 1, 1)):
        given = {"has_b": has_b, "gate": gate, "records": records, "positions": 60, "channels": 5 * cfg.bus_elements}
        await bench.play(random_job(rng, cfg, Op.AFFINE, **given), 16)
    for backward in (0, 1):
        given = {"backward": backward, "positions": 60, "channels": min(3 * bench.group, 40)}
        await bench.play(random_job(rng, cfg, Op.REDUCE, **given), 16)


@cocotb.test()
async def large_windows(dut: Any) -> None:
    """The average over a map of 14 x 14 and its gradient; windows that overlap; a tall map; a thousand classes."""
    bench = await begin(dut)
    cfg, rng = bench.cfg, bench.rng
    whole = {"in_height": 14, "in_width": 14, "out_height": 1, "out_width": 1, "window_height": 14, "window_width": 14}
    whole |= {"step": 1, "padding": 0, "average": 1, "batches": 2, "channels": cfg.bus_elements + 1}
    stem = {"in_height": 9, "in_width": 8, "out_height": 5, "out_width": 4, "window_height": 3, "window_width": 3}
    stem |= {"step": 2, "padding": 1, "average": 0, "batches": 1, "channels": 3}
    tall = {"in_height": 201, "in_width": 2, "out_height": 101, "out_width": 1, "window_height": 3, "window_width": 2}
    tall |= {"step": 2, "padding": 1, "average": 0, "batches": 1, "channels": 1}
    for sizes in (whole, stem, tall):
        for op in (Op.POOL, Op.UNPOOL):
            job = random_job(rng, cfg, op, **sizes)
            if sizes is not whole:  # few values: many ties
                VectorMemory(cfg, job.image).elements[:] %= 3
            await bench.play(job, 16)
    await bench.play(random_job(rng, cfg, Op.SOFTMAX, batches=1, channels=1000, valid=2), 16)
