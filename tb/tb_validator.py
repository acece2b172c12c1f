"""Bench of the validator: both sides of every bound, several rules broken at once, random commands."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import FIELDS, MAGIC, Phase
from arch.status import Status
from tb.command_rules import Command, bounds, good, headers_fit, verdict
from tb.pins import Pins, command_bits, random_bits

CYCLES = 6


class Bench:
    """One command after the other; between them noise, or nothing."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg = Pins(dut, ("verdict", "plan_ok")), tb.config()
        self.rng = np.random.default_rng(tb.seed())
        self.width = sum(f.bits for f in FIELDS.values())

    async def check(self, c: Command, status: Status, name: object = "") -> None:
        """Six cycles of one command."""
        word = command_bits(c)
        readable = int(c["magic"] == MAGIC and headers_fit(self.cfg, c))
        if self.rng.random() < 0.3:
            await self.pins.cycle(command=random_bits(self.rng, self.width), step=0)
        for step in range(CYCLES):
            got = await self.pins.cycle(command=word, step=step)
            if step:
                assert got["plan_ok"] == readable, f"plan_ok of {name} in step {step}"
        assert got["verdict"] == status, f"{name}: {Status(got['verdict']).name}, not {status.name}"


@cocotb.test()
async def both_sides_of_every_bound(dut: Any) -> None:
    """The last acceptable value, the first that is not, and what makes even that acceptable."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg = bench.cfg
    for bound in bounds(cfg):
        await bench.check(good(cfg, bound.phase, **bound.inside), Status.OK, ("inside", bound))
        broken = good(cfg, bound.phase, **bound.outside)
        await bench.check(broken, bound.status, ("outside", bound))
        for exempt in bound.exempt:
            await bench.check(broken | exempt, Status.OK, ("exempt", exempt, bound))


@cocotb.test()
async def first_of_several(dut: Any) -> None:
    """Two rules broken at once: the one that is first in the list is reported."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    order = (Status.MAGIC, Status.FIELD, Status.GATHER_OVERFLOW, Status.UNITS_OVERFLOW, Status.PSUM_OVERFLOW,
             Status.GATE_OVERFLOW)  # fmt: skip
    faults = {
        Status.MAGIC: {"magic": 0},
        Status.FIELD: {"words": 0},
        Status.GATHER_OVERFLOW: {"x_run": 65535},
        Status.UNITS_OVERFLOW: {"plan": 0, "units": 65535},
        Status.PSUM_OVERFLOW: {"cap": 8 * cfg.psum_depth},
        Status.GATE_OVERFLOW: {"aux_run": 65535},
    }
    for subset in range(1, 1 << len(order)):
        chosen = [status for i, status in enumerate(order) if subset >> i & 1]
        c = good(cfg, Phase.BW)
        for status in rng.permutation(chosen):
            c |= faults[Status(status)]
        await bench.check(c, chosen[0], chosen)


@cocotb.test()
async def random_commands(dut: Any) -> None:
    """Good commands of all phases with some fields moved, to places near bounds and to anywhere."""
    await tb.start(dut)
    bench = Bench(dut)
    cfg, rng = bench.cfg, bench.rng
    seen: dict[Status, int] = dict.fromkeys(Status, 0)
    pool = bounds(cfg)
    names = [n for n in good(cfg, Phase.FW) if n not in ("magic", "phase")]
    for _ in range(1500):
        c = good(cfg, Phase(int(rng.integers(4))), plan=int(rng.integers(2)), load_x=int(rng.integers(2)))
        for bound in rng.choice(len(pool), int(rng.integers(0, 3))):
            c |= pool[bound].inside if rng.random() < 0.8 else pool[bound].outside
        for name in rng.choice(names, int(rng.integers(0, 3))):
            top = 1 << FIELDS[name].bits
            near = c[name] + int(rng.integers(-2, 3))
            c[name] = near % top if rng.random() < 0.8 else int(rng.integers(top))
        want = verdict(cfg, c)
        seen[want] += 1
        await bench.check(c, want, c)
    assert min(seen[s] for s in (Status.OK, Status.MAGIC, Status.FIELD, Status.UNITS_OVERFLOW)) > 0, seen
