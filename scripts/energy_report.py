"""Report of `scripts.energy`: one dictionary, written as energy.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from arch.config import Config
from golden.energy import model, roofline, sram, table
from golden.energy.events import EVENTS
from golden.energy.offchip import Bits
from golden.energy.roofline import Point
from golden.energy.step import Step

Report = dict[str, Any]

ASSUMPTIONS = (
    "45 nm, 0.9 V: arithmetic, registers and wires from published figures, each with its source in `table`; SRAM from"
    " CACTI, one read and one write port, words wider than 64 bits in several macros side by side",
    "a memory is charged whenever its enable is high in the RTL, with all bits of its word; equal energy whatever the"
    " data",
    "registers are clocked with the events that enable them; of all others the share `clock` in every cycle",
    "buses are as long as the side of a square with twice the area of all memories; no other wires, no pads but the"
    " memory's interface, no clock tree, no host",
    "external memory costs the same for every bit, read or written: no idle, no refresh, no row misses",
    "of leakage that of the memories (low-power cells) is in `rest`; that of the logic is left out",
    "FPGA fabrics and other nodes: not estimated",
)


@dataclass(frozen=True)
class Source:
    """The tables.

    Attributes:
        path: of the energies.
        memory: of the SRAMs.
    """

    path: Path = table.FILE
    memory: Path = sram.FILE

    def units(self, corner: str = "value") -> model.Units:
        """Building blocks at a corner."""
        return model.units(corner, self.path, self.memory)


def build(
    config: dict[str, Any], dense: Step, sparse: Step, points: dict[str, list[Point]], source: Source, **more: Any
) -> Report:
    """The report.

    Args:
        config: what was asked for.
        dense: step of the dense build.
        sparse: of the sparse one.
        points: roofline, by mode.
        source: tables.
        more: further entries.

    Raises:
        ValueError: see `model.units`.
    """
    both = {"dense": dense, "sparse": sparse}
    units = {corner: source.units(corner) for corner in model.CORNERS}
    energies = {mode: step.energy(units["value"]) for mode, step in both.items()}
    return {
        "config": config,
        "assumptions": list(ASSUMPTIONS),
        "unit": "uJ a training step",
        "energy": {mode: {**_totals(found), "phases": _scaled(found)} for mode, found in energies.items()},
        "ratio": {corner: _ratio(dense, sparse, u) for corner, u in units.items()},
        "sensitivity": sensitivity(dense, sparse, source),
        "corners": {
            corner: {mode: step.picojoules(u) / 1e6 for mode, step in both.items()} for corner, u in units.items()
        },
        "cycles": {mode: {**step.cycles, "total": sum(step.cycles.values())} for mode, step in both.items()},
        "events": {mode: step.total for mode, step in both.items()},
        "prices": {mode: model.prices(step.cfg, units["value"]) for mode, step in both.items()},
        "what": EVENTS,
        "roofline": {mode: _roofline(both[mode].cfg, found) for mode, found in points.items()},
        "table": {name: asdict(entry) for name, entry in table.read(source.path).items()},
        **more,
    }


def _totals(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    components = {c: sum(phase[c] for phase in found.values()) / 1e6 for c in model.COMPONENTS}
    return {"components": components, "total": sum(components.values())}


def _scaled(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {phase: {c: pj / 1e6 for c, pj in by.items()} for phase, by in found.items()}


def _ratio(dense: Step, sparse: Step, u: model.Units) -> float:
    return dense.picojoules(u) / sparse.picojoules(u)


def sensitivity(dense: Step, sparse: Step, source: Source) -> dict[str, dict[str, float]]:
    """The ratio with one entry of the table at its low or high end, all others at their values."""
    center = source.units()
    out: dict[str, dict[str, float]] = {}
    for name in table.UNITS:
        out[name] = {}
        for corner in model.CORNERS[1:]:
            end = source.units(corner)
            entries = {**center.entries, name: end.entries[name]}
            memory = end.memory if name == "sram" else center.memory
            out[name][corner] = _ratio(dense, sparse, replace(center, entries=entries, memory=memory))
    return out


def _roofline(cfg: Config, points: Iterable[Point]) -> dict[str, Any]:
    return {
        "peak": roofline.peak(cfg),
        "bandwidth": roofline.bandwidth(cfg),
        "points": [asdict(p) | {"intensity": p.intensity, "speed": p.speed} for p in points],
    }


def traffic(modes: Sequence[tuple[str, Bits, int]], regenerations: dict[str, float]) -> dict[str, Any]:
    """External traffic of a step, bits.

    Args:
        modes: name, traffic and tracked weights of each.
        regenerations: initial weights computed, by name.
    """
    return {
        name: {
            **asdict(bits),
            "total": bits.total,
            "stored": bits.stored,
            "tracked": tracked,
            "regenerated": regenerations.get(name, 0),
        }
        for name, bits, tracked in modes
    }
