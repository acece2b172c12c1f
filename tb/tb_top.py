"""Bench: training steps on the whole accelerator, driven cycle by cycle, against what the golden model predicts.

It is the second driver of the traced design, beside the batch harness, and shares no line with it. The host here is
hostile: whatever the protocol leaves open carries rubbish.
"""

from __future__ import annotations

from typing import Any

import cocotb

from arch.command import Phase
from arch.status import Register
from golden.reading import KINDS
from tb.top_driver import Top
from tb.top_program import Program, begin, first_step, recorded

#: What must be among the things that a reset interrupts.
MOMENTS = {"start", "end", "commit", *(f"read {kind}" for kind in KINDS)} | {
    f"{does} {phase.name}" for does in ("compute", "write") for phase in (Phase.FW, Phase.BW, Phase.WU)
}


@cocotb.test()
async def training(dut: Any) -> None:
    """Every cycle of every program; nothing is set up again between them but what a host writes."""
    top = await begin(dut)
    await train(top, recorded())


@cocotb.test()
@cocotb.parametrize(stalls=[(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.7), (0.3, 0.3, 0.3)])
async def stalling_memory(dut: Any, stalls: tuple[float, float, float]) -> None:
    """Requests and writes refused, answers late: the same bits."""
    await train(await begin(dut, stalls), recorded())


@cocotb.test()
async def memory_that_hardly_answers(dut: Any) -> None:
    """One cycle in ten: the same bits, of a single step."""
    await train(await begin(dut, (0.9, 0.9, 0.9)), recorded()[:2])


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """A reset while any of the stages does any of its work; then the host begins the step again."""
    top = await begin(dut)
    step = first_step(recorded())
    assert {name for program in step for name in program.moments()} >= MOMENTS
    for number, program in enumerate(step):
        for name, cycles in program.moments().items():
            at = int(top.rng.choice(cycles))
            dut._log.info("reset in cycle %d of program %d: %s", at, number, name)
            await step[0].restore(top)
            for earlier in step[:number]:
                await earlier.run(top)
            await cut(top, program, at)
            await after_reset(top)
            await top.scrub()  # a reset leaves memories as they are, partial sums among them
            await step[0].restore(top)
            for again in step:
                await again.run(top)


async def train(top: Top, programs: list[Program | None]) -> None:
    """Everything a training run did; only the first program's memory and state come from outside."""
    first = programs[0]
    assert first is not None
    await first.restore(top)
    for program in programs:
        if program is None:
            assert await top.scrub() == 2 * top.cfg.psum_depth
        else:
            await program.run(top)


async def cut(top: Top, program: Program, at: int) -> None:
    """Run a program to the end of its cycle `at`, which must be as predicted, and reset in the next one."""
    await program.prepare(top)
    top.begin()
    await top.start()
    for _ in range(at + 1):
        assert await top.cycle()
    program.check_trace(top.cfg, top.log)
    await top.reset()


async def after_reset(top: Top) -> None:
    """Nothing runs, every register is zero but the exponents, which stay what they were."""
    top.begin()
    for address in range(256):
        got = await top.read(address)
        if not 0 <= address - Register.EXPONENT < top.cfg.tensors:
            assert got == 0, f"register {address:#x} = {got:#x} after reset"
    log = top.log
    assert not log.cycles
    assert not log.reads
    assert not log.writes
