"""Bench of the quantile estimator: log2 theta and theta in every cycle, against the golden recurrence."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from golden.quantile import COUNT_BITS, log2_limit, observe, theta_from_log2

LOG2_LATENCY, LATENCY, LOAD_LATENCY = 4, 6, 3
Step = dict[str, int]


class Model:
    """Golden recurrence with the promised latencies: what the outputs show, cycle by cycle."""

    def __init__(self, bits: int, log2_theta: int = 0) -> None:
        self.bits, self.log2_theta, self.now = bits, log2_theta, 0
        self.steps: dict[int, Step] = {}
        self.log2_shown, self.theta_shown = {0: log2_theta}, {0: theta_from_log2(log2_theta, bits)}
        self.log2_out, self.theta_out = self.log2_shown[0], self.theta_shown[0]

    def outputs(self) -> tuple[int, int]:
        """What is on the outputs in this cycle."""
        self.log2_out = self.log2_shown.pop(self.now, self.log2_out)
        self.theta_out = self.theta_shown.pop(self.now, self.theta_out)
        return self.log2_out, self.theta_out

    def cycle(self, step: Step) -> None:
        """The inputs of this cycle; time moves on."""
        if step.get("observe"):
            self.steps[self.now + LOG2_LATENCY - 1] = step
        due = self.steps.pop(self.now, None)
        if step.get("load"):
            self.log2_theta = min(step["load_log2"], log2_limit(self.bits))
        elif due:
            self.log2_theta = observe(
                self.log2_theta, due["kept"], due["seen"], due["keep_share"], due["rate"], self.bits
            )
        if step.get("load") or due:
            self.log2_shown[self.now + 1] = self.log2_theta
            self.theta_shown[self.now + LOAD_LATENCY] = theta_from_log2(self.log2_theta, self.bits)
        self.now += 1


async def play(dut: Any, bits: int, steps: list[Step]) -> list[int]:
    """Reset, run, compare in every cycle; the thresholds seen."""
    await tb.start(dut)
    model, thresholds = Model(bits), []
    for step in [*steps, *[{}] * LATENCY]:
        for name in ("observe", "load"):
            getattr(dut, name).value = step.get(name, 0)
        for name, value in step.items():
            getattr(dut, name).value = value
        await RisingEdge(dut.clk)
        want = model.outputs()
        got = int(dut.log2_theta.value), int(dut.theta.value)
        assert got == want, f"cycle {model.now}: log2 theta, theta = {got}, not {want}"
        thresholds.append(got[1])
        model.cycle(step)
    return thresholds


def _environment() -> tuple[int, np.random.Generator]:
    return tb.config().delta_bits, np.random.default_rng(tb.seed())


@cocotb.test()
async def observations(dut: Any) -> None:
    """Random counts and constants, one by one and one a cycle, over the whole range."""
    bits, rng = _environment()
    steps: list[Step] = []
    for phase in range(12):
        constants = {"keep_share": int(rng.integers(1 << 16)), "rate": int(rng.integers(0, 24))}
        steps.append({"load": 1, "load_log2": int(rng.integers(0, log2_limit(bits) + 1))})
        for _ in range(20):
            seen = int(rng.integers(1 << int(rng.integers(1, COUNT_BITS + 1))))
            steps.append({"observe": 1, "kept": int(rng.integers(seen + 1)), "seen": seen, **constants})
            steps.extend([dict(constants)] * (0 if phase % 2 else int(rng.integers(0, 8))))
        steps.extend([dict(constants)] * 3)
    await play(dut, bits, steps)


@cocotb.test()
async def ends_of_the_range(dut: Any) -> None:
    """Clamped at both ends, by observations and by loads; rates 0 and 63; empty working sets."""
    bits, _ = _environment()
    most, wait = (1 << COUNT_BITS) - 1, [{}] * 4
    steps: list[Step] = []
    for rate in (0, 1, 20, 63):
        for kept, seen, share in (
            (most, most, 0),
            (0, most, 65535),
            (0, 0, 65535),
            (most, 0, 65535),
            (1, 1, 65535),
            (0, 1, 1),
        ):
            steps += [{"observe": 1, "kept": kept, "seen": seen, "keep_share": share, "rate": rate}, *wait]
    for value in (0, 1, log2_limit(bits), log2_limit(bits) + 1, (1 << 32) - 1):
        steps += [
            {"load": 1, "load_log2": value},
            *wait,
            {"observe": 1, "kept": 0, "seen": 1, "keep_share": 1, "rate": 63},
            *wait,
        ]
    await play(dut, bits, steps)


@cocotb.test()
async def every_entry_of_the_table(dut: Any) -> None:
    """Loads one a cycle: all 256 fractions, all integer parts."""
    bits, rng = _environment()
    loads = [(i << 20) | (f << 12) | int(rng.integers(4096)) for f in range(256) for i in (0, f % (bits - 1), bits - 2)]
    thresholds = await play(dut, bits, [{"load": 1, "load_log2": value} for value in loads])
    assert len(set(thresholds)) > 256


@cocotb.test()
async def load_wins_over_an_observation_that_ends(dut: Any) -> None:
    """A load in the cycle in which an earlier observation would be added replaces it."""
    bits, _ = _environment()
    constants = {"keep_share": 100, "rate": 2}
    for distance in range(1, 7):
        steps: list[Step] = [
            {"load": 1, "load_log2": 5 << 20},
            *[{}] * 4,
            {"observe": 1, "kept": 50, "seen": 70, **constants},
            *[dict(constants)] * (distance - 1),
            {"load": 1, "load_log2": 7 << 20},
        ]
        await play(dut, bits, steps)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset removes loads and observations in flight and leaves theta = 1."""
    bits, _ = _environment()
    for after in range(1, 7):
        await play(dut, bits, [{"load": 1, "load_log2": 9 << 20}])
        dut.load.value, dut.load_log2.value = 1, 8 << 20
        dut.observe.value, dut.kept.value, dut.seen.value, dut.keep_share.value, dut.rate.value = 1, 99, 99, 1, 0
        for _ in range(after):
            await RisingEdge(dut.clk)
            dut.load.value, dut.observe.value = 0, 0
        await tb.reset(dut, 1)
        for _ in range(LATENCY + 1):
            await RisingEdge(dut.clk)
            assert (int(dut.log2_theta.value), int(dut.theta.value)) == (0, 1)
