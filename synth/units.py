"""The units of a build: every component of the design, by class, with how often it stands in the top level.

The list is the design itself, elaborated: a new component is a unit as soon as something uses it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from amaranth.hdl import Elaboratable, Fragment, Instance, Module, UnusedElaboratable
from amaranth.lib import wiring

from arch.config import Config
from rtl.pe import PE
from rtl.top import Accelerator, verilog
from synth import cache
from synth.errors import SynthError
from synth.netlist import Netlist
from synth.tools import version

TOP = "Accelerator"


@dataclass(frozen=True)
class Unit:
    """A kind of component in a build.

    Attributes:
        name: its class; where several differing modules have one class, also the class it stands in (`A@B`, `A@B#2`).
        component: its class.
        module: its module in the netlist.
        instances: how often it stands in the top level.
    """

    name: str
    component: str
    module: str
    instances: int


@dataclass(frozen=True)
class Design:
    """One build as modules and units, the top level among them.

    Attributes:
        config: what was built.
        netlist: its modules.
        units: by name.
    """

    config: Config
    netlist: Netlist
    units: dict[str, Unit]

    def unit(self, name: str) -> Unit:
        """A unit by name.

        Raises:
            SynthError: there is none; the message lists those there are.
        """
        if name not in self.units:
            raise SynthError(f"no unit {name!r} in this build; there are {', '.join(sorted(self.units))}")
        return self.units[name]


def classes(cfg: Config) -> dict[str, str]:
    """Class of the component at every path of the design; of rows and PEs, which are all the same, of the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # looked at, not converted
        top = Accelerator(cfg)
        found: dict[str, str] = {}
        _components(top, "top", found)
        _components(top.rows[0], "top.row0", found)
        _components(PE(cfg), "top.row0.datapath.pe0", found)
    return found


def _components(component: wiring.Component, path: str, found: dict[str, str]) -> None:
    def walk(fragment: Fragment, path: str) -> None:
        for origin in fragment.origins or ():
            if isinstance(origin, Elaboratable) and not isinstance(origin, Module):
                found.setdefault(path, type(origin).__name__)
        for number, (below, name, _) in enumerate(fragment.subfragments):
            if not isinstance(below, Instance):
                walk(below, f"{path}.{name or f'U${number}'}")

    walk(Fragment.get(component, None), path)


def design(cfg: Config) -> Design:
    """Elaborate a build; cached by configuration and by the sources of the design."""
    root = Path(__file__).resolve().parent.parent
    sources = [path.read_text() for folder in ("rtl", "arch") for path in sorted((root / folder).rglob("*.py"))]
    key = cache.key("design", repr(cfg), version("amaranth"), Path(__file__).read_text(), *sources)
    known = cache.load(key)
    if known is None:
        known = {"verilog": verilog(cfg), "classes": classes(cfg)}
        cache.store(key, known)
    netlist = Netlist(known["verilog"])
    return Design(cfg, netlist, _units(netlist, known["classes"]))


def _units(netlist: Netlist, class_of: dict[str, str]) -> dict[str, Unit]:
    instances = netlist.instances()
    units: list[Unit] = []
    for name, module in netlist.items():
        path = next((path for path in module.paths if path in class_of), None)
        if path is None:
            raise SynthError(f"module {module.plain!r} is no component's: the list of units does not cover it")
        parent = class_of.get(path.rpartition(".")[0], "")
        units.append(Unit(f"{class_of[path]}@{parent}", class_of[path], name, instances[name]))
    per_class, seen = Counter(unit.component for unit in units), Counter[str]()
    named: dict[str, Unit] = {}
    for unit in units:
        name = unit.component
        if per_class[name] > 1:
            seen[unit.name] += 1
            name = unit.name + (f"#{seen[unit.name]}" if seen[unit.name] > 1 else "")
        named[name] = replace(unit, name=name)
    return dict(sorted(named.items()))
