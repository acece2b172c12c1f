"""Carry cells take in the LUTs in front of them.

A carry cell of an ECP5 adds two pairs of bits. Each has a LUT of four inputs, of which an addition uses two: Yosys maps
what stands before the adder, a multiplexer, say, to a LUT of its own. This pass over the mapped netlist puts such a LUT
into the carry cell, if both together have no more than four inputs and nothing else reads it. That is a LUT, a wire and
a level of logic less.

What must stay is what the cell computes (Lattice, ECP5 family data sheet; the model is Yosys' `techlibs/ecp5`): with
p = LUT4(A, B, C, D) and g = LUT2(A, B), the quarter of the same table where C = D = 0,

    sum = p ^ carry_in        carry_out = carry_in if p else g

so p must be the same function of the inputs as before, and g wherever p is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

VERSION = "carry 1"
"""For the keys of cached results: to be raised when the pass finds something else."""

Bit = int | str
"""A net's number, or a constant: "0", "1", "x"."""

PINS = "ABCD"
"""Of a LUT, the lowest of its table's index first."""

_CONSTANTS = {"0": 0, "1": 1, "x": 0}
FREE: Bit = "1"
"""At a pin that nothing needs: an ECP5 ties it high."""


def absorb(module: dict[str, Any]) -> int:
    """Put LUTs into carry cells; changes the module, in the form of Yosys' `write_json`.

    Returns: number of LUTs that are gone.
    """
    cells = module["cells"]
    drivers, read = _drivers(cells), readers(module)
    gone = 0
    for cell in cells.copy().values():
        if cell["type"] != "CCU2C":
            continue
        for half in "01":
            if cell["parameters"].get(f"INJECT1_{half}") == "NO":
                while _take_one(cells, cell, half, drivers, read):
                    gone += 1
    return gone


def _drivers(cells: Mapping[str, Any]) -> dict[Bit, str]:
    """The LUT behind each net that a LUT drives."""
    return {cell["connections"]["Z"][0]: name for name, cell in cells.items() if cell["type"] == "LUT4"}


def readers(module: Mapping[str, Any]) -> Counter[Bit]:
    """Pins and ports at which each net is read."""
    read: Counter[Bit] = Counter()
    for port in module["ports"].values():
        read.update(port["bits"])
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                read.update(bits)
    return read


def _take_one(
    cells: dict[str, Any], cell: dict[str, Any], half: str, drivers: Mapping[Bit, str], read: Counter[Bit]
) -> bool:
    """Put the first LUT that fits into one half of a carry cell."""
    pins, table = inputs(cell, half), _table(cell["parameters"][f"INIT{half}"])
    for place, net in enumerate(pins):
        name = drivers.get(net)
        if name is None or name not in cells or read[net] != 1:
            continue
        lut = cells[name]
        behind = inputs(lut)
        signals = sorted({bit for bit in (*pins[:place], *pins[place + 1 :], *behind) if not isinstance(bit, str)})
        if len(signals) > len(PINS):
            continue
        found = _rearranged(signals, pins, place, table, behind, _table(lut["parameters"]["INIT"]))
        if found is None:
            continue
        order, new = found
        del cells[name]
        read.subtract([*pins, *behind])
        read.update(order)
        for pin, bit in zip(PINS, order, strict=True):
            cell["connections"][f"{pin}{half}"] = [bit]
        cell["parameters"][f"INIT{half}"] = f"{new:016b}"
        return True
    return False


def _rearranged(
    signals: Sequence[Bit], pins: Sequence[Bit], place: int, table: int, behind: Sequence[Bit], lut: int
) -> tuple[tuple[Bit, ...], int] | None:
    """An order of the inputs, and the table for it, that leave the cell what it is; none if no order does."""
    wanted = []  # for every value of the signals: p, g
    for number in range(1 << len(signals)):
        value = {signal: number >> place_ & 1 for place_, signal in enumerate(signals)} | _CONSTANTS
        into = [value.get(bit, 0) for bit in pins]
        into[place] = _look_up(lut, (value[bit] for bit in behind))
        wanted.append((value, _look_up(table, into), _look_up(table, into[:2])))
    for order in permutations([*signals, *[FREE] * (len(PINS) - len(signals))]):
        entries: dict[int, int] = {}
        generate: dict[int, int] = {}
        fits = True
        for value, p, g in wanted:
            index = _index(value[bit] for bit in order)
            entries[index] = p
            fits = fits and (p == 1 or generate.setdefault(index & 3, g) == g)
        if fits and all(entries.setdefault(index, g) == g for index, g in generate.items()):
            return order, sum(bit << index for index, bit in entries.items())
    return None


def inputs(cell: Mapping[str, Any], half: str = "") -> list[Bit]:
    """What a LUT, or that of one half of a carry cell, is connected to."""
    return [cell["connections"][pin + half][0] for pin in PINS]


def _table(init: str) -> int:
    return int(init.replace("x", "0"), 2)


def _index(values: Iterable[int]) -> int:
    return sum(value << place for place, value in enumerate(values))


def _look_up(table: int, values: Iterable[int]) -> int:
    return table >> _index(values) & 1
