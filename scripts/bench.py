"""Table of the README, speed: `python -m scripts.bench` measures steps, rows and simulators.

Steps: cycles of a whole training step in steady state, for several periods of exploration, against dense mode; from
the golden model, whose timing is the RTL's. Simulators: cycles a second of the same Verilated accelerator, once in
the batch harness and once driven by cocotb, measured in one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from arch.command import Policy
from arch.config import Config, preset
from golden import dataset, measure, recipe, training
from golden.dataset import Dataset
from golden.recipe import Recipe
from golden.trainer import Trainer
from rtl.top import verilog
from scripts.harness import Harness
from scripts.lockstep import Lockstep
from scripts.options import LATENCY, LENET, layer_sizes
from scripts.verilator import ROOT

PERIODS = (1, 4, 8, 16, 32)
STEADY = 16
SPEED_STEPS = 12  # training steps on the RTL


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="bench", description="Cycles of a training step, balance of the rows, speed of simulation."
    )
    parser.add_argument("--data", default="mnist", help="digits, mnist, or a folder of IDX files (mnist)")
    parser.add_argument("--net", default="-".join(map(str, LENET)), help="layer sizes (784-300-100-10)")
    parser.add_argument("--array", default="paper", help="preset or ROWSxCOLUMNS (paper, 16x16)")
    parser.add_argument("--batch", type=int, default=64, help="samples of a minibatch (64)")
    parser.add_argument("--budget", default="25x", help="tracked weights (25x)")
    parser.add_argument("--epochs", type=int, default=2, help="training before the steps measured (2)")
    parser.add_argument("--periods", default=",".join(map(str, PERIODS)), help="periods T of exploration (1,4,8,16,32)")
    parser.add_argument("--no-simulation", action="store_true", help="leave the speed of the simulators out")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder of bench.json (build/bench)")
    return parser.parse_args(arguments)


def trained(
    cfg: Config, sizes: tuple[int, ...], plan: Recipe, data: Dataset, step: Callable[[], None]
) -> tuple[Trainer, measure.Cost, list]:
    """A trained network, the mean cost of its last steps, and the programs of the very last."""
    trainer = training.make_trainer(cfg, sizes, plan, 1, tiling=training.tiling_for(plan, sizes))
    costs: deque[measure.Cost] = deque(maxlen=STEADY)
    programs: list = []
    steps = plan.steps(len(data.train_y))
    for done, (_, result) in enumerate(training.follow(trainer, data, plan, 1), 1):
        if steps - done < 2 * STEADY and trainer.fetched:
            programs = [result.forward, result.backward]
            costs.append(measure.step_cost(cfg, programs, LATENCY))
        step()
    if trainer.dense_visits:
        raise ValueError(f"the initial weights have not vanished after {steps} steps: train longer (--epochs)")
    return trainer, measure.mean_cost(list(costs)), programs


def dense(cfg: Config, sizes: tuple[int, ...], batch: int, data: Dataset) -> tuple[Trainer, measure.Cost, list]:
    """A network in dense mode, the cost of a step, and its programs."""
    plan = Recipe(epochs=1, batch=batch, budget="dense")
    trainer = training.make_trainer(cfg, sizes, plan, 1)
    for done, (_, result) in enumerate(training.follow(trainer, data, plan, 1)):  # noqa: B007
        if done == 1:  # the first step has nothing loaded ahead
            break
    programs = [result.forward, result.backward]
    return trainer, measure.step_cost(cfg, programs, LATENCY), programs


def simulation(cfg: Config, sizes: tuple[int, ...], plan: Recipe, data: Dataset) -> dict[str, Any]:
    """Cycles a second of the batch harness and of cocotb on the same Verilog and the same programs."""
    from scripts.cocotb_speed import cocotb_speed

    trainer = training.make_trainer(cfg, sizes, plan, 1, tiling=training.tiling_for(plan, sizes), keep_image=True)
    harness = Harness(verilog(cfg), cfg, LATENCY, beats=1)
    lockstep = Lockstep(trainer, harness)
    began = time.process_time()
    for done, _ in enumerate(training.follow(trainer, data, plan, 1), 1):
        if done == SPEED_STEPS:
            break
    whole = time.process_time() - began
    batch = lockstep.compared.cycles / lockstep.seconds
    driven = cocotb_speed(cfg, sizes, plan, data)
    return {
        "harness_cycles_per_second": batch,
        "lockstep_cycles_per_second": lockstep.compared.cycles / whole,
        "cocotb_cycles_per_second": driven,
        "ratio": batch / driven,
        "cycles": lockstep.compared.cycles,
        "mismatches": lockstep.compared.mismatches,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options, console = parse(arguments), Console()
    try:
        cfg, sizes = preset(options.array), layer_sizes(options.net)
        data = dataset.load(options.data)
        recipe.check_sizes(data, sizes)
        plan = Recipe(epochs=options.epochs, batch=options.batch, learning_rate=0.4, budget=options.budget, decay=0.99)
        plans = {int(t): replace(plan, period=int(t)) for t in options.periods.split(",")}
        network, base, programs = dense(cfg, sizes, options.batch, data)
        report: dict[str, Any] = {
            "config": {name: str(value) for name, value in vars(options).items()},
            "dense": {
                "cycles": {**base.cycles, "total": base.total},
                "utilisation": base.utilisation,
                "first_layer": measure.layer_utilisation(network.network, programs, LATENCY, 0),
            },
            "sparse": {},
        }
        with Progress(console=console) as bars:
            for period, one in plans.items():
                task = bars.add_task(f"T = {period}", total=one.steps(len(data.train_y)))

                def step(task: TaskID = task) -> None:
                    bars.advance(task)

                trainer, cost, _ = trained(cfg, sizes, one, data, step)
                loads = {p.name.lower(): measure.row_loads(trainer.network, trainer.generation, 0, p) for p in Policy}
                report["sparse"][period] = {
                    "cycles": {**cost.cycles, "total": cost.total},
                    "speedup": base.total / cost.total,
                    "utilisation": cost.utilisation,
                    "imbalance": {name: measure.imbalance(load) for name, load in loads.items()},
                }
        if not options.no_simulation:
            with console.status("simulating"):
                report["simulation"] = simulation(cfg, sizes, plan, data)
    except (ValueError, OSError) as error:
        console.print(f"[bold red]bench:[/] {error}")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "bench.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    show(report, console)
    console.print(f"wrote {path}")
    return 0


def show(report: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    columns = ("T", "forward", "backward", "update", "other", "cycles", "speed-up", "busy", "stored", "paired", "LPT")
    table = Table(*columns, title="Whole training step, steady state; first layer's imbalance of rows")
    base = report["dense"]

    def row(name: str, cycles: dict[str, float], *rest: str) -> None:
        table.add_row(name, *(f"{cycles[phase]:,.0f}" for phase in (*measure.PHASES, "total")), *rest)

    row("dense", base["cycles"], "1", f"{100 * base['utilisation']:.1f} %")
    for period, one in report["sparse"].items():
        loads = [f"{100 * one['imbalance'][name]:.1f} %" for name in ("none", "pair", "lpt")]
        row(str(period), one["cycles"], f"{one['speedup']:.2f}", f"{100 * one['utilisation']:.1f} %", *loads)
    console.print(table)
    shares = ", ".join(f"{phase} {100 * share:.1f} %" for phase, share in base["first_layer"].items())
    console.print(f"dense mode, first layer, multipliers busy: {shares}")
    if "simulation" in report:
        speed = report["simulation"]
        console.print(
            f"batch harness {speed['harness_cycles_per_second']:,.0f} cycles a second, with golden model and comparison"
            f" {speed['lockstep_cycles_per_second']:,.0f}; cocotb {speed['cocotb_cycles_per_second']:,.0f}; "
            f"ratio {speed['ratio']:.1f}; {speed['cycles']:,} cycles, {speed['mismatches']} mismatches"
        )


if __name__ == "__main__":
    sys.exit(main())
