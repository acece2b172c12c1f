"""Plot of `scripts.synth`: area by unit, the sparse build beside the dense one, and what sparsity adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from scripts.plots import DENSE, SPARSE
from synth.measure import FPGA
from synth.units import TOP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS: dict[str, tuple[str, ...]] = {
    "PEs": ("PE",),
    "adder trees": ("AdderTree",),
    "weight buffers": ("WeightBuffer",),
    "decoders": ("CsbDecoder",),
    "regeneration": ("Regenerate", "Decay"),
    "row controllers, walkers": ("RowController", "DenseController", "RowWalker", "BoxWalk", "RowControl"),
    "weight update": ("WeightUpdate", "GradientBuffer"),
    "encoders": ("CsbEncoder", "DenseEncoder"),
    "vector engine": ("VectorEngine",),
    "drain": ("DrainStage",),
    "loader, parser": ("Loader",),
    "planner, balancer": ("Planner",),
    "command processor": ("CommandProcessor",),
}
"""Classes of the units at which a group begins: all that stands in them is of the group, but for groups of its own."""

REST = "rest"
COLOURS = {"dense": DENSE, "sparse": SPARSE}
_MM2 = 1e5  # µm² from which on square millimetres are written

Units = dict[str, Any]


def by_group(units: Units, target: str, kind: str) -> dict[str, float]:
    """What each group has of its own in the top level; the sum is what the top level has in all.

    Args:
        units: of one build, as in `synth.json`.
        target: a cell library or `ecp5`.
        kind: `area` in µm², or `lut`.
    """
    group_of = {component: group for group, components in GROUPS.items() for component in components}
    found = dict.fromkeys((*GROUPS, REST), 0.0)

    def visit(name: str, times: int, above: str) -> None:
        unit = units[name]
        group = group_of.get(unit["class"], above)
        found[group] += times * unit["own"][target][kind]
        for part, count in unit["parts"].items():
            visit(part, times * count, group)

    visit(TOP, 1, REST)
    return found


def write_plots(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write synth_area.png, if any area was measured; returns the files.

    A row of the figure for every preset and cell library, or, where no library was measured, LUTs of ECP5.
    """
    shown = []
    for name, preset in report["presets"].items():
        builds = {build: preset[build] for build in COLOURS if build in preset}
        measured = [(library, "area") for library in report["libraries"]] or [(FPGA, "lut")]
        for target, kind in measured:
            if all(target in units[TOP]["all"] for units in builds.values()):
                size = f"{name} ({preset['rows']}×{preset['columns']})"
                shown.append((size, target, {build: by_group(units, target, kind) for build, units in builds.items()}))
    if not shown:
        return []
    figure, grid = plt.subplots(
        len(shown), 2, figsize=(12, 5.4 * len(shown)), layout="constrained", squeeze=False, width_ratios=(3, 2)
    )
    for (left, right), (size, target, builds) in zip(grid, shown, strict=True):
        draw_areas(left, f"{size}, {target}", builds, lut=target == FPGA)
        if len(builds) == len(COLOURS):
            draw_difference(right, builds)
        else:
            right.set_axis_off()
    path = folder / "synth_area.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return [path]


def draw_areas(axes: Axes, title: str, builds: dict[str, dict[str, float]], lut: bool) -> None:
    """Groups below each other, with their shares of the build."""
    whole = {build: sum(areas.values()) for build, areas in builds.items()}
    large = not lut and max(whole.values()) >= _MM2
    unit, divisor = ("LUT4", 1.0) if lut else ("mm²", 1e6) if large else ("µm²", 1.0)
    at = np.arange(len(GROUPS) + 1)
    for side, (build, areas) in enumerate(builds.items()):
        values = np.array(list(areas.values())) / divisor
        total = f"{whole[build] / divisor:,.2f}" if large else f"{whole[build]:,.0f}"
        place = at + 0.4 * (side - (len(builds) - 1) / 2)
        bars = axes.barh(place, values, 0.38, color=COLOURS[build], label=f"{build}: {total} {unit} in all")
        shares = [f"{value / (whole[build] or 1):.1%}" if value else "–" for value in areas.values()]
        axes.bar_label(bars, shares, padding=3, fontsize=8, color=COLOURS[build])
    axes.set_yticks(at, [*GROUPS, REST])
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(
        xlabel=f"{unit}; labels: share of the build", title=f"{title}: {'LUTs' if lut else 'area of logic'} by unit"
    )
    axes.legend(loc="lower right")


def draw_difference(axes: Axes, builds: dict[str, dict[str, float]]) -> None:
    """What the sparse build has more than the dense one in each group, in shares of the dense build."""
    whole = sum(builds["dense"].values()) or 1
    added = np.array([builds["sparse"][group] - builds["dense"][group] for group in builds["dense"]]) / whole
    at = np.arange(len(added))
    bars = axes.barh(at, added, 0.6, color=[SPARSE if more >= 0 else DENSE for more in added])
    axes.bar_label(bars, [f"{more:+.1%}" if round(more, 4) else "0" for more in added], padding=3, fontsize=9)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(at, list(builds["dense"]))
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.02)
    axes.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="share of the dense build", title=f"sparse over dense: {added.sum():+.1%}")
