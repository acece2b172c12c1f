"""The predictor: what a training step of any network costs, dense and sparse, from masks alone, in seconds.

Commands, works and schedule are the golden model's, so cycles are those the RTL would take; nothing is simulated and no
value is computed. `--all` predicts the five networks of the papers for the table of the README.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from arch.config import PRESETS, Config, cnn, preset
from golden.networks import Graph, load, zoo
from golden.predict import masks as mask_sources
from golden.predict.masks import Masks
from golden.predict.prediction import ARRAY_PHASES, Prediction, predict
from scripts.options import LATENCY
from scripts.predict_plots import write_plots
from scripts.predict_report import Report, build

PAPERS = {"vgg-s": 5.2, "densenet": 3.9, "wrn-28-10": 4.3, "resnet18": 11.7, "mobilenetv2": 10.0}
"""Networks of the papers and their sparsity: weights per weight stored."""

PERIODS = tuple(1 << i for i in range(7))
ARRAYS = ("16x16", "32x32")
EXPLORED = (1, 8)
MOST_BATCH = 4096


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line; ends the program with a message where something is wrong."""
    p = argparse.ArgumentParser(
        prog="predict",
        description="Cycles, utilisation, imbalance and memory traffic of a network's training step, dense and sparse.",
        epilog="Writes report.json and plots to --out.",
    )
    p.add_argument(
        "--net",
        default="vgg-s",
        metavar="NAME|FILE",
        help=f"{', '.join(zoo.NETWORKS)}, or a .toml or .onnx file (vgg-s)",
    )
    p.add_argument("--masks", metavar="SOURCE", help=f"{mask_sources.FORMS} (uniform at the papers' sparsity, or 10x)")
    p.add_argument(
        "--array",
        default="16x16",
        metavar="RxC",
        help=f"rows x columns with the buffers of preset cnn, or one of {', '.join(PRESETS)} (16x16)",
    )
    p.add_argument("--batch", type=int, metavar="N", help="samples of a minibatch (as many as the array has columns)")
    p.add_argument(
        "--explore", type=int, default=8, metavar="T", help="period of exploration, a power of two to 64 (8)"
    )
    p.add_argument("--seed", type=int, default=1, metavar="N", help="of drawn masks (1)")
    p.add_argument(
        "--all",
        action="store_true",
        help="the five networks of the papers, T = 1 and 8, 16x16 and 32x32; writes predict.json",
    )
    p.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder of report and plots (out)")
    given = p.parse_args(arguments)
    try:
        _check(given)
    except (ValueError, OSError) as error:
        p.error(str(error))
    return given


def _check(given: argparse.Namespace) -> None:
    given.graph = load(given.net)
    given.masks = given.masks or f"uniform:{PAPERS.get(given.net, 10.0):g}x"
    given.config = build_of(given.array)
    if given.batch is None:
        given.batch = given.config.columns
    check_common(given)
    if not given.all:
        given.drawn = mask_sources.masks(given.masks, given.graph, given.seed)


def check_common(given: argparse.Namespace) -> None:
    """Refuse values of `--batch`, `--explore`, `--seed` and `--out` that cannot be.

    Raises:
        ValueError: names option, bound and value.
    """
    if not 2 <= given.batch <= MOST_BATCH:
        raise ValueError(f"batch must be between 2 and {MOST_BATCH}, not {given.batch}")
    if given.explore not in PERIODS:
        raise ValueError(f"explore must be one of {', '.join(map(str, PERIODS))}, not {given.explore}")
    if not 0 <= given.seed < 1 << 32:
        raise ValueError(f"seed must be between 0 and {(1 << 32) - 1}, not {given.seed}")
    if given.out.is_file():
        raise ValueError(f"--out must name a folder, {given.out} is a file")


def build_of(array: str) -> Config:
    """The build for `ROWSxCOLUMNS`, with the buffers of preset cnn, or a preset by name.

    Raises:
        ValueError: neither, or a size that cannot be built.
    """
    size = re.fullmatch(r"(\d+)x(\d+)", array)
    return cnn(int(size[1]), int(size[2])) if size else preset(array)


def step(
    cfg: Config, graph: Graph, masks: Masks, batch: int, period: int, dense: Prediction | None = None
) -> tuple[Prediction, Prediction]:
    """Steps of the dense build and of the sparse one; a dense one known already is not computed again."""
    dense = dense or predict(cfg.with_(sparse=False), graph, batch, LATENCY)
    return dense, predict(cfg, graph, batch, LATENCY, masks, period)


