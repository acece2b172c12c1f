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
from golden.vector.stage import Outcome, VectorMemory, run
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
            got = {name: int(handle.value) for name, handle in outputs.items() if name not in ("rd_req_addr", "wr_addr", "wr_data")}
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
