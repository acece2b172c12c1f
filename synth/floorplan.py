"""Floorplan: the multipliers and RAM blocks of a row of the array lie side by side on the device.

Nothing but three pins is fixed when a placer of nextpnr begins, so it begins with all cells in one place and pulls them
apart from there: the rows end up interleaved, each all over the device. Given sites for what there are few sites for,
everything else follows its wires, and a row is where its multipliers are.

What there is once is the spine of the plan, from the lower to the upper edge; half of the rows of the array lie to its
left, half to its right, so all that they are given and all that they answer crosses one border. A side has three bands,
each with a row of multipliers; the uppermost has twice the RAM blocks and logic, so rows of the array may lie side by
side there. What the drain hears goes from row to row (`rtl.rows`): a side is a chain, which begins at the lower edge
and ends in the upper band, next to the spine. Blocks of the spine get no sites: what the rows leave is where they
belong.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from synth.errors import SynthError

VERSION = "floorplan 3"
"""For the keys of cached results: to be raised when the same blocks get other sites."""

DEVICE = "LFE5U-85F"
_COLUMNS = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
"""Where a DSP slice, or four RAM blocks, begin."""

_BANDS = {10: (22,), 34: (46,), 58: (70, 82)}
"""Rows of DSP slices, and the rows of RAM blocks that follow them."""

_SIDES = ((4, 57), (69, 122))
"""First column, and the one behind the last, to the left and to the right of the spine."""

_ACROSS = 2
"""A row of blocks nearer or farther counts as so many columns for each of its tiles: rows of the array are wide."""

_MULTIPLIERS = {0: "MULT18_0", 1: "MULT18_1", 4: "MULT18_4", 5: "MULT18_5"}
_RAMS = {0: "EBR0", 2: "EBR1", 4: "EBR2", 6: "EBR3"}
_KINDS = ("MULT18X18D", "DP16KD")
_ROW = re.compile(r"unit\.row(\d+)\.")
_PE = re.compile(r".*\.pe\d+\.")


@dataclass(frozen=True, order=True)
class Site:
    """A place for a block: column and row of the device, name within that tile."""

    x: int
    y: int
    name: str

    def __str__(self) -> str:
        return f"X{self.x}/Y{self.y}/{self.name}"

    def distance(self, x: float, y: float) -> float:
        """To a point, along columns and rows."""
        return abs(self.x - x) + _ACROSS * abs(self.y - y)


def sites(kind: str) -> list[Site]:
    """All sites of the device for one kind of block."""
    names, rows = (
        (_MULTIPLIERS, list(_BANDS))
        if kind == "MULT18X18D"
        else (_RAMS, [row for below in _BANDS.values() for row in below])
    )
    return [Site(x + dx, y, name) for y in rows for x in _COLUMNS for dx, name in names.items()]


def centres(rows: int) -> list[dict[str, tuple[float, float]]]:
    """Where the blocks of each kind of every row of the array belong, in order: even rows left, odd ones right."""
    found: list[dict[str, tuple[float, float]]] = [{} for _ in range(rows)]
    for side, (begin, end) in enumerate(_SIDES):
        own = range(side, rows, len(_SIDES))
        shares: list[list[int]] = [[] for _ in _BANDS]
        for row in reversed(own):  # to the band that is least full then; of two the upper one
            full = [(len(share) + 1) / len(rams) for share, rams in zip(shares, _BANDS.values(), strict=True)]
            shares[max(band for band, after in enumerate(full) if after == min(full))].append(row)
        for share, (multipliers, rams) in zip(shares, _BANDS.items(), strict=True):
            for place, row in enumerate(sorted(share, reverse=side > 0)):  # the last one next to the spine
                x = begin + (place + 0.5) * (end - begin) / len(share)
                found[row] = {"MULT18X18D": (x, multipliers), "DP16KD": (x, sum(rams) / len(rams))}
    return found


def pin(module: dict[str, Any], device: str, label: str) -> int:
    """Give multipliers and RAM blocks their sites; changes the module, in the form of Yosys' `write_json`.

    Args:
        module: the flattened top level.
        device: its name.
        label: of the unit, for messages.

    Returns: number of blocks that were given one.

    Raises:
        SynthError: another device than the one whose sites are known, a unit without rows, or too few sites.
    """
    if device != DEVICE:
        raise SynthError(f"the floorplan is for an {DEVICE}, not for an {device}")
    cells = module["cells"]
    blocks: dict[int | None, dict[str, list[str]]] = defaultdict(lambda: {kind: [] for kind in _KINDS})
    for name, cell in cells.items():
        if cell["type"] in _KINDS:
            blocks[_row(name)][cell["type"]].append(name)
    rows = sorted(row for row in blocks if row is not None)
    if not rows:
        raise SynthError(f"a floorplan is for the top level, with its rows; {label} has none with multipliers")
    free = {kind: set(sites(kind)) for kind in _KINDS}
    for kind in _KINDS:
        needed = sum(len(of[kind]) for of in blocks.values())
        if needed > len(free[kind]):
            raise SynthError(f"{label} has {needed} {kind}, an {device} {len(free[kind])}")
    given = 0
    for row, centre in zip(rows, centres(len(rows)), strict=True):
        multipliers = _nearest(free["MULT18X18D"], len(blocks[row]["MULT18X18D"]), *centre["MULT18X18D"])
        placed = dict(zip(sorted(blocks[row]["MULT18X18D"], key=_natural), multipliers, strict=True))
        rams = _nearest(free["DP16KD"], len(blocks[row]["DP16KD"]), *centre["DP16KD"])
        placed |= dict(_beside(sorted(blocks[row]["DP16KD"], key=_natural), rams, placed))
        for name, site in placed.items():
            cells[name].setdefault("attributes", {})["BEL"] = str(site)
        given += len(placed)
    return given


def _row(name: str) -> int | None:
    found = _ROW.match(name)
    return int(found[1]) if found else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Order in which PE 2 comes before PE 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _nearest(free: set[Site], count: int, x: float, y: float) -> list[Site]:
    """So many sites around a point, from left to right; they are no longer free."""
    found = sorted(free, key=lambda site: (site.distance(x, y), site))[:count]
    free.difference_update(found)
    return sorted(found)


def _beside(names: Iterable[str], rams: list[Site], placed: dict[str, Site]) -> Iterator[tuple[str, Site]]:
    """Sites for RAM blocks: those of the PEs in the order of their multipliers, the others left and right of them."""
    at = {match[0]: site for name, site in placed.items() if (match := _PE.match(name))}
    own, others = [], []
    for name in names:
        match = _PE.match(name)
        if match and match[0] in at:
            own.append((name, at[match[0]]))
        else:
            others.append(name)

    def wire(begin: int) -> int:
        return sum(abs(rams[begin + place].x - site.x) for place, (_, site) in enumerate(own))

    begin = min(range(len(rams) - len(own) + 1), key=wire)
    yield from zip((name for name, _ in own), rams[begin:], strict=False)
    yield from zip(others, [*rams[:begin], *rams[begin + len(own) :]], strict=True)
