"""Roofline of the array: products a cycle against products a byte read, of every layer and phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arch.config import Config
from golden import timing
from golden.machine import Work
from golden.predict.traffic import traffic


@dataclass
class Point:
    """A layer in a phase.

    Attributes:
        layer, phase: which.
        macs: products.
        bytes: read from memory for it, its commands included.
        cycles: of the slots in which it computes, or in which one of its commands is what takes longest.
    """

    layer: str
    phase: str
    macs: int = 0
    bytes: int = 0
    cycles: int = 0

    @property
    def intensity(self) -> float:
        """Products a byte read."""
        return self.macs / self.bytes if self.bytes else 0.0

    @property
    def speed(self) -> float:
        """Products a cycle."""
        return self.macs / self.cycles if self.cycles else 0.0


def peak(cfg: Config) -> int:
    """Products a cycle, at most."""
    return cfg.rows * cfg.columns


def bandwidth(cfg: Config) -> int:
    """Bytes read a cycle, at most: a beat."""
    return cfg.beat_bits // 8


def points(cfg: Config, programs: Sequence[list[Work]], owners: Mapping[int, str], latency: int) -> list[Point]:
    """Every layer and phase with products.

    Args:
        cfg: configuration.
        programs: works of a step.
        owners: layers by the addresses of their regions.
        latency: of the memory.
    """
    found: dict[tuple[str, str], Point] = {}

    def of(work: Work) -> Point | None:
        if "w_addr" not in work.command or work.command["w_addr"] not in owners:
            return None
        key = owners[work.command["w_addr"]], timing.phase_of(work.command)
        return found.setdefault(key, Point(*key))

    for works in filter(None, programs):
        for work in works:
            if (point := of(work)) is not None:
                point.bytes += traffic(cfg, work).read * cfg.beat_bits // 8
                point.macs += work.walk.busy * cfg.columns if work.walk is not None else 0
        for slot in timing.schedule(cfg, works, latency).slots:
            computes, slowest = slot.stages[timing.STAGES.index("compute")], slot.stages[int(np.argmax(slot.lasts))]
            taken = {id(p): p for i in (computes, slowest) if i is not None and (p := of(works[i])) is not None}
            for point in taken.values():
                point.cycles += slot.length
    return [point for point in found.values() if point.macs]
