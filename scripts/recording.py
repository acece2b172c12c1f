"""What a golden training run asks of the machine, as files for a bench: a `golden.trainer.Follower` that keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from arch.config import Config
from arch.status import Counter, Register
from golden import timing, trace
from golden.counters import counters, row_busy
from golden.machine import Machine, Work
from golden.trainer import Trainer
from scripts.lockstep import TIMES, place, settings

DONE = 2  # CONTROL after a program without error

Pairs = list[tuple[int, int]]


class Recorder:
    """Keeps every program of a trainer in a folder, one NPZ file each; becomes the trainer's follower.

    Arrays of a file, registers as pairs of address and value: `before`, `after`: memory when the program starts and
    ends; `wrote`: spans of beats (address, beats) the host wrote since the program before; `settings`, `state`:
    registers the host writes before every program, and those it writes once; `want`: what it must read afterwards,
    `want_times`: likewise, if the memory never stalls; `reads`, `writes`: cycle and address of every access;
    `cycles`; of a traced build `rows`, `central`: the trace.

    Args:
        trainer: freshly made, with a memory image.
        folder: where the files go.
        cfg: that of the bench: the trainer's, with or without trace.
        latency: of the memory.
        most: programs to keep; later ones are ignored.
    """

    def __init__(self, trainer: Trainer, folder: Path, cfg: Config, latency: int, most: int | None = None) -> None:
        """Nothing is kept yet; the first program is told of all memory in use."""
        self.trainer, self.folder, self.cfg, self.latency, self.most = trainer, folder, cfg, latency, most
        #: Files of the programs in their order; None where the host had the machine forget.
        self.events: list[str | None] = []
        self._spans = [(0, trainer.memory.used)]
        self._placed: dict[int, tuple[int, list[dict[str, int]]]] = {}
        self._kept: dict[str, np.ndarray] = {}
        trainer.follower = self

    @property
    def _full(self) -> bool:
        return self.most is not None and len(self.events) >= self.most

    def wrote(self, address: int, beats: int) -> None:
        """The host wrote a span."""
        self._spans.append((address, beats))

    def forgot(self) -> None:
        """The host has the machine forget unfinished sums and peaks."""
        self.events.append(None)

    def running(self, program: list[dict[str, int]]) -> None:
        """Place a program, keep what it starts from."""
        if self._full:
            return
        memory, machine = self.trainer.memory, self.trainer.machine
        if id(program) not in self._placed:
            before = memory.used
            self._placed[id(program)] = (place(memory, program), program)  # the list is kept, so its id stays its own
            self.wrote(before, memory.used - before)
        written = settings(self.trainer.settings, self._placed[id(program)][0], len(program))
        self._kept = {
            "before": memory.image[: memory.used].copy(),
            "wrote": np.array(self._spans),
            "settings": _pairs(list(written.items())),
            "state": _pairs(_state(machine)),
        }
        self._spans = []

    def ran(self, program: list[dict[str, int]], works: list[Work]) -> None:
        """Keep what it led to."""
        if self._full:
            return
        cfg, memory = self.cfg, self.trainer.memory
        schedule = timing.schedule(cfg, works, self.latency, self._placed[id(program)][0])
        reads, writes = trace.accesses(cfg, works, schedule)
        counted = counters(cfg, works, schedule)
        same: Pairs = [(Register.CONTROL, DONE), (Register.ERROR_AT, 0), *_state(self.trainer.machine)]
        same += [(Register.COUNTER + counter, n) for counter, n in counted.items() if counter not in TIMES]
        same += [(Register.ROW_COUNTER + row, n) for row, n in enumerate(row_busy(cfg, works).tolist())]
        times: Pairs = [(Register.COUNTER + counter, counted[counter]) for counter in Counter if counter in TIMES]
        self._kept |= {"after": memory.image[: memory.used].copy(), "cycles": np.array(schedule.cycles)}
        self._kept |= {"want": _pairs(same), "want_times": _pairs(times), "reads": reads, "writes": writes}
        if cfg.trace:
            self._kept["rows"] = trace.rows(cfg, works, schedule)
            self._kept["central"] = trace.central(cfg, works, schedule)
        path = self.folder / f"program{len(self.events)}.npz"
        np.savez(path, **self._kept)  # type: ignore[arg-type]  # its options are taken for arrays
        self.events.append(str(path))


def _state(machine: Machine) -> Pairs:
    """Registers that programs change."""
    return [
        (Register.STEP, machine.step),
        (Register.DECAY, machine.decay),
        (Register.THRESHOLD, machine.log2_theta),
        *((Register.EXPONENT + tensor, exponent) for tensor, exponent in enumerate(machine.exponent)),
    ]


def _pairs(registers: Pairs) -> np.ndarray:
    return np.array([(int(address), int(value) & 0xFFFFFFFF) for address, value in registers], np.int64)
