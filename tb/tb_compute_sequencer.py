"""Bench of the compute sequencer: the numbers of a slot, the start and the end of compute, and the counts of all rows.

The bench plays rows (done, levels, events), exponent table (an answer a cycle later) and the host's scalars, which may
change once they have been read, as a commit changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

import tb
from arch.command import Phase
from arch.status import Status
from tb.pins import Pins, command_bits, compare

START, FLOW_END, QUANTILE, UPDATE, GRADIENTS, COUNTED = 4, 2, 6, 6, 1, 3
ROW_START = 1  # the rows have a register in front
EVENTS = ("kept", "seen", "adopted", "evicted", "saturated")
COUNTS = ("busy", "scan", "barrier", *EVENTS)
NUMBERS = {"scale_t": 3, "slot_step": 3, "update_shift": 3, "ones": 3, "acc_exponent": 3, "drain_shift": 4}
SIGNED = {"update_shift": 7, "drain_shift": 7, "acc_exponent": 9}
OUTPUTS = ("done", "error", "x_tensor", "aux_tensor", "out_tensor", "compute_start", "observe", "total_kept",
           "total_seen", *NUMBERS, *(f"{name}_count" for name in COUNTS))  # fmt: skip
EXTREMES = (-128, -127, -1, 0, 1, 126, 127)


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


@dataclass
class Slot:
    """What is in the stages: phase of compute (None: no command), cycles of each row, how often events happen."""

    phase: Phase | None
    rows: list[int]
    events: float = 0.3
    overflow: int = 0  # rows whose update buffer is full
    sums: int = 0  # rows that have more gradients than room
    store: bool = False  # WU: gradients are stored
    length: int = 0  # at least


class Bench:
    """Slots one after the other; counts and totals never stop."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.exponents = [0] * self.cfg.tensors
        self.asked = {"x": 0, "aux": 0, "out": 0}
        self.before = dict.fromkeys(COUNTS, 0)  # counts of the last cycle
        self.totals, self.started = {"kept": 0, "seen": 0}, 0
        self.numbers: dict[str, int] = {}
        self.slots = 0
        levels = self.cfg.columns.bit_length() - 1
        self.update_end = 4 + levels + GRADIENTS + UPDATE + COUNTED + QUANTILE

    async def cycle(self, want: dict[str, int | None], rows: dict[str, int], **inputs: int) -> None:
        """One cycle: what is wanted, and what goes on in every cycle."""
        given = {f"{name}_exponent": self.exponents[tensor] & 0xFF for name, tensor in self.asked.items()}
        got = await self.pins.cycle(**given, **{f"row_{name}": value for name, value in rows.items()}, **inputs)
        for name, bits in SIGNED.items():
            got[name] -= (got[name] >> bits - 1) << bits
        always = {f"{name}_count": value for name, value in self.before.items()}
        always |= {f"total_{name}": value for name, value in self.totals.items()}
        compare((self.slots, self.t), got, {"compute_start": 0, "observe": 0, **always, **want})
        for name in self.totals:
            self.totals[name] = 0 if self.started else self.totals[name] + self.before[name]
        self.started = got["compute_start"]
        self.before = {name: rows.get(name, 0).bit_count() for name in COUNTS}
        active = self.before["busy"] + self.before["scan"]
        self.before["barrier"] = self.cfg.rows - active if active else 0
        self.asked = {name: got[f"{name}_tensor"] for name in self.asked}
        self.t += 1

    def exponent(self) -> int:
        return int(self.rng.choice(EXTREMES)) if self.rng.random() < 0.5 else int(self.rng.integers(-20, 20))

    def scalars(self) -> dict[str, int]:
        """Decay and step as they are before, or after, a commit."""
        return {
            "decay": int(self.rng.choice([0, 1, 1 << 16, int(self.rng.integers(1 << 16))])),
            "step": int(self.rng.integers(1 << 32)),
        }

    def rows(self, slot: Slot, t: int, first: int, last: int) -> dict[str, int]:
        """Levels and events of the rows in one cycle."""
        count = self.cfg.rows
        bits = {name: sum(int(self.rng.random() < slot.events) << r for r in range(count)) for name in EVENTS}
        if not first < t <= last:
            bits = dict.fromkeys(EVENTS, 0)
        bits["busy"] = bits["scan"] = 0
        for r in range(count):
            bits[str(self.rng.choice(["busy", "scan", "scan" if slot.events > 0.5 else "busy"]))] |= 1 << r
        if self.rng.random() < 0.5:
            mask = int(self.rng.integers(1 << count))
            bits["busy"] &= mask
            bits["scan"] &= mask
        return bits

    async def play(self, slot: Slot, reset_at: int = -1) -> None:
        """One slot."""
        cfg, rng = self.cfg, self.rng
        self.slots, self.t = self.slots + 1, 0
        c = {name: int(rng.integers(cfg.tensors)) for name in ("x_tensor", "aux_tensor")}
        c |= {"phase": int(slot.phase if slot.phase is not None else Phase.NOP), "scale": int(rng.integers(1 << 16))}
        c |= {"sum_store": int(slot.store), "sum_add": int(rng.integers(2))}
        drain = {name: int(rng.integers(cfg.tensors)) for name in ("x_tensor", "aux_tensor", "out_tensor")}
        self.exponents = [self.exponent() for _ in range(cfg.tensors)]
        weight, lr = self.exponent(), int(rng.choice([0, -10, 12, -32768, 32767]))
        now = self.scalars()
        e, A = self.exponents, cfg.operand_bits
        numbers = {
            "scale_t": c["scale"] * now["decay"] >> 16,
            "slot_step": now["step"],
            "update_shift": clamp(weight - A - e[c["x_tensor"]] - e[c["aux_tensor"]] - lr, -31, 63),
            "ones": 1 << clamp(-e[drain["out_tensor"]], 0, A - 2),
            "acc_exponent": e[drain["x_tensor"]] + weight,
            "drain_shift": clamp(e[drain["out_tensor"]] - e[drain["x_tensor"]] - weight, -31, 63),
        }
        active = slot.phase in (Phase.FW, Phase.BW, Phase.WU)
        update = slot.phase == Phase.WU and not slot.store
        over = START + 2 + max(slot.rows)  # all rows are done from here on
        end = 1 if not active else over + (self.update_end if update else FLOW_END)
        observe = over + self.update_end - QUANTILE - 1 if active and update else -1
        events_until = observe - 2 if update else over
        status = Status.UPDATE_OVERFLOW if update and slot.overflow else Status.OK
        status = Status.SUM_OVERFLOW if active and slot.sums else status
        self.pins.drive(
            command=command_bits(c), drain_command=command_bits(drain), active=int(active),
            weight_exponent=weight & 0xFF, lr_exponent=lr & 0xFFFF,
        )  # fmt: skip
        for t in range(max(end, slot.length, 6) + 2):
            started = active and t > START
            done = sum(int(not started or t >= START + 2 + n) << r for r, n in enumerate(slot.rows))
            rows = self.rows(slot, t, START, events_until) | {"done": done}
            # A row's error comes with its last event at the latest, and stays.
            rows["update_error"] = slot.overflow if not update or t >= max(events_until, START + 1) else 0
            # More visits than room: known when the rows are done, and until their next start.
            rows["sum_error"] = slot.sums if done == (1 << cfg.rows) - 1 and t > START + 1 else 0
            if t == 2:
                now = now | {"decay": 0, "step": 0}  # read: a commit may change them
            want: dict[str, int | None] = {
                "done": int(t == 0 or t >= end),
                "compute_start": int(active and t == START - ROW_START),
                "observe": int(t == observe),
            }
            if t > 0:
                early = active and slot.sums and over + 2 <= t < end
                want["error"] = None if early else status if t >= end else 0
            want |= {name: value for name, value in self.numbers.items() if t <= 1}
            want |= {name: value for name, value in numbers.items() if t >= NUMBERS[name]}
            await self.cycle(want, rows, slot_start=int(t == 0), **now)
            if t == 3:  # the drain's commit has not changed an exponent before
                self.exponents = [self.exponent() for _ in range(cfg.tensors)]
            if t == reset_at:
                self.pins.drive(rst=1)
                await self.pins.cycle(slot_start=0)
                self.pins.drive(rst=0)
                self.before, self.totals, self.started = dict.fromkeys(COUNTS, 0), {"kept": 0, "seen": 0}, 0
                self.numbers = {}
                idle = dict.fromkeys((*EVENTS, "busy", "scan", "update_error", "sum_error"), 0) | {
                    "done": (1 << cfg.rows) - 1
                }
                for _ in range(self.update_end + 4):
                    await self.cycle({"done": 1, "error": 0}, idle)
                return
        self.numbers = numbers

    def random_rows(self, longest: int = 30) -> list[int]:
        return [int(n) for n in self.rng.integers(0, longest, self.cfg.rows)]


