"""Everything measured of one preset and build, as the entries of `synth.json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from arch.config import Config
from synth import cells, ecp5, memories, memory_paths
from synth.errors import SynthError
from synth.liberty import Library
from synth.mapping import run_all, total
from synth.units import Design, design

FPGA, CLOCK, PATHS = "ecp5", "clock", "paths"
"""Targets besides cell libraries: resources of ECP5, the clock that units reach there, paths between memories."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        config: the sparse build; the dense one has the same sizes.
        libraries: of standard cells.
        fpga: count ECP5's resources.
        paths: find the paths between memories.
        clock: units to place and route; a top level is named `Accelerator`.
        seeds: how many for each.
        settings: of nextpnr.
        strict: a unit of `clock` that does not fit is an error, not an entry that says so.
    """

    config: Config
    libraries: tuple[Library, ...] = ()
    fpga: bool = True
    paths: bool = True
    clock: tuple[str, ...] = ()
    seeds: int = 5
    settings: ecp5.Settings = field(default_factory=ecp5.Settings)
    strict: bool = True


def jobs() -> int:
    """Runs at a time: one a core."""
    return len(os.sched_getaffinity(0))


def steps(built: Design, request: Request) -> int:
    """How often `measure` and `between_memories` tell their progress."""
    flows = len(request.libraries) + request.fpga + request.paths
    return flows * len(built.netlist) + sum(name in built.units for name in request.clock)


def measure(built: Design, request: Request, done: Progress = lambda _: None) -> dict[str, Any]:
    """Units of a build by name: `instances`, `parts`, `own` and `all` by target, memories, clock.

    `parts` names the units that stand in one instance, with how often; `own` is one instance without them, `all` with.

    Raises:
        SynthError: a tool failed, or something does not fit the device.
    """
    netlist = built.netlist
    found: dict[str, dict[str, Any]] = {
        unit.name: {"class": unit.component, "instances": unit.instances, "parts": {}, "own": {}, "all": {}}
        for unit in built.units.values()
    }
    names = {unit.module: unit.name for unit in built.units.values()}
    for unit in built.units.values():
        found[unit.name]["parts"] = {names[part]: times for part, times in netlist[unit.module].children.items()}
    for library in request.libraries:
        mapped = run_all(cells.flow(library), netlist, list(netlist), jobs(), done)
        own = {name: cells.own(library, mapped[name]) for name in netlist}
        _enter(found, built, library.name, own)
        bits = {name: {k: float(v) for k, v in memories.bits(mapped[name]["memories"]).items()} for name in netlist}
        _enter(found, built, "memory_bits", bits)
        for unit in built.units.values():
            found[unit.name]["memories"] = mapped[unit.module]["memories"]
    if request.fpga:
        mapped = run_all(ecp5.FLOW, netlist, list(netlist), jobs(), done)
        _enter(found, built, FPGA, {name: ecp5.own(mapped[name]["cells"]) for name in netlist})
    for name in request.clock:
        if name in built.units:
            try:
                found[name][CLOCK] = _clock(built, name, request)
            except SynthError as error:
                if request.strict:
                    raise
                found[name][CLOCK] = {"error": str(error)}
            done(name)
    return found


def between_memories(built: Design, done: Progress = lambda _: None) -> dict[str, Any]:
    """Paths between memories, as `memory_paths.measure` finds them.

    Raises:
        SynthError: a tool failed.
    """
    names = {unit.module: unit.name for unit in built.units.values()}
    return memory_paths.measure(built.netlist, names, jobs(), done)


def _clock(built: Design, name: str, request: Request) -> dict[str, Any]:
    netlist, root = built.netlist, built.units[name].module
    parts = netlist.below(root)
    mapped = run_all(ecp5.FLOW, netlist, parts, jobs())
    own = {part: ecp5.own(mapped[part]["cells"]) for part in parts}
    ecp5.check_size(netlist, root, own, name)
    return ecp5.place_and_route(netlist, root, name, range(1, request.seeds + 1), request.settings, jobs())


def _enter(found: dict[str, dict[str, Any]], built: Design, target: str, own: dict[str, dict[str, float]]) -> None:
    for unit in built.units.values():
        found[unit.name]["own"][target] = _rounded(own[unit.module])
        found[unit.name]["all"][target] = _rounded(total(built.netlist, unit.module, own))


def _rounded(amounts: dict[str, float]) -> dict[str, float]:
    return {kind: round(amount, 3) for kind, amount in amounts.items()}


def builds(config: Config, names: Sequence[str]) -> dict[str, Design]:
    """The builds asked for, `sparse` and `dense`."""
    return {name: design(config.with_(sparse=name == "sparse")) for name in names}


def check_clock(built: dict[str, Design], names: Sequence[str]) -> None:
    """See that units to place and route exist in some build.

    Raises:
        SynthError: one does not; names those there are.
    """
    first = next(iter(built.values()))
    for name in names:
        if not any(name in one.units for one in built.values()):
            first.unit(name)
