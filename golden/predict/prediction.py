"""What a training step of a network costs, from its masks alone: cycles, load and traffic by phase and by layer.

The step is one between two others in steady state: initial weights have vanished, the masks stay as they are. Nothing
is estimated: commands, works and schedule are those of the golden machine (tests hold `Forecast` against it).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from arch.command import Phase, Policy
from arch.config import Config
from arch.status import Status
from arch.vector import FIELDS as VECTOR_FIELDS
from arch.vector import Op
from golden import timing
from golden.layout import Tiling
from golden.machine import Work
from golden.measure import PHASES, Cost
from golden.networks.fusion import operations
from golden.networks.graph import Graph
from golden.predict.forecast import BUFFERS, Forecast
from golden.predict.masks import Masks
from golden.predict.network import Addresses, CountedNetwork
from golden.predict.traffic import Traffic, traffic
from golden.trainer import weight_exponent
from golden.vector.stage import check
from golden.waits import is_vector

ARRAY_PHASES = PHASES[:3]
MARGIN = 1.05  # buffers are filled to 1 / MARGIN of the mean at first
LARGER = 1.08  # ... and to as much less wherever a row would not have had room
TRIES = 12


@dataclass
class Load:
    """What a layer costs in a phase.

    Attributes:
        cycles: of the slots in which one of its commands is what takes longest.
        computing: of the slots in which one of its commands computes.
        busy: row-cycles with an operation.
        slowest, mean: cycles of the slowest row and of the mean row, all working sets together.
        moved: beats.
        commands: working sets.
        bound: cycles by the stage that took longest.
    """

    cycles: int = 0
    computing: int = 0
    busy: int = 0
    slowest: int = 0
    mean: float = 0.0
    moved: Traffic = field(default_factory=Traffic)
    commands: int = 0
    bound: dict[str, int] = field(default_factory=dict)

    @property
    def imbalance(self) -> float:
        """Share by which the slowest row exceeds the mean."""
        return self.slowest / self.mean - 1 if self.mean else 0.0

    def utilisation(self, rows: int) -> float:
        """Share of the multiplier-cycles, while it computes, in which a product is wanted."""
        return self.busy / (rows * self.computing) if self.computing else 0.0


@dataclass
class Prediction:
    """A step.

    Attributes:
        cfg: configuration.
        network: as it was laid out.
        cost: cycles by phase; utilisation.
        layers: by name of the layer's node, by phase.
        vector: cycles of vector commands by operation.
        moved: beats of the whole step, by phase.
        fill: how full the rows' buffers get, by buffer.
        commands: of the program.
        works: what its commands did.
    """

    cfg: Config
    network: CountedNetwork
    cost: Cost
    layers: dict[str, dict[str, Load]]
    vector: dict[str, int]
    moved: dict[str, Traffic]
    fill: dict[str, float]
    commands: int
    works: list[Work] = field(default_factory=list)

    @property
    def array_cycles(self) -> float:
        """Cycles without those of vector commands."""
        return sum(self.cost.cycles[phase] for phase in ARRAY_PHASES)

    @property
    def array_utilisation(self) -> float:
        """Utilisation in these."""
        return self.cost.busy / (self.cfg.rows * self.array_cycles)


def predict(
    cfg: Config, graph: Graph, batch: int, latency: int, masks: Masks | None = None, period: int = 1
) -> Prediction:
    """A training step.

    Args:
        cfg: configuration; a dense build trains densely, with `masks` None.
        graph: network.
        batch: minibatch.
        latency: of the memory, cycles.
        masks: stored weights by layer.
        period: T of exploration.

    Raises:
        ValueError: a network or batch the array has no room for; names layer and bound.
    """
    margins = dict.fromkeys((o.layer.name for o in operations(graph) if o.layer is not None), MARGIN)
    for _ in range(TRIES):
        network = _lay_out(cfg, graph, batch, masks, period, margins)
        before, program = network.steady_step()
        machine = Forecast(cfg, network.stores_by_address)
        machine.execute(before)
        works = machine.execute(program)
        _check_vector(cfg, works)
        owners = _owners(network)
        full: dict[str, float] = {}
        for address, fill in machine.fill.items():
            if (most := max(fill.values())) > 1:
                full[owners[address]] = max(most, full.get(owners[address], LARGER))
        if not full:
            return _summed(network, works, latency, machine.fill)
        margins |= {name: margins[name] * most for name, most in full.items()}
    worst = {name: max(fill[name] for fill in machine.fill.values()) for name in BUFFERS}
    name, share = max(worst.items(), key=lambda item: item[1])
    raise ValueError(
        f"layer {min(full)!r}: the fullest row needs {share:.2f} times the room of its buffer for {name}, however the"
        " layer is cut: the masks are too uneven for this array"
    )


def _lay_out(
    cfg: Config, graph: Graph, batch: int, masks: Masks | None, period: int, margins: dict[str, float]
) -> CountedNetwork:
    """The network in memory; every layer is cut for the weights that it has."""
    fan_ins = [layer.weights // layer.output.channels for layer in graph.weight_layers()]
    exponent = weight_exponent(fan_ins, cfg.operand_bits)
    if masks is None:
        policy = Policy.LPT if cfg.sparse else Policy.NONE
        tiling, tilings = Tiling(1.0, policy, 1.0, explored=0.0), {}
    else:
        tiling = Tiling(explored=1 / period)
        tilings = {
            name: replace(tiling, density=min(max(float(f"{mask.density:.2g}"), 1e-4), 0.9999), margin=margins[name])
            for name, mask in masks.items()
        }
    sizes: Any = graph
    return CountedNetwork(
        cfg,
        sizes,
        batch,
        Addresses(cfg),
        tiling=tiling,
        weight_exponent=exponent,
        dense=masks is None,
        tilings=tilings,
        masks=masks,
        period=period,
    )


def _check_vector(cfg: Config, works: list[Work]) -> None:
    """Refuse what the vector stage would."""
    for work in works:
        given = dict.fromkeys(VECTOR_FIELDS, 0) | work.command
        if is_vector(work.command) and (status := check(cfg, given)) != Status.OK:
            raise ValueError(
                f"the vector stage refuses {Op(given['op']).name} of {given['channels']} channels and"
                f" {given['batches']} x {given['positions']} positions: {status.name}"
            )


def _owners(network: CountedNetwork) -> dict[int, str]:
    """Layers by the addresses of their regions."""
    return {
        store.address: name
        for layer, name in zip(network.layers, network.layer_names, strict=True)
        for side in layer.stores
        for row in side
        for store in row
    }


def _summed(network: CountedNetwork, works: list[Work], latency: int, fill: dict[int, dict[str, float]]) -> Prediction:
    cfg, owners = network.cfg, _owners(network)
    layers = {name: {phase: Load() for phase in ARRAY_PHASES} for name in network.layer_names}
    cycles, vector, moved = (
        dict.fromkeys(PHASES, 0.0),
        {op.name.lower(): 0 for op in Op},
        {p: Traffic() for p in PHASES},
    )

    def load_of(c: dict[str, int]) -> Load:
        return layers[owners[c["w_addr"]]][timing.phase_of(c)]

    for slot in timing.schedule(cfg, works, latency).slots:  # booked as in `golden.timing.phase_cycles`
        slowest, computes = int(np.argmax(slot.lasts)), slot.stages[timing.STAGES.index("compute")]
        if computes is not None and works[computes].walk is not None:
            load_of(works[computes].command).computing += slot.length
        index = slot.stages[slowest]
        c = {"phase": int(Phase.NOP)} if index is None else works[index].command
        cycles[timing.phase_of(c)] += slot.length
        if is_vector(c):
            vector[Op(c["op"]).name.lower()] += slot.length
        elif timing.phase_of(c) in ARRAY_PHASES:
            load, stage = load_of(c), timing.STAGES[slowest]
            load.cycles += slot.length
            load.bound[stage] = load.bound.get(stage, 0) + slot.length
    for work in works:
        phase, beats = timing.phase_of(work.command), traffic(cfg, work)
        moved[phase] += beats
        if phase not in ARRAY_PHASES:
            continue
        load = load_of(work.command)
        load.moved += beats
        load.commands += 1
        if work.walk is not None:
            load.busy += work.walk.busy
            load.slowest += int(work.walk.row_cycles.max())
            load.mean += float(work.walk.row_cycles.mean())
    busy = sum(load.busy for phases in layers.values() for load in phases.values())
    worst = {name: max(each[name] for each in fill.values()) for name in BUFFERS}
    return Prediction(cfg, network, Cost(cycles, busy, cfg.rows), layers, vector, moved, worst, len(works), works)
