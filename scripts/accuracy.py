"""Table of the README, accuracy: `python -m scripts.accuracy` trains dense and sparse networks and compares them.

Three recipes (dense; budget annealed; budget constant from the first step), each for several seeds, each on
the golden model (= the RTL) and in floating point. The report holds every curve.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from arch.config import preset
from golden import dataset
from golden.graph_network import tensors_for
from golden.networks.graph import Graph
from golden.recipe import (
    ANNEALED,
    CONSTANT,
    CONV_ANNEALED,
    CONV_CONSTANT,
    CONV_DENSE,
    DENSE,
    Net,
    Recipe,
    check_sizes,
    name_of,
    weights_of,
)
from golden.training import History, roomy, run, run_float
from scripts.options import network
from scripts.verilator import ROOT

RECIPES = {"dense": DENSE, "annealed": ANNEALED, "constant": CONSTANT}
CONV_RECIPES = {"dense": CONV_DENSE, "annealed": CONV_ANNEALED, "constant": CONV_CONSTANT}
ENGINES = ("golden", "float")
CURVE_POINTS = 400  # a curve over the steps is thinned to so many means


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="accuracy", description="Test error of dense and sparse training.")
    parser.add_argument("--data", default="mnist", help="digits, mnist, or a folder of IDX files (mnist)")
    parser.add_argument(
        "--net", default="784-300-100-10", help="layer sizes, a network's name, or a file (784-300-100-10)"
    )
    parser.add_argument("--array", help="preset or ROWSxCOLUMNS of the golden model (paper, cnn for graphs)")
    parser.add_argument("--epochs", type=int, help="of every recipe (as in golden/recipe.py)")
    parser.add_argument("--batch", type=int, help="samples of a minibatch, likewise")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe, seeds 1, 2, ... (3)")
    parser.add_argument("--recipes", default=",".join(RECIPES), help=f"any of {','.join(RECIPES)} (all)")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"any of {','.join(ENGINES)} (both)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "accuracy", help="folder (build/accuracy)")
    options = parser.parse_args(arguments)
    for name, known in (("recipes", RECIPES), ("engines", ENGINES)):
        chosen = getattr(options, name).split(",")
        for one in chosen:
            if one not in known:
                parser.error(f"--{name} must be of {', '.join(known)}, not {one!r}")
        setattr(options, name, chosen)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, not {options.seeds}")
    return options


def recipes(options: argparse.Namespace, net: Net) -> dict[str, Recipe]:
    """The chosen recipes with what the command line changes."""
    changes = {name: getattr(options, name) for name in ("epochs", "batch") if getattr(options, name) is not None}
    known = CONV_RECIPES if isinstance(net, Graph) else RECIPES
    return {name: replace(known[name], **changes) for name in options.recipes}


def report(history: History, seconds: float) -> dict[str, object]:
    """What is kept of a run."""
    fill = {name: round(share, 3) for name, share in asdict(history.fill).items()}
    return {
        "error": history.error[-1],
        "errors": [round(e, 4) for e in history.error],
        "peak": history.peak,
        "mean": round(history.mean, 1),
        "last": history.tracked[-1],
        "loss": thin(history.loss),
        "tracked": thin(history.tracked),
        "theta": thin(history.theta),
        "adopted": thin(history.adopted),
        "evicted": thin(history.evicted),
        "fill": fill,
        "seconds": round(seconds, 1),
    }


def thin(curve: Sequence[float]) -> list[float]:
    """A curve as at most `CURVE_POINTS` means of neighbours."""
    parts = np.array_split(np.asarray(curve, float), min(len(curve), CURVE_POINTS) or 1)
    return [float(f"{part.mean():.5g}") for part in parts if len(part)]


def table(results: dict[str, dict[str, list[dict]]], total: int) -> Table:
    """Mean test error of every recipe beside the dense one, and its weights."""
    shown = Table(title=f"Test error in percent, {total} weights")
    for name in ("recipe", "engine", "error", "over dense", "of each seed", "tracked, peak", "tracked, mean"):
        shown.add_column(name, justify="left" if name in ("recipe", "engine") else "right")
    for engine in ENGINES:
        dense = results.get("dense", {}).get(engine)
        for name, engines in results.items():
            runs = engines.get(engine)
            if not runs:
                continue
            errors = [r["error"] for r in runs]
            over = f"{np.mean(errors) - np.mean([r['error'] for r in dense]):+.2f}" if dense else ""
            each = " ".join(f"{e:.2f}" for e in errors)
            peak, mean = max(r["peak"] for r in runs), np.mean([r["mean"] for r in runs])
            shown.add_row(name, engine, f"{np.mean(errors):.2f}", over, each,
                          f"{peak} ({total / peak:.1f}x)", f"{mean:.0f} ({total / mean:.1f}x)")  # fmt: skip
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status, 2 for a wrong value or missing data."""
    options = parse(arguments)
    console = Console()
    try:
        data, net = dataset.load(options.data), network(options.net)
        array = options.array or ("cnn" if isinstance(net, Graph) else "paper")
        cfg = preset(array)
        check_sizes(data, net)
        if isinstance(net, Graph):
            cfg = cfg.with_(tensors=max(cfg.tensors, tensors_for(net)))
        chosen = recipes(options, net)
    except (ValueError, FileNotFoundError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    total = weights_of(net)
    results: dict[str, dict[str, list[dict]]] = {name: {} for name in chosen}
    options.out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        for engine in options.engines:
            for seed in range(1, options.seeds + 1):
                for name, recipe in chosen.items():
                    built = roomy(cfg) if recipe.dense else cfg  # the same numbers, see there
                    task = bar.add_task(f"{name} {engine} seed {seed}", total=None, state="")

                    def show(done: int, steps: int, history: History, task: object = task) -> None:
                        if done % 50 == 0 or done == steps:
                            error = f"error {history.error[-1]:.2f} %" if history.error else ""
                            state = f"loss {np.mean(history.loss[-50:]):.4f} tracked {history.tracked[-1]} {error}"
                            bar.update(task, total=steps, completed=done, state=state)  # type: ignore[arg-type]

                    begin = time.monotonic()
                    if engine == "golden":
                        history = run(data, net, recipe, built, seed, show)
                    else:
                        history = run_float(data, net, recipe, seed, show)
                    results[name].setdefault(engine, []).append(report(history, time.monotonic() - begin))
                    content = {
                        "data": data.name, "net": name_of(net), "array": array, "total": total,
                        "recipes": {n: asdict(r) for n, r in chosen.items()}, "results": results,
                    }  # fmt: skip
                    (options.out / "accuracy.json").write_text(json.dumps(content) + "\n")
    console.print(table(results, total))
    console.print(f"{options.out / 'accuracy.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
