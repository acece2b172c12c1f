"""Report of the predictor: one dictionary, with the keys of the main job's report where both say the same."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

import numpy as np

from arch.command import Policy
from golden import measure
from golden.predict.masks import Masks, total
from golden.predict.prediction import ARRAY_PHASES, Load, Prediction
from golden.predict.storage import buffer_bits
from golden.predict.traffic import Traffic

Report = dict[str, Any]


def build(options: argparse.Namespace, masks: Masks, dense: Prediction, sparse: Prediction, seconds: float) -> Report:
    """The report.

    Args:
        options: of the command line.
        masks: of the sparse network.
        dense: step of the dense build.
        sparse: step of the sparse one.
        seconds: that both took to predict.
    """
    both = {"dense": dense, "sparse": sparse}
    tracked = total(masks)
    network = sparse.network
    return {
        "config": {name: getattr(options, name) for name in ("net", "masks", "array", "batch", "explore", "seed")}
        | {"out": str(options.out)},
        "weights": {
            "total": network.total,
            "tracked": tracked,
            "factor": network.total / tracked if tracked else None,
        },
        "cycles": {mode: {**p.cost.cycles, "total": p.cost.total} for mode, p in both.items()},
        "speedup": dense.cost.total / sparse.cost.total,
        "utilisation": {mode: p.cost.utilisation for mode, p in both.items()},
        "imbalance": {policy.name.lower(): _imbalance(sparse, policy) for policy in Policy},
        "array": {
            "cycles": {mode: p.array_cycles for mode, p in both.items()},
            "speedup": dense.array_cycles / sparse.array_cycles,
            "ideal": dense.cost.busy / sparse.cost.busy if sparse.cost.busy else None,
            "utilisation": {mode: p.array_utilisation for mode, p in both.items()},
            "phases": {mode: _phases(p) for mode, p in both.items()},
        },
        "vector": {mode: p.vector for mode, p in both.items()},
        "traffic": {mode: _traffic(list(p.moved.values())) for mode, p in both.items()},
        "fill": {mode: p.fill for mode, p in both.items()},
        "memory_bits": {mode: _bits(p) for mode, p in both.items()},
        "commands": {mode: p.commands for mode, p in both.items()},
        "layers": [_layer(name, masks, dense, sparse) for name in network.layer_names],
        "seconds": seconds,
    }


def _imbalance(p: Prediction, policy: Policy) -> float:
    """Of the forward load of all layers, as stored or balanced region by region."""
    loads = [measure.row_loads(p.network, 0, layer.index, policy) for layer in p.network.layers]
    return measure.imbalance(np.concatenate(loads))


def _phases(p: Prediction) -> dict[str, float]:
    """Share of the multiplier-cycles that are busy, by phase, all layers together."""
    out = {}
    for phase in ARRAY_PHASES:
        busy = sum(loads[phase].busy for loads in p.layers.values())
        cycles = p.cost.cycles[phase]
        out[phase] = busy / (p.cfg.rows * cycles) if cycles else 0.0
    return out


def _traffic(parts: list[Traffic]) -> dict[str, int]:
    """Beats by purpose."""
    moved = sum(parts, Traffic())
    return {f.name: getattr(moved, f.name) for f in fields(Traffic)} | {"read": moved.read, "written": moved.written}


def _bits(p: Prediction) -> dict[str, int]:
    bits = buffer_bits(p.cfg)
    return bits | {"total": sum(bits.values())}


def _layer(name: str, masks: Masks, dense: Prediction, sparse: Prediction) -> dict[str, Any]:
    layer = sparse.network.layers[sparse.network.layer_names.index(name)]
    shape = layer.shape
    return {
        "name": name,
        "outputs": shape.outputs,
        "inputs": shape.inputs,
        "height": shape.height,
        "width": shape.width,
        "kernel": list(shape.kernel),
        "stride": shape.stride,
        "depthwise": shape.depthwise,
        "weights": shape.weights,
        "tracked": masks[name].kept,
        "density": masks[name].density,
        "macs": shape.macs,
        "dense": {phase: _load(load, dense) for phase, load in dense.layers[name].items()},
        "sparse": {phase: _load(load, sparse) for phase, load in sparse.layers[name].items()},
    }


def _load(load: Load, p: Prediction) -> dict[str, Any]:
    return {
        "cycles": load.cycles,
        "busy": load.busy,
        "utilisation": load.utilisation(p.cfg.rows),
        "imbalance": load.imbalance,
        "read": load.moved.read,
        "written": load.moved.written,
        "commands": load.commands,
        "bound": load.bound,
    }
