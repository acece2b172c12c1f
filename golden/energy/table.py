"""The table of energies: read from TOML, every entry with unit, bit width, node and source."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "table.toml"
UNITS = {
    "multiply": "pJ",
    "add": "pJ",
    "shift": "pJ",
    "logic": "pJ",
    "register": "pJ",
    "wire": "pJ",
    "dram": "pJ",
    "sram": "factor",
    "frequency": "MHz",
    "clock": "factor",
}
"""Entries and their units."""

NUMBERS = ("value", "low", "high")
TEXTS = ("per", "node", "source")
MOST = 1e5


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        value: of the estimate. low, high: between which sources lie.
        unit: see `UNITS`. per: for what. node: technology. source: where it comes from.
    """

    value: float
    low: float
    high: float
    unit: str
    per: str
    node: str
    source: str


Table = dict[str, Entry]


def read(path: Path = FILE) -> Table:
    """The table in a file.

    Raises:
        ValueError: no file, not TOML, an entry missing or unknown, a field missing, a number out of 0 to `MOST` or not
            between low and high, another unit; names the file, the entry, the value and the bound.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"there is no energy table {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    if missing := UNITS.keys() - found.keys():
        raise ValueError(f"{path}: no entry {', '.join(sorted(missing))}; there must be {', '.join(UNITS)}")
    if unknown := found.keys() - UNITS.keys():
        raise ValueError(f"{path}: unknown entry {', '.join(sorted(unknown))}; there are {', '.join(UNITS)}")
    return {name: _entry(path, name, found[name]) for name in UNITS}


def _entry(path: Path, name: str, given: Any) -> Entry:
    if not isinstance(given, dict):
        raise ValueError(f"{path}: {name} must be a table with {', '.join((*NUMBERS, 'unit', *TEXTS))}, not {given!r}")
    for field in (*NUMBERS, "unit", *TEXTS):
        if field not in given:
            raise ValueError(f"{path}: [{name}] has no {field}")
    for field in NUMBERS:
        number = given[field]
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"{path}: [{name}] {field} must be a number, not {number!r}")
        if not 0 <= number <= MOST:
            raise ValueError(f"{path}: [{name}] {field} must be between 0 and {MOST:g}, not {number}")
    if not given["low"] <= given["value"] <= given["high"]:
        raise ValueError(
            f"{path}: [{name}] value {given['value']} must be between low {given['low']} and high {given['high']}"
        )
    if given["unit"] != UNITS[name]:
        raise ValueError(f"{path}: [{name}] unit must be {UNITS[name]!r}, not {given['unit']!r}")
    for field in TEXTS:
        if not isinstance(given[field], str) or not given[field].strip():
            raise ValueError(f"{path}: [{name}] {field} must be a text, not {given[field]!r}")
    if name == "frequency" and not given["low"] > 0:
        raise ValueError(f"{path}: [frequency] low must be above 0, not {given['low']}")
    return Entry(**{field: given[field] for field in (*NUMBERS, "unit", *TEXTS)})
