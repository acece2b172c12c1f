"""Timing of the read port: in which cycle of a slot each beat is requested and answered.

In a slot five lists of runs are read in a fixed order (next command, headers, gathered operand, auxiliary operand,
weights). Before each run goes one cycle in which its address is set up; a list that is not there costs one cycle.
Requests follow each other every cycle, those of the stationary operand at the pace at which a beat can be written.
The memory answers after `latency` cycles. All cycles count from the slot's start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arch.command import WORDS, Phase
from arch.config import Config
from golden.memory import runs

KINDS = ("fetch", "plan", "x", "aux", "w")
FIRST = 1  # the walk begins in this cycle of the slot
SETUP = 1  # cycles before each run


@dataclass(frozen=True)
class Runs:
    """One list: the first beat and the number of beats of every run, cycles from beat to beat."""

    starts: list[int]
    lengths: list[int]
    interval: int = 1


@dataclass(frozen=True)
class Reads:
    """Everything read in one slot.

    Attributes:
        kind: of every beat (index into `KINDS`), in order.
        address: of every beat.
        request: cycle in which it is requested.
        response: cycle in which it is answered and taken.
        request_from: first cycle in which the request side is at each kind, and is over (6 entries).
        response_from: the same for the response side; kind k is done from response_from[k + 1] on.
    """

    kind: np.ndarray
    address: np.ndarray
    request: np.ndarray
    response: np.ndarray
    request_from: tuple[int, ...]
    response_from: tuple[int, ...]


def stationary_interval(cfg: Config) -> int:
    """Cycles from request to request of the stationary operand: a beat is written in so many pieces."""
    return cfg.bus_elements // cfg.stationary_pack


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
        beats = -(-WORDS // cfg.words_per_beat)
        out[0] = Runs([program + fetch * beats], [beats])
    if plan and plan.get("plan"):
        stride = plan.get("w_stride", 0)
        out[1] = Runs([plan["w_addr"] + g * stride for g in range(plan["segments"])],
                      [plan["header_beats"]] * plan["segments"])  # fmt: skip
    if load:
        if load.get("load_x"):
            out[2] = _tile(load, "x", 1)
        if load.get("load_aux") and load["phase"] != Phase.NOP:
            out[3] = _tile(load, "aux", stationary_interval(cfg) if load["phase"] == Phase.WU else 1)
        if load.get("load_w"):
            first = load["w_addr"] + load["header_beats"]
            segments = range(load["segment"], load["segment"] + load["load_segments"])
            starts = [first + g * load.get("w_stride", 0) + o for g, o in zip(segments, offsets, strict=True)]
            out[4] = Runs(starts, totals)
    return out


def _tile(c: dict[str, int], name: str, interval: int) -> Runs:
    starts = c[f"{name}_addr"] + runs(c, name)
    return Runs(starts.tolist(), [c[f"{name}_run"]] * len(starts), interval)


def schedule(wanted: list[Runs | None], latency: int) -> Reads:
    """When the beats of a slot are requested and answered."""
    asked, answered = FIRST, FIRST
    request_from, response_from = [asked], [answered]
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    for number, runs in enumerate(wanted):
        if runs is None or not runs.lengths:
            asked, answered = asked + 1, answered + 1
        else:
            for start, length in zip(runs.starts, runs.lengths, strict=True):
                asked += SETUP
                beat = np.arange(length)
                parts.append((number, start + beat, asked + beat * runs.interval))
                asked += length * runs.interval
                answered = asked - runs.interval + latency + 1 if length else answered + 1
        request_from.append(asked)
        response_from.append(answered)
    empty = [(0, np.zeros(0, np.int64), np.zeros(0, np.int64))]
    request = np.concatenate([p[2] for p in parts or empty])
    return Reads(
        np.concatenate([np.full(len(p[1]), p[0]) for p in parts or empty]),
        np.concatenate([p[1] for p in parts or empty]),
        request,
        request + latency,
        tuple(request_from),
        tuple(response_from),
    )
