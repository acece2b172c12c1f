"""Bench of a row of PEs: every output of every cycle against a model without a pipeline (`pe_model`).

Stimuli keep the rules of `rtl.row_control.RowControl`; those of one test are as wild as the rules allow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.config import Config
from tb.pe_model import DEFAULTS, DOT, MAC, WRITE_AFTER, Cycle, RowModel, pack, unpack


async def play(dut: Any, cfg: Config, stimulus: Iterable[Cycle]) -> RowModel:
    """Drive cycles into the row and compare; the row must be fresh (memories zero)."""
    model = RowModel(cfg)
    driven = dict(DEFAULTS)
    side_q: np.ndarray | None = None
    idle = [{}] * 16
    for cycle in [*stimulus, *idle]:
        inputs = {**DEFAULTS, **cycle}
        for name, value in inputs.items():
            if value != driven[name]:
                port = getattr(dut, name)
                port.value = value & ((1 << len(port)) - 1)
        driven = inputs
        expected, now = side_q, model.now
        side_q = model.step(inputs)
        await RisingEdge(dut.clk)
        if expected is not None:
            got = unpack(int(dut.side_q.value), cfg.acc_bits, cfg.columns)
            assert np.array_equal(got, expected), f"cycle {now}: side_q {got}, expected {expected}"
        assert int(dut.sum_valid.value) == (now in model.sums), f"cycle {now}: sum_valid"
        if now in model.sums:
            got = unpack(int(dut.sum.value), cfg.acc_bits, 1)[0]
            assert got == model.sums[now], f"cycle {now}: sum {got}, expected {model.sums[now]}"
    return model


def operand(rng: np.random.Generator, bits: int, size: int) -> np.ndarray:
    """Random operands, the ends of the range and zero among them."""
    top = 1 << (bits - 1)
    values = rng.integers(-top, top, size)
    special = rng.choice([-top, top - 1, -1, 0], size)
    return np.where(rng.random(size) < 0.3, special, values)


def beat(rng: np.random.Generator, cfg: Config) -> int:
    """A random beat."""
    return pack(operand(rng, cfg.operand_bits, cfg.columns * cfg.bus_elements), cfg.operand_bits)


def stationary_word(rng: np.random.Generator, cfg: Config) -> int:
    """A random word of stationary operands."""
    return pack(operand(rng, cfg.operand_bits, 2 * cfg.columns), cfg.operand_bits)


def fill(rng: np.random.Generator, cfg: Config, bank: int) -> list[Cycle]:
    """Load a whole gather bank with random operands."""
    return [
        {"gather_bank": 1 - bank, "load_we": 1, "load_addr": a, "load_data": beat(rng, cfg)}
        for a in range(cfg.gather_depth // cfg.bus_elements)
    ]


def with_bypass(stimulus: Iterable[Cycle]) -> list[Cycle]:
    """Set `bypass` as a row controller does."""
    latest: dict[tuple[int, int], int] = {}
    cycles = []
    for now, cycle in enumerate(stimulus):
        if cycle.get("op") == MAC:
            place = (cycle.get("psum_bank", 0), cycle["psum_addr"])
            distance = now - latest.get(place, -9)
            cycle = {**cycle, "bypass": distance if distance <= 3 else 0}
            latest[place] = now
        if cycle.get("rst"):
            latest.clear()
        cycles.append(cycle)
    return cycles


def random_stimulus(cfg: Config, rng: np.random.Generator, cycles: int, resets: float) -> list[Cycle]:
    """Operations, loads, side accesses, bank flips and resets, all at once."""
    stimulus: list[Cycle] = []
    banks = {"gather_bank": 0, "psum_bank": 0, "stat_bank": 0}
    last_mac: dict[int, int] = defaultdict(lambda: -WRITE_AFTER)
    mode, left, density, fresh = MAC, 0, 1.0, True
    for now in range(cycles):
        if left == 0:
            mode, left = int(rng.integers(1, 3)), int(rng.integers(1, 40))
            density = float(rng.choice([1.0, 0.9, 0.3]))
            banks = {name: bank ^ int(rng.random() < 0.6) for name, bank in banks.items()}
            fresh = True
        left -= 1
        cycle = dict(banks)
        bank = banks["psum_bank"]
        near = rng.random() < 0.8
        cycle["gather_addr"] = int(rng.integers(0, 16 if near else cfg.gather_depth))
        cycle["psum_addr"] = int(rng.integers(0, 3 if near else cfg.psum_depth))
        cycle["value"] = int(operand(rng, cfg.operand_bits, 1)[0])
        cycle["half"] = int(rng.integers(0, 2))
        if rng.random() < density:
            cycle["op"] = mode
        if mode == DOT:
            cycle["dot_first"] = int(fresh or rng.random() < 0.3)
            cycle["dot_last"] = int(rng.random() < 0.3)
            fresh = fresh and cycle.get("op") != DOT
        elif cycle.get("op") == MAC:
            last_mac[bank] = now
        near = rng.random() < 0.7
        cycle["load_we"] = int(rng.random() < 0.5)
        cycle["load_addr"] = int(rng.integers(0, (16 if near else cfg.gather_depth) // cfg.bus_elements))
        cycle["load_data"] = beat(rng, cfg)
        cycle["side_addr"] = int(rng.integers(0, 3 if near else cfg.psum_depth))
        cycle["side_read"] = int(rng.random() < 0.7)
        cycle["stat_we"] = int(rng.random() < 0.5)
        cycle["stat_addr"] = int(rng.integers(0, 3 if near else cfg.psum_depth))
        cycle["stat_data"] = stationary_word(rng, cfg)
        if last_mac[1 - bank] <= now - WRITE_AFTER:
            cycle["side_clear"] = int(rng.random() < 0.1)
        if rng.random() < resets:
            cycle["rst"] = 1
            fresh = True
        stimulus.append(cycle)
    return with_bypass(stimulus)


def de_bruijn(symbols: int, length: int) -> list[int]:
    """A sequence that holds every word of `length` symbols (Fredricksen, Kessler, Maiorana)."""
    word, sequence = [0] * (length + 1), []

    def extend(t: int, period: int) -> None:
        if t > length:
            if length % period == 0:
                sequence.extend(word[1 : period + 1])
            return
        word[t] = word[t - period]
        extend(t + 1, period)
        for symbol in range(word[t - period] + 1, symbols):
            word[t] = symbol
            extend(t + 1, t)

    extend(1, 1)
    return sequence + sequence[: length - 1]


@cocotb.test()
async def random_operations(dut: Any) -> None:
    """Everything at once, without reset."""
    cfg = tb.config()
    await tb.start(dut)
    await play(dut, cfg, random_stimulus(cfg, np.random.default_rng(tb.seed()), 2500, 0))


@cocotb.test()
async def random_with_resets(dut: Any) -> None:
    """Everything at once, with resets in flight: what reached the write stage stays, the rest is lost."""
    cfg = tb.config()
    await tb.start(dut)
    await clean(dut, cfg)
    await play(dut, cfg, random_stimulus(cfg, np.random.default_rng(tb.seed() + 1), 2500, 0.03))


@cocotb.test()
async def every_hazard(dut: Any) -> None:
    """Every sequence of five MACs over three addresses, gaps included, accumulates exactly."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    await clean(dut, cfg)
    stimulus = fill(rng, cfg, 0)
    for symbol in de_bruijn(4, 5):
        stimulus.append(
            {}
            if symbol == 3
            else {
                "op": MAC,
                "psum_addr": symbol,
                "value": int(operand(rng, cfg.operand_bits, 1)[0]),
                "gather_addr": int(rng.integers(0, cfg.gather_depth)),
            }
        )
    stimulus += [{}] * 5 + [{"psum_bank": 1, "side_addr": a, "side_read": 1} for a in (0, 1, 2, 0)]
    await play(dut, cfg, with_bypass(stimulus))


