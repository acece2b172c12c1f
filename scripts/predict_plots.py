"""Plots of the predictor: cycles by layer and phase, dense and sparse, and how busy layers keep the multipliers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from scripts.plots import PHASE_COLOURS, PHASE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARRAY_PHASES = ("fw", "bw", "wu")
MOST_NAMES = 24  # more layers than these are numbered, not named


def write_plots(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write cycles.png and utilisation.png; returns the files."""
    drawings: dict[str, Callable[[Axes, dict[str, Any]], None]] = {
        "cycles": draw_cycles,
        "utilisation": draw_utilisation,
    }
    paths = []
    for name, draw in drawings.items():
        figure, axes = plt.subplots(figsize=(max(7, 0.28 * len(report["layers"]) + 3), 4.5), layout="constrained")
        draw(axes, report)
        _name_layers(axes, report)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        paths.append(path)
    return paths


def draw_cycles(axes: Axes, report: dict[str, Any]) -> None:
    """Cycles of every layer, stacked by phase: left the dense build, right the sparse one."""
    layers = report["layers"]
    for side, (mode, alpha) in enumerate((("dense", 0.55), ("sparse", 1.0))):
        at, bottom = np.arange(len(layers)) + 0.42 * side - 0.21, np.zeros(len(layers))
        for phase in ARRAY_PHASES:
            heights = np.array([layer[mode][phase]["cycles"] for layer in layers]) / 1e6
            label = f"{PHASE_NAMES[phase]}, {mode}"
            axes.bar(at, heights, 0.38, bottom=bottom, color=PHASE_COLOURS[phase], alpha=alpha, label=label)
            bottom += heights
    axes.set(
        ylabel="million cycles",
        title=f"{report['config']['net']}: cycles of a step by layer, {report['array']['speedup']:.2f}× faster",
    )
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.legend(ncols=2, fontsize="small", loc="upper right")


def draw_utilisation(axes: Axes, report: dict[str, Any]) -> None:
    """Share of the multipliers that are busy while a layer computes."""
    at = np.arange(len(report["layers"]))
    for phase in ARRAY_PHASES:
        for mode, style in (("dense", ":"), ("sparse", "-")):
            shares = [
                100 * layer[mode][phase]["utilisation"] if layer[mode][phase]["commands"] else np.nan
                for layer in report["layers"]
            ]
            label = f"{PHASE_NAMES[phase]}, {mode}"
            axes.plot(at, shares, style, marker=".", color=PHASE_COLOURS[phase], label=label)
    axes.set(ylabel="multipliers busy, %", title=f"{report['config']['net']}: utilisation by layer")
    axes.set_ylim(0, 105)
    axes.legend(ncols=3, fontsize="small", loc="lower center")


def _name_layers(axes: Axes, report: dict[str, Any]) -> None:
    names = [layer["name"] for layer in report["layers"]]
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="small")
    else:
        axes.set_xlabel("layer")
