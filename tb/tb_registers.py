"""Bench of the registers: every output of every cycle against a list of numbers, under a host that does anything."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from arch.status import Counter, Register, Status
from tb.pins import Pins, compare, random_bits

ADDRESSES = 1 << 9
#: Registers that only hold what was written: output port and width; negative: signed.
HELD = {
    Register.PROGRAM: ("program", 32),
    Register.COMMANDS: ("commands", 16),
    Register.STEP: ("step", 32),
    Register.LAMBDA: ("lambda_", 17),
    Register.KEEP: ("keep", 16),
    Register.RATE: ("rate", 6),
    Register.PERIOD: ("log2_period", 3),
    Register.WEIGHT_EXPONENT: ("weight_exponent", -8),
    Register.MODE: ("dense_mode", 1),
}
#: Width of what moves a counter in a cycle.
MOVES = dict.fromkeys(Counter, 7) | dict.fromkeys(
    (Counter.WAIT_LOAD, Counter.WAIT_PLAN, Counter.WAIT_DRAIN, Counter.READS, Counter.WRITES), 1
) | {Counter.SATURATED: 10}  # fmt: skip
MOVED = [counter for counter in Counter if counter != Counter.CYCLES]
OUTPUTS = ("ctl_rdata", "start", "scrub", *(name for name, _ in HELD.values()), "lr", "lr_exponent", "load_value",
           "threshold_load", "decay_load", "exponent_tensor", "exponent_we", "exponent_value")  # fmt: skip


class Bench:
    """The registers and what the host must see of them."""

    def __init__(self, dut: Any) -> None:
        self.pins, self.cfg, self.rng = Pins(dut, OUTPUTS), tb.config(), np.random.default_rng(tb.seed())
        self.clear()
        self.now = 0

    def clear(self) -> None:
        """As after reset."""
        self.held = dict.fromkeys(HELD, 0)
        self.lr = self.lr_exponent = 0
        self.done, self.status, self.error_at = 0, 0, 0
        self.counters = dict.fromkeys(Counter, 0)
        self.rows = [0] * self.cfg.rows

    def reads(self, address: int, busy: int, theta: int, decay: int, exponent: int) -> int:
        """What the host reads at an address."""
        if Register.EXPONENT <= address < Register.EXPONENT + self.cfg.tensors:
            return exponent & 0xFFFFFFFF
        if address in HELD:
            name_and_width = HELD[Register(address)]
            value = self.held[Register(address)]
            if name_and_width[1] < 0 and value >> 7:
                value -= 1 << 8
            return value & 0xFFFFFFFF
        if address == Register.CONTROL:
            return busy | self.done << 1 | self.status << 8
        if address == Register.LEARNING:
            return self.lr | self.lr_exponent << 16
        if Register.COUNTER <= address < Register.COUNTER + len(Counter):
            return self.counters[Counter(address - Register.COUNTER)]
        if Register.ROW_COUNTER <= address < Register.ROW_COUNTER + self.cfg.rows:
            return self.rows[address - Register.ROW_COUNTER]
        return {Register.ERROR_AT: self.error_at, Register.DECAY: decay, Register.THRESHOLD: theta}.get(address, 0)

    async def cycle(self, address: int, data: int = 0, we: int = 0, busy: int = 0, finish: int = 0, status: int = 0,
                    index: int = 0, advance: int = 0, move: bool = True, rst: int = 0) -> int:  # fmt: skip
        """One cycle; what the host reads in it."""
        rng, cfg = self.rng, self.cfg
        theta, decay = random_bits(rng, 25), random_bits(rng, 17)
        exponent = int(rng.integers(-128, 128))
        moves = {counter: random_bits(rng, MOVES[counter]) if move else 0 for counter in MOVED}
        row_busy = random_bits(rng, cfg.rows) if move else 0
        got = await self.pins.cycle(
            ctl_addr=address, ctl_wdata=data, ctl_we=we, busy=busy, finish=finish, finish_status=status,
            finish_index=index, advance=advance, log2_theta=theta, decay=decay, exponent=exponent & 0xFF,
            row_busy=row_busy, rst=rst, **{f"count_{counter.name.lower()}": n for counter, n in moves.items()},
        )  # fmt: skip
        write = we and not busy
        tensor = address - Register.EXPONENT
        inside = 0 <= tensor < cfg.tensors
        starts = int(write and address == Register.CONTROL and data & 1)
        want: dict[str, int | None] = {name: self.held[register] for register, (name, _) in HELD.items()}
        want |= {"ctl_rdata": self.reads(address, busy, theta, decay, exponent), "start": starts}
        want |= {"lr": self.lr, "lr_exponent": self.lr_exponent, "load_value": data}
        want["scrub"] = int(write and address == Register.CONTROL and data & 3 == 2)
        want["threshold_load"] = int(write and address == Register.THRESHOLD)
        want["decay_load"] = int(write and address == Register.DECAY)
        want |= {"exponent_we": int(write and inside), "exponent_tensor": tensor if inside else None}
        want["exponent_value"] = data & 0xFF
        compare(self.now, got, want)
        self.now += 1
        if rst:
            self.clear()
            return got["ctl_rdata"]
        if advance:
            self.held[Register.STEP] = (self.held[Register.STEP] + 1) % (1 << 32)
        if write and address in HELD:
            self.held[Register(address)] = data & (1 << abs(HELD[Register(address)][1])) - 1
        if write and address == Register.LEARNING:
            self.lr, self.lr_exponent = data & (1 << cfg.lr_bits) - 1, data >> 16
        if starts:
            self.done = self.status = self.error_at = 0
            self.counters, self.rows = dict.fromkeys(Counter, 0), [0] * cfg.rows
        else:
            if finish:
                self.done, self.status, self.error_at = 1, status, index
            for counter, n in moves.items():
                self.counters[counter] += n
            self.counters[Counter.CYCLES] += busy
            self.rows = [n + (row_busy >> r & 1) for r, n in enumerate(self.rows)]
        return got["ctl_rdata"]

    async def sweep(self) -> list[int]:
        """Read every address; nothing moves."""
        return [await self.cycle(address, move=False) for address in range(ADDRESSES)]


@cocotb.test()
async def after_reset(dut: Any) -> None:
    """All zero, everywhere but where other units answer."""
    await tb.start(dut)
    bench = Bench(dut)
    words = await bench.sweep()
    elsewhere = {int(Register.DECAY), int(Register.THRESHOLD)}
    elsewhere |= {Register.EXPONENT + tensor for tensor in range(bench.cfg.tensors)}
    assert not any(word for address, word in enumerate(words) if address not in elsewhere)


@cocotb.test()
async def every_register(dut: Any) -> None:
    """Ones, zeros, the sign: each address written, all read; upper bits ignored; neighbours unchanged."""
    await tb.start(dut)
    bench = Bench(dut)
    for data in (0xFFFFFFFF, 0x80808080, 0, 0x12345678):
        for address in range(ADDRESSES):
            if address == Register.CONTROL:
                continue
            await bench.cycle(address, data, we=1)
            await bench.cycle(address, ~data & 0xFFFFFFFF)
        await bench.sweep()


@cocotb.test()
async def ignored_while_busy(dut: Any) -> None:
    """No write to any address has an effect while a program runs; reading works."""
    await tb.start(dut)
    bench = Bench(dut)
    for address in range(ADDRESSES):
        if address != Register.CONTROL:
            await bench.cycle(address, 0x5A5A5A5A, we=1)
    for address in range(ADDRESSES):
        await bench.cycle(address, 0xFFFFFFFF, we=1, busy=1)
        await bench.cycle(address, busy=1)
    await bench.sweep()


@cocotb.test()
async def start_and_scrub(dut: Any) -> None:
    """1 starts, 2 scrubs, 3 starts, 0 and higher bits do nothing; each for one cycle."""
    await tb.start(dut)
    bench = Bench(dut)
    for data in (1, 2, 3, 0, 4, 0xFFFFFFFC, 0x80000001):
        await bench.cycle(Register.CONTROL, data, we=1)
        await bench.cycle(Register.CONTROL, data)


@cocotb.test()
async def programs(dut: Any) -> None:
    """Busy, finish with each status, the index of the command; counters clear at start alone."""
    await tb.start(dut)
    bench = Bench(dut)
    for status in Status:
        await bench.cycle(Register.CONTROL, 1, we=1)
        length = int(bench.rng.integers(1, 60))
        for _ in range(length):
            await bench.cycle(int(bench.rng.integers(ADDRESSES)), random_bits(bench.rng, 32), we=1, busy=1)
        index = random_bits(bench.rng, 16)
        await bench.cycle(Register.CONTROL, busy=1, finish=1, status=status, index=index)
        assert await bench.cycle(Register.CONTROL, 2, we=1) == 2 | status << 8
        assert await bench.cycle(Register.ERROR_AT) == index
        assert await bench.cycle(Register.COUNTER) == length + 1
        await bench.sweep()


@cocotb.test()
async def steps(dut: Any) -> None:
    """A commit advances the step, over the end of its 32 bits."""
    await tb.start(dut)
    bench = Bench(dut)
    await bench.cycle(Register.STEP, 0xFFFFFFFE, we=1)
    for want in (0xFFFFFFFE, 0xFFFFFFFF, 0, 1):
        assert await bench.cycle(Register.STEP, busy=1, advance=1) == want


@cocotb.test()
async def random_host(dut: Any) -> None:
    """Anything at any time; reset among it."""
    await tb.start(dut)
    bench = Bench(dut)
    rng = bench.rng
    past = Register.EXPONENT + bench.cfg.tensors
    known = [int(r) for r in Register] + [past - 1, min(past, ADDRESSES - 1)]

    def chance(probability: float) -> int:
        return int(rng.random() < probability)

    for _ in range(2500):
        busy = chance(0.4)
        await bench.cycle(
            int(rng.choice(known)) if chance(0.7) else int(rng.integers(ADDRESSES)),
            random_bits(rng, 32) if chance(0.8) else int(rng.integers(4)),
            we=chance(0.6),
            busy=busy,
            finish=busy and chance(0.1),
            status=random_bits(rng, 4),
            index=random_bits(rng, 16),
            advance=busy and chance(0.3),
            rst=chance(0.003),
        )
    await bench.sweep()
