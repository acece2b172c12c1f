"""Bench of the exploration hash: both outputs of every cycle against the golden rule, two enabled cycles later."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from golden.regenerate import C_BITS, K_BITS, TAP_BITS, explored

LATENCY = 2
LIMITS = {"kb": 1 << K_BITS, "cb": 1 << C_BITS, "tap": 1 << TAP_BITS}


async def play(dut: Any, rng: np.random.Generator, words: np.ndarray, step: int, log2_period: int, pause: float) -> int:
    """Present words (kb, cb, tap), one an enabled cycle; returns how many are explored."""
    period = 1 << min(log2_period, 6)
    wanted = [(0, 0)] * LATENCY  # what fills the pipeline is not looked at
    wanted += zip(explored(*words.T, step, period), explored(*words.T, step + 1, period), strict=True)
    dut.step.value, dut.log2_period.value = step & 63, log2_period
    moved = 0
    while moved < len(words) + LATENCY:
        moves = rng.random() >= pause
        dut.enable.value = int(moves)
        at = moved if moves and moved < len(words) else int(rng.integers(0, len(words)))
        for name, value in zip(LIMITS, words[at].tolist(), strict=True):
            getattr(dut, name).value = value
        await RisingEdge(dut.clk)
        if moved >= LATENCY:
            got = int(dut.explored.value), int(dut.explored_next.value)
            assert got == wanted[moved], f"word {words[moved - LATENCY]}, step {step}: {got}, not {wanted[moved]}"
        moved += moves
    return int(sum(w[0] for w in wanted))


def some_words(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random words, the ends of every coordinate among them."""
    words = np.stack([rng.integers(0, limit, count) for limit in LIMITS.values()], 1)
    ends = np.array([[0, 0, 0], [limit - 1 for limit in LIMITS.values()]])
    corners = ends[rng.integers(0, 2, (count // 4, 3)), np.arange(3)]
    return np.concatenate([words, corners])


@cocotb.test()
async def every_period_and_step(dut: Any) -> None:
    """Each word is explored in exactly one step of a period; the pipeline stands while enable is low."""
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    for log2_period in range(7):
        words = some_words(rng, 32)
        steps = range(1 << log2_period)
        total = [await play(dut, rng, words, step, log2_period, 0.3 * (step % 2)) for step in steps]
        assert sum(total) == len(words), f"period {1 << log2_period}"


@cocotb.test()
async def large_steps_and_periods(dut: Any) -> None:
    """Steps count modulo 64, their wrap included; log2_period 7 acts as 6."""
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    for step in (63, 64, 127, *rng.integers(0, 1 << 20, 8).tolist()):
        for log2_period in (1, 5, 6, 7):
            await play(dut, rng, some_words(rng, 100), step, log2_period, 0.0)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """The outputs are low after reset, and words that follow it are exact."""
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    for _ in range(4):
        await play(dut, rng, some_words(rng, 8), 0, 0, 0.0)
        assert int(dut.explored.value) and int(dut.explored_next.value)
        await tb.reset(dut, 1)
        dut.enable.value = 0
        await RisingEdge(dut.clk)
        assert not int(dut.explored.value) and not int(dut.explored_next.value)
        await play(dut, rng, some_words(rng, 20), 5, 2, 0.0)