@cocotb.test()
async def random_slots(dut: Any) -> None:
    """All phases, nothing in compute, rows of all lengths."""
    await tb.start(dut)
    bench = Bench(dut)
    kinds = (Phase.FW, Phase.WU, None, Phase.BW, Phase.NOP, Phase.WU)
    for trial in range(80):
        slot = Slot(kinds[trial % 6], bench.random_rows(), float(bench.rng.choice([0.0, 0.2, 0.9])))
        slot.store = trial % 4 == 1
        slot.length = int(bench.rng.integers(0, 40))
        await bench.play(slot)


@cocotb.test()
async def rows_at_once_and_one_late(dut: Any) -> None:
    """All rows done as early as can be; one row, first or last, far behind the others."""
    await tb.start(dut)
    bench = Bench(dut)
    rows = bench.cfg.rows
    for phase, store in ((Phase.FW, False), (Phase.BW, False), (Phase.WU, False), (Phase.WU, True)):
        for lasts in ([0] * rows, [5] * rows, [60] + [0] * (rows - 1), [0] * (rows - 1) + [60]):
            await bench.play(Slot(phase, lasts, 1.0, store=store))


@cocotb.test()
async def update_overflow(dut: Any) -> None:
    """The error of any row, only of a weight update, and gone with the next slot."""
    await tb.start(dut)
    bench = Bench(dut)
    last = 1 << bench.cfg.rows - 1
    for overflow in (1, last, 2 * last - 1):
        await bench.play(Slot(Phase.WU, bench.random_rows(), overflow=overflow))
        await bench.play(Slot(None, bench.random_rows()))
        await bench.play(Slot(Phase.FW, bench.random_rows(), overflow=overflow))
        await bench.play(Slot(Phase.WU, bench.random_rows()))


@cocotb.test()
async def gradients_without_room(dut: Any) -> None:
    """The error of any row, whether its gradients are stored or added; it comes before a full update buffer's."""
    await tb.start(dut)
    bench = Bench(dut)
    last = 1 << bench.cfg.rows - 1
    for sums in (1, last, 2 * last - 1):
        for store in (False, True):
            for overflow in (0, 2 * last - 1):
                await bench.play(Slot(Phase.WU, bench.random_rows(), overflow=overflow, sums=sums, store=store))
                await bench.play(Slot(Phase.WU, bench.random_rows(), store=not store))
                await bench.play(Slot(None, bench.random_rows()))


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset at any point: done at once, no start, no observation; the next slot is right."""
    await tb.start(dut)
    bench = Bench(dut)
    end = START + 2 + 8 + bench.update_end
    for at in (0, 1, 2, 3, 4, 5, 8, 14, 20, end - 8, end - 1):
        await bench.play(Slot(Phase.WU, [8] * bench.cfg.rows), reset_at=at)
        await bench.play(Slot(Phase.WU, bench.random_rows()))
