"""What a training step costs in energy, dense and sparse, and how many bits go to external memory and back.

`lenet-300-100` is trained on the golden machine until its initial weights have vanished, and its steps are measured;
any other network, or it with `--masks`, is predicted from masks. Every event counted is the RTL's, since both models
are held to it; the energies are those of the table, an estimate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from arch.config import PRESETS, Config
from golden import dataset, recipe
from golden.energy import measured, model, roofline, sram, step, table
from golden.energy.measured import Measured
from golden.networks import Graph, load, zoo
from golden.predict import masks as mask_sources
from golden.predict.masks import Masks
from golden.predict.prediction import Prediction, predict
from golden.recipe import Recipe
from scripts.energy_plots import write_plots
from scripts.energy_report import Report, Source, build, traffic
from scripts.options import LATENCY, LENET
from scripts.predict import PAPERS, build_of, check_common
from scripts.verilator import ROOT

NET = "lenet-300-100"
TARGET = 4.0
DECAY = 0.99
RATE = 0.4


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line; ends the program with a message where something is wrong."""
    p = argparse.ArgumentParser(
        prog="energy",
        description="Energy of a training step by component and phase, dense and sparse; bits to external memory.",
        epilog="Writes energy.json and plots to --out.",
    )
    p.add_argument(
        "--net", default=NET, metavar="NAME|FILE", help=f"{', '.join(zoo.NETWORKS)}, or a .toml or .onnx file ({NET})"
    )
    p.add_argument("--masks", metavar="SOURCE", help=f"predict from masks: {mask_sources.FORMS}")
    p.add_argument(
        "--array", metavar="RxC", help=f"rows x columns or one of {', '.join(PRESETS)} (paper; others than {NET}: cnn)"
    )
    p.add_argument("--batch", type=int, metavar="N", help="samples of a minibatch (64; predicted: the array's columns)")
    p.add_argument("--explore", type=int, default=8, metavar="T", help="period of exploration (8)")
    p.add_argument("--budget", default="25x", help=f"tracked weights of {NET} (25x)")
    p.add_argument(
        "--epochs", type=int, default=2, metavar="N", help=f"training of {NET} before the steps measured (2)"
    )
    p.add_argument("--data", default="mnist", help=f"data set of {NET}: mnist, or a folder of IDX files (mnist)")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="of drawn masks (1)")
    p.add_argument("--table", type=Path, default=table.FILE, metavar="FILE", help="energies (golden/energy/table.toml)")
    p.add_argument("--sram", type=Path, default=sram.FILE, metavar="FILE", help="SRAMs (golden/energy/sram.toml)")
    p.add_argument("--all", action="store_true", help="the five networks of the papers; writes a list of reports")
    p.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder of report and plots (out)")
    given = p.parse_args(arguments)
    try:
        _check(given)
    except (ValueError, OSError) as error:
        p.error(str(error))
    return given


def _check(given: argparse.Namespace) -> None:
    given.source = Source(given.table, given.sram)
    for corner in model.CORNERS:
        given.source.units(corner)
    given.graph = load(given.net)
    given.trained = given.net == NET and given.masks is None and not given.all
    given.array = given.array or ("paper" if given.trained else "16x16")
    given.config = PRESETS[given.array] if given.array in PRESETS else build_of(given.array)
    given.batch = given.batch if given.batch is not None else 64 if given.trained else given.config.columns
    check_common(given)
    if given.epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {given.epochs}")
    if given.trained:
        given.data_set = dataset.load(given.data)
        recipe.check_sizes(given.data_set, LENET)
        recipe.budget_ends(given.budget, recipe.weights_of(LENET))
    elif not given.all:
        given.masks = given.masks or f"uniform:{PAPERS.get(given.net, 10.0):g}x"
        given.drawn = mask_sources.masks(given.masks, given.graph, given.seed)


