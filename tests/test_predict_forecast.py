"""The forecast against the golden machine: whole training steps of graphs, command by command, for the same masks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from arch.command import Policy
from arch.config import PRESETS, Config
from golden import quantile, timing
from golden.capacity import fill
from golden.graph_network import GraphNetwork
from golden.graph_trainer import GraphTrainer
from golden.layout import Layer, Tiling
from golden.machine import Work
from golden.networks import Builder, Graph
from golden.predict.forecast import BUFFERS, Forecast
from golden.predict.masks import LayerMask, Masks, total
from golden.predict.network import Addresses, CountedNetwork
from golden.waits import is_vector
from scripts.options import LATENCY

TINY = PRESETS["tiny"].with_(gather_depth=512, value_beats=256, gradients=1024)
SMALL = PRESETS["small"].with_(value_beats=128)
NARROW = TINY.with_(operand_bits=8, bus_elements=4, block_k=1, lane_group=4)
SETTLED = 8  # decay: the regenerated weights vanish within so many steps


def plain() -> Graph:
    net = Builder("plain", (2, 7, 6))
    net.conv(9, 5, padding=2)
    net.relu()
    net.max_pool(2)
    net.conv(6, 3)
    net.relu()
    net.flatten()
    net.linear(11)
    net.relu()
    net.linear(5)
    return net.graph()


def residual() -> Graph:
    net = Builder("residual", (3, 8, 8))
    net.conv(8, 3, padding=1, bias=False)
    net.batch_norm()
    start = net.relu()
    net.conv(8, 3, padding=1, bias=False)
    way = net.batch_norm()
    net.add(way, start)
    start = net.relu()
    net.conv(12, 3, stride=2, padding=1, bias=False)
    net.batch_norm()
    net.relu()
    net.conv(12, 3, padding=1, bias=False)
    way = net.batch_norm()
    net.conv(12, 1, stride=2, bias=False, x=start)
    net.add(net.batch_norm(), way)
    net.relu()
    net.global_avg_pool()
    net.linear(4)
    return net.graph()


def depthwise() -> Graph:
    net = Builder("depthwise", (3, 8, 8))
    net.conv(10, 1, bias=False)
    net.batch_norm()
    net.relu6()
    for stride in (2, 1):
        net.depthwise(3, stride=stride, padding=1, bias=False)
        net.batch_norm()
        net.relu6()
    net.conv(6, 1, bias=False)
    net.batch_norm()
    net.global_avg_pool()
    net.linear(4)
    return net.graph()


def concatenated() -> Graph:
    net = Builder("concatenated", (3, 6, 6))
    start = net.conv(8, 3, padding=1, bias=False)
    other = net.conv(8, 3, padding=1, bias=False, x=start)
    net.concat(start, other)
    net.batch_norm()
    net.relu()
    net.conv(8, 1, bias=False)
    net.avg_pool(2)
    net.conv(4, 3, bias=False)
    net.relu()
    net.flatten()
    net.linear(5)
    return net.graph()


class Uneven(GraphTrainer):
    """Every second layer is cut as if it had half of its weights."""

    def _network(self, *given: Any) -> GraphNetwork:
        graph, tiling = given[1], given[5]
        names = [layer.name for layer in graph.weight_layers()][::2]
        return GraphNetwork(*given, tilings={name: replace(tiling, density=0.5, margin=1.0) for name in names})


def void() -> Graph:
    """Filters of which most taps meet padding alone."""
    net = Builder("void", (2, 2, 2))
    net.conv(10, 5, padding=2)
    net.relu()
    net.conv(8, 5, padding=2)
    net.relu()
    net.global_avg_pool()
    net.linear(4)
    return net.graph()


GRAPHS = {make.__name__: make for make in (plain, residual, depthwise, concatenated, void)}


def masks_of(layer: Layer, generation: int) -> np.ndarray:
    """Stored weights of a layer on the machine, bool (outputs, channels, taps)."""
    shape = layer.shape
    mask = np.zeros((shape.outputs, shape.channels, shape.taps), bool)
    for row in layer.stores[generation]:
        for store in row:
            g = store.region.geometry
            stored = np.zeros(g.positions, bool)
            stored[store.region.stored] = True
            part = g.to_matrices(stored).transpose(1, 2, 0)
            mask[g.k0 : g.k_end, g.c0 : g.c_end] = part[: g.k_end - g.k0, : g.c_end - g.c0]
    return mask


def threshold(trainer: GraphTrainer, tracked: int) -> float:
    """Between the updates of the `tracked` weights that moved most and the others."""
    regions = [
        store.region for layer in trainer.network.layers for row in layer.stores[trainer.generation] for store in row
    ]
    moved = np.sort(np.abs(np.concatenate([region.delta for region in regions])))
    return max(2.0, float(moved[-min(tracked, len(moved) - 1)]))


@cache
def trained(
    name: str, cfg: Config, batch: int, period: int, budget: float | None
) -> tuple[GraphTrainer, list[Work], Masks, int]:
    """A trainer whose masks have come to rest; the works of its last step, its masks, and that step's number."""
    graph = GRAPHS[name]()
    tiling = Tiling(density=1.0, explored=1 / period, policy=Policy.LPT if cfg.sparse else Policy.NONE)
    tracked = None if budget is None else round(budget * graph.weights())
    trainer = (Uneven if period == 2 else GraphTrainer)(
        cfg, graph, batch, budget=tracked, period=period, decay=0.05, tiling=tiling, memory_beats=1 << 17
    )
    rng = np.random.default_rng(3)
    source = graph.shape(graph.input.name)
    features = source.channels * source.height * source.width
    classes = graph.shape(graph.output.name).channels

    def batch_of() -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(0, 1 << cfg.operand_bits - 2, (batch, features)).astype(np.int32)
        return x, rng.integers(0, classes, batch)

    x, y = batch_of()
    for step in range(SETTLED + 5):
        if step == SETTLED and tracked:  # from here on no weight moves; the smallest are evicted, then none
            trainer.settings.learning, trainer.settings.keep = 0, (1 << 16) - 1
            trainer.machine.log2_theta = quantile.log2_from_theta(threshold(trainer, tracked), cfg.delta_bits)
        if step == SETTLED + 1:
            trainer.machine.log2_theta = 0
        following = batch_of()
        before = trainer.machine.step
        works = trainer.step(x, y, following[0]).backward
        x, y = following
    assert not trainer.dense_visits
    whole, again = ([masks_of(layer, g) for layer in trainer.network.layers] for g in range(2))
    assert all(map(np.array_equal, whole, again))
    masks = {}
    for layer, mask, key in zip(trainer.network.layers, whole, trainer.network.layer_names, strict=True):
        shape = layer.shape
        bias = mask[:, -1, max(shape.bias_tap, 0)] & shape.bias
        weights = mask[:, : shape.channels - shape.bias]
        masks[key] = LayerMask(weights, bias)
    return trainer, works, masks, before


