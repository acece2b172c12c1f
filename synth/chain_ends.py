"""Carry chains that begin and end within themselves.

Carries of an ECP5 run from cell to cell on wires of their own, which nothing else can drive or read. So nextpnr puts a
whole carry cell in front of a chain, to make a carry of what its carry in is connected to, even of a constant, and one
behind it that makes a signal of its last carry, even if nobody reads that: four LUTs a chain.

Half a cell does for either, with p and g of that half as in `synth.carry`:

    p = 0, g = A    carry_out = A, whatever carry_in is
    p = 0           sum = carry_in

This pass over the mapped netlist puts the first of them, which reads what the carry in was connected to, into the first
half of the chain, whose other halves move up by one; where the last carry is read, the second comes behind them. Where
the last half of the chain was not used, that is all; else the chain grows by a cell.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from synth.carry import FREE, PINS, Bit, inputs, readers

VERSION = "chain ends 1"
"""For the keys of cached results: to be raised when the pass finds something else."""

_OPEN: Bit = "x"
"""At a carry or a sum that is left unconnected: nextpnr fails if a carry cell lacks a carry, or has no bit there."""

_GENERATE_A = f"{0x000A:016b}"
"""p = 0 if C and D are high, g = A: what nextpnr's own cell in front of a chain has, too."""


@dataclass(frozen=True)
class _Half:
    """Half a carry cell: inputs, table and what its sum drives; by default p = g = 0, and nobody reads the sum."""

    pins: tuple[Bit, ...] = (FREE,) * len(PINS)
    table: str = f"{0:016b}"
    sum: Bit = _OPEN


def mend(module: dict[str, Any]) -> int:
    """Let chains begin and end within themselves; changes the module, in the form of Yosys' `write_json`.

    Left as they are: chains in which a carry is read on its way to the next cell, or cut (`INJECT1`).

    Returns: number of carry cells that nextpnr no longer puts in, less those by which chains have grown.
    """
    cells = module["cells"]
    pins = readers(module)
    read: set[Bit] = {bit for bit in pins if isinstance(bit, int)}
    fresh = count(1 + max(_nets(module), default=1))
    return sum(_mend_one(cells, names, read, fresh) for names in _chains(cells, pins))


def _mend_one(cells: dict[str, Any], names: list[str], read: set[Bit], fresh: Iterator[int]) -> int:
    """Mend one chain; returns what `mend` does, for this one."""
    chain = [cells[name] for name in names]
    begin, end = _net(chain[0], "CIN"), _net(chain[-1], "COUT")
    halves = [half for cell in chain for half in _halves(cell)]
    if end in read:
        halves.append(_Half(sum=end))
    else:
        while halves and halves[-1].sum not in read:
            halves.pop()
    if begin != _OPEN:
        halves.insert(0, _Half((begin, FREE, FREE, FREE), _GENERATE_A))
    if len(halves) % 2:
        halves.append(_Half())

    needed = len(halves) // 2
    if needed > len(chain):
        chain.append(copy.deepcopy(chain[-1]))
        cells[_unused(f"{names[-1]}_end", cells)] = chain[-1]
        chain[-2]["connections"]["COUT"] = chain[-1]["connections"]["CIN"] = [next(fresh)]
    for name in names[needed:]:
        del cells[name]
    for cell, *both in zip(chain, halves[::2], halves[1::2], strict=False):
        for place, half in zip("01", both, strict=True):
            cell["connections"] |= {f"{pin}{place}": [bit] for pin, bit in zip(PINS, half.pins, strict=True)}
            cell["connections"][f"S{place}"] = [half.sum]
            cell["parameters"][f"INIT{place}"] = half.table
    chain[0]["connections"]["CIN"] = [_OPEN]
    chain[needed - 1]["connections"]["COUT"] = [_OPEN]
    return (begin != _OPEN) + (end != _OPEN) + len(names) - needed


def _chains(cells: Mapping[str, Any], pins: Mapping[Bit, int]) -> list[list[str]]:
    """Names of the cells of every chain that can be mended, in the order in which the carry runs."""
    carries = {name: cell for name, cell in cells.items() if cell["type"] == "CCU2C"}
    behind = {_net(cell, "CIN"): name for name, cell in carries.items()}
    outs = {_net(cell, "COUT") for cell in carries.values()} - {_OPEN}
    found = []
    for name, cell in carries.items():
        if _net(cell, "CIN") in outs:
            continue
        names = [name]
        while (link := _net(carries[names[-1]], "COUT")) != _OPEN and link in behind:
            names.append(behind[link])
        links = [_net(carries[one], "CIN") for one in names[1:]]
        injected = {carries[one]["parameters"].get(f"INJECT1_{half}") for one in names for half in "01"}
        if injected == {"NO"} and all(pins[link] == 1 for link in links):
            found.append(names)
    return found


def _halves(cell: Mapping[str, Any]) -> Iterator[_Half]:
    for half in "01":
        yield _Half(tuple(inputs(cell, half)), cell["parameters"][f"INIT{half}"], _net(cell, f"S{half}"))


def _net(cell: Mapping[str, Any], pin: str) -> Bit:
    bit: Bit = cell["connections"][pin][0]
    return bit


def _nets(module: Mapping[str, Any]) -> Iterator[int]:
    """Numbers of the nets of a module."""
    named = [net["bits"] for net in module.get("netnames", {}).values()]
    ports = [port["bits"] for port in module["ports"].values()]
    pins = [bits for cell in module["cells"].values() for bits in cell["connections"].values()]
    return (bit for bits in (*named, *ports, *pins) for bit in bits if isinstance(bit, int))


def _unused(name: str, cells: Mapping[str, Any]) -> str:
    while name in cells:
        name += "_"
    return name
