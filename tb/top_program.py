"""One program of the golden model, as `scripts.recording` keeps it: how to set it up and what it must show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import tb
from arch.command import Phase
from arch.config import Config
from arch.trace import CENTRAL, RECORD
from golden.reading import KINDS
from tb.top_driver import SPARE, Log, Top

STALLED = 50  # times the predicted cycles, with a memory that stalls


def field(records: np.ndarray, name: str) -> np.ndarray:
    """A field of trace records, of rows (two dimensions) or of the central units (one)."""
    place = (RECORD if records.ndim == 2 else CENTRAL)[name]
    return records >> np.uint64(place.low) & np.uint64((1 << place.bits) - 1)


class Program:
    """A program and what it must lead to.

    Args:
        path: file of `scripts.recording.Recorder`; its arrays become attributes.
    """

    before: np.ndarray
    after: np.ndarray
    wrote: np.ndarray
    settings: np.ndarray
    state: np.ndarray
    want: np.ndarray
    want_times: np.ndarray
    reads: np.ndarray
    writes: np.ndarray
    rows: np.ndarray
    central: np.ndarray
    cycles: int

    def __init__(self, path: str) -> None:
        with np.load(path) as arrays:
            for name in arrays.files:
                setattr(self, name, arrays[name])
        self.cycles = int(self.cycles)

    # -- host ---------------------------------------------------------------------------------
    async def restore(self, top: Top) -> None:
        """Memory and state as they are when this program starts, whatever happened before."""
        top.memory[: len(self.before)] = self.before
        await _write_all(top, self.state)

    async def prepare(self, top: Top) -> None:
        """What the host does between the program before and this one."""
        for address, beats in self.wrote:
            top.memory[address : address + beats] = self.before[address : address + beats]
        await _write_all(top, self.settings)

    async def run(self, top: Top) -> None:
        """Set it up, run it, compare everything."""
        await self.prepare(top)
        log = await top.run(self.limit(top))
        await self.check(top, log)

    def limit(self, top: Top) -> int:
        """Cycles after which it counts as hung."""
        return self.cycles * STALLED if any(top.stalls) else self.cycles + SPARE

    # -- comparison ---------------------------------------------------------------------------
    async def check(self, top: Top, log: Log) -> None:
        """All that can be seen of a finished program; what happens when only if the memory does not stall."""
        timed = not any(top.stalls)
        if timed:
            self.check_trace(top.cfg, log)
            assert log.cycles == self.cycles, f"{log.cycles} cycles, predicted {self.cycles}"
        for name, want, got in (("read", self.reads, log.reads), ("write", self.writes, log.writes)):
            pairs = np.array(got, np.int64).reshape(-1, 2)
            same(
                f"{name} (cycle, address)" if timed else f"{name} address", pairs[:, not timed :], want[:, not timed :]
            )
        same("memory beat", top.memory[: len(self.after)], self.after)
        await self.check_registers(top, timed)

    def check_trace(self, cfg: Config, log: Log) -> None:
        """The trace from the start of the program to the end of the log, or of the program."""
        if cfg.trace:
            central, rows = np.array(log.central, np.uint64), np.frombuffer(log.rows, "<u8").reshape(-1, cfg.rows)
            same("central record", central[: self.cycles], self.central[: len(central)])
            same("row record", rows[: self.cycles], self.rows[: len(rows)])
            assert len(central) <= self.cycles, f"busy for more than {self.cycles} cycles"

    async def check_registers(self, top: Top, timed: bool = True) -> None:
        """State and counters after the program."""
        for address, value in (*self.want.tolist(), *(self.want_times.tolist() if timed else ())):
            got = await top.read(address)
            assert got == value, f"register {address:#x} = {got:#x}, predicted {value:#x}"

    # -- what happens when --------------------------------------------------------------------
    def moments(self) -> dict[str, np.ndarray]:
        """Cycles in which the machine does something, by what it does."""
        op, phase, command = (field(self.rows, name) for name in ("op", "phase", "command"))
        drained = field(self.central, "drain_index")[self.writes[:, 0]]
        found = {"start": np.array([0, 1, 2]), "end": self.cycles - np.array([1, 2, 3])}
        for kind, name in enumerate(KINDS):
            here = (field(self.central, "response") != 0) & (field(self.central, "response_kind") == kind)
            found[f"read {name}"] = np.flatnonzero(here)
        for p in (Phase.FW, Phase.BW, Phase.WU):
            at = (op != 0) & (phase == p)
            found[f"compute {p.name}"] = np.flatnonzero(at.any(axis=1))
            found[f"write {p.name}"] = self.writes[np.isin(drained, command[at]), 0]
        found["commit"] = np.flatnonzero(field(self.central, "commit"))
        return {name: cycles for name, cycles in found.items() if len(cycles)}


def recorded() -> list[Program | None]:
    """The programs given to this bench; None where the host has the machine forget."""
    return [None if path is None else Program(path) for path in tb.parameters()["events"]]


def first_step(programs: list[Program | None]) -> list[Program]:
    """The first step that begins with nothing loaded ahead, behind the first time the host had all forgotten."""
    at = programs.index(None) + 1
    return [program for program in programs[at : at + 2] if program is not None]


async def begin(dut: Any, stalls: tuple[float, float, float] = (0, 0, 0)) -> Top:
    """The accelerator behind a reset, with an empty memory as large as the programs need."""
    await tb.start(dut)
    p, cfg = tb.parameters(), tb.config()
    memory = np.zeros((p["beats"], cfg.beat_bits // 8), np.uint8)
    return Top(dut, cfg, memory, p["latency"], stalls, hostile=True)


async def _write_all(top: Top, registers: Iterable[np.ndarray]) -> None:
    for address, value in registers:
        await top.write(int(address), int(value))


def same(name: str, got: np.ndarray, want: np.ndarray) -> None:
    """Equal in length and everywhere; the message says where not, first."""
    shorter = min(len(got), len(want))
    bad = np.flatnonzero((got[:shorter] != want[:shorter]).reshape(shorter, -1).any(axis=1))
    if len(bad):
        pair = [" ".join(f"{n:x}" for n in np.atleast_1d(values[bad[0]])) for values in (got, want)]
        raise AssertionError(f"{name} {bad[0]}: {pair[0]}, predicted {pair[1]} ({len(bad)} differ)")
    assert len(got) == len(want), f"{len(got)} of {name}, predicted {len(want)}"
