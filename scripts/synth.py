"""Synthesise the accelerator: `python -m scripts.synth --array tiny paper --targets sky130 ecp5`.

For every unit and the top level, sparse and dense: area in standard cells, resources of an ECP5, paths between
memories, and with `--targets clock` the clock that it reaches there. Writes `synth.json`, `synth.md` and
`synth_area.png`; `--against` compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from arch.config import PRESETS, preset
from scripts import synth_plots
from synth import ecp5, liberty, report, tools
from synth.errors import SynthError
from synth.measure import CLOCK, FPGA, PATHS, Request, between_memories, builds, check_clock, measure, steps
from synth.units import TOP

BUILDS = ("sparse", "dense")
TARGETS = (*liberty.KNOWN, FPGA, PATHS, CLOCK)
MOST_SEEDS = 100


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="synth", description="Area, resources and clock of the accelerator and its units.")
    p.add_argument(
        "--array",
        nargs="+",
        default=["paper"],
        metavar="RxC",
        help=f"rows x columns, or {', '.join(PRESETS)}; several (paper)",
    )
    p.add_argument("--build", nargs="+", choices=BUILDS, default=list(BUILDS), help="both unless one is named")
    p.add_argument(
        "--targets",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(TARGETS)}, or a library of --liberty; {PATHS} finds those between memories, {CLOCK} places"
        f" and routes the units (all libraries that are found, {FPGA} and {PATHS})",
    )
    p.add_argument(
        "--liberty",
        nargs="+",
        default=[],
        metavar="[NAME=]PATH",
        help="cell libraries: files, or folders of .lib and .lib.gz",
    )
    p.add_argument(
        "--unit", nargs="+", default=[], metavar="NAME", help=f"units for {CLOCK} (all); {TOP} is the top level"
    )
    p.add_argument("--seeds", type=int, default=5, metavar="N", help="placements of a unit (5)")
    p.add_argument(
        "--router",
        choices=ecp5.ROUTERS,
        default=ecp5.ROUTERS[0],
        help="of nextpnr (router1)",
    )
    p.add_argument(
        "--placement",
        choices=ecp5.PLACEMENTS,
        default="default",
        help="of nextpnr; timing: its analytic placer pulls critical paths together harder; static: its electrostatic"
        " placer, which spreads large designs better; floorplan, of a top level: static, and each row's multipliers and"
        " RAM blocks get sites side by side (default)",
    )
    p.add_argument("--speed", choices=ecp5.SPEEDS, default=ecp5.SPEEDS[0], help="grade of the device (6, the slowest)")
    p.add_argument("--against", type=Path, metavar="FILE", help="an older synth.json: print what changed")
    p.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder of the files written (out)")
    return p


def libraries(given: Sequence[str], wanted: Sequence[str] | None, console: Console) -> tuple[liberty.Library, ...]:
    """The cell libraries to use: those given, and those of `TARGETS` that are wanted or, by default, there.

    Raises:
        SynthError: one that was asked for is missing or no library.
    """
    paths = {}
    for text in given:
        name, equals, path = text.rpartition("=")
        paths[name if equals else Path(path).name.split(".")[0]] = Path(path)
    unknown = [name for name in wanted or () if name not in (*TARGETS, *paths)]
    if unknown:
        raise SynthError(f"target {unknown[0]!r} is none of {', '.join((*TARGETS, *paths))}")
    for name in liberty.KNOWN:
        if name in paths or (wanted is not None and name not in wanted):
            continue
        found = liberty.find(name)
        if found is not None:
            paths[name] = found
        elif wanted is not None:
            places = ", ".join(str(folder / liberty.KNOWN[name]) for folder in liberty.folders())
            raise SynthError(f"cell library {name} is in none of {places}: give it with --liberty {name}=PATH")
        else:
            console.print(f"without {name}: no such library here (--liberty {name}=PATH)")
    return tuple(liberty.read(name, path) for name, path in paths.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = parser()
    options = p.parse_args(arguments)
    console = Console()
    if not 1 <= options.seeds <= MOST_SEEDS:
        p.error(f"seeds must be between 1 and {MOST_SEEDS}, not {options.seeds}")
    try:
        configs = {name: preset(name) for name in options.array}
        old = json.loads(options.against.read_text()) if options.against else None
        tools.version(tools.YOSYS)
        chosen = libraries(options.liberty, options.targets, console)
        result = run(configs, chosen, options, console)
    except (SynthError, ValueError, OSError) as error:
        p.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "synth.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "synth.md").write_text(report.markdown(result))
    plots = synth_plots.write_plots(options.out, result)
    for title, head, rows in report.tables(result):
        console.print(report.rich_table(title, head, rows))
    if old is not None:
        console.print(report.rich_table(f"Against {options.against}", report.DELTA_HEAD, report.deltas(result, old)))
    console.print(", ".join(str(path) for path in (options.out / "synth.json", options.out / "synth.md", *plots)))
    return 0


def _advance(progress: Progress, task: TaskID, _: str) -> None:
    progress.advance(task)


def run(
    configs: dict[str, Any], chosen: tuple[liberty.Library, ...], options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """Measure everything; returns the report."""
    fpga = options.targets is None or FPGA in options.targets
    paths = options.targets is None or PATHS in options.targets
    clock = options.targets is not None and CLOCK in options.targets
    result: dict[str, Any] = {
        "tools": tools.versions(),
        "libraries": {one.name: {"digest": one.digest, "nand2": one.nand2, "clock_gates": one.gate} for one in chosen},
        "presets": {},
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name, config in configs.items():
            designs = builds(config, options.build)
            check_clock(designs, options.unit)
            result["presets"][name] = {"rows": config.rows, "columns": config.columns}
            for build, design in designs.items():
                units = tuple(options.unit or (u for u in design.units if u != TOP)) if clock else ()
                strict = bool(options.unit)
                settings = ecp5.Settings(options.router, options.placement, options.speed)
                request = Request(config, chosen, fpga, paths, units, options.seeds, settings, strict)
                task = progress.add_task(f"{name}, {build}", total=steps(design, request))
                advance = partial(_advance, progress, task)
                result["presets"][name][build] = measure(design, request, advance)
                if paths:
                    # Beside the builds, whose entries are units.
                    found = result["presets"][name].setdefault("memory_paths", {})
                    found[build] = between_memories(design, advance)
    result["summary"] = report.summary(result)
    return result


if __name__ == "__main__":
    sys.exit(main())