@cocotb.test()
async def write_latency(dut: Any) -> None:
    """A sum is not in the bank four cycles after its MAC, and is there after five."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    await clean(dut, cfg)
    stimulus = [*fill(rng, cfg, 0), {"op": MAC, "value": 3, "gather_addr": 1, "psum_addr": 2}]
    stimulus += [{"psum_bank": 1, "side_addr": 2, "side_read": 1}] * 7
    model = await play(dut, cfg, stimulus)
    assert model.seen[0, 2].any()


@cocotb.test()
async def every_address(dut: Any) -> None:
    """Each operand of both gather banks reaches each partial sum's place, and no other."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    await clean(dut, cfg)
    stimulus = fill(rng, cfg, 0) + fill(rng, cfg, 1)
    depth, chunk = cfg.psum_depth, 0
    for bank in range(2):
        for base in range(0, cfg.gather_depth, depth):
            chunk += 1
            here = {"gather_bank": bank, "psum_bank": chunk % 2}
            # The chunk before is drained and cleared behind this one; 5 cycles for its last MACs.
            stimulus += [here] * 5
            stimulus += [
                {
                    **here,
                    "op": MAC,
                    "value": 1,
                    "psum_addr": a,
                    "side_addr": a,
                    "side_read": 1,
                    "side_clear": 1,
                    "gather_addr": base + a,
                }
                for a in range(min(depth, cfg.gather_depth))
            ]
    await play(dut, cfg, with_bypass(stimulus))


