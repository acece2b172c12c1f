"""Switching activity of the rows under a real training step: does the estimate of energy charge what really switches?

A step of training runs on the verilated accelerator, which counts the changes of every signal (SAIF): once on a dense
build, once on a sparse one in steady state. Told apart are the PEs and the row controllers, operations, visits and idle
cycles. The estimate charges every operation alike and idle cycles a share; `report` says what the signals did.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from arch.command import Phase
from arch.config import Config, preset
from golden import dataset, training
from golden.energy.structure import registers
from golden.machine import Work
from golden.recipe import Recipe
from rtl.top import verilog
from scripts.harness import Harness
from scripts.lockstep import Lockstep
from scripts.options import DIGITS_NET, LATENCY
from scripts.verilator import ROOT

PE_REGISTERS = ("gathered", "other", "product", "base", "acc", "late")
OPERANDS = ("gathered", "other", "product")
STEPS = 150
IDLE = 1000
PE, CONTROLLER = r"\bpe\d+$", r"\brow\d+(\.\w+)*\.controller(\.|$)"
"""Paths of the instances."""


@dataclass
class Activity:
    """Changes of signals.

    Attributes:
        by_scope: changes by path of the instance and signal, bits of a vector together.
    """

    by_scope: dict[tuple[str, ...], dict[str, int]]

    def sum(self, pattern: str, signals: Sequence[str] | None = None) -> int:
        """Changes of all signals (or those named) of all instances whose path matches."""
        found = re.compile(pattern)
        return sum(
            count
            for path, names in self.by_scope.items()
            if found.search(".".join(path))
            for name, count in names.items()
            if signals is None or name in signals
        )

    def instances(self, pattern: str) -> int:
        """Instances whose path matches."""
        return sum(bool(re.search(pattern, ".".join(path))) for path in self.by_scope)


_TOKEN = re.compile(r'"[^"]*"|[()]|[^\s()]+')


def parse(text: str) -> Activity:
    """Read a SAIF file.

    Raises:
        ValueError: no instance in it.
    """
    tokens: Iterator[str] = (match[0] for match in _TOKEN.finditer(text))
    found: dict[tuple[str, ...], dict[str, int]] = {}
    path: list[str] = []
    depth, opened = 0, list[int]()
    net, net_depth, previous = "", 0, ["", ""]
    for token in tokens:
        if token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
            if opened and depth < opened[-1]:
                opened.pop()
                path.pop()
        elif previous[1] == "(" and token == "INSTANCE":
            opened.append(depth)
            path.append("")
        elif previous[1] == "INSTANCE":
            path[-1] = token.replace("\\", "")
        elif previous[1] == "(" and path and token not in ("NET", "T0", "T1", "TZ", "TX", "TB", "TC", "IG"):
            net, net_depth = re.split(r"\\?\[", token.replace("\\", ""), maxsplit=1)[0], depth
        elif previous[1] == "TC" and net and depth > net_depth:
            names = found.setdefault(tuple(path), {})
            names[net] = names.get(net, 0) + int(token)
        previous = [previous[1], token]
    if not found:
        raise ValueError("no instance in the SAIF file")
    return Activity(found)


@dataclass
class Recorded:
    """A training step.

    Attributes:
        step, idle: activity in it, and in `IDLE` cycles after it.
        works: what its commands did.
        cycles: that it took.
    """

    step: Activity
    idle: Activity
    works: list[Work]
    cycles: int


def train(cfg: Config, steps: int, budget: str) -> Recorded:
    """Train in lock-step, and record the last of so many steps.

    Raises:
        ValueError: the RTL differs from the golden model; says where first.
    """
    data, sizes = dataset.load("digits"), DIGITS_NET
    plan = Recipe(epochs=10, batch=cfg.columns, learning_rate=0.4, budget=budget, decay=0.9, period=4)
    tiling = training.tiling_for(plan, sizes) if cfg.sparse else None
    trainer = training.make_trainer(cfg, sizes, plan, 1, keep_image=True, tiling=tiling)
    harness = Harness(verilog(cfg), cfg, LATENCY, beats=1, activity=True)
    lockstep = Lockstep(trainer, harness)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "activity.saif"
        for done, (_, result) in enumerate(training.follow(trainer, data, plan, 1), 1):  # noqa: B007
            if done == steps:
                break
            if done == steps - 1:
                harness.record_activity(path)
                before = lockstep.compared.cycles
        harness.record_activity(None)
        found = parse(path.read_text())
        harness.record_activity(path)
        harness.step(IDLE)
        harness.record_activity(None)
        idle = parse(path.read_text())
    if lockstep.compared.mismatches:
        raise ValueError(f"the RTL differs from the golden model: {lockstep.compared.first}")
    return Recorded(found, idle, result.forward + result.backward, lockstep.compared.cycles - before)


def measure(cfg: Config, recorded: Recorded) -> dict[str, float]:
    """Changes of bits an operation, a visit and an idle cycle, and what the estimate takes them for.

    The clock is a signal too and changes twice a cycle.
    """
    walks = [(work.command["phase"], work.walk) for work in recorded.works if work.walk is not None]
    operations = sum(walk.busy for _, walk in walks)
    visits = sum(walk.visits for _, walk in walks)
    regs = registers(cfg)
    clocked = sum(regs["PE, DOT" if phase == Phase.WU else "PE, MAC"] * walk.busy for phase, walk in walks)
    products, step, idle = operations * cfg.columns, recorded.step, recorded.idle
    changes = step.sum(PE, PE_REGISTERS)
    return {
        "cycles": recorded.cycles,
        "rows busy, share": operations / (cfg.rows * recorded.cycles),
        "operations of a row": operations,
        "visits": visits,
        "PE: changes of operands and product, an operation": step.sum(PE, OPERANDS) / products,
        "PE: changes of all registers, an operation": changes / products,
        "PE: register bits clocked, an operation (estimate)": clocked / operations,
        "PE: share of them that changes": changes / (clocked * cfg.columns),
        "control word: share of its bits that changes, an operation": step.sum(PE, ["control"])
        / (products * regs["control word"]),
        "PE: changes of all signals, an operation": step.sum(PE) / products,
        "PE: changes of all signals, an idle cycle": idle.sum(PE) / (IDLE * cfg.rows * cfg.columns),
        "row controller: changes of all signals, a visit": step.sum(CONTROLLER) / visits,
        "row controller: changes of all signals, an idle cycle": idle.sum(CONTROLLER) / (IDLE * cfg.rows),
    }


def report(array: str, steps: int) -> dict[str, Any]:
    """Both builds."""
    cfg = preset(array)
    builds = {"dense": (cfg.with_(sparse=False), "dense"), "sparse": (cfg, "10x")}
    return {mode: measure(build, train(build, steps, budget)) for mode, (build, budget) in builds.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="activity", description="Switching activity of the rows in a training step.")
    p.add_argument("--array", default="tiny", help="preset or ROWSxCOLUMNS (tiny)")
    p.add_argument("--steps", type=int, default=STEPS, help=f"training steps, the last is recorded ({STEPS})")
    p.add_argument("--out", type=Path, default=ROOT / "build" / "activity.json", help="file (build/activity.json)")
    options, console = p.parse_args(arguments), Console()
    if options.steps < 3:
        p.error(f"steps must be at least 3, not {options.steps}")
    try:
        found = report(options.array, options.steps)
    except (ValueError, OSError) as error:
        console.print(f"[bold red]activity:[/] {error}")
        return 2
    table = Table(f"a training step on {options.array}", "dense", "sparse")
    for name in found["dense"]:
        table.add_row(name, *(f"{found[mode][name]:,.2f}" for mode in ("dense", "sparse")))
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    console.print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
