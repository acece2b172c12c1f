"""The golden machine: executes a program on the memory, from the mathematics of each phase.

Values are computed with exact integer arithmetic carried by float64 matrix products (every sum stays
below 2**53); cycles come from golden.timing, row lists from golden.phases. Working sets are executed
in program order; the pipeline may overlap them only where that cannot be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from arch.command import MAGIC, Phase, Policy
from arch.config import Config
from arch.vector import FIELDS as VECTOR_FIELDS
from golden import exponents, quantile, regenerate
from golden.balancer import balance, row_loads
from golden.csb import Region, merged
from golden.memory import Memory, Store, runs
from golden.phases import backward, forward, gradient, read_weights, wanted, weight_matrices, weight_update
from golden.requantise import requantise
from golden.vector import stage as vector
from golden.waits import is_vector
from golden.walk import Walk

T = TypeVar("T")
POLICIES = {Policy.NONE: "none", Policy.PAIR: "pair", Policy.LPT: "lpt"}


@dataclass
class Settings:
    """What the host sets through the control port before a program.

    Attributes:
        learning: learning-rate mantissa.
        learning_exponent: its power-of-two exponent.
        keep: wanted share of kept among seen, 16 fraction bits.
        rate: right shift of the quantile estimator's error.
        period_log2: log2 of the exploration period T.
        factor: lambda, 17-bit mantissa.
        weight_exponent: exponent of the weights.
        dense: dense mode, keep every visited weight and explore none.
    """

    learning: int = 128
    learning_exponent: int = -10
    keep: int = 1 << 12
    rate: int = 12
    period_log2: int = 0
    factor: int = regenerate.DECAY_ONE
    weight_exponent: int = -14
    dense: bool = False


class Late(Generic[T]):
    """A field given as a value or as a function called when it is first read: training alone needs no timing."""

    def __init__(self, default: Callable[[], T]) -> None:
        """`default` makes the value of a field that is not given."""
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember under which name the value is kept."""
        self.name = name

    def __get__(self, instance: object, owner: type) -> T:
        """The value."""
        if instance is None:
            return self.default  # type: ignore[return-value]  # what a dataclass takes as the field's default
        value = instance.__dict__[self.name]
        if callable(value):
            value = instance.__dict__[self.name] = value()
        return value

    def __set__(self, instance: object, value: T | Callable[[], T]) -> None:
        """Give the value, or how to make it."""
        instance.__dict__[self.name] = value


class Assignment(Sequence[np.ndarray]):
    """(row, slot) of every unit of a planned command, balanced when first read (values do not depend on it)."""

    def __init__(self, count: Callable[[], np.ndarray], units: int, rows: int, cap: int, policy: str) -> None:
        """Arguments of `golden.balancer.balance`, the counts of `units` units late; refuses as it does."""
        self._count, self.rows, self._given = count, rows, (rows, cap, policy)
        if policy != "lpt" or units > rows * cap:
            self.both  # noqa: B018  (for the refusals)

    @cached_property
    def counts(self) -> np.ndarray:
        """Visits of every unit."""
        return self._count()

    @cached_property
    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """The two arrays."""
        return balance(self.counts, *self._given)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        """Rows (0) or slots (1)."""
        return self.both[index]

    def __len__(self) -> int:
        """Two."""
        return 2

    def row_visits(self) -> np.ndarray:
        """Balanced counts by row."""
        return row_loads(self.counts, self.both[0], self.rows)


@dataclass
class Work:
    """What one executed command tells the timing law and the counters."""

    command: dict[str, int]
    offsets: Late[list[int]] = Late(list)  # record beats skipped in the segments loaded
    totals: Late[list[int]] = Late(list)  # record beats loaded of them
    walk: Walk | None = None
    regions: list[Region] = field(default_factory=list)  # segments in the weight buffers
    operand: Late[list[np.ndarray]] = Late(list)  # per segment: broadcast values (FW, BW)
    slots: Sequence[np.ndarray] | None = None  # (row, slot) of every unit
    row_visits: Late[np.ndarray | None] = Late(lambda: None)  # balanced counts by row (planned commands)
    drained: Late[list[int]] = Late(list)  # WU: value beats of every record
    kept: int = 0
    seen: int = 0
    adopted: int = 0
    evicted: int = 0
    saturated: int = 0
    threshold: int = 0
    outcome: vector.Outcome | None = None  # of a vector command