@cocotb.test()
async def every_stationary_address(dut: Any) -> None:
    """Both halves of each word of both stationary banks reach the sum; a bank loads while the other is read."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    await clean(dut, cfg)
    depth = cfg.psum_depth
    stimulus = fill(rng, cfg, 0)
    stimulus += [
        {"stat_bank": 1, "stat_we": 1, "stat_addr": a, "stat_data": stationary_word(rng, cfg)} for a in range(depth)
    ]
    for bank in (0, 1, 0):
        stimulus += [
            {
                "op": DOT,
                "dot_first": 1,
                "dot_last": 1,
                "gather_addr": int(rng.integers(0, cfg.gather_depth)),
                "psum_addr": a,
                "half": half,
                "stat_bank": bank,
                "stat_we": half,
                "stat_addr": a,
                "stat_data": stationary_word(rng, cfg),
            }
            for a in range(depth)
            for half in (0, 1)
        ]
    await play(dut, cfg, stimulus)


@cocotb.test()
async def extreme_sums(dut: Any) -> None:
    """The largest products in all columns, in both halves, one sum a cycle and a long one."""
    cfg = tb.config()
    await tb.start(dut)
    await clean(dut, cfg)
    low = 1 << (cfg.operand_bits - 1)
    lowest = pack([low] * (cfg.columns * cfg.bus_elements), cfg.operand_bits)
    word = pack([low] * 2 * cfg.columns, cfg.operand_bits)
    stimulus: list[Cycle] = [
        {"gather_bank": 1, "load_we": 1, "load_data": lowest, "stat_bank": 1, "stat_we": 1, "stat_data": word}
    ]
    stimulus += [{"op": DOT, "half": n % 2, "dot_first": 1, "dot_last": 1} for n in range(8)]
    stimulus += [{"op": DOT, "half": n % 2, "dot_first": n == 0, "dot_last": n == 63} for n in range(64)]
    model = await play(dut, cfg, stimulus)
    assert model.running == 64 * cfg.columns * low * low


@cocotb.test()
async def side_port(dut: Any) -> None:
    """A word cleared is read as it was in that cycle and as zero after; only that word of that bank is cleared."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    await clean(dut, cfg)
    stimulus = fill(rng, cfg, 0)
    last = cfg.psum_depth - 1
    for bank in (0, 1):
        stimulus += [
            {"op": MAC, "value": 1 + a, "gather_addr": a, "psum_addr": a, "psum_bank": bank} for a in (0, 1, last)
        ]
    stimulus += [{}] * WRITE_AFTER
    for side, address, clear in (
        (1, last, 0),
        (1, last, 1),
        (1, last, 0),
        (0, last, 0),
        (0, 1, 1),
        (1, 1, 0),
        (0, 1, 0),
    ):
        stimulus += [{"psum_bank": 1 - side, "side_addr": address, "side_read": 1, "side_clear": clear}]
    model = await play(dut, cfg, stimulus)
    assert not model.seen[1, last].any() and model.seen[0, last].any()


async def clean(dut: Any, cfg: Config) -> None:
    """Write zero everywhere: cocotb tests share one simulation."""
    for name in DEFAULTS:
        if name != "rst":
            getattr(dut, name).value = 0
    for bank in range(2):
        dut.gather_bank.value = dut.psum_bank.value = dut.stat_bank.value = bank
        dut.load_we.value = dut.side_clear.value = dut.stat_we.value = 1
        for address in range(max(cfg.gather_depth // cfg.bus_elements, cfg.psum_depth)):
            dut.load_addr.value = address % (cfg.gather_depth // cfg.bus_elements)
            dut.side_addr.value = dut.stat_addr.value = address % cfg.psum_depth
            await RisingEdge(dut.clk)
    for name in DEFAULTS:
        if name != "rst":
            getattr(dut, name).value = 0
    await RisingEdge(dut.clk)