def print_table(report: Report, console: Console) -> None:
    """Show the report: sums, then layers."""
    config = report["config"]
    title = f"{config['net']} on {config['array']}, {config['masks']}, T = {config['explore']}, batch {config['batch']}"
    table = Table("a training step", "dense", "sparse", "ratio", title=escape(title))
    for phase in report["cycles"]["dense"]:
        _row(table, f"cycles: {phase}", *(report["cycles"][mode][phase] for mode in ("dense", "sparse")))
    array = report["array"]
    _row(table, "cycles without vector commands", array["cycles"]["dense"], array["cycles"]["sparse"])
    table.add_row("  if no cycle were lost", "", "", f"{array['ideal']:.2f}×")
    for name, part in (("multipliers busy", report), ("  without vector commands", array)):
        table.add_row(name, *(f"{100 * part['utilisation'][mode]:.1f} %" for mode in ("dense", "sparse")), "")
    for kind in ("read", "written"):
        _row(table, f"beats {kind}", *(report["traffic"][mode][kind] for mode in ("dense", "sparse")))
    bits = {mode: report["memory_bits"][mode]["total"] / 1e6 for mode in ("dense", "sparse")}
    table.add_row("buffers, Mbit", *(f"{bits[mode]:.1f}" for mode in ("dense", "sparse")), "")
    console.print(table)
    weights = report["weights"]
    console.print(
        f"{weights['total']:,} weights, {weights['tracked']:,} stored ({weights['factor']:.2f}× fewer);"
        f" forward load of the rows above the mean, all layers: "
        + ", ".join(f"{name} {100 * value:.1f} %" for name, value in report["imbalance"].items())
    )
    layers = Table("layer", "stored", title="layers: multipliers busy while they compute, and cycles, dense / sparse")
    for name in ("forward", "backward", "weight update", "cycles", "ratio"):
        layers.add_column(name, justify="right")
    for layer in report["layers"]:
        both = [layer[mode] for mode in ("dense", "sparse")]
        busy = [
            " / ".join(f"{100 * phases[phase]['utilisation']:.0f}" for phases in both) + " %"
            if both[0][phase]["commands"]
            else ""
            for phase in ARRAY_PHASES
        ]
        cycles = [sum(load["cycles"] for load in phases.values()) for phases in both]
        ratio = f"{cycles[0] / cycles[1]:.2f}×" if cycles[1] else ""
        layers.add_row(
            escape(layer["name"]), f"{100 * layer['density']:.1f} %", *busy, " / ".join(map(_short, cycles)), ratio
        )
    console.print(layers)


def _row(table: Table, name: str, dense: float, sparse: float) -> None:
    table.add_row(name, f"{dense:,.0f}", f"{sparse:,.0f}", f"{dense / sparse:.2f}×" if sparse and dense else "")


def _short(value: float) -> str:
    return f"{value / 1e6:.1f}M" if value >= 1e7 else f"{value / 1e3:.0f}k"


def run_one(options: argparse.Namespace, console: Console) -> int:
    """Predict one network, write report and plots."""
    began = time.monotonic()
    with console.status(f"predicting {options.net}"):
        dense, sparse = step(options.config, options.graph, options.drawn, options.batch, options.explore)
    report = build(options, options.drawn, dense, sparse, time.monotonic() - began)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report, console)
    for plot in write_plots(options.out, report):
        console.print(f"wrote {plot}")
    console.print(f"wrote {path}")
    return 0


def run_all(options: argparse.Namespace, console: Console) -> int:
    """The table of the README; in predict.json, one report a network, array and period."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reports: list[Report] = []
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", total=len(PAPERS) * len(ARRAYS) * len(EXPLORED))
        for net, factor in PAPERS.items():
            graph, source = load(net), f"uniform:{factor:g}x"
            drawn = mask_sources.masks(source, graph, options.seed)
            for array in ARRAYS:
                cfg, dense = build_of(array), None
                for period in EXPLORED:
                    bars.update(task, description=f"{net}, {array}, T = {period}")
                    began = time.monotonic()
                    dense, sparse = step(cfg, graph, drawn, cfg.columns, period, dense)
                    given: dict[str, Any] = dict(
                        net=net, masks=source, array=array, batch=cfg.columns, explore=period, config=cfg
                    )
                    one = argparse.Namespace(**vars(options) | given)
                    reports.append(build(one, drawn, dense, sparse, time.monotonic() - began))
                    bars.advance(task)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "predict.json"
    path.write_text(json.dumps(reports, indent=2) + "\n")
    print_all(reports, console)
    console.print(f"wrote {path}")
    return 0


def print_all(reports: Sequence[Report], console: Console) -> None:
    """Show predictions, one a line: cycles, their ratio, the same without vector commands and if no cycle were lost."""
    table = Table("network", "array", "T", title="training steps of the papers' networks, million cycles")
    for name in ("dense", "sparse", "ratio", "array", "ideal", "busy"):
        table.add_column(name, justify="right")
    for r in reports:
        config = r["config"]
        table.add_row(
            config["net"],
            config["array"],
            str(config["explore"]),
            *(f"{r['cycles'][mode]['total'] / 1e6:.1f}" for mode in ("dense", "sparse")),
            *(f"{ratio:.2f}×" for ratio in (r["speedup"], r["array"]["speedup"], r["array"]["ideal"])),
            f"{100 * r['array']['utilisation']['sparse']:.1f} %",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict; returns the exit status, 2 for a network the array has no room for."""
    options, console = parse(arguments), Console()
    try:
        return run_all(options, console) if options.all else run_one(options, console)
    except (ValueError, OSError, MemoryError) as error:
        console.print(
            f"[bold red]predict:[/] {escape(str(error))}. A larger --array or preset has more room, a smaller --batch"
            " needs less."
        )
        return 2


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
