"""Bench of the balancer: assignments, loads, errors and every cycle of busy and done against golden.

The counts are tallied before each request, some in parts, beside a model of them; what is not final comes in any
order. While the balancer is busy, its strobes are shaken: none of them may have an effect.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import Policy
from golden.balancer import balance, balance_cycles, row_loads
from tb.pins import Pins, compare

TOP = 0xFFFF
STROBES = ("begin", "count_we", "count_final", "start")
OUTPUTS = ("busy", "done", "error", "assign_we", "assign_unit", "assign_row", "assign_slot", "max_load", "sum_load")
REFUSED = 2  # cycles
FINAL_TO_START = 4
FINAL_TO_BEGIN = 4


class Bench:
    """The balancer, and what its counts are."""

    def __init__(self, dut: Any) -> None:
        self.cfg, self.rng = tb.config(), np.random.default_rng(tb.seed())
        self.pins = Pins(dut, OUTPUTS)
        self.counts = np.zeros(self.cfg.units, np.int64)
        self.pins.drive(
            **dict.fromkeys(STROBES, 0), count_add=0, count_index=0, count_value=0, n=0, cap=0, policy=0, rst=0
        )

    async def cycle(self, **inputs: int) -> dict[str, int]:
        return await self.pins.cycle(**{**dict.fromkeys(STROBES, 0), **inputs})

    async def write(self, index: int, value: int, add: bool = False, final: bool = False) -> None:
        """Write a count, here and in the model."""
        self.counts[index] = min(TOP, value + (self.counts[index] if add else 0))
        strobes = {"count_we": 1, "count_add": int(add), "count_final": int(final)}
        await self.cycle(**strobes, count_index=index, count_value=value)

    async def tally(self, counts: np.ndarray, gap: float = 0.0) -> None:
        """Tally these counts for the next request: some in two parts; as early as start may come."""
        rng = self.rng
        await self.cycle(begin=1)
        parts = np.where(rng.random(len(counts)) < 0.2, rng.integers(counts + 1), -1).tolist()
        early = [index for index, part in enumerate(parts) if part >= 0]
        ahead = set(rng.permutation(early)[: len(early) // 2].tolist())  # their first parts come before all else
        for index in rng.permutation(list(ahead)).tolist():
            await self.write(index, parts[index])
        for index, (part, count) in enumerate(zip(parts, counts.tolist(), strict=True)):
            while rng.random() < gap:
                await self.cycle()
            if part >= 0 and index not in ahead:
                await self.write(index, part)
            await self.write(index, count - max(part, 0), add=part >= 0, final=True)
        for _ in range(FINAL_TO_START - 1):
            await self.cycle()

    def shaken(self) -> dict[str, int]:
        """Strobes that must not be heard."""
        rng = self.rng
        return {name: int(rng.random() < 0.3) for name in STROBES} | {
            "count_index": int(rng.integers(self.cfg.units)),
            "count_value": int(rng.integers(TOP + 1)),
            "count_add": int(rng.integers(2)),
            "n": int(rng.integers(TOP + 1)),
            "cap": int(rng.integers(TOP + 1)),
            "policy": int(rng.integers(4)),
        }

    async def run(self, n: int, cap: int, policy: int, shake: bool = True, reset_at: int = -1) -> bool:
        """Tally the first n counts of the model again and hand n units out; whether that was possible."""
        await self.tally(self.counts[:n].copy())
        return await self.request(n, cap, policy, shake, reset_at)

    async def request(self, n: int, cap: int, policy: int, shake: bool = True, reset_at: int = -1) -> bool:
        """Hand n units out; whether that was possible."""
        cfg = self.cfg
        compare("start", await self.cycle(start=1, n=n, cap=cap, policy=int(policy)), {"busy": 0})
        row = slot = np.zeros(0, np.int64)
        refused = n > cfg.units
        if not refused:
            try:
                row, slot = balance(self.counts[:n], cfg.rows, cap, policy)
            except ValueError:
                refused = True
        last = REFUSED if refused else balance_cycles(n, cfg.rows, policy)
        assigned = []
        for t in range(1, last + 1):
            if t == reset_at:
                await self.cycle(rst=1)
                got = await self.cycle(rst=0)
                compare("reset", got, dict.fromkeys(("busy", "done", "error", "assign_we", "max_load"), 0))
                for _ in range(12):
                    compare("after reset", await self.cycle(), {"busy": 0, "done": 0, "assign_we": 0})
                return False
            got = await self.cycle(**self.shaken() if shake and t < last else {})
            want = {"busy": t < last, "done": t == last, "error": t == last and refused}
            if t == last:
                loads = row_loads(self.counts[: row.size], row, cfg.rows)
                want |= {"max_load": int(loads.max()), "sum_load": int(loads.sum()), "assign_we": 0}
            compare((n, cap, policy, t), got, want)
            if got["assign_we"]:
                assigned.append((got["assign_unit"], got["assign_row"], got["assign_slot"]))
        wanted = sorted(zip(range(row.size), row.tolist(), slot.tolist(), strict=True))
        assert sorted(assigned) == wanted, f"{n} units, cap {cap}, policy {policy}: {sorted(assigned)}, not {wanted}"
        return not refused

    def distribution(self, kind: int, n: int) -> np.ndarray:
        """Counts: none, equal, full, few values, wide, skewed, one unit that has everything, ramps."""
        rng = self.rng
        return [
            lambda: np.zeros(n, np.int64),
            lambda: np.full(n, int(rng.integers(1, TOP))),
            lambda: np.full(n, TOP),
            lambda: rng.integers(0, 3, n),
            lambda: rng.integers(0, TOP + 1, n),
            lambda: TOP >> rng.integers(0, 17, n),
            lambda: np.where(np.arange(n) == rng.integers(n), TOP, 0),
            lambda: np.arange(n) * (TOP // max(n - 1, 1)),
            lambda: np.arange(n)[::-1] * 64 + 63,
        ][kind]()

    KINDS = 9

    def caps(self, n: int) -> list[int]:
        """Caps just below, at and above what is needed."""
        rows = self.cfg.rows
        least, half = -(-n // rows), -(-n // (2 * rows))
        return sorted({max(least - 1, 0), least, 2 * half, max(2 * half - 1, 0), least + 1, n, self.cfg.units, TOP})


@cocotb.test()
async def every_distribution(dut: Any) -> None:
    """All policies over as many units as there can be: zero, equal, saturated, skewed counts."""
    await tb.start(dut)
    bench = Bench(dut)
    units = bench.cfg.units
    for kind in range(bench.KINDS):
        bench.counts[:] = bench.distribution(kind, units)
        for policy in Policy:
            cap = int(bench.rng.integers(2 * -(-units // (2 * bench.cfg.rows)), units + 1))
            assert await bench.run(units, (cap, units)[kind % 2], policy)
            got = await bench.cycle()
            assert got["sum_load"] == bench.counts.sum(), "the loads stay until the next start"


@cocotb.test()
async def every_size(dut: Any) -> None:
    """N around multiples of the rows, caps around what that needs; what is refused is refused in 2 cycles."""
    await tb.start(dut)
    bench = Bench(dut)
    rows, units = bench.cfg.rows, bench.cfg.units
    bench.counts[:] = bench.distribution(5, units)
    sizes = {0, 1, 2, rows - 1, rows, rows + 1, 2 * rows - 1, 2 * rows, units - 1, units, units + 1, 2 * units, TOP}
    sizes |= {min(2 * rows + 1, units), min(3 * rows, units)}
    outcomes = []
    for n in sorted(sizes):
        for cap in bench.caps(n):
            for policy in Policy:
                if n > 4 * rows and policy == Policy.LPT and cap not in (n, -(-n // rows), -(-n // rows) - 1):
                    continue  # long, and the cap is far from what matters
                outcomes.append(await bench.run(n, cap, policy, shake=bool(n % 2)))
    assert {True, False} == set(outcomes)
    for n in (0, 1, rows):
        assert not await bench.run(n, units, 3), "no such policy"
    assert not await bench.run(1, 0, Policy.NONE)
    assert await bench.run(0, 0, Policy.PAIR)


@cocotb.test()
async def one_row_owns_all(dut: Any) -> None:
    """Nothing to balance by: row 0 stays the least loaded, and takes all it may; then the next."""
    await tb.start(dut)
    bench = Bench(dut)
    units = bench.cfg.units
    bench.counts[:] = 0
    assert await bench.run(units, units, Policy.LPT)
    assert await bench.run(units, -(-units // bench.cfg.rows), Policy.LPT)


@cocotb.test()
async def tally(dut: Any) -> None:
    """Set and add, back to back to the same few counts; saturating; begin forgets what was final before it."""
    await tb.start(dut)
    bench = Bench(dut)
    rng, cfg = bench.rng, bench.cfg
    few = min(4, cfg.units)
    for trial in range(25):
        await bench.cycle(begin=1)
        for index in range(few):
            await bench.write(index, 0)
        for _ in range(int(rng.integers(1, 30))):
            if rng.random() < 0.3:
                await bench.cycle()
            value = int(rng.integers(TOP + 1) >> rng.integers(16))
            await bench.write(int(rng.integers(few)), value, rng.random() < 0.8, final=trial % 2 == 0)
        if trial % 2 == 0:
            for _ in range(FINAL_TO_BEGIN - 1):
                await bench.cycle()
            await bench.cycle(begin=1)
        for index in range(few):
            await bench.write(index, int(rng.integers(TOP + 1) >> rng.integers(16)), rng.random() < 0.8, final=True)
        for _ in range(FINAL_TO_START - 1):
            await bench.cycle()
        assert await bench.request(few, few, Policy((trial + 2) % 3))
    for index in range(cfg.units):
        await bench.write(index, TOP - 1)
    for value in (1, 1, TOP, 0):
        await bench.cycle(begin=1)
        for index in range(cfg.units):
            await bench.write(index, value, add=True, final=True)
        assert bench.counts.max() == TOP
        for _ in range(FINAL_TO_START - 1):
            await bench.cycle()
        assert await bench.request(cfg.units, cfg.units, Policy.LPT)


@cocotb.test()
async def gaps(dut: Any) -> None:
    """Counts that come when they come; a later start is as good as the earliest."""
    await tb.start(dut)
    bench = Bench(dut)
    rng, units = bench.rng, bench.cfg.units
    for policy in Policy:
        counts = bench.distribution(5, units)
        await bench.tally(counts, gap=0.3)
        for _ in range(int(rng.integers(5))):
            await bench.cycle()
        assert bench.counts.tolist() == counts.tolist()
        assert await bench.request(units, units, policy)


@cocotb.test()
async def random_requests(dut: Any) -> None:
    """Sizes, caps, policies and counts at random, one request in the cycle of the other's done."""
    await tb.start(dut)
    bench = Bench(dut)
    rng, units = bench.rng, bench.cfg.units
    outcomes = []
    for _ in range(max(10, 2000 // units)):
        n = int(rng.integers(1, units + 1))
        bench.counts[:n] = bench.distribution(int(rng.integers(bench.KINDS)), n)
        for _ in range(3):
            cap = int(rng.choice(bench.caps(n)))
            outcomes.append(await bench.run(n, cap, int(rng.integers(3))))
    assert outcomes.count(True) > len(outcomes) // 2


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """In every phase of every policy; the counts survive, the next request is served."""
    await tb.start(dut)
    bench = Bench(dut)
    n = min(bench.cfg.units, 24)
    bench.counts[:n] = bench.distribution(4, n)
    for policy in Policy:
        last = balance_cycles(n, bench.cfg.rows, policy)
        for at in sorted({1, 2, 3, 5, last // 4, last // 2, 2 * last // 3, last - 8, last - 2, last - 1}):
            await bench.run(n, n, policy, shake=False, reset_at=at)
            assert await bench.run(n, n, policy)