# -- a trained network ------------------------------------------------------------------------------------------------
def trained(options: argparse.Namespace, console: Console) -> dict[str, Measured]:
    """Steps of the trained network; kept in build/energy, since training takes most of a minute."""
    plan = Recipe(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=RATE,
        budget=options.budget,
        decay=DECAY,
        period=options.explore,
    )
    data, cfg = options.data_set, options.config
    kept = ROOT / "build" / "energy" / f"{_key(cfg, plan, options.data)}.pickle"
    if kept.is_file():
        found: dict[str, Measured] = pickle.loads(kept.read_bytes())  # our own file, named by what made it
        return found
    steps = plan.steps(len(data.train_y)) + measured.plain(plan).steps(len(data.train_y))
    with Progress(console=console) as bars:
        task = bars.add_task("training", total=steps)
        dense = measured.dense(cfg, LENET, options.batch, data, LATENCY)
        early, sparse = measured.sparse(cfg, LENET, plan, data, LATENCY, lambda: bars.advance(task))
        _, plain = measured.sparse(cfg, LENET, measured.plain(plan), data, LATENCY, lambda: bars.advance(task))
    out = {"dense": dense, "early": early, "plain": plain, "sparse": sparse}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(out))
    return out


def _key(cfg: Config, plan: Recipe, data: str) -> str:
    """Name of a measurement: what was asked for and the text of everything that computes it."""
    digest = hashlib.sha256(repr((cfg, plan, data, LATENCY)).encode())
    for folder in ("arch", "golden"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def report_trained(options: argparse.Namespace, console: Console) -> Report:
    """Report of the trained network."""
    found = trained(options, console)
    dense, sparse = found["dense"], found["sparse"]
    names = {
        "dense": "dense build",
        "plain": "DropBack, never fading",
        "early": "second step, initial weights fading",
        "sparse": "steady state, initial weights gone",
    }
    modes = [(name, found[mode].bits, found[mode].tracked) for mode, name in names.items()]
    computed = {names[mode]: m.step.total["regeneration"] for mode, m in found.items()}
    units = options.source.units()
    return build(
        _config(options) | {"budget": options.budget, "epochs": options.epochs, "data": options.data},
        dense.step,
        sparse.step,
        {"dense": dense.points, "sparse": sparse.points},
        options.source,
        method="steps of a training on the golden machine",
        tracked=sparse.tracked,
        total=sparse.total,
        steps=sparse.steps,
        traffic=traffic(modes, computed),
        modes={names[mode]: _both_ways(m, units) for mode, m in found.items()},
    )


def _both_ways(m: Measured, u: model.Units) -> dict[str, float]:
    """Energy of a step in µJ as it is, and with initial weights read instead of regenerated."""
    price, whole = model.prices(m.step.cfg, u), m.step.picojoules(u)
    read = m.bits.initial * price["read_bits"] - m.step.total["regeneration"] * price["regeneration"]
    return {"regenerated": whole / 1e6, "stored": (whole + read) / 1e6}


# -- a predicted network ----------------------------------------------------------------------------------------------
def report_predicted(
    options: argparse.Namespace, graph: Graph, masks: Masks, dense: Prediction | None = None
) -> tuple[Report, Prediction]:
    """Report of a network from its masks, and its dense step."""
    cfg = options.config
    dense = dense or predict(cfg.with_(sparse=False), graph, options.batch, LATENCY)
    sparse = predict(cfg, graph, options.batch, LATENCY, masks, options.explore)
    both = {"dense": dense, "sparse": sparse}
    steps = {mode: step.of_programs(p.cfg, [p.works], LATENCY) for mode, p in both.items()}
    points = {mode: roofline.points(p.cfg, [p.works], _owners(p), LATENCY) for mode, p in both.items()}
    report = build(
        _config(options),
        steps["dense"],
        steps["sparse"],
        points,
        options.source,
        method="predicted from masks",
        tracked=mask_sources.total(masks),
        total=sparse.network.total,
        steps=1,
    )
    return report, dense


def _owners(p: Prediction) -> dict[int, str]:
    names = zip(p.network.layers, p.network.layer_names, strict=True)
    return {s.address: name for layer, name in names for side in layer.stores for row in side for s in row}


def _config(options: argparse.Namespace) -> dict[str, Any]:
    names = ("net", "masks", "array", "batch", "explore", "seed")
    return {name: getattr(options, name) for name in names} | {"table": options.table.name, "sram": options.sram.name}


# -- what is shown ----------------------------------------------------------------------------------------------------
def show(report: Report, console: Console) -> None:
    """Tables: components, phases, ratio and what moves it, traffic."""
    config, energy = report["config"], report["energy"]
    title = (
        f"{config['net']} on {config['array']}, T = {config['explore']}, batch {config['batch']}; {report['method']}"
    )
    out = Table("µJ a training step", title=escape(title))
    for name in ("dense", "share", "sparse", "share", "ratio"):
        out.add_column(name, justify="right")
    for name in model.COMPONENTS:
        _row(out, name, energy["dense"]["components"][name], energy["sparse"]["components"][name], energy)
    out.add_section()
    for phase in energy["dense"]["phases"]:
        dense, sparse = (sum(energy[mode]["phases"][phase].values()) for mode in ("dense", "sparse"))
        _row(out, f"phase: {phase}", dense, sparse, energy)
    out.add_section()
    _row(out, "all", energy["dense"]["total"], energy["sparse"]["total"], energy)
    console.print(out)
    ratio = report["ratio"]
    console.print(
        f"sparse against dense: [bold]{ratio['value']:.2f}× less[/]; all entries at their low end {ratio['low']:.2f}×,"
        f" high {ratio['high']:.2f}×; one at a time: " + ", ".join(_moves(report["sensitivity"]))
    )
    if "traffic" in report:
        show_traffic(report, console)
    for line in report["assumptions"]:
        console.print(f"[dim]- {escape(line)}[/]")


def _row(out: Table, name: str, dense: float, sparse: float, energy: dict[str, Any]) -> None:
    shares = (100 * part / energy[mode]["total"] for mode, part in (("dense", dense), ("sparse", sparse)))
    first, second = (f"{share:.1f} %" for share in shares)
    out.add_row(name, f"{dense:,.2f}", first, f"{sparse:,.2f}", second, f"{dense / sparse:.2f}×" if sparse else "")


def _moves(sensitivity: dict[str, dict[str, float]]) -> list[str]:
    wide = sorted(sensitivity.items(), key=lambda item: -abs(item[1]["high"] - item[1]["low"]))
    return [f"{name} {ends['low']:.2f} to {ends['high']:.2f}" for name, ends in wide[:4]]


def show_traffic(report: Report, console: Console) -> None:
    """External traffic, and what regenerating saves."""
    out = Table("Mbit a step", title="traffic to and from external memory")
    for name in ("weights", "activations", "commands", "all", "regenerated weights", "µJ", "stored: all", "µJ"):
        out.add_column(name, justify="right")
    for name, row in report["traffic"].items():
        bits = [f"{row[kind] / 1e6:.2f}" for kind in ("weights", "activations", "commands", "total", "stored")]
        energy = [f"{report['modes'][name][way]:,.1f}" for way in ("regenerated", "stored")]
        out.add_row(name, *bits[:4], f"{row['regenerated']:,.0f}", energy[0], bits[4], energy[1])
    console.print(out)


def run_all(options: argparse.Namespace, console: Console) -> list[Report]:
    """The five networks of the papers."""
    reports = []
    for net, factor in PAPERS.items():
        graph, options.net, options.masks = load(net), net, f"uniform:{factor:g}x"
        with console.status(f"counting {net}"):
            reports.append(report_predicted(options, graph, mask_sources.masks(options.masks, graph, options.seed))[0])
    out = Table("network", title="energy of a training step, mJ, predicted")
    for name in ("dense", "sparse", "ratio", "low", "high", "external memory, dense", "sparse"):
        out.add_column(name, justify="right")
    for r in reports:
        totals = [r["energy"][mode]["total"] for mode in ("dense", "sparse")]
        shares = [100 * r["energy"][m]["components"]["external memory"] / r["energy"][m]["total"] for m in r["energy"]]
        ratios = [f"{r['ratio'][corner]:.2f}×" for corner in model.CORNERS]
        out.add_row(
            r["config"]["net"], *(f"{t / 1e3:.2f}" for t in totals), *ratios, *(f"{share:.0f} %" for share in shares)
        )
    console.print(out)
    return reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Estimate; returns the exit status, 2 for what cannot be done."""
    options, console = parse(arguments), Console()
    try:
        if options.all:
            reports: Any = run_all(options, console)
        elif options.trained:
            reports = report_trained(options, console)
        else:
            with console.status(f"counting {options.net}"):
                reports = report_predicted(options, options.graph, options.drawn)[0]
    except (ValueError, OSError, MemoryError) as error:
        console.print(f"[bold red]energy:[/] {escape(str(error))}")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "energy.json"
    path.write_text(json.dumps(reports, indent=2) + "\n")
    if not options.all:
        show(reports, console)
        for plot in write_plots(options.out, reports):
            console.print(f"wrote {plot}")
    console.print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