class Machine:
    """State of the accelerator between programs.

    Args:
        cfg: configuration.
        memory: external memory with its tensors and regions.
        settings: host settings; may be changed between programs.

    A dense build (`cfg.sparse` false) has neither threshold nor decay: both registers read zero.

    Raises:
        ValueError: something is asked of a dense build that it cannot do: other settings than `dense`; a command
            with a scale (regenerated weights) or a policy (load balancing).
    """

    def __init__(self, cfg: Config, memory: Memory, settings: Settings) -> None:
        """Reset state: step 0, decay one, threshold log2 theta = 0, exponents zero."""
        self.cfg, self.memory, self.settings = cfg, memory, settings
        self.step, self.decay, self.log2_theta = 0, regenerate.DECAY_ONE if cfg.sparse else 0, 0
        self.exponent = [0] * cfg.tensors
        self.peak: dict[int, tuple[int, Phase]] = {}
        self._vectors = vector.VectorMemory(cfg, memory.image)
        self._segments: list[Region] = []
        self._loaded_for = Phase.NOP  # the segments
        self._assignment: Sequence[np.ndarray] = (np.zeros(0, int), np.zeros(0, int))
        self._x: np.ndarray = np.zeros((0, 0, 0))
        self._aux, self._gate = self._x, self._x > 0
        self._acc: np.ndarray | None = None
        self._visited, self._gradient = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def execute(self, program: list[dict[str, int]]) -> list[Work]:
        """Run commands in order; returns what each did."""
        if not self.cfg.sparse:
            self._check_dense(program)
        return [self._command(c) for c in program]

    def _check_dense(self, program: list[dict[str, int]]) -> None:
        if not self.settings.dense:
            raise ValueError("a dense build trains in dense mode only: Settings.dense must be set")
        for index, c in enumerate(program):
            for name, what in (("scale", "regenerates no weights"), ("policy", "balances no load")):
                if c.get(name):
                    raise ValueError(f"command {index} has {name} = {c[name]}, but a dense build {what}")

    # -- stages of one command --------------------------------------------------------------
    def _command(self, c: dict[str, int]) -> Work:
        work = Work(c)
        if is_vector(c):
            self._vector(c, work)
            return work
        phase = Phase(c["phase"])
        if c.get("plan"):
            self._plan(c, phase, work)
        self._load(c, phase, work)
        work.slots, work.regions = self._assignment, self._segments
        if c.get("ahead"):
            pass  # what was loaded is for the next command
        elif phase not in (Phase.NOP, self._loaded_for):
            raise ValueError(f"a {phase.name} command computes with weights loaded for {self._loaded_for.name}")
        elif phase in (Phase.FW, Phase.BW):
            self._multiply(c, phase, work)
            if c.get("drain"):
                self._drain(c, phase, work)
        elif phase == Phase.WU:
            self._update(c, work)
        if c.get("commit"):
            self._commit()
        return work

    def _plan(self, c: dict[str, int], phase: Phase, work: Work) -> None:
        self._planned = [self._store(c["w_addr"] + g * c.get("w_stride", 0)) for g in range(c["segments"])]
        if c.get("keep"):
            return
        regions = [s.region for s in self._planned]

        def count() -> np.ndarray:
            if phase == Phase.WU:
                counts = np.sum([r.cycles_next for r in regions], axis=0)
            elif phase == Phase.BW:
                counts = merged(np.concatenate([r.nnz_per_group() for r in regions]), c)
            else:
                counts = np.sum([r.nnz_per_record() for r in regions], axis=0)[c["record0"] :]
            return np.minimum(np.asarray(counts, np.int64)[: c["units"]], 0xFFFF)

        policy = POLICIES[Policy(c.get("policy", 0))]
        assignment = Assignment(count, c["units"], self.cfg.rows, c["cap"], policy)
        if self._acc is not None and not all(map(np.array_equal, assignment, self._assignment)):
            raise ValueError(f"a plan with policy {policy} would move the partial sums of the commands before it")
        self._assignment, work.row_visits = assignment, assignment.row_visits

    def _load(self, c: dict[str, int], phase: Phase, work: Work) -> None:
        if c.get("load_x"):
            self._x = self.memory.get_tile(c["x_addr"], c["x_run"], runs(c, "x"))
        if c.get("load_aux"):
            tile = self.memory.get_tile(c["aux_addr"], c["aux_run"], runs(c, "aux"))
            if phase == Phase.WU:
                self._aux = tile
            else:
                self._gate = tile > 0
        if c.get("load_w"):
            first = c.get("segment", 0)
            chosen = self._planned[first : first + c["load_segments"]]
            self._segments, self._loaded_for = [s.region.rows(c["record0"], c["records"]) for s in chosen], phase
            skipped = [s.region.rows(0, c["record0"]) for s in chosen] if c["record0"] else []
            loaded = self._segments
            work.offsets = lambda: [r.record_beats() for r in skipped] or [0] * len(loaded)
            work.totals = lambda: [r.record_beats() for r in loaded]

    def _scale(self, c: dict[str, int]) -> int:
        return regenerate.decayed(c.get("scale", 0), self.decay)

    def _multiply(self, c: dict[str, int], phase: Phase, work: Work) -> None:
        scale, salt, regions = self._scale(c), c.get("salt", 0), self._segments
        tiles = [weight_matrices(r, scale, salt) for r in regions]
        run = forward if phase == Phase.FW else backward
        products, work.walk = run(self.cfg, c, regions, tiles, self._x, self._assignment, scale != 0)
        work.operand = lambda: [read_weights(r, scale, salt) for r in regions]
        self._acc = products if self._acc is None else self._acc + products

    def _drain(self, c: dict[str, int], phase: Phase, work: Work) -> None:
        """Partial sums (channels, positions, columns) -> mantissas in memory."""
        assert self._acc is not None
        channels, out = c["out_channels"], c["out_tensor"]
        acc = self._acc[:channels].astype(np.int64).transpose(1, 2, 0)
        self._acc = None
        if phase == Phase.FW and c.get("relu"):
            acc = np.maximum(acc, 0)
        if c.get("gate"):
            acc = np.where(self._gate[:, :, :channels], acc, 0)
        exponent = self.exponent[c["x_tensor"]] + self.settings.weight_exponent
        values, saturated = requantise(acc, self.exponent[out] - exponent, self.cfg.operand_bits)
        work.saturated = int(np.count_nonzero(saturated))
        largest = int(np.abs(acc).max()).bit_length()
        if largest:
            kind = Phase.BW if c.get("gradient") else phase
            before = self.peak.get(out, (-(1 << 15), kind))[0]
            self.peak[out] = (max(before, largest + exponent), kind)
        tile = np.zeros((c["positions"], self.cfg.columns, c["out_run"] * self.cfg.bus_elements), np.int64)
        tile[:, :, :channels] = values
        if c.get("ones"):
            tile[:, :, channels] = 1 << -self.exponent[out]
        self.memory.put_tile(c["out_addr"] + runs(c, "out"), tile)

    def _update(self, c: dict[str, int], work: Work) -> None:
        s = self.settings
        exponent = self.exponent[c["x_tensor"]] + self.exponent[c["aux_tensor"]] + s.learning_exponent
        region = self._segments[0]
        if not c.get("sum_add"):
            self._visited, self._gradient = wanted(self.cfg, region, self.step, s), np.zeros(1, np.int64)
        operands = self._x, self._aux, self._visited, self._assignment[0]
        dots, work.walk = gradient(self.cfg, c, region, *operands)
        self._gradient = self._gradient + dots
        if c.get("sum_store"):
            return
        shift = s.weight_exponent - self.cfg.operand_bits - exponent
        work.threshold = quantile.theta_from_log2(self.log2_theta, self.cfg.delta_bits)
        given = self._visited, self._gradient, self.step, s, shift, work.threshold
        result = weight_update(self.cfg, c, region, *given)
        work.kept, work.seen = result.kept, result.seen
        work.adopted, work.evicted, work.saturated = result.adopted, result.evicted, result.saturated
        if self.cfg.sparse:
            counts = work.kept, work.seen, s.keep, s.rate
            self.log2_theta = quantile.observe(self.log2_theta, *counts, self.cfg.delta_bits)
        if c.get("drain"):
            self.memory.put_region(self._store(c["out_addr"]), result.region)
            work.drained = lambda: result.region.value_beats().tolist()

    def _vector(self, c: dict[str, int], work: Work) -> None:
        s, given = self.settings, dict.fromkeys(VECTOR_FIELDS, 0) | c
        if not self.cfg.maps:
            raise ValueError("a vector command, but a build without maps has no vector stage")
        learning = s.learning | (s.learning_exponent & 0xFFFF) << 16
        work.outcome = outcome = vector.run(self._vectors, given, self.exponent, learning)
        if outcome.status:
            raise ValueError(f"vector command {given}: {outcome.status.name}")
        work.saturated = outcome.saturated
        if outcome.peak is not None:
            kind, out = Phase.BW if given["backward"] else Phase.FW, given["out_tensor"]
            before = self.peak.get(out, (-(1 << 15), kind))[0]
            self.peak[out] = (max(before, outcome.peak), kind)

    def _commit(self) -> None:
        for tensor, (peak, phase) in self.peak.items():
            self.exponent[tensor] = exponents.next_exponent(peak, phase, self.cfg.operand_bits)
        self.peak.clear()
        self.decay = regenerate.next_decay(self.decay, self.settings.factor)
        self.step += 1

    def _store(self, address: int) -> Store:
        item = self.memory.find(address)
        if not isinstance(item, Store) or item.address != address:
            raise ValueError(f"no region begins at beat {address}")
        return item


def check_magic(c: dict[str, int]) -> bool:
    """Whether a command carries the magic number."""
    return c.get("magic", MAGIC) == MAGIC
