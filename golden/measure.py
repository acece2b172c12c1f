"""What a training step costs, and how evenly its work lies on the rows: figures for reports, from the golden model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arch.command import Policy
from arch.config import Config
from golden import timing
from golden.balancer import balance
from golden.machine import Work
from golden.program import Network

PHASES = ("fw", "bw", "wu", "vector", "other")


@dataclass(frozen=True)
class Cost:
    """Cycles of a step by phase, and row-cycles in which multipliers work.

    Attributes:
        cycles: by phase; every cycle from a start command to the end of its program is in one of them.
        busy: row-cycles with an operation.
        rows: rows of the array.
    """

    cycles: dict[str, float]
    busy: float
    rows: int

    @property
    def total(self) -> float:
        """Cycles of the step."""
        return sum(self.cycles.values())

    @property
    def utilisation(self) -> float:
        """Share of the multiplier-cycles in which a product is wanted."""
        return self.busy / (self.rows * self.total)


def step_cost(cfg: Config, programs: Sequence[list[Work]], latency: int) -> Cost:
    """Cost of the programs of one step."""
    cycles = dict.fromkeys(PHASES, 0.0)
    busy = 0
    for works in filter(None, programs):
        for phase, count in timing.phase_cycles(works, timing.schedule(cfg, works, latency)).items():
            cycles[phase] += count
        busy += sum(work.walk.busy for work in works if work.walk is not None)
    return Cost(cycles, busy, cfg.rows)


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """Mean of several steps."""
    cycles = {phase: float(np.mean([c.cycles[phase] for c in costs])) for phase in PHASES}
    return Cost(cycles, float(np.mean([c.busy for c in costs])), costs[0].rows)


def row_loads(network: Network, generation: int, layer: int, policy: Policy) -> np.ndarray:
    """Forward work of a layer as a policy shares it out: nonzeros by working set and row, int64 (sets, rows)."""
    loads = []
    for row in network.layers[layer].stores[generation]:
        counts = np.sum([store.region.nnz_per_record() for store in row], axis=0)
        where = balance(counts, network.cfg.rows, 2 * len(counts), policy)[0]
        loads.append(np.bincount(where, counts, network.cfg.rows).astype(np.int64))
    return np.array(loads)


def imbalance(loads: np.ndarray) -> float:
    """Share by which the fullest rows of all working sets exceed the mean: sum of maxima / sum of means - 1."""
    mean = loads.mean(axis=1).sum()
    return float(loads.max(axis=1).sum() / mean - 1) if mean else 0.0


def layer_utilisation(network: Network, programs: Sequence[list[Work]], latency: int, layer: int) -> dict[str, float]:
    """Share of the multiplier-cycles that are busy in the slots in which a layer computes, by phase."""
    addresses = {store.address for side in network.layers[layer].stores for row in side for store in row}
    busy, cycles = dict.fromkeys(PHASES[:3], 0), dict.fromkeys(PHASES[:3], 0)
    for works in programs:
        for slot in timing.schedule(network.cfg, works, latency).slots:
            index = slot.stages[timing.STAGES.index("compute")]
            work = None if index is None else works[index]
            if work is not None and work.walk is not None and work.command["w_addr"] in addresses:
                phase = PHASES[work.command["phase"]]
                busy[phase] += work.walk.busy
                cycles[phase] += slot.length
    return {phase: busy[phase] / (network.cfg.rows * count) for phase, count in cycles.items() if count}
