"""Bench of the requantiser against the golden one, with the pipeline stopped at random."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from golden.requantise import magnitude_bits, requantise

LATENCY = 2


def numbers(rng: random.Random, bits: int, count: int) -> list[int]:
    """Numbers of every size: ends of the range, powers of two, ties, and anything."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    values = [low, high, 0, -1, 1, low + 1]
    while len(values) < count:
        size = rng.randrange(bits)
        x = rng.choice((rng.getrandbits(size) if size else 0, 1 << size, (2 * rng.getrandbits(3) + 1) << size))
        values.append(max(low, min(high, rng.choice((x, -x, x - 1, ~x)))))
    return values


async def play(dut: Any, xs: list[int], shifts: list[int], pause: float) -> None:
    """Drive the values, one a cycle in which the pipeline moves, and compare each result."""
    given, rng = tb.parameters(), random.Random(tb.seed())
    out_bits = given["out_bits"]
    golden, saturated = requantise(np.array(xs), np.array(shifts), out_bits)
    wanted = list(
        zip(
            (int(v) & ((1 << out_bits) - 1) for v in golden),
            (int(s) for s in saturated),
            (int(b) for b in magnitude_bits(np.array(xs))),
            strict=True,
        )
    )
    moved = 0
    while moved < len(xs) + LATENCY:
        moves = rng.random() >= pause
        dut.en.value = moves
        # While the pipeline stands its inputs must not matter.
        feed = min(moved, len(xs) - 1) if moves else rng.randrange(len(xs))
        dut.x.value = xs[feed] & ((1 << given["in_bits"]) - 1)
        dut.shift.value = shifts[feed] & 127
        await RisingEdge(dut.clk)
        if moved >= LATENCY:
            n = moved - LATENCY
            got = (int(dut.value.value), int(dut.saturated.value), int(dut.magnitude_bits.value))
            assert got == wanted[n], f"x = {xs[n]}, shift = {shifts[n]}: {got}, not {wanted[n]}"
        moved += moves


@cocotb.test()
async def every_shift(dut: Any) -> None:
    """Every legal shift on numbers of every size."""
    rng = random.Random(tb.seed())
    shifts = [shift for shift in range(-31, 64) for _ in range(40)]
    xs = [x for _ in range(-31, 64) for x in numbers(rng, tb.parameters()["in_bits"], 40)]
    await tb.start(dut)
    await play(dut, xs, shifts, 0)


@cocotb.test()
async def shifts_mixed_with_pauses(dut: Any) -> None:
    """Shift changes with every value; the pipeline holds while `en` is low."""
    rng = random.Random(tb.seed() + 1)
    xs = numbers(rng, tb.parameters()["in_bits"], 2000)
    await tb.start(dut)
    await play(dut, xs, [rng.choice((rng.randint(-31, 63), rng.randint(-3, 20))) for _ in xs], 0.3)


@cocotb.test()
async def nothing_is_saturated_after_reset(dut: Any) -> None:
    """The flag resets, though the pipeline moves on."""
    await tb.start(dut)
    largest = (1 << (tb.parameters()["in_bits"] - 1)) - 1
    dut.en.value, dut.x.value, dut.shift.value = 1, largest, -31
    for _ in range(4):
        await RisingEdge(dut.clk)
    assert int(dut.saturated.value) == 1
    await tb.reset(dut)
    await RisingEdge(dut.clk)
    assert int(dut.saturated.value) == 0
