"""How full the buffers of the array and the regions in memory get: what a program may not exceed.

The hardware refuses what does not fit (`arch.status.Status`); the golden machine has no buffers. The
host checks with this what the density it compiled for (`golden.layout.Tiling`) leaves room for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from arch.command import Phase
from arch.config import Config
from golden.csb import Region
from golden.machine import Work
from golden.memory import Memory, Store
from golden.waits import is_vector


@dataclass
class Fill:
    """Largest shares of what is there, 1 is full; above 1 the hardware stops with the status named.

    Attributes:
        values: value beats of a row's weight buffer (VALUE_OVERFLOW).
        masks: its mask beats (MASK_OVERFLOW).
        updates: value beats of a row's update buffer (UPDATE_OVERFLOW).
        store: beats of a region's place in memory (STORE_OVERFLOW).
        gradients: visits of a row whose gradients wait for another tile (SUM_OVERFLOW).
    """

    values: float = 0.0
    masks: float = 0.0
    updates: float = 0.0
    store: float = 0.0
    gradients: float = 0.0

    def __or__(self, other: Fill) -> Fill:
        """The larger of each."""
        return Fill(*(max(getattr(self, f.name), getattr(other, f.name)) for f in fields(Fill)))

    @property
    def worst(self) -> float:
        """The largest of all."""
        return max(getattr(self, f.name) for f in fields(Fill))


def value_room(cfg: Config, phase: Phase) -> int:
    """Value beats for which a bank of a row's weight buffer has room: in FW and BW they are rounded, half as wide."""
    return cfg.value_beats if phase == Phase.WU else cfg.rounded_beats


def fill(cfg: Config, works: list[Work], memory: Memory) -> Fill:
    """How full the commands of a program made the buffers, and their regions the memory.

    A row's weight buffer holds the records it owns in FW and WU, all records in BW; its update buffer
    what WU kept of its own. Every record begins with a fresh beat.

    Args:
        cfg: configuration.
        works: what the commands did, see `golden.machine.Machine.execute`.
        memory: memory in which they were executed.
    """
    worst = Fill()
    for work in works:
        c = work.command
        if is_vector(c):
            continue
        if c.get("load_w"):
            values, masks = _loaded(cfg, work)
            worst |= Fill(values / value_room(cfg, Phase(c["phase"])), masks / cfg.mask_beats)
        if (c.get("sum_add") or c.get("sum_store")) and work.walk is not None:
            visits = np.bincount(work.walk.word_row, work.walk.word_visits, cfg.rows)
            worst |= Fill(gradients=float(visits.max()) / cfg.gradients)
        if c["phase"] == Phase.WU and c.get("drain") and work.slots is not None:
            beats = np.bincount(work.slots[0][: len(work.drained)], work.drained, cfg.rows)
            worst |= Fill(updates=float(beats.max()) / cfg.value_beats)
            store = memory.find(c["out_addr"])
            assert isinstance(store, Store)
            used = store.region.geometry.header_beats + store.region.record_beats()
            worst |= Fill(store=used / store.limit)
    return worst


def _loaded(cfg: Config, work: Work) -> tuple[int, int]:
    """Value and mask beats of the fullest row."""
    regions: list[Region] = work.regions
    if work.command["phase"] == Phase.BW:
        return sum(int(r.value_beats().sum()) for r in regions), sum(
            r.geometry.records * r.geometry.mask_beats for r in regions
        )
    assert work.slots is not None
    values, masks = np.zeros(cfg.rows), np.zeros(cfg.rows)
    for region in regions:
        row = work.slots[0][: region.geometry.records]
        values += np.bincount(row, region.value_beats(), cfg.rows)
        masks += np.bincount(row, minlength=cfg.rows) * region.geometry.mask_beats
    return int(values.max()), int(masks.max())
