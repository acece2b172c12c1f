"""Bench of the weight update: every output of every cycle against the golden rule, delayed.

A run is a schedule of visits and bare word markers, one entry a cycle. Whatever is presented in
cycle t must leave in cycle t + dot_latency + 6 and nothing else may. What belongs to it is on its ports only in the
cycle that is meant, the gradient after it and the rest before it; random bits fill the others. In about half of the
cycles in which no gradient is multiplied or added up the multipliers make the product of a factor and a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.config import Config
from golden.weight_update import update

LATENCY = 6
LEAD = {"bit": "visit_lead", "record_last": "visit_lead", "next_explored": "visit_lead", "next_count": "visit_lead",
        "has_value": "delta_lead", "delta": "delta_lead"}  # fmt: skip
FLAGS = ("valid", "word_last", "keep", "adopted", "evicted", "saturated")
BESIDE_WORD = ("record_last", "next_explored", "next_count")


@dataclass
class Schedule:
    """What is presented in each cycle; arrays of shape (cycles,)."""

    valid: np.ndarray
    has_value: np.ndarray
    delta: np.ndarray
    bit: np.ndarray
    word_last: np.ndarray
    record_last: np.ndarray
    next_explored: np.ndarray
    next_count: np.ndarray
    g: np.ndarray


@dataclass
class Constants:
    """What is stable during a run."""

    lr: int
    shift: int
    theta: int
    dense: bool = False


def schedule(cfg: Config, rng: np.random.Generator, cycles: int, spacing: int = 1, busy: float = 1.0) -> Schedule:
    """Random visits `spacing` cycles apart (a bare marker takes one cycle), a share `busy` of the chances."""
    kinds = np.zeros(cycles, int)  # 0 nothing, 1 visit, 2 bare marker
    at = 0
    while at < cycles:
        kinds[at] = rng.choice(3, p=[1 - busy, busy * 0.7, busy * 0.3])
        at += spacing if kinds[at] == 1 else 1
    top, full = cfg.delta_bits - 1, cfg.acc_bits - 1
    magnitude = rng.integers(0, top, cycles)
    has_value = rng.random(cycles) < 0.5
    return Schedule(
        valid=kinds == 1,
        has_value=has_value,
        delta=np.where(has_value, rng.integers(-1 << magnitude, (1 << magnitude) + 1), 0),
        bit=rng.integers(0, cfg.mask_bits, cycles),
        word_last=(kinds == 2) | ((kinds == 1) & (rng.random(cycles) < 0.4)),
        record_last=rng.random(cycles) < 0.3,
        next_explored=rng.random(cycles) < 0.4,
        next_count=rng.integers(0, cfg.mask_bits + 1, cycles),
        g=rng.integers(-(1 << full), 1 << full, cycles) >> rng.integers(0, full, cycles),
    )


def expected(cfg: Config, s: Schedule, c: Constants) -> dict[str, np.ndarray]:
    """Outputs by cycle of presentation."""
    new, kept, saturated = update(s.delta, s.g, c.lr, c.shift, c.theta, cfg.delta_bits, c.dense)
    return {
        "valid": s.valid,
        "word_last": s.word_last,
        "keep": s.valid & kept,
        "adopted": s.valid & kept & ~s.has_value,
        "evicted": s.valid & ~kept & s.has_value,
        "saturated": s.valid & saturated,
        "candidate": new & ((1 << cfg.delta_bits) - 1),
        "bit": s.bit,
        "record_last": s.record_last,
        "next_explored": s.next_explored & (not c.dense),
        "next_count": s.next_count,
    }


async def play(dut: Any, cfg: Config, dot_latency: int, s: Schedule, c: Constants, reset_at: int = 1 << 30) -> int:
    """Run a schedule, compare everything; the number of kept weights."""
    rng = np.random.default_rng(7)
    leads = {name: tb.parameters()[lead] for name, lead in LEAD.items()}
    for flag in (s.valid, s.word_last):  # nobody announces after a reset what has begun before it
        flag[reset_at + 1 : reset_at + 1 + max(leads.values())] = False
    want = expected(cfg, s, c)
    delay, n = dot_latency + LATENCY, len(s.valid)
    dut.lr.value, dut.theta.value, dut.dense_mode.value = c.lr, c.theta, int(c.dense)
    dut.shift.value = c.shift & 127
    acc_mask, kept = (1 << cfg.acc_bits) - 1, 0
    multiplied, product = False, None  # a gradient in the last cycle; the product shown, if known
    for t in range(-max(leads.values()), n + delay + 3):
        active = 0 <= t < n
        dut.visit_valid.value = int(active and s.valid[t])
        dut.visit_word_last.value = int(active and s.word_last[t])
        for name, lead in leads.items():
            port, of = getattr(dut, f"visit_{name}"), t + lead
            used = 0 <= of < n and (s.valid[of] or s.word_last[of])
            port.value = (int(getattr(s, name)[of]) if used else int(rng.integers(1 << 32))) & (1 << len(port)) - 1
        at_g = t - dot_latency
        real = 0 <= at_g < n and s.valid[at_g]
        dut.g.value = (int(s.g[at_g]) if real else int(rng.integers(-(1 << 62), 1 << 62))) & acc_mask
        wanted = not real and not multiplied and rng.random() < 0.5
        factor, scale = int(rng.choice([-510, 510, *rng.integers(-510, 511, 4)])), int(rng.integers(1 << 16))
        dut.factor_enable.value, dut.factor.value, dut.scale_t.value = int(wanted), factor & 1023, scale
        dut.rst.value = int(t == reset_at)
        await RisingEdge(dut.clk)
        assert product is None or dut.scaled.value.to_signed() == product, f"product in cycle {t}, not {product}"
        product = factor * scale if wanted else None if real else product
        multiplied = real
        p = t - delay
        lost = not 0 <= p < n or p <= reset_at < t
        for name in FLAGS:
            got = int(getattr(dut, name).value)
            assert got == (0 if lost else int(want[name][p])), f"{name} in cycle {t}: {got}"
        if lost:
            continue
        if want["valid"][p]:
            assert int(dut.bit.value) == want["bit"][p]
        if want["keep"][p]:
            kept += 1
            assert int(dut.candidate.value) == want["candidate"][p], f"candidate of visit {p}"
        if want["word_last"][p]:
            for name in BESIDE_WORD:
                assert int(getattr(dut, name).value) == int(want[name][p]), f"{name} of marker {p}"
    return kept


def _environment() -> tuple[Config, int, np.random.Generator]:
    return tb.config(), tb.parameters()["dot_latency"], np.random.default_rng(tb.seed())


@cocotb.test()
async def random_visits(dut: Any) -> None:
    """Random operands of all magnitudes, shifts of the whole range, U = 1, 2, 4, with and without gaps."""
    cfg, dot_latency, rng = _environment()
    await tb.start(dut)
    kept = 0
    for spacing, busy in ((1, 1.0), (4, 1.0), (2, 0.5), (1, 0.3)):
        for shift in (int(rng.integers(-31, 0)), int(rng.integers(0, cfg.acc_bits)), 24, 63):
            theta = int(rng.integers(0, 1 << int(rng.integers(1, cfg.delta_bits))))
            s = schedule(cfg, rng, 120, spacing, busy)
            kept += await play(dut, cfg, dot_latency, s, Constants(int(rng.integers(1 << cfg.lr_bits)), shift, theta))
    assert kept


@cocotb.test()
async def dense_mode_keeps_all_and_explores_none(dut: Any) -> None:
    """Every visit is kept, whatever the threshold, and next_explored is low."""
    cfg, dot_latency, rng = _environment()
    await tb.start(dut)
    s = schedule(cfg, rng, 200)
    theta = (1 << cfg.delta_bits) - 1
    assert await play(dut, cfg, dot_latency, s, Constants(3, 30, theta, dense=True)) == s.valid.sum()
    assert await play(dut, cfg, dot_latency, s, Constants(3, 30, theta)) == 0


@cocotb.test()
async def boundary_of_the_threshold(dut: Any) -> None:
    """A candidate is kept above theta, not at it, on both sides; the most negative one too."""
    cfg, dot_latency, rng = _environment()
    await tb.start(dut)
    largest = (1 << (cfg.delta_bits - 1)) - 1
    for theta in (0, 1, 77, largest - 1, largest, largest + 1):
        s = schedule(cfg, rng, 60)
        s.valid[:], s.has_value[:] = True, True
        near = np.array([-theta - 1, -theta, 1 - theta, theta - 1, theta, theta + 1])[rng.integers(0, 6, 60)]
        near = np.clip(near, -largest - 1, largest)
        s.g = rng.integers(-100, 101, 60)
        s.delta = np.clip(near + s.g, -largest - 1, largest)  # delta - g is the wanted candidate
        await play(dut, cfg, dot_latency, s, Constants(1, 0, theta))


@cocotb.test()
async def saturation_and_ties(dut: Any) -> None:
    """Both saturations, both ends of the gradient, and exact halves, which round to even."""
    cfg, dot_latency, rng = _environment()
    await tb.start(dut)
    largest, extreme = (1 << (cfg.delta_bits - 1)) - 1, (1 << (cfg.acc_bits - 1)) - 1
    ends = np.array([extreme, -extreme - 1, 0, 1, -1, largest, -largest - 1])
    for lr, shift in (((1 << cfg.lr_bits) - 1, 0), (1, 0), (1, -31), (1, 1), (2, 63), ((1 << cfg.lr_bits) - 1, 20)):
        s = schedule(cfg, rng, 49)
        s.valid[:], s.has_value[:] = True, True
        s.g, s.delta = np.repeat(ends, 7), np.tile(np.clip(ends, -largest - 1, largest), 7)
        await play(dut, cfg, dot_latency, s, Constants(lr, shift, 0))
    s = schedule(cfg, rng, 100)
    s.valid[:] = True
    s.g = (rng.integers(-50, 50, 100) << 3) + 4
    await play(dut, cfg, dot_latency, s, Constants(1, 3, 0))


@cocotb.test()
async def only_bare_markers(dut: Any) -> None:
    """Empty words in a row: markers flow without visits, one a cycle."""
    cfg, dot_latency, rng = _environment()
    await tb.start(dut)
    s = schedule(cfg, rng, 60)
    s.valid[:], s.word_last[:] = False, True
    assert await play(dut, cfg, dot_latency, s, Constants(1, 0, 0)) == 0


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """A reset removes what is in flight; what begins in the next cycle is exact again."""
    cfg, dot_latency, rng = _environment()
    await tb.start(dut)
    for at in (3, 20, 21, 40):
        await play(dut, cfg, dot_latency, schedule(cfg, rng, 80), Constants(5, 16, 1000), reset_at=at)
