"""A machine that only tells the time: executes a program's commands on counted regions.

What `golden.machine.Work` tells the timing law is computed from the counts alone, by the rules of
`golden.walk` applied to whole arrays of words; tests hold the two against each other, command by command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from arch.command import Phase, Policy
from arch.config import Config
from golden.balancer import balance
from golden.boxes import boxes
from golden.capacity import value_room
from golden.csb import merged
from golden.machine import POLICIES, Work
from golden.predict.counted import CountedRegion
from golden.waits import is_vector
from golden.walk import looked_ahead

BUFFERS = ("values", "masks", "updates", "gradients")
"""What a row has: value and mask beats of its weight buffer, value beats of its update buffer, gradients."""


@dataclass
class CountedWalk:
    """Row lists, counted. Attributes as in `golden.walk.Walk`; `stored` are the visits of weights that are stored."""

    row_cycles: np.ndarray
    busy: int
    scan: int
    words: int
    visits: int
    stored: int


Known = tuple[np.ndarray, int, int, int]
"""Cycles of records or of rows; operations; words read; visits."""


class Forecast:
    """Executes commands; see the module docstring.

    Args:
        cfg: configuration.
        stores: regions by address.

    Attributes:
        fill: by the address of a command's first region: how full its rows' buffers were at most, by buffer
            (`BUFFERS`); above 1 the hardware refuses the program.
    """

    def __init__(self, cfg: Config, stores: dict[int, CountedRegion]) -> None:
        """No plan, nothing loaded."""
        self.cfg, self.stores = cfg, stores
        self._planned: list[CountedRegion] = []
        self._segments: list[CountedRegion] = []
        self._range = (0, 0)
        self._rows = np.zeros(0, np.int64)
        self._known: dict[tuple, Known] = {}
        self.fill: dict[int, dict[str, float]] = {}

    def execute(self, program: list[dict[str, int]]) -> list[Work]:
        """What every command tells the timing law."""
        return [self._command(c) for c in program]

    def _command(self, c: dict[str, int]) -> Work:
        work = Work(c)
        if is_vector(c):
            return work
        phase = Phase(c["phase"])
        if c.get("plan"):
            self._plan(c, phase, work)
        if c.get("load_w"):
            first = c.get("segment", 0)
            self._segments = self._planned[first : first + c["load_segments"]]
            self._range = c["record0"], c["records"]
            work.offsets = [s.beats(0, c["record0"]) for s in self._segments]
            work.totals = [s.beats(*self._range) for s in self._segments]
            self._loaded(c, phase)
        if c.get("ahead") or phase == Phase.NOP:
            return work
        if phase == Phase.BW:
            work.walk = self._backward(c)  # type: ignore[assignment]  # a Walk in what the law reads
        else:
            work.walk = self._records(c, phase)  # type: ignore[assignment]
        if phase == Phase.WU and not c.get("sum_store"):  # the steady state: what is stored stays stored
            region = self._segments[0]
            work.seen, work.kept = int(region.seen.sum()), int(region.words.sum())
        if phase == Phase.WU and c.get("drain"):
            work.drained = self._segments[0].value_beats().tolist()  # as many as before: the steady state
            self._filled(c, "updates", self._by_row(work.drained), self.cfg.value_beats)
        if c.get("sum_store"):
            self._filled(c, "gradients", self._by_row(self._segments[0].seen.sum(1)), self.cfg.gradients)
        return work

    def _by_row(self, numbers: ArrayLike) -> np.ndarray:
        """Numbers of the records loaded, summed by the row that holds them."""
        numbers = np.asarray(numbers)
        return np.bincount(self._rows[: len(numbers)], numbers, self.cfg.rows)

    def _filled(self, c: dict[str, int], buffer: str, rows: np.ndarray, room: int) -> None:
        known = self.fill.setdefault(c["w_addr"], dict.fromkeys(BUFFERS, 0.0))
        known[buffer] = max(known[buffer], float(rows.max()) / room)

    def _loaded(self, c: dict[str, int], phase: Phase) -> None:
        """What the weight buffers hold: in FW and WU a row has its own records, in BW every row has all."""
        first, count = self._range
        values = np.sum([s.value_beats()[first : first + count] for s in self._segments], axis=0)
        masks = np.full(count, sum(s.geometry.mask_beats for s in self._segments))
        rooms = value_room(self.cfg, phase), self.cfg.mask_beats
        for name, beats, room in zip(("values", "masks"), (values, masks), rooms, strict=True):
            self._filled(c, name, beats.sum(keepdims=True) if phase == Phase.BW else self._by_row(beats), room)

    def _plan(self, c: dict[str, int], phase: Phase, work: Work) -> None:
        self._planned = [self.stores[c["w_addr"] + g * c.get("w_stride", 0)] for g in range(c["segments"])]
        if c.get("keep"):
            return
        if phase == Phase.WU:
            counts = np.sum([r.cycles_next for r in self._planned], axis=0)
        elif phase == Phase.BW:
            counts = merged(np.concatenate([r.nnz_per_group() for r in self._planned]), c)
        else:
            counts = np.sum([r.nnz_per_record() for r in self._planned], axis=0)[c["record0"] :]
        counts = np.minimum(counts[: c["units"]], 0xFFFF)
        self._rows = balance(counts, self.cfg.rows, c["cap"], POLICIES[Policy(c.get("policy", 0))])[0]
        work.row_visits = np.bincount(self._rows, counts, self.cfg.rows).astype(np.int64)

    def _once(self, key: tuple, make: Callable[[], Known]) -> Known:
        """What is known of records or units: tiles inside a map are all alike."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _records(self, c: dict[str, int], phase: Phase) -> CountedWalk:
        """FW and WU: cycles of every record, summed by row."""
        positions = boxes(c).counts
        first, count = self._range
        total, busy, words, visits, stored = np.zeros(self.cfg.rows, np.int64), 0, 0, 0, 0
        for region in self._segments:
            key = (id(region), phase, first, count, positions.tobytes())
            cycles, operations, read, visited = self._once(
                key,
                lambda r=region: self._record_cycles(r, phase, first, count, positions),  # type: ignore[misc]
            )
            total += np.bincount(self._rows[:count], cycles, self.cfg.rows).astype(np.int64)
            busy, words, visits = busy + operations, words + read, visits + visited
            stored += int(region.words[first : first + count].sum()) if phase == Phase.WU else visited
        return CountedWalk(total, busy, int(total.sum()) - busy, words, visits, stored)

    def _record_cycles(
        self, region: CountedRegion, phase: Phase, first: int, count: int, positions: np.ndarray
    ) -> Known:
        cfg, g = self.cfg, region.geometry
        each = np.repeat(positions, g.blocks)  # positions of every word
        update = phase == Phase.WU
        counts = (region.seen if update else region.words)[first : first + count].astype(np.int64)
        busy = int((counts * each).sum())
        visits = int(counts.sum() if update else counts[:, each > 0].sum())
        cycles = np.maximum(counts * (np.maximum(each, 1) if update else each), 1)
        if update or not cfg.sparse:
            return cycles.sum(1), busy, cycles.size, visits
        cycles = np.where(counts > 0, cycles, 0)
        beats = np.zeros((count, g.mask_beats * cfg.masks_per_beat), np.int64)
        beats[:, : g.words] = cycles
        taken = beats.reshape(count, g.mask_beats, -1).sum(2)
        read = int(np.count_nonzero(cycles) + np.count_nonzero(taken == 0))
        return np.maximum(taken, 1).sum(1), busy, read, visits

    def _backward(self, c: dict[str, int]) -> CountedWalk:
        positions = boxes(c).counts
        first, count = self._range
        regions, rows = self._segments, self._rows

        def make() -> Known:
            parts, visits = [], 0
            for region in regions:
                counts = merged(region.groups[first : first + count].astype(np.int64), c)
                visits += int(counts[:, positions > 0, : len(rows)].sum())
                parts.append((counts * positions[None, :, None]).reshape(-1, counts.shape[2]).T)
            words = np.concatenate(parts)[: len(rows)]
            row, cycles = np.repeat(rows, words.shape[1]), words.ravel()
            taken = looked_ahead(row, cycles) if self.cfg.sparse else np.maximum(cycles, 1)
            return np.bincount(row, taken, self.cfg.rows).astype(np.int64), int(words.sum()), words.size, visits

        key = (tuple(map(id, regions)), Phase.BW, first, count, positions.tobytes(), rows.tobytes())
        total, busy, read, visits = self._once(key, make)
        return CountedWalk(total, busy, int(total.sum()) - busy, read, visits, visits)
