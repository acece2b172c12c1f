"""What a row is loaded with in a slot, cycle by cycle, and the error it must report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from arch.command import Phase
from arch.config import Config
from tb.row_model import Cycle, Job


@dataclass
class Load:
    """The load buses of a slot, a cycle an element, and the error after each; no errors: weights are not loaded."""

    cycles: list[Cycle]
    errors: list[int] = field(default_factory=list)

    @property
    def exact(self) -> int:
        """Whether values are loaded as they are."""
        return max((c.get("load_exact", 0) for c in self.cycles), default=0)


def load(cfg: Config, rng: np.random.Generator, job: Job, row: int, gap: float, surplus: Sequence[Cycle] = ()) -> Load:
    """Beats, entries and taps of a job, each in order, any of them first; then `surplus`, which must not fit."""
    beats = [{**bus, "load_mine": mine(job, record, row)} for record, bus in job.beats()]
    entries = [{**bus, "entry_mine": int(job.owner[0][unit] == row)} for unit, bus in job.entries()]
    cycles = merged(rng, gap, beats, entries, job.tap_writes(rng))
    cycles += surplus
    return Load(cycles, errors(cfg, cycles))


def merged(rng: np.random.Generator, gap: float, *streams: list[Cycle]) -> list[Cycle]:
    """Streams side by side, each in order, with gaps."""
    left = [list(stream) for stream in streams if stream]
    cycles: list[Cycle] = []
    while any(left):
        cycles.append({n: v for s in left if s and rng.random() >= gap for n, v in s.pop(0).items()})
    return cycles


def interleaved(rng: np.random.Generator, *streams: list[Cycle]) -> list[Cycle]:
    """Streams in one, each in order, one element after the other."""
    turns = rng.permutation(np.repeat(np.arange(len(streams)), [len(stream) for stream in streams]))
    following = [iter(stream) for stream in streams]
    return [next(following[turn]) for turn in turns.tolist()]


def mine(job: Job, record: int, row: int) -> int:
    """Whether a record's beats are taken by a row: all of them in BW."""
    return int(job.phase == Phase.BW or job.owner[0][record] == row)


def errors(cfg: Config, cycles: list[Cycle]) -> list[int]:
    """load_error after each cycle, from the number of things loaded."""
    exact = any(c.get("load_exact", 0) for c in cycles)
    room = {"mask": cfg.mask_beats, "value": cfg.value_beats if exact else cfg.rounded_beats}
    words = cfg.rounded_beats * cfg.values_per_beat // cfg.mask_bits
    records = cfg.mask_beats if cfg.sparse else min(cfg.rounded_beats, words)
    room["entry"] = max(records, cfg.psum_depth // cfg.lane_group)
    error, result = 0, []
    for c in cycles:
        taken, is_value = c.get("load_valid", 0) and c.get("load_mine", 0), c.get("load_is_value", 0)
        wants = {"mask": taken and not is_value, "value": taken and is_value}
        first = wants["mask" if cfg.sparse else "value"] and c["load_first"]
        wants["entry"] = first or (c.get("entry_valid", 0) and c.get("entry_mine", 0))
        for kind in wants:
            if wants[kind]:
                room[kind] -= 1
                if room[kind] < 0 and not error:
                    error = 2 if kind == "value" or not cfg.sparse else 1
        result.append(error)
    return result
