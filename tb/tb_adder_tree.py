"""Bench of the adder tree: the sum and the cycle it comes in, against plain integers."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

import tb


async def play(dut: Any, cycles: list[tuple[list[int], int, int, int, int]]) -> int:
    """Drive (terms, en, first, last, rst) a cycle and compare; returns the number of sums seen."""
    given = tb.parameters()
    inputs, bits = given["inputs"], given["input_bits"]
    latency = inputs.bit_length()  # log2 + 1, for a power of two
    due: dict[int, int] = {}
    running = seen = 0
    for now, (terms, en, first, last, rst) in enumerate(cycles + [([0] * inputs, 0, 0, 0, 0)] * (latency + 1)):
        dut.terms.value = sum((t & ((1 << bits) - 1)) << (n * bits) for n, t in enumerate(terms))
        dut.en.value, dut.first.value, dut.last.value, dut.rst.value = en, first, last, rst
        if en:
            running = sum(terms) + (0 if first else running)
            if last:
                due[now + latency] = running
        if rst:
            due = {cycle: total for cycle, total in due.items() if cycle <= now}
        await RisingEdge(dut.clk)
        assert int(dut.valid.value) == (now in due), f"cycle {now}: valid {dut.valid.value}"
        if now in due:
            got = int(dut.sum.value)
            assert got == due[now] & ((1 << given["sum_bits"]) - 1), f"cycle {now}: {got}, not {due[now]}"
            seen += 1
    return seen


@cocotb.test()
async def random_sums(dut: Any) -> None:
    """Sums of any length, back to back or with gaps, marks without `en` ignored."""
    given, rng = tb.parameters(), random.Random(tb.seed())
    top = 1 << (given["input_bits"] - 1)
    await tb.start(dut)
    cycles, fresh = [], True
    for _ in range(2000):
        terms = [rng.choice((-top, top - 1, rng.randrange(-top, top))) for _ in range(given["inputs"])]
        en = int(rng.random() < 0.8)
        first, last = int(fresh or rng.random() < 0.2), int(rng.random() < 0.3)
        rst = int(rng.random() < 0.01)
        fresh = bool(rst) or (fresh and not en)
        cycles.append((terms, en, first, last, rst))
    assert await play(dut, cycles) > 300


@cocotb.test()
async def extremes(dut: Any) -> None:
    """The smallest and the largest terms everywhere, alone and accumulated, do not wrap."""
    given = tb.parameters()
    top = 1 << (given["input_bits"] - 1)
    spare = given["sum_bits"] - given["input_bits"] - (given["inputs"].bit_length() - 1)
    length = min(1 << spare, 64)
    await tb.start(dut)
    cycles = []
    for term in (-top, top - 1):
        terms = [term] * given["inputs"]
        cycles += [(terms, 1, 1, 1, 0)] * 3
        cycles += [(terms, 1, n == 0, n == length - 1, 0) for n in range(length)]
    assert await play(dut, cycles) == 8


@cocotb.test()
async def each_input_counts_once(dut: Any) -> None:
    """One term at a time: no input is missed or added twice."""
    given = tb.parameters()
    await tb.start(dut)
    cycles = [
        ([n + 1 if n == one else 0 for n in range(given["inputs"])], 1, 1, 1, 0) for one in range(given["inputs"])
    ]
    assert await play(dut, cycles) == given["inputs"]
