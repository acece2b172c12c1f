"""Bench of the exponent table and of the decay, each against its golden rule.

The test `decay` belongs to the decay unit, all others to the table; `run_bench(..., testcase=...)` chooses.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.command import Phase
from arch.config import Config
from golden.exponents import commit
from golden.regenerate import next_decay

COMMIT_EXTRA = 2
PORTS = ("x", "aux", "out", "csr")
Peak = tuple[int, int, int, Phase]  # tensor, bits, exponent of the accumulators, phase


def idle(dut: Any) -> None:
    """No strobe."""
    for name in ("csr_we", "clear", "peak_valid", "commit"):
        getattr(dut, name).value = 0


async def write(dut: Any, values: list[int]) -> None:
    """Write the table, one entry a cycle."""
    for tensor, value in enumerate(values):
        dut.csr_we.value, dut.csr_tensor.value, dut.csr_value.value = 1, tensor, value & 255
        await RisingEdge(dut.clk)
    dut.csr_we.value = 0


async def check(dut: Any, values: list[int], rng: np.random.Generator) -> None:
    """Read every entry through every port, one a cycle, latency exact."""
    before: dict[str, int] = {}
    for offset in range(len(values)):
        tensors = {name: int((offset + rng.integers(len(values))) % len(values)) for name in PORTS[:3]}
        tensors["csr"] = offset
        for name, tensor in tensors.items():
            getattr(dut, f"{name}_tensor").value = tensor
        await RisingEdge(dut.clk)
        for name, tensor in (before | {"csr": offset}).items():
            got = int(getattr(dut, f"{name}_exponent").value)
            assert got == values[tensor] & 255, f"{name}_exponent of {tensor}: {got}, not {values[tensor] & 255}"
        before = {name: tensors[name] for name in PORTS[:3]}


async def send(dut: Any, peaks: list[Peak], rng: np.random.Generator, gap: float, last_commits: bool) -> None:
    """Peaks at up to one a cycle, random bits in between; the last may come with the commit."""
    for index, (tensor, bits, exponent, phase) in enumerate(peaks):
        while rng.random() < gap:
            dut.peak_valid.value, dut.peak_bits.value, dut.peak_exponent.value = 0, int(rng.integers(1, 24)), 255
            await RisingEdge(dut.clk)
        dut.peak_valid.value, dut.peak_tensor.value, dut.peak_bits.value = 1, tensor, bits
        dut.peak_exponent.value, dut.peak_bw.value = exponent & 511, int(phase == Phase.BW)
        dut.commit.value = int(last_commits and index == len(peaks) - 1)
        await RisingEdge(dut.clk)
    dut.peak_valid.value = 0


async def finish_commit(dut: Any, cfg: Config, strobe: bool) -> None:
    """commit_done comes tensors + 2 cycles after commit, for one cycle; returns in its cycle."""
    if strobe:
        dut.commit.value = 1
        await RisingEdge(dut.clk)
        assert int(dut.commit_done.value) == 0
    dut.commit.value = 0
    for cycle in range(1, cfg.tensors + COMMIT_EXTRA):
        await RisingEdge(dut.clk)
        assert int(dut.commit_done.value) == 0, f"commit_done {cycle} cycles after commit"


def held(peaks: list[Peak]) -> dict[int, tuple[int, Phase]]:
    """Largest peak of each tensor in which anything but zero was drained."""
    result: dict[int, tuple[int, Phase]] = {}
    for tensor, bits, exponent, phase in peaks:
        if bits:
            old = result.get(tensor, (bits + exponent, phase))[0]
            result[tensor] = max(old, bits + exponent), phase
    return result


def random_peaks(cfg: Config, rng: np.random.Generator, count: int, tensors: int) -> list[Peak]:
    """Peaks of a few tensors; a tensor is always drained by the same phase."""
    phases = rng.integers(0, 2, cfg.tensors)
    result = []
    for _ in range(count):
        tensor, bits = int(rng.integers(tensors)), int(rng.integers(0, cfg.acc_bits + 1))
        result.append(
            (
                tensor,
                bits if rng.random() < 0.8 else 0,
                int(rng.integers(-256, 256)) >> int(rng.integers(8)),
                Phase(int(phases[tensor])),
            )
        )
    return result


@cocotb.test()
async def commits(dut: Any) -> None:
    """Rounds of peaks, one a cycle or with gaps, over one tensor, two, all; the table after each commit."""
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    idle(dut)
    await tb.start(dut)
    table = [int(v) for v in rng.integers(-100, 28, cfg.tensors)]
    await write(dut, table)
    await check(dut, table, rng)
    for count, tensors, gap, with_last in (
        (40, 1, 0.0, False),
        (40, 2, 0.0, True),
        (80, cfg.tensors, 0.0, True),
        (30, 3, 0.5, False),
        (2, 1, 0.0, True),
        (1, 1, 0.0, True),
        (0, 1, 0.0, False),
    ):
        peaks = random_peaks(cfg, rng, count, tensors)
        await send(dut, peaks, rng, gap, with_last)
        await finish_commit(dut, cfg, strobe=not with_last)
        table = commit(table, held(peaks), cfg.operand_bits)
        dut.csr_tensor.value = cfg.tensors - 1
        for name in PORTS[:3]:
            getattr(dut, f"{name}_tensor").value = cfg.tensors - 1
        await RisingEdge(dut.clk)
        assert int(dut.commit_done.value) == 1
        assert int(dut.csr_exponent.value) == table[-1] & 255
        dut.csr_tensor.value = 0
        await RisingEdge(dut.clk)
        assert int(dut.commit_done.value) == 0
        assert int(dut.x_exponent.value) == table[-1] & 255, "presented in the cycle of commit_done"
        await check(dut, table, rng)


@cocotb.test()
async def every_exponent_and_both_clamps(dut: Any) -> None:
    """Each peak around both ends of both ranges, and the ends of what a peak can be."""
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    idle(dut)
    await tb.start(dut)
    table = [0] * cfg.tensors
    await write(dut, table)
    a = cfg.operand_bits
    ends = [
        -256 + 1,
        255 + cfg.acc_bits,
        *range(-2, 3),
        *range(a - 5, a),
        *range(a - 104, a - 99),
        *range(a + 23, a + 29),
    ]
    for start in range(0, len(ends), cfg.tensors // 2):
        peaks = []
        for tensor, peak in enumerate(ends[start : start + cfg.tensors // 2]):
            for twice, phase in enumerate((Phase.FW, Phase.BW)):
                bits = (
                    min(max(1, peak + 256), cfg.acc_bits) if peak < 0 else max(1, peak - 255, int(rng.integers(1, 5)))
                )
                peaks.append((2 * tensor + twice, bits, peak - bits, phase))
        await send(dut, peaks, rng, 0.0, True)
        await finish_commit(dut, cfg, strobe=False)
        table = commit(table, held(peaks), a)
        await RisingEdge(dut.clk)
        await check(dut, table, rng)


@cocotb.test()
async def clear_and_reset_forget_peaks(dut: Any) -> None:
    """After clear, or after a reset in the middle of a commit, only new peaks count."""
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    idle(dut)
    await tb.start(dut)
    table = [int(v) for v in rng.integers(-100, 28, cfg.tensors)]
    await write(dut, table)
    await send(dut, [(0, 20, 100, Phase.BW), (2, 20, 100, Phase.BW)], rng, 0.0, False)
    dut.clear.value = 1
    await RisingEdge(dut.clk)
    dut.clear.value = 0
    peaks = [(2, 3, 2, Phase.BW)]
    await send(dut, peaks, rng, 0.0, True)
    await finish_commit(dut, cfg, strobe=False)
    table = commit(table, held(peaks), cfg.operand_bits)
    await RisingEdge(dut.clk)
    await check(dut, table, rng)

    last = cfg.tensors - 1
    await send(dut, [(last, 20, 100, Phase.BW)], rng, 0.0, True)
    dut.commit.value = 0
    for _ in range(3):
        await RisingEdge(dut.clk)
    await tb.reset(dut, 1)
    for _ in range(cfg.tensors + 4):
        await RisingEdge(dut.clk)
        assert int(dut.commit_done.value) == 0
    await check(dut, table, rng)
    await finish_commit(dut, cfg, strobe=True)
    await RisingEdge(dut.clk)
    await check(dut, table, rng)


@cocotb.test()
async def decay(dut: Any) -> None:
    """Steps from one to zero, factors above and below, the largest too; load, and reset in flight."""
    rng = np.random.default_rng(tb.seed())
    dut.load.value, dut.advance.value = 0, 0
    await tb.start(dut)
    one = 1 << 16
    for start, factor in (
        (one, one),
        (one, one - 1),
        (one, 0.9 * one),
        (0x1FFFF, 0x1FFFF),
        (1, one - 1),
        (0, one),
        (one, 0),
        *rng.integers(0, one + 1, (8, 2)),
    ):
        start, factor = int(start), int(factor)
        dut.load.value, dut.load_value.value = 1, start
        await RisingEdge(dut.clk)
        dut.load.value, value = 0, min(start, one)
        for _ in range(20):
            dut.advance.value, dut.factor.value = 1, factor
            await RisingEdge(dut.clk)
            assert int(dut.decay.value) == value
            dut.advance.value, dut.factor.value = 0, int(rng.integers(1 << 17))
            await RisingEdge(dut.clk)
            assert int(dut.decay.value) == value
            value = next_decay(value, min(factor, one))
            for _ in range(int(rng.integers(0, 3))):
                await RisingEdge(dut.clk)
                assert int(dut.decay.value) == value
    dut.load.value, dut.load_value.value = 1, one
    await RisingEdge(dut.clk)
    dut.load.value, dut.advance.value, dut.factor.value = 0, 1, one
    await RisingEdge(dut.clk)
    dut.advance.value, dut.rst.value = 0, 1
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(3):
        await RisingEdge(dut.clk)
        assert int(dut.decay.value) == 0
