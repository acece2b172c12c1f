"""The main job: train a sparse network on the Verilated accelerator and say what it brought.

Five trainings of the same network on the same data: dense and sparse on the golden model, dense and sparse in floating
point, and the sparse one on the RTL, each of its steps in lock-step with the golden model. The dense mode runs some
steps on the RTL as well, so that the cycles compared are all measured there.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from arch.config import Config
from golden import dataset, measure, quantile, recipe, training
from golden.dataset import Dataset
from golden.layout import Tiling
from golden.networks.graph import Graph
from golden.trainer import StepResult, Trainer
from golden.training import History
from rtl.top import verilog
from scripts.harness import Harness
from scripts.lockstep import CapacityError, Comparison, Lockstep, MismatchError
from scripts.options import LATENCY, Options, parse
from scripts.plots import write_plots
from scripts.report import Measured, build, print_table, write
from scripts.verilator import ToolError

STEADY = 16  # last steps whose mean cost is reported
DENSE_STEPS = 3  # of dense mode on the RTL; the first warms up

Step = Callable[[str, int, int], None]


@dataclass
class SparseRun:
    """Outcome of the sparse training."""

    history: History
    trainer: Trainer
    compared: Comparison
    costs: deque[measure.Cost] = field(default_factory=lambda: deque(maxlen=STEADY))
    simulated_s: float = 0.0


def train_sparse(options: Options, data: Dataset, harness: Harness | None, step: Step) -> SparseRun:
    """The sparse training, on the RTL in lock-step unless `harness` is None."""
    cfg, plan = options.config, options.recipe
    tiling = replace(training.tiling_for(plan, options.net), policy=options.balance)
    trainer = training.make_trainer(cfg, options.net, plan, options.seed, tiling=tiling, keep_image=harness is not None)
    lockstep = Lockstep(trainer, harness) if harness else None
    run = SparseRun(History(), trainer, lockstep.compared if lockstep else Comparison())
    unit = 2.0 ** (trainer.settings.weight_exponent - cfg.operand_bits)
    test = training.mantissas(data.test_x, cfg.operand_bits, plan.input_scale)
    steps = plan.steps(len(data.train_y))
    last = options.steps or steps
    per_epoch = steps // plan.epochs
    for done, (_, result) in enumerate(training.follow(trainer, data, plan, options.seed), 1):
        theta = quantile.theta_from_log2(trainer.machine.log2_theta, cfg.delta_bits) * unit
        _record(run.history, result, 0.0 if plan.dense else theta)
        if last - done < 2 * STEADY and trainer.fetched:  # a step that another one follows at once
            run.costs.append(measure.step_cost(cfg, (result.forward, result.backward), LATENCY))
        if done % per_epoch == 0 or done == last:
            run.history.error.append(100 * float((trainer.predict(test) != data.test_y).mean()))
        step("sparse training on the RTL" if harness else "sparse training", done, last)
        if done == last:
            break
    if lockstep:
        run.simulated_s = lockstep.seconds
    return run


def _record(history: History, result: StepResult, theta: float) -> None:
    history.loss.append(result.loss)
    history.tracked.append(result.tracked)
    history.adopted.append(sum(work.adopted for work in result.backward))
    history.evicted.append(sum(work.evicted for work in result.backward))
    history.theta.append(theta)


def dense_cost(options: Options, data: Dataset, harness: Harness | None, step: Step) -> tuple[measure.Cost, Comparison]:
    """Cost of a step in dense mode, and what was compared while it ran on the RTL."""
    cfg, plan = options.config, replace(options.recipe, budget="dense")
    trainer = training.make_trainer(
        cfg, options.net, plan, options.seed, tiling=Tiling(), keep_image=harness is not None
    )
    if harness:
        harness.reset()
    lockstep = Lockstep(trainer, harness) if harness else None
    x = training.mantissas(data.train_x, cfg.operand_bits, plan.input_scale)
    costs = []
    for done in range(DENSE_STEPS):
        part = slice(done * plan.batch, (done + 1) * plan.batch)
        ahead = slice((done + 1) * plan.batch, (done + 2) * plan.batch)
        result = trainer.step(x[part], data.train_y[part], x[ahead])
        costs.append(measure.step_cost(cfg, (result.forward, result.backward), LATENCY))
        step("dense mode", done + 1, DENSE_STEPS)
    return costs[-1], lockstep.compared if lockstep else Comparison()


def reference_runs(options: Options, data: Dataset, step: Step) -> dict[str, History]:
    """Dense on the golden model, dense and DropBack in floating point, for as many epochs."""
    plan = options.recipe
    dense = replace(plan, budget="dense")

    def report(name: str) -> training.Progress:
        return lambda done, steps, _: step(name, done, steps)

    if options.steps and isinstance(options.net, Graph):
        return {}  # an epoch of a convolutional network takes too long for a look at some steps
    if options.steps:  # a run cut short: references of the same length would say little, whole ones mislead
        plan = replace(plan, epochs=-(-options.steps // plan.steps(len(data.train_y)) * plan.epochs) or 1)
        dense = replace(dense, epochs=plan.epochs)
    runs = {
        "dense": training.run(
            data, options.net, dense, training.roomy(options.config), options.seed, report("dense training")
        ),
    }
    runs["float_dense"] = training.run_float(data, options.net, dense, options.seed, report("dense, floating point"))
    if not plan.dense:
        runs["float_dropback"] = training.run_float(
            data, options.net, plan, options.seed, report("DropBack, floating point")
        )
    return runs


@contextmanager
def progress_bars(console: Console) -> Iterator[Step]:
    """A bar for every part of the job, made when the part first reports."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    tasks: dict[str, object] = {}
    with Progress(*columns, console=console) as bars:

        def step(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done)  # type: ignore[arg-type]

        yield step


