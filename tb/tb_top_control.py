"""Bench: what a host may do at the control port of the whole accelerator, before, in and after a program.

The rules are those of `rtl.registers.Registers` and `rtl.command_processor.CommandProcessor`. After every
transgression a program of the golden model must still run as predicted, cycle by cycle.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from arch.command import WORDS
from arch.status import Counter, Register, Status
from tb.top_driver import BUSY, DONE, SCRUB, SPARE, START, Top
from tb.top_program import Program, begin, field, first_step, recorded, same

#: What a register keeps of a word: bits, negative where it is signed. In a build with sparse hardware.
WIDTHS = {
    Register.PROGRAM: 32,
    Register.COMMANDS: 16,
    Register.STEP: 32,
    Register.LAMBDA: 17,
    Register.KEEP: 16,
    Register.RATE: 6,
    Register.PERIOD: 3,
    Register.WEIGHT_EXPONENT: -8,
    Register.MODE: 1,
}


@cocotb.test()
async def writes_while_busy(dut: Any) -> None:
    """In every busy cycle a write to anything, start and scrub among it: nothing comes of it."""
    top, step = await ready(dut)
    for program in step:
        await program.prepare(top)
        top.begin()
        await top.start()
        for _ in range(program.cycles):
            control = top.rng.random() < 0.3
            address = Register.CONTROL if control else int(top.rng.integers(512))
            top.drive(address, int(top.rng.integers(4 if control else 1 << 32)), we=1)
            assert await top.cycle()
        top.dut.ctl_we.value = 0  # in the first idle cycle it would count
        assert not await top.cycle()
        await program.check(top, top.log)
        for address, value in program.settings.tolist():
            assert await top.read(address) == value, f"register {address:#x}"


@cocotb.test()
async def reads_while_busy(dut: Any) -> None:
    """Any register in any cycle: a state between the one before and the one after, most of them to the cycle."""
    top, step = await ready(dut)
    for program in step:
        exact, before, after = in_every_cycle(program), dict(program.state.tolist()), dict(program.want.tolist())
        last: dict[int, int] = {}
        await program.prepare(top)
        top.begin()
        await top.start()
        for cycle in range(program.cycles):
            address = int(top.rng.choice([*exact, *before])) if top.rng.random() < 0.7 else int(top.rng.integers(512))
            top.dut.ctl_addr.value = address
            assert await top.cycle()
            got, where = top.answer(), f"register {address:#x} in cycle {cycle}"
            if address in exact:
                assert got == exact[address][cycle], f"{where}: {got}, predicted {exact[address][cycle]}"
            elif Register.COUNTER <= address < Register.COUNTER + len(Counter):
                final = (after | dict(program.want_times.tolist()))[address]
                assert last.get(address, 0) <= got <= final, f"{where}: {got}, {final} at the end"
                last[address] = got
            elif address != Register.THRESHOLD:  # moves with every weight update
                assert got in (before.get(address, 0), after.get(address, 0)), f"{where}: {got:#x}"
        assert not await top.cycle()
        await program.check(top, top.log)


@cocotb.test()
async def no_commands(dut: Any) -> None:
    """Busy for one cycle, nothing accessed, its own status, which the next program forgets."""
    top, step = await ready(dut)
    for commands in (0, 1 << 16):  # sixteen bits count
        await step[0].prepare(top)
        await top.write(Register.COMMANDS, commands)
        log = await top.run(SPARE)
        assert (log.cycles, log.reads, log.writes) == (1, [], [])
        assert not any(log.rows)
        assert [int(field(np.array(log.central, np.uint64), name)[0]) for name in ("busy", "finish")] == [1, 1]
        assert await top.read(Register.CONTROL) == DONE | Status.PROGRAM << 8
        assert await top.read(Register.ERROR_AT) == 0
        assert await top.read(Register.COUNTER + Counter.CYCLES) == 1
        await step[0].run(top)


@cocotb.test()
async def bad_command(dut: Any) -> None:
    """A word that is no command: the program ends with the slot, named, and partial sums are cleared."""
    top, step = await ready(dut)
    program = step[0]
    host = dict(program.settings.tolist())
    last = host[Register.COMMANDS] - 1
    await program.prepare(top)
    spoilt = top.memory[host[Register.PROGRAM] :].reshape(-1)[4 * WORDS * last + 2 : 4 * WORDS * last + 4]  # its magic
    kept = spoilt.copy()
    spoilt ^= 1
    log = await top.run(program.cycles + 2 * top.cfg.psum_depth)
    central = np.array(log.central, np.uint64)
    (finish,) = np.flatnonzero(field(central, "finish")).tolist()
    scrubbing = np.flatnonzero(field(central, "scrub"))
    same("cycle that clears", scrubbing, finish + 1 + np.arange(2 * top.cfg.psum_depth))
    assert log.cycles == finish + 1 + len(scrubbing)
    assert log.writes == list(map(tuple, program.writes.tolist()))[: len(log.writes)]
    assert len(log.writes) < len(program.writes)
    assert await top.read(Register.CONTROL) == DONE | Status.MAGIC << 8
    assert await top.read(Register.ERROR_AT) == last
    spoilt[:] = kept
    await top.scrub()  # the peaks
    for again in step:
        await again.run(top)


@cocotb.test()
async def start_and_scrub(dut: Any) -> None:
    """Bit 0 starts, bit 1 alone scrubs, no other bit counts; nothing is remembered of a start in a scrub."""
    top, step = await ready(dut)
    for words in (
        (0x80000001, START | SCRUB),
        (START, 0xFFFFFFFF),
    ):  # a scrub would lose the peaks of the first program
        await step[0].restore(top)
        for program, word in zip(step, words, strict=True):
            await program.prepare(top)
            top.begin()
            await top.write(Register.CONTROL, word)
            while await top.cycle():
                assert top.log.cycles <= program.limit(top)
            await program.check(top, top.log)
    for word in (0, 4, 0xFFFFFFFC):
        await top.write(Register.CONTROL, word)
        assert not any([await top.cycle() for _ in range(8)])
    await step[1].check_registers(top)
    top.begin()
    await top.write(Register.CONTROL, 0xFFFFFFFE)
    scrub = 2 * top.cfg.psum_depth
    for _ in range(scrub):
        top.drive(Register.CONTROL, int(top.rng.integers(1, 4)), we=1)
        assert await top.cycle()
        assert top.answer() == BUSY | DONE
    top.dut.ctl_we.value = 0
    assert not any([await top.cycle() for _ in range(8)])
    assert not (top.log.reads or top.log.writes)
    assert await top.read(Register.CONTROL) == DONE
    assert await top.read(Register.COUNTER + Counter.CYCLES) == step[1].cycles + scrub  # cleared at start alone
    await step[0].restore(top)
    await step[0].run(top)


@cocotb.test()
async def no_pause_between_programs(dut: Any) -> None:
    """A start in the first idle cycle counts."""
    top, (program, _) = await ready(dut)
    await program.prepare(top)
    await top.start()
    for _ in range(2):
        top.begin()
        for _ in range(program.cycles):
            assert await top.cycle()
        program.check_trace(top.cfg, top.log)
        await top.start()
        assert top.log.cycles == program.cycles
    top.begin()
    while await top.cycle():
        assert top.log.cycles <= program.limit(top)
    await program.check(top, top.log)


@cocotb.test()
async def every_address(dut: Any) -> None:
    """What is kept of a word, from the cycle after it was written; unknown addresses read zero."""
    top, _ = await ready(dut)
    await top.reset()
    held = dict.fromkeys(range(512), 0)
    for tensor in range(top.cfg.tensors):
        held[Register.EXPONENT + tensor] = await top.read(Register.EXPONENT + tensor)  # a reset leaves them
    for word in (0xFFFFFFFF, 0x80808080, 0x0000FFFF, 0x12345678, 0):
        for address in range(512):
            if address != Register.CONTROL:
                await top.write(address, word)
                assert top.answer() == held[address], f"register {address:#x} in the cycle of its write"
                held[address] = kept(top, address, word)
        for address in range(512):
            got = await top.read(address)
            assert got == held[address], f"register {address:#x} = {got:#x} after {word:#x}, not {held[address]:#x}"


@cocotb.test()
async def settings_do_not_last(dut: Any) -> None:
    """A reset takes the settings: a start without new ones is a program without commands."""
    top, step = await ready(dut)
    await step[0].run(top)
    await top.reset()
    log = await top.run(SPARE)
    assert log.cycles == 1
    assert await top.read(Register.CONTROL) == DONE | Status.PROGRAM << 8
    await step[0].restore(top)
    await step[0].run(top)


async def ready(dut: Any) -> tuple[Top, list[Program]]:
    """The machine before a step that needs nothing from the one before, and the programs of that step."""
    top, step = await begin(dut), first_step(recorded())
    await step[0].restore(top)
    return top, step


def in_every_cycle(program: Program) -> dict[int, np.ndarray]:
    """What the host reads in each cycle of a program, by address, where settings and trace say it."""

    def before(events: np.ndarray, late: int = 1) -> np.ndarray:
        """Events so far, counted `late` cycles after each."""
        return np.concatenate([[0] * late, np.cumsum(events.astype(np.int64))[:-late]])

    central, state = program.central, dict(program.state.tolist())
    operations = field(program.rows, "op") != 0
    every = np.arange(program.cycles)
    steady = {Register.CONTROL: BUSY, Register.ERROR_AT: 0} | dict(program.settings.tolist())
    return {
        **{address: np.full(program.cycles, value) for address, value in steady.items()},
        Register.STEP: state[Register.STEP] + before(field(central, "commit")),
        Register.COUNTER + Counter.CYCLES: every,
        Register.COUNTER + Counter.READS: before(field(central, "response")),
        Register.COUNTER + Counter.WRITES: before(field(central, "write")),
        # What a row does leaves it through a register.
        **{Register.ROW_COUNTER + row: before(ones, late=2) for row, ones in enumerate(operations.T)},
    }


def kept(top: Top, address: int, word: int) -> int:
    """What a register reads after a word was written to it."""
    if 0 <= address - Register.EXPONENT < top.cfg.tensors:
        return signed(word, 8)
    if address in WIDTHS:
        bits = WIDTHS[Register(address)]
        return word & (1 << bits) - 1 if bits > 0 else signed(word, -bits)
    if address == Register.LEARNING:
        return word >> 16 << 16 | word & (1 << top.cfg.lr_bits) - 1
    largest = {Register.DECAY: 1 << 16, Register.THRESHOLD: ((2 * top.cfg.operand_bits - 1) << 20) - 1}
    return min(word, largest.get(address, 0))


def signed(word: int, bits: int) -> int:
    """The low bits of a word as a signed number, in 32 bits."""
    low = word & (1 << bits) - 1
    return (low - (low >> bits - 1 << bits)) & 0xFFFFFFFF