def forecast(trainer: GraphTrainer, masks: Masks, step: int) -> tuple[list[Work], Forecast]:
    """The works of a step, from masks, and who made them."""
    network = trainer.network
    dense = trainer.settings.dense
    counted = CountedNetwork(
        trainer.cfg,
        network.graph,
        trainer.batch,
        Addresses(trainer.cfg),
        1,
        network.tiling,
        trainer.settings.weight_exponent,
        dense,
        tilings=network.tilings,
        masks=None if dense else masks,
        period=trainer.period,
        step=step,
    )
    assert trainer.generation == 1  # the last step read generation 0
    before, program = counted.steady_step()
    machine = Forecast(trainer.cfg, counted.stores_by_address)
    machine.execute(before)
    return machine.execute(program), machine


def check_fill(trainer: GraphTrainer, works: list[Work], machine: Forecast) -> None:
    """How full the buffers get, as the golden model's own measure says, and the visits of the gradients stored."""
    cfg, array = trainer.cfg, [work for work in works if not is_vector(work.command)]
    wanted = fill(cfg, array, trainer.memory)
    stored = [work.walk for work in array if work.command.get("sum_store")]
    rows = [np.bincount(walk.word_row, walk.word_visits, cfg.rows).max() for walk in stored if walk is not None]
    found = {name: max(each[name] for each in machine.fill.values()) for name in BUFFERS}
    assert found == {
        "values": wanted.values,
        "masks": wanted.masks,
        "updates": wanted.updates,
        "gradients": max(rows, default=0) / cfg.gradients,
    }


CASES = [
    (name, cfg, batch, period, budget)
    for name in GRAPHS
    for cfg, batch, period, budget in (
        (TINY, 5, 1, 0.3),
        (TINY, 8, 4, 0.2),
        (SMALL, 9, 4, 0.4),
        (NARROW, 4, 2, 0.5),
        (TINY, 8, 1, None),
        (replace(TINY, sparse=False), 8, 1, None),
    )
]


@pytest.mark.parametrize(("name", "cfg", "batch", "period", "budget"), CASES)
def test_forecast_is_the_machine(name: str, cfg: Config, batch: int, period: int, budget: float | None) -> None:
    trainer, works, masks, step = trained(name, cfg, batch, period, budget)
    counted, machine = forecast(trainer, masks, step)
    assert len(counted) == len(works)
    if budget is not None:
        assert 0.02 < total(masks) / trainer.network.total < 0.98
    for wanted, found in zip(works, counted, strict=True):
        assert found.command == wanted.command
        assert (found.offsets, found.totals, found.drained) == (wanted.offsets, wanted.totals, wanted.drained)
        assert (found.walk is None) == (wanted.walk is None)
        if wanted.walk is not None:
            assert np.array_equal(found.walk.row_cycles, wanted.walk.row_cycles)
            assert (found.walk.busy, found.walk.scan) == (wanted.walk.busy, wanted.walk.scan)
        if wanted.row_visits is None:
            assert found.row_visits is None
        else:
            assert np.array_equal(found.row_visits, wanted.row_visits)
    check_fill(trainer, works, machine)
    schedules = [timing.schedule(cfg, w, LATENCY) for w in (works, counted)]
    slots = [[(s.start, s.stages, s.lasts, s.commit, s.length) for s in schedule.slots] for schedule in schedules]
    assert slots[0] == slots[1]
    assert schedules[0].cycles == schedules[1].cycles