def make_harness(cfg: Config, console: Console) -> Harness:
    """The RTL with its trace, compiled (or found compiled)."""
    with console.status(f"compiling the {cfg.rows}x{cfg.columns} accelerator (once; kept in build/)"):
        traced = cfg.with_(trace=True)
        return Harness(verilog(traced), traced, LATENCY, beats=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit status: 0, 1 if RTL and golden model differ, 2 for bad input."""
    options, console = parse(arguments), Console()
    began = time.monotonic()
    try:
        data = dataset.load(options.data)
        if options.test:
            data = replace(data, test_x=data.test_x[: options.test], test_y=data.test_y[: options.test])
        recipe.check_sizes(data, options.net)
        data = recipe.whole_minibatches(data, options.net, options.recipe.batch)
        harness = make_harness(options.config, console) if options.engine == "rtl" else None
        with progress_bars(console) as step:
            run = train_sparse(options, data, harness, step)
            cost, compared = dense_cost(options, data, harness, step)
            references = reference_runs(options, data, step)
    except MismatchError as error:
        console.print(f"[bold red]RTL and golden model differ:[/] {error}")
        return 1
    except CapacityError as error:
        console.print(f"[bold red]train:[/] {error}. Plan for more weights (--budget), or train on a larger --array.")
        return 2
    except (ValueError, OSError, MemoryError, ToolError) as error:
        console.print(f"[bold red]train:[/] {error}")
        return 2
    measured = Measured(
        run=run.history,
        sparse=measure.mean_cost(list(run.costs)) if run.costs else None,
        dense=cost,
        network=run.trainer.network,
        generation=run.trainer.generation,
        references=references,
        compared=[run.compared, compared],
        simulated_s=run.simulated_s,
        elapsed_s=time.monotonic() - began,
    )
    report = build(options, measured)
    options.out.mkdir(parents=True, exist_ok=True)
    write(report, options.out / "report.json")
    print_table(report, console)
    for path in write_plots(options.out, measured, report):
        console.print(f"wrote {path}")
    console.print(f"wrote {options.out / 'report.json'}")
    return 0


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
