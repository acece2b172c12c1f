"""Timing of the read port: in which cycle of a slot each beat is requested and answered.

In a slot five lists of runs are read in a fixed order (next command, headers, gathered operand, auxiliary operand,
weights). Before each run goes one cycle in which its address is set up; a list that is not there costs one cycle.
Requests follow each other every cycle, those of the stationary operand at the pace at which a beat can be written.
The memory answers after `latency` cycles. All cycles count from the slot's start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arch.command import WORDS, Phase
from arch.config import Config
from golden.memory import runs
from golden.waits import is_vector

KINDS = ("fetch", "plan", "x", "aux", "w")
FIRST = 1  # the walk begins in this cycle of the slot
SETUP = 1  # cycles before each run


@dataclass(frozen=True)
class Runs:
    """One list: the first beat and the number of beats of every run (int64), cycles from beat to beat."""

    starts: np.ndarray
    lengths: np.ndarray
    interval: int = 1


@dataclass(frozen=True)
class Reads:
    """Everything read in one slot.

    Attributes:
        wanted: the lists, a list a kind or None.
        latency: of the memory.
        request_from: first cycle in which the request side is at each kind, and is over (6 entries).
        response_from: the same for the response side; kind k is done from response_from[k + 1] on.
    """

    wanted: list[Runs | None]
    latency: int
    request_from: tuple[int, ...]
    response_from: tuple[int, ...]

    @cached_property
    def kind(self) -> np.ndarray:
        """Of every beat (index into `KINDS`), in order."""
        return np.repeat(np.arange(len(KINDS)), [0 if r is None else int(r.lengths.sum()) for r in self.wanted])

    @cached_property
    def address(self) -> np.ndarray:
        """Of every beat."""
        return self._beats(lambda _, r, rank: np.repeat(r.starts, r.lengths) + rank)

    @cached_property
    def request(self) -> np.ndarray:
        """Cycle in which every beat is requested."""

        def when(first: int, r: Runs, rank: np.ndarray) -> np.ndarray:
            ends = np.cumsum(SETUP + r.lengths * r.interval)
            return first + np.repeat(ends - r.lengths * r.interval, r.lengths) + rank * r.interval

        return self._beats(when)

    @property
    def response(self) -> np.ndarray:
        """Cycle in which every beat is answered and taken."""
        return self.request + self.latency

    def _beats(self, make: Callable[[int, Runs, np.ndarray], np.ndarray]) -> np.ndarray:
        parts = [np.zeros(0, np.int64)]
        for first, r in zip(self.request_from[:-1], self.wanted, strict=True):
            if r is not None:
                rank = np.arange(r.lengths.sum()) - np.repeat(np.cumsum(r.lengths) - r.lengths, r.lengths)
                parts.append(make(first, r, rank))
        return np.concatenate(parts)


def stationary_interval(cfg: Config) -> int:
    """Cycles from request to request of the stationary operand: a beat is written in so many pieces."""
    return cfg.bus_elements // cfg.stationary_pack


def command_beats(cfg: Config) -> int:
    """Beats of a command."""
    return -(-WORDS // cfg.words_per_beat)


def lists(
    cfg: Config,
    program: int,
    fetch: int | None,
    plan: dict[str, int] | None,
    load: dict[str, int] | None,
    offsets: list[int],
    totals: list[int],
) -> list[Runs | None]:
    """What a slot reads, a list a kind or None.

    Args:
        cfg: configuration.
        program: first beat of the program.
        fetch: index of the command fetched, or None.
        plan: command whose headers are read, or None.
        load: command in the load stage, or None.
        offsets: for each segment that `load` loads, beats of records to skip.
        totals: likewise, beats to read.
    """
    out: list[Runs | None] = [None] * len(KINDS)
    if fetch is not None:
        beats = command_beats(cfg)
        out[0] = Runs(np.array([program + fetch * beats]), np.array([beats]))
    if plan and plan.get("plan"):
        stride = plan.get("w_stride", 0)
        starts = plan.get("w_addr", 0) + stride * np.arange(plan["segments"])
        out[1] = Runs(starts, np.full(len(starts), plan["header_beats"]))
    if load and not is_vector(load):
        if load.get("load_x"):
            out[2] = _tile(load, "x", 1)
        if load.get("load_aux") and load["phase"] != Phase.NOP:
            out[3] = _tile(load, "aux", stationary_interval(cfg) if load["phase"] == Phase.WU else 1)
        if load.get("load_w"):
            first = load["w_addr"] + load["header_beats"]
            segments = load["segment"] + np.arange(load["load_segments"])
            offset = np.asarray(offsets, np.int64)
            out[4] = Runs(first + segments * load.get("w_stride", 0) + offset, np.asarray(totals, np.int64))
    return out


def _tile(c: dict[str, int], name: str, interval: int) -> Runs:
    starts = c[f"{name}_addr"] + runs(c, name)
    return Runs(starts, np.full(len(starts), c[f"{name}_run"]), interval)


def schedule(wanted: list[Runs | None], latency: int) -> Reads:
    """When the beats of a slot are requested and answered."""
    asked, answered = FIRST, FIRST
    request_from, response_from = [asked], [answered]
    for listed in wanted:
        if listed is None or not len(listed.lengths):
            asked, answered = asked + 1, answered + 1
        else:
            asked += SETUP * len(listed.lengths) + int(listed.lengths.sum()) * listed.interval
            full = np.flatnonzero(listed.lengths)
            if len(full):  # behind its last beat, the empty runs that follow cost a cycle each on either side
                empty = len(listed.lengths) - 1 - int(full[-1])
                answered = asked - SETUP * empty - listed.interval + latency + 1 + empty
            else:
                answered += len(listed.lengths)
        request_from.append(asked)
        response_from.append(answered)
    return Reads(wanted, latency, tuple(request_from), tuple(response_from))
