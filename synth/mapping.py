"""Modules mapped one by one to a target, children left out, each result cached by its content.

What is counted of a module is its own logic; a unit is then the sum over all that stands in it, the top level the sum
over the whole design. So a design of 256 PEs takes as long as one PE. What is lost is optimisation across the borders
of modules, in both builds alike.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synth import cache
from synth.errors import SynthError
from synth.netlist import Netlist, anonymous
from synth.tools import YOSYS, version, workplace, yosys

UNIT, PART = "unit", "part_"
READ = (
    "read_verilog unit.v",
    f"hierarchy -top {UNIT}",
    "proc",
    # Writes of single bits become multiplexers with many equal inputs; merged first, or opt_muxtree takes minutes.
    "opt_expr",
    "opt_clean",
    "opt_merge",
    "opt_reduce",
    "opt_expr",
    "opt_clean",
)
"""How every flow begins: one module named `unit` from `unit.v`."""


@dataclass(frozen=True)
class Flow:
    """How a module is mapped.

    Attributes:
        name: of the target, for folders and messages.
        script: Yosys commands after `READ`; they write `stat.json`.
        inputs: what else decides the result: digests of libraries.
        files: to be put beside the script, by the names that it uses.
        results: reads more out of the text files that the script leaves, by name.
    """

    name: str
    script: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    results: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)

    def key(self, text: str) -> str:
        """Of the result for a module with this Verilog."""
        return cache.key(self.name, version(YOSYS), *READ, *self.script, *self.inputs, anonymous(text))


def local_cells(stat: str, top: str = UNIT) -> dict[str, int]:
    """Cells by type of the module `top` in the output of `stat -json`, its children left out.

    Raises:
        SynthError: it is no such output.
    """
    try:
        modules = json.loads(stat[stat.index("{") :])["modules"]
        mine = next(value for name, value in modules.items() if name.removeprefix("\\") == top)
        counts = {name.removeprefix("\\"): int(count) for name, count in mine.get("num_cells_by_type", {}).items()}
        return {name: count for name, count in counts.items() if not name.startswith(PART)}
    except (ValueError, KeyError, StopIteration, TypeError) as error:
        raise SynthError(f"not the statistics of a module {top!r}: {error}") from None


def parts(netlist: Netlist, name: str) -> list[str]:
    """The modules that stand in a module, each once, in the order in which `source` numbers them."""
    return sorted(netlist[name].children, key=netlist[name].text.index)


def source(netlist: Netlist, name: str) -> str:
    """Verilog of one module under the name `unit`, its children as black boxes named `PART` and a number."""
    module = netlist[name]
    text, stubs = module.text.replace(f"module {name}", f"module {UNIT}", 1), []
    for number, child in enumerate(parts(netlist, name)):
        text = re.sub(rf"^  {re.escape(child)} ", f"  {PART}{number} ", text, flags=re.MULTILINE)
        stubs.append(netlist[child].stub(f"{PART}{number}"))
    return "\n".join([text, *stubs])


def run(flow: Flow, text: str, label: str) -> dict[str, Any]:
    """Map one Verilog text whose top is `unit`; cached. The result has `cells` and what `flow.results` reads.

    Raises:
        SynthError: Yosys failed.
    """
    key = flow.key(text)
    known = cache.load(key)
    if known is None:
        with workplace(f"{flow.name}-{label}") as folder:
            (folder / "unit.v").write_text(text)
            for name, path in flow.files.items():
                shutil.copyfile(path, folder / name)
            yosys([*READ, *flow.script], folder)
            known = {"cells": local_cells((folder / "stat.json").read_text())}
            for name, read in flow.results.items():
                known[name] = read((folder / f"{name}.txt").read_text())
        cache.store(key, known)
    return dict(known)


def run_all(
    flow: Flow,
    netlist: Netlist,
    names: Sequence[str],
    jobs: int = 1,
    done: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Map modules, several at a time, the largest first; tells `done` each name.

    Raises:
        SynthError: Yosys failed on one; the message names it.
    """

    def one(name: str) -> dict[str, Any]:
        try:
            return run(flow, source(netlist, name), netlist[name].plain)
        except SynthError as error:
            raise SynthError(f"{netlist[name].plain} for {flow.name}: {error}") from None

    found: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        largest_first = sorted(names, key=lambda name: -len(netlist[name].text))
        pending = {pool.submit(one, name): name for name in largest_first}
        try:
            for future in as_completed(pending):
                found[pending[future]] = future.result()
                done(pending[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def total(netlist: Netlist, root: str, own: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Sum of what modules have of their own, over everything in one `root`."""
    summed: dict[str, float] = {}
    for name, times in netlist.instances(root).items():
        for kind, amount in own[name].items():
            summed[kind] = summed.get(kind, 0) + times * amount
    return summed
