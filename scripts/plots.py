"""Plots of the main job: learning curves, cycles by phase, row load before and after balancing, threshold and count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from arch.command import Policy
from golden import measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scripts.report import Measured, Report

SPARSE, DENSE, FLOAT = "#c1440e", "#4c6a85", "#9a9a9a"
PHASE_COLOURS = {"fw": "#4c6a85", "bw": "#8fb0c9", "wu": "#c1440e", "vector": "#e0b04a", "other": "#bbbbbb"}
PHASE_NAMES = {
    "fw": "forward",
    "bw": "backward",
    "wu": "weight update",
    "vector": "between the layers",
    "other": "other",
}


def write_plots(folder: Path, m: Measured, report: Report) -> list[Path]:
    """Write every plot by itself, and all together as train.png; returns the files."""
    drawings: dict[str, Callable[[Axes, Measured, Report], None]] = {
        "learning": draw_learning,
        "cycles": draw_cycles,
        "row_load": draw_row_load,
        "threshold": draw_threshold,
    }
    paths = []
    for name, draw in drawings.items():
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        draw(axes, m, report)
        paths.append(_save(figure, folder / f"{name}.png"))
    figure, grid = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for axes, draw in zip(grid.flat, drawings.values(), strict=True):
        draw(axes, m, report)
    figure.suptitle(f"{report['config']['net']} on {report['config']['data']}, array {report['config']['array']}, "
                    f"budget {report['config']['budget']}")  # fmt: skip
    return [*paths, _save(figure, folder / "train.png")]


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def draw_learning(axes: Axes, m: Measured, report: Report) -> None:
    """Test error by epoch."""
    name = "RTL = golden model" if report["accuracy"]["rtl"] is not None else "golden model"
    curves = {
        "float_dense": ("dense, floating point", FLOAT, ":"),
        "float_dropback": ("DropBack, floating point", FLOAT, "-"),
        "dense": ("dense, integer", DENSE, "-"),
    }
    for key, (label, colour, style) in curves.items():
        if key in m.references:
            error = m.references[key].error
            marker = "." if len(error) == 1 else ""  # a line of one point shows nothing
            axes.plot(range(1, len(error) + 1), error, style, color=colour, label=label, marker=marker)
    axes.plot(range(1, len(m.run.error) + 1), m.run.error, "o-", color=SPARSE, label=f"sparse, {name}", markersize=3)
    axes.set(xlabel="epoch", ylabel="test error, %", title="Learning")
    axes.set_ylim(bottom=0)
    axes.legend()


def draw_cycles(axes: Axes, m: Measured, report: Report) -> None:
    """Cycles of a steady-state step by phase, dense and sparse."""
    costs = {"dense": m.dense, "sparse": m.sparse}
    shown = {name: cost for name, cost in costs.items() if cost is not None}
    bottom = np.zeros(len(shown))
    for phase, colour in PHASE_COLOURS.items():
        heights = np.array([cost.cycles[phase] for cost in shown.values()])
        axes.bar(list(shown), heights, bottom=bottom, color=colour, label=PHASE_NAMES[phase], width=0.6)
        bottom += heights
    speedup = report["speedup"]
    axes.set(ylabel="cycles", title="Cycles of a training step" + (f": {speedup:.2f}× faster" if speedup else ""))
    axes.legend()


def draw_row_load(axes: Axes, m: Measured, report: Report) -> None:
    """Work of every row in the first layer's first working set, by policy."""
    width = 0.27
    rows = np.arange(m.network.cfg.rows)
    for number, (policy, colour) in enumerate(zip(Policy, (FLOAT, DENSE, SPARSE), strict=True)):
        loads = measure.row_loads(m.network, m.generation, 0, policy)[0]
        label = {Policy.NONE: "as stored", Policy.PAIR: "paired", Policy.LPT: "LPT"}[policy]
        share = report["imbalance"][policy.name.lower()]
        axes.bar(rows + (number - 1) * width, loads, width, color=colour, label=f"{label} (+{100 * share:.1f} %)")
    axes.set(xlabel="row", ylabel="nonzeros", title="Load of the rows, first layer")
    axes.set_ylim(top=1.45 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper right")


def draw_threshold(axes: Axes, m: Measured, _report: Report) -> None:
    """Threshold and number of tracked weights by step."""
    steps = np.arange(1, len(m.run.tracked) + 1)
    axes.plot(steps, m.run.tracked, color=SPARSE)
    axes.set(xlabel="step", title="Tracked weights and threshold")
    axes.set_ylabel("tracked weights", color=SPARSE)
    axes.set_ylim(bottom=0)
    if any(m.run.theta):
        other = axes.twinx()
        other.plot(steps, m.run.theta, color=DENSE)
        other.set_ylabel("threshold, as a weight", color=DENSE)
        other.set_ylim(bottom=0)
