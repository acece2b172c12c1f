"""Lock-step: every program the golden machine executes runs on the Verilated RTL too, and everything is compared.

Compared after each program: the whole memory image; the record of every row and of the central units in every cycle;
every request and write with its cycle and address; counters, exponents, threshold, decay, step. Nothing is
copied from one side to the other but what the host writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from arch import trace as records
from arch import vector
from arch.command import Field, pack
from arch.status import Counter, Register, Status
from golden import timing, trace
from golden.capacity import Fill, fill
from golden.counters import counters, row_busy
from golden.machine import Settings, Work
from golden.memory import Memory
from golden.trainer import Trainer
from golden.waits import is_vector
from scripts.harness import Harness, RunResult

MOVED = ("request", "response", "write")
SPARE = 64  # cycles beyond the predicted ones before a program counts as hung
STALLED = 50  # times the predicted ones, with a memory that stalls
#: Counters that depend on when the memory answers.
TIMES = {Counter.CYCLES, Counter.WAIT_LOAD, Counter.WAIT_PLAN, Counter.WAIT_DRAIN}
START, SCRUB = 1, 2
#: What the vector engine moves in a central record.
PORTS = np.uint64(sum(((1 << f.bits) - 1) << f.low for n, f in records.CENTRAL.items() if n in MOVED))
#: The hardware stops with these when its buffers are full; the golden machine has none (see `golden.capacity`).
FULL = (
    Status.MASK_OVERFLOW,
    Status.VALUE_OVERFLOW,
    Status.UPDATE_OVERFLOW,
    Status.STORE_OVERFLOW,
    Status.SUM_OVERFLOW,
)


class MismatchError(AssertionError):
    """RTL and golden model differ; the message says where first."""


class CapacityError(RuntimeError):
    """The network has become too dense for the buffers it was compiled for; golden counts and RTL agree about it."""


@dataclass
class Comparison:
    """What has been compared.

    Attributes:
        cycles: busy cycles of all programs.
        records: trace records, row and central.
        beats: beats of memory.
        programs: programs.
        mismatches: programs in which anything differed.
        first: description of the first difference.
    """

    cycles: int = 0
    records: int = 0
    beats: int = 0
    programs: int = 0
    mismatches: int = 0
    first: str = ""


class Lockstep:
    """A `golden.trainer.Follower` that drives the batch harness.

    Args:
        trainer: freshly made, with a memory image; becomes this follower's host.
        harness: the RTL of the trainer's configuration. With a trace build every cycle is compared, without it the
            number of cycles, the accesses and all results.
        strict: raise MismatchError at the first difference; else count it.
        timed: compare what happens when; False for a memory that stalls, where only values must agree.

    Raises:
        ValueError: the trainer keeps no memory image, or configurations differ.
        CapacityError, from a step: the RTL stopped, its weights of the step before intact, since its buffers are full.
    """

    def __init__(self, trainer: Trainer, harness: Harness, *, strict: bool = True, timed: bool = True) -> None:
        """Copy the image, set the state registers."""
        if not trainer.memory.keep_image:
            raise ValueError("lock-step needs a trainer made with keep_image=True")
        if trainer.cfg.with_(trace=harness.cfg.trace) != harness.cfg:
            raise ValueError(f"the trainer's configuration {trainer.cfg} is not the harness's {harness.cfg}")
        self.trainer, self.harness, self.strict, self.timed = trainer, harness, strict, timed
        self.compared = Comparison()
        self.seconds = 0.0  #: spent in the simulated RTL
        self._programs: dict[int, tuple[int, list[dict[str, int]]]] = {}
        image = trainer.memory.image
        harness.memory = np.zeros_like(image)
        self.wrote(0, trainer.memory.used)
        machine = trainer.machine
        harness.write(Register.STEP, machine.step)
        harness.write(Register.DECAY, machine.decay)
        harness.write(Register.THRESHOLD, machine.log2_theta)
        for tensor, exponent in enumerate(machine.exponent):
            harness.write(Register.EXPONENT + tensor, exponent)
        trainer.follower = self

    # -- Follower -----------------------------------------------------------------------------
    def wrote(self, address: int, beats: int) -> None:
        """Copy what the host wrote."""
        span = slice(address, address + beats)
        self.harness.memory[span] = self.trainer.memory.image[span]

    def running(self, program: list[dict[str, int]]) -> None:
        """Place a program where both sides find it."""
        if id(program) not in self._programs:
            before = self.trainer.memory.used
            address = place(self.trainer.memory, program)
            self.wrote(before, self.trainer.memory.used - before)
            self._programs[id(program)] = (address, program)  # the list is kept, so its id stays its own

    def ran(self, program: list[dict[str, int]], works: list[Work]) -> None:
        """Run a program on the RTL and compare."""
        address = self._programs[id(program)][0]
        schedule = timing.schedule(self.trainer.cfg, works, self.harness.latency, address)
        for register, value in settings(self.trainer.settings, address, len(program)).items():
            self.harness.write(register, value)
        self.harness.write(Register.CONTROL, START)
        began = time.perf_counter()
        limit = schedule.cycles + SPARE if self.timed else STALLED * schedule.cycles
        result = self.harness.run(limit, trace=self.harness.cfg.trace and self.timed)
        self.seconds += time.perf_counter() - began
        self._check_room(works)
        compared = self.compared
        compared.programs += 1
        compared.cycles += result.cycles
        compared.beats += self.trainer.memory.used
        difference = next(self._differences(works, schedule, result), None)
        if difference:
            compared.mismatches += 1
            compared.first = compared.first or f"program {compared.programs - 1}: {difference}"
            if self.strict:
                raise MismatchError(compared.first)

    def _status(self) -> Status:
        return Status(self.harness.read(Register.CONTROL) >> 8 & 255)

    def _check_room(self, works: list[Work]) -> None:
        status = self._status()
        full = fill(self.trainer.cfg, works, self.trainer.memory) if status in FULL else Fill()
        if full.worst > 1:
            shares = ", ".join(f"{f.name} {100 * getattr(full, f.name):.0f} %" for f in fields(full))
            raise CapacityError(
                f"{status.name} at command {self.harness.read(Register.ERROR_AT)}: the weights of step "
                f"{self.trainer.machine.step} need more room than the buffers have ({shares})"
            )

    def forgot(self) -> None:
        """Scrub partial sums and peaks."""
        self.harness.write(Register.CONTROL, SCRUB)
        self.harness.run(2 * self.trainer.cfg.psum_depth + SPARE)

    # -- one program --------------------------------------------------------------------------
    def _differences(self, works: list[Work], schedule: timing.Schedule, result: RunResult) -> Iterator[str]:
        """Differences, those that explain most first."""
        cfg, harness, machine = self.trainer.cfg, self.harness, self.trainer.machine
        if status := self._status():
            yield f"status {status.name} at command {harness.read(Register.ERROR_AT)}"
        if result.fault:
            yield f"{result.fault}"
        windows = trace.vector_windows(works, schedule)
        if result.central is not None:
            central, shown = trace.central(cfg, works, schedule), result.central.copy()
            for first, end in windows:
                shown[first:end] &= ~PORTS
                central[first:end] &= ~PORTS
            yield from self._records("central", central, shown, records.CENTRAL)
        if result.trace is not None:
            yield from self._records("row", trace.rows(cfg, works, schedule), result.trace, records.RECORD)
        if self.timed and result.cycles != schedule.cycles:
            yield f"{result.cycles} cycles, predicted {schedule.cycles}"
        reads, writes = trace.accesses(cfg, works, schedule)
        for name, want, got in (("read", reads, result.reads), ("write", writes, result.writes)):
            if windows:
                got = got[~_inside(got[:, 0], windows)]
            if windows and not self.timed:
                continue  # nobody knows which of them are whose
            if self.timed:
                yield from _rows_differ(f"{name} (cycle, address)", want, got)
            else:
                yield from _rows_differ(f"{name} address", want[:, 1:], got[:, 1:])
        used = self.trainer.memory.used
        image, memory = self.trainer.memory.image[:used], harness.memory[:used]
        if not np.array_equal(image, memory):
            beat = int(np.flatnonzero((image != memory).any(axis=1))[0])
            yield f"memory beat {beat}: {memory[beat].tobytes().hex()}, predicted {image[beat].tobytes().hex()}"
        state = {Register.STEP: machine.step, Register.DECAY: machine.decay, Register.THRESHOLD: machine.log2_theta}
        for register, wanted in state.items():
            if harness.read(register) != wanted:
                yield f"register {register.name} = {harness.read(register)}, predicted {wanted}"
        for tensor, exponent in enumerate(machine.exponent):
            read = harness.read(Register.EXPONENT + tensor)
            if read != exponent & 0xFFFFFFFF:
                yield f"exponent of tensor {tensor} = {(read ^ 1 << 31) - (1 << 31)}, predicted {exponent}"
        for counter, value in counters(cfg, works, schedule).items():
            read = harness.read(Register.COUNTER + counter)
            if read != value and (self.timed or counter not in TIMES):
                yield f"counter {Counter(counter).name} = {read}, predicted {value}"
        for row, value in enumerate(row_busy(cfg, works).tolist()):
            read = harness.read(Register.ROW_COUNTER + row)
            if read != value:
                yield f"busy cycles of row {row} = {read}, predicted {value}"

    def _records(self, name: str, want: np.ndarray, got: np.ndarray, layout: dict[str, Field]) -> Iterator[str]:
        self.compared.records += got.size
        shorter = min(len(want), len(got))
        bad = np.argwhere(want[:shorter] != got[:shorter])
        if len(bad):
            at = tuple(bad[0].tolist())
            pair = int(got[at]), int(want[at])
            parts = []
            for part, place in layout.items():
                seen, wanted = ((word >> place.low) & (1 << place.bits) - 1 for word in pair)
                if seen != wanted:
                    parts.append(f"{part} = {seen}, predicted {wanted}")
            where = f"cycle {at[0]}" + (f", row {at[1]}" if len(at) > 1 else "")
            yield f"{name} record, {where}: {'; '.join(parts)} ({len(bad)} records differ)"


def _inside(cycles: np.ndarray, windows: list[tuple[int, int]]) -> np.ndarray:
    """Which cycles lie in a window."""
    starts, ends = np.array(windows).T
    at = np.searchsorted(starts, cycles, side="right") - 1
    return (at >= 0) & (cycles < ends[np.maximum(at, 0)])


def place(memory: Memory, program: list[dict[str, int]]) -> int:
    """Put a program into memory; returns its first beat."""
    return memory.raw(np.concatenate([(vector.pack if is_vector(c) else pack)(**c) for c in program]))


def settings(s: Settings, address: int, commands: int) -> dict[Register, int]:
    """What the host writes to the control port before it starts a program."""
    return {
        Register.PROGRAM: address,
        Register.COMMANDS: commands,
        Register.LAMBDA: s.factor,
        Register.KEEP: s.keep,
        Register.RATE: s.rate,
        Register.LEARNING: s.learning | (s.learning_exponent & 0xFFFF) << 16,
        Register.PERIOD: s.period_log2,
        Register.WEIGHT_EXPONENT: s.weight_exponent,
        Register.MODE: int(s.dense),
    }


def _rows_differ(name: str, want: np.ndarray, got: np.ndarray) -> Iterator[str]:
    shorter = min(len(want), len(got))
    bad = np.flatnonzero((want[:shorter] != got[:shorter]).any(axis=1))
    if len(bad):
        yield f"{name} {bad[0]}: {got[bad[0]].tolist()}, predicted {want[bad[0]].tolist()}"
    elif len(want) != len(got):
        yield f"{len(got)} {name}s, predicted {len(want)}"
