"""Bad input in hardware: every error has its status, ends the program, harms no weight, and is forgotten.

A good program is spoilt in one field (or its memory in one word) and run on the RTL alone. Then the cause is mended,
and the step is made in lock-step with the golden model, which never saw the accident: nothing may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from arch.command import Phase, Policy, pack
from arch.status import Register, Status
from golden.memory import Store
from golden.shape import LayerShape
from golden.trainer import Trainer
from scripts.harness import Harness
from scripts.lockstep import START, CapacityError, Lockstep, settings
from tests.programs import TINY, Case, make, minibatch

BOUND = 200_000  # cycles in which a program ends, whatever is wrong with it
Command = dict[str, int]


@dataclass
class Bench:
    """A trained network on the RTL, between two steps."""

    case: Case
    trainer: Trainer
    harness: Harness
    lockstep: Lockstep
    rng: np.random.Generator

    def program(self, phase: Phase) -> list[Command]:
        """The program of the coming step that has commands of a phase."""
        visits = self.trainer.dense_visits
        network, generation = self.trainer.network, self.trainer.generation
        if phase == Phase.FW:
            return network.forward(generation, visits)
        return network.backward(generation, visits)

    def step(self) -> None:
        """One step in lock-step."""
        self.trainer.step(*minibatch(self.case, self.rng))

    def stores(self) -> list[Store]:
        """Where the newest weights are."""
        layers = self.trainer.network.layers
        return [store for layer in layers for row in layer.stores[self.trainer.generation] for store in row]

    def run(self, program: list[Command], commands: int | None = None) -> tuple[Status, int]:
        """Run a program on the RTL alone, in memory of its own; returns its status and the command it names."""
        address = self.trainer.memory.used + 64
        words = np.concatenate([pack(**c) for c in program]).astype("<u4").view(np.uint8)
        width = self.harness.memory.shape[1]
        beats = -(-len(words) // width)
        self.harness.memory[address : address + beats].reshape(-1)[: len(words)] = words
        before = [self.harness.memory[s.address : s.address + s.limit].copy() for s in self.stores()]
        count = len(program) if commands is None else commands
        for register, value in settings(self.trainer.settings, address, count).items():
            self.harness.write(register, value)
        self.harness.write(Register.CONTROL, START)
        self.harness.run(BOUND)
        for store, weights in zip(self.stores(), before, strict=True):
            assert np.array_equal(self.harness.memory[store.address : store.address + store.limit], weights)
        assert self.harness.fault is None
        told = Status(self.harness.read(Register.CONTROL) >> 8), self.harness.read(Register.ERROR_AT)
        self.forget()
        return told

    def forget(self) -> None:
        """What a host does after an error: have unfinished sums and peaks forgotten, set the threshold again.

        What the program left in activations, gradients and the other generation counts for nothing; the golden image
        takes it over, so that the next step shows that all of it is written anew.
        """
        self.lockstep.forgot()
        self.harness.write(Register.THRESHOLD, self.trainer.machine.log2_theta)
        used = self.trainer.memory.used
        self.trainer.memory.image[:used] = self.harness.memory[:used]


def bench(case: Case) -> Bench:
    """A network after two steps."""
    trainer, harness = make(case)
    made = Bench(case, trainer, harness, Lockstep(trainer, harness), np.random.default_rng(3))
    for _ in range(2):
        made.step()
    return made


def spoil(program: list[Command], index: int, **fields: int) -> list[Command]:
    """A copy of a program with other fields in one command."""
    return [c | fields if i == index else c for i, c in enumerate(program)]


def first(program: list[Command], accepts: Callable[[Command], object]) -> int:
    """Index of the first command that is accepted."""
    return next(i for i, c in enumerate(program) if accepts(c))


CASE = Case(TINY, (40, 30, 10, 4), 12, 0, decay=0.3)

FORWARD = {
    "magic": ({"magic": 0x5CB0}, Status.MAGIC),
    "no positions": ({"positions": 0}, Status.FIELD),
    "more positions than their stride": ({"log2_positions": 1}, Status.FIELD),
    "no words": ({"words": 0}, Status.FIELD),
    "more words than masks": ({"words": 200}, Status.FIELD),
    "no segments": ({"segments": 0}, Status.FIELD),
    "too many segments": ({"segments": 33}, Status.FIELD),
    "no records": ({"records": 0}, Status.FIELD),
    "records beyond the region": ({"record0": 1}, Status.FIELD),
    "no header": ({"header_beats": 0}, Status.FIELD),
    "unaligned output channel": ({"k0": 1}, Status.FIELD),
    "unaligned input channel": ({"c0": 1}, Status.FIELD),
    "wrong lanes": ({"log2_lanes": 3}, Status.FIELD),
    "empty run": ({"x_run": 0}, Status.FIELD),
    "more units than records": ({"units": 16}, Status.FIELD),
    "gathered operand too large": ({"x_run": 1000}, Status.GATHER_OVERFLOW),
    "more units than rows hold": ({"cap": 1}, Status.UNITS_OVERFLOW),
    "more sums than a bank": ({"cap": 1000}, Status.PSUM_OVERFLOW),
}


@pytest.fixture(scope="module")
def trained() -> Bench:
    return bench(CASE)


@pytest.mark.parametrize("name", FORWARD)
def test_malformed_forward_command(trained: Bench, name: str) -> None:
    fields, status = FORWARD[name]
    program = trained.program(Phase.FW)
    acts = "load_x" if "x_run" in fields else "plan"
    for index in (0, first(program[1:], lambda c: c.get(acts)) + 1):
        change = fields | ({"units": program[index]["records"] + 1} if "units" in fields else {})
        assert trained.run(spoil(program, index, **change)) == (status, index)
    trained.step()


def test_empty_program(trained: Bench) -> None:
    assert trained.run(trained.program(Phase.FW), commands=0) == (Status.PROGRAM, 0)
    trained.step()


def test_gate_too_large(trained: Bench) -> None:
    program = trained.program(Phase.BW)
    index = first(program, lambda c: c["phase"] == Phase.BW and c.get("load_aux"))
    assert trained.run(spoil(program, index, aux_run=1000)) == (Status.GATE_OVERFLOW, index)
    trained.step()


def test_store_too_small(trained: Bench) -> None:
    program = trained.program(Phase.WU)
    for index in (i for i, c in enumerate(program) if c["phase"] == Phase.WU and c["drain"]):
        limit = program[index]["header_beats"] + 1
        assert trained.run(spoil(program, index, limit=limit)) == (Status.STORE_OVERFLOW, index)
    trained.step()


@pytest.mark.parametrize("word", [0, 1, 2])
def test_header_that_contradicts_its_masks(trained: Bench, word: int) -> None:
    program = trained.program(Phase.FW)
    region = trained.harness.memory[program[0]["w_addr"]]
    region.view("<u4")[word] += 64  # values of a record, or beats in all
    told = trained.run(program)
    region.view("<u4")[word] -= 64
    trained.forget()
    assert told == (Status.HEADER, 0)
    trained.step()


def test_rows_without_room_for_masks() -> None:
    b = bench(Case(TINY.with_(mask_beats=4), (12, 30, 4), 4, 0, decay=0.3, policy=Policy.NONE))
    program = b.program(Phase.FW)
    records = program[0]["records"]
    assert records > 8
    # As stored, consecutive records go to one row; counted as five mask beats a record, two of them overfill it.
    assert b.run(spoil(program, 0, segments=2, load_segments=2, w_stride=0)) == (Status.MASK_OVERFLOW, 0)
    b.step()


def test_rows_without_room_for_values() -> None:
    b = bench(Case(TINY.with_(value_beats=4), (7, 60), 4, 0, budget=None))
    program = b.program(Phase.FW)
    assert program[0]["records"] == 4
    # A region as large as the rows take; others of the layer follow it. Three read as one are too large.
    rows, records = b.case.config.rows, program[0]["block_rows"]
    assert records == rows
    assert b.run(spoil(program, 0, segments=3, load_segments=3, cap=1)) == (Status.VALUE_OVERFLOW, 0)
    b.step()


def test_more_weights_kept_than_rows_hold() -> None:
    case = Case(TINY.with_(value_beats=4), (30, 20, 4), 4, 0, period=1, decay=0.99, theta=31, density=0.1)
    b = bench(case)
    theta = b.trainer.machine.log2_theta
    b.harness.write(Register.THRESHOLD, 0)
    b.trainer.machine.log2_theta = 0
    program = b.program(Phase.WU)
    index = first(program, lambda c: c["phase"] == Phase.WU and c["drain"])
    status, at = b.run(program)
    assert (status, at) == (Status.UPDATE_OVERFLOW, index)
    b.trainer.machine.log2_theta = theta  # the host asks for fewer
    b.harness.write(Register.THRESHOLD, theta)
    b.step()


def test_more_gradients_than_a_row_stores() -> None:
    # Compiled for few visits, but every word is explored.
    shapes = (LayerShape(24, 3, 8, 8, (3, 3), 1, 1), LayerShape(3, 24, 8, 8, (1, 1), 2), LayerShape(2, 3, 4, 4, (4, 4)))
    cfg = TINY.with_(gather_depth=512, value_beats=256, gradients=64)
    case = Case(cfg, shapes, 4, 0, period=1, decay=0.0, theta=31, density=0.05, explored=0.0)
    trainer, harness = make(case)
    Lockstep(trainer, harness)
    with pytest.raises(CapacityError, match=r"^SUM_OVERFLOW at command \d+: .*gradients \d{3,} %"):
        trainer.step(*minibatch(case, np.random.default_rng(1)))
    assert Status(harness.read(Register.CONTROL) >> 8) is Status.SUM_OVERFLOW


def test_every_status_is_tested() -> None:
    text = Path(__file__).read_text()
    assert [s.name for s in Status if s is not Status.OK and f"Status.{s.name}" not in text] == []
