"""Plots of `scripts.energy`: energy by component and phase, roofline, external traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from scripts.plots import PHASE_COLOURS, PHASE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODES = ("dense", "sparse")
COLOURS = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
TRAFFIC = {"weights": "#c1440e", "activations": "#8fb0c9", "commands": "#bbbbbb", "initial": "#e0b04a"}


def write_plots(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write energy.png, roofline.png and, where it was measured, traffic.png; returns the files."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    draw_components(left, report)
    draw_phases(right, report)
    paths = [_save(figure, folder / "energy.png")]
    figure, axes = plt.subplots(figsize=(7, 4.8), layout="constrained")
    draw_roofline(axes, report)
    paths.append(_save(figure, folder / "roofline.png"))
    if "traffic" in report:
        figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
        draw_traffic(axes, report)
        paths.append(_save(figure, folder / "traffic.png"))
    return paths


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def draw_components(axes: Axes, report: dict[str, Any]) -> None:
    """Components beside each other, dense and sparse."""
    names = list(report["energy"]["dense"]["components"])
    at = np.arange(len(names))
    for side, mode in enumerate(MODES):
        values = [report["energy"][mode]["components"][name] for name in names]
        colour = "#4c6a85" if mode == "dense" else "#c1440e"
        axes.bar(at + 0.42 * side - 0.21, values, 0.4, label=mode, color=colour)
    axes.set_xticks(at, names, rotation=40, ha="right")
    axes.set(ylabel="µJ a training step", title=f"{report['config']['net']}: {report['ratio']['value']:.2f}× less")
    axes.legend()


def draw_phases(axes: Axes, report: dict[str, Any]) -> None:
    """Phases beside each other, components stacked: left dense, right sparse."""
    phases = [p for p in PHASE_NAMES if any(sum(report["energy"][m]["phases"][p].values()) for m in MODES)]
    at = np.arange(len(phases))
    for side, mode in enumerate(MODES):
        bottom = np.zeros(len(phases))
        for number, name in enumerate(report["energy"][mode]["components"]):
            heights = np.array([report["energy"][mode]["phases"][p][name] for p in phases])
            axes.bar(
                at + 0.42 * side - 0.21, heights, 0.38, bottom=bottom, color=COLOURS[number % 10],
                label=name if side == 0 else None, alpha=0.6 if side == 0 else 1.0,
            )  # fmt: skip
            bottom += heights
    axes.set_xticks(at, [PHASE_NAMES[p] for p in phases])
    axes.set(ylabel="µJ", title="by phase: left dense, right sparse")
    axes.legend(fontsize="small")


def draw_roofline(axes: Axes, report: dict[str, Any]) -> None:
    """Layers and phases under the roof of the array."""
    roof = report["roofline"]["sparse"]
    peak, bandwidth = roof["peak"], roof["bandwidth"]
    given = [p["intensity"] for mode in MODES for p in report["roofline"][mode]["points"]]
    x = np.geomspace(min(0.3, *given) / 2, max(30.0, *given) * 2, 200)
    axes.plot(x, np.minimum(peak, bandwidth * x), color="black", lw=1)
    for mode, marker in (("dense", "o"), ("sparse", "^")):
        for point in report["roofline"][mode]["points"]:
            face = PHASE_COLOURS[point["phase"]] if mode == "sparse" else "none"
            axes.plot(
                point["intensity"], point["speed"], marker, mec=PHASE_COLOURS[point["phase"]],
                mfc=face, ls="",
            )  # fmt: skip
    for phase in ("fw", "bw", "wu"):
        axes.plot([], [], "s", color=PHASE_COLOURS[phase], label=PHASE_NAMES[phase])
    axes.plot([], [], "o", mec="black", mfc="none", label="dense")
    axes.plot([], [], "^", color="black", label="sparse")
    axes.set(xscale="log", yscale="log", xlabel="products a byte read", ylabel="products a cycle")
    axes.set_title(f"{report['config']['net']}: layers under the roof ({peak} PEs, {bandwidth} bytes a cycle)")
    axes.legend(fontsize="small", loc="lower right")


def draw_traffic(axes: Axes, report: dict[str, Any]) -> None:
    """Bits by purpose; of what is regenerated, what it would add if it were stored."""
    names = list(report["traffic"])
    at, left = np.arange(len(names)), np.zeros(len(names))
    for kind, colour in TRAFFIC.items():
        values = np.array([report["traffic"][name][kind] for name in names]) / 1e6
        label = "initial weights, if they were stored" if kind == "initial" else kind
        axes.barh(
            at, values, 0.6, left=left, color=colour, label=label,
            hatch="//" if kind == "initial" else None, alpha=0.5 if kind == "initial" else 1.0,
        )  # fmt: skip
        left += values
    axes.set_yticks(at, names)
    axes.invert_yaxis()
    axes.set(xlabel="Mbit a training step", title="traffic to and from external memory")
    axes.legend(fontsize="small")
