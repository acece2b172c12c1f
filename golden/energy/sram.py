"""Energy of an SRAM by its shape: the table made by `scripts.cacti`, and what lies between its points.

Between two points energies follow a power of the width and of the depth (linear in the logarithms). Shapes outside are
cut to the table's edge in depth; widths below its first grow linearly with the bits. A word wider than the table's last
lies in several macros side by side, as a designer would place it: in CACTI a single array of 1024 bits costs five times
as much as 16 of 64.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "sram.toml"
QUANTITIES = ("read", "write", "leakage", "area")


@dataclass(frozen=True)
class Sram:
    """The table of a corner.

    Attributes:
        widths, depths: ascending, powers of two.
        points: by quantity (`QUANTITIES`): energies in pJ, leakage in mW, area in mm², shape (widths, depths).
        factor: of energies.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    points: dict[str, np.ndarray]
    factor: float = 1.0

    def _at(self, quantity: str, bits: int, depth: int) -> float:
        x, y, values = np.log2(self.widths), np.log2(self.depths), np.log2(self.points[quantity])
        pieces = max(1.0, bits / self.widths[-1])
        narrow = min(1.0, bits / self.widths[0])
        row = np.interp(np.log2(min(max(bits, self.widths[0]), self.widths[-1])), x, np.arange(len(x)))
        low = int(min(row, len(x) - 2))
        at = np.log2(min(max(depth, self.depths[0]), self.depths[-1]))
        below, above = (np.interp(at, y, values[i]) for i in (low, low + 1))
        return float(2 ** (below + (above - below) * (row - low)) * pieces * narrow)

    def energy(self, access: str, bits: int, depth: int) -> float:
        """A read or a write of a word, pJ."""
        return self._at(access, bits, depth) * self.factor

    def leakage(self, bits: int, depth: int) -> float:
        """Leakage of a memory, in mW."""
        return self._at("leakage", bits, depth) * depth / max(depth, self.depths[0])

    def area(self, bits: int, depth: int) -> float:
        """Area of a memory, in mm²."""
        return self._at("area", bits, depth) * max(1.0, depth / self.depths[-1])


@cache
def read(path: Path = FILE) -> dict[str, Sram]:
    """The corners `value` and `low` of a file.

    Raises:
        ValueError: no file, not TOML, something missing or not a positive number; names the file and the entry.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"there is no SRAM table {path}: `python -m scripts.cacti` makes it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    widths, depths = (_sizes(path, found, name) for name in ("widths", "depths"))
    return {corner: _corner(path, found, corner, widths, depths) for corner in ("value", "low")}


def _sizes(path: Path, found: dict[str, Any], name: str) -> tuple[int, ...]:
    sizes = found.get(name)
    if (
        not isinstance(sizes, list)
        or len(sizes) < 2
        or any(not isinstance(s, int) or s < 1 for s in sizes)
        or sizes != sorted(set(sizes))
    ):
        raise ValueError(f"{path}: {name} must be at least two ascending numbers from 1 on, not {sizes!r}")
    return tuple(sizes)


def _corner(path: Path, found: dict[str, Any], corner: str, widths: tuple[int, ...], depths: tuple[int, ...]) -> Sram:
    given = found.get(corner)
    points = {}
    for name in QUANTITIES:
        try:
            points[name] = np.asarray(given[name], np.float64)  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: [{corner}] has no table of numbers {name!r}") from None
        if points[name].shape != (len(widths), len(depths)):
            raise ValueError(
                f"{path}: [{corner}] {name} has shape {points[name].shape},"
                f" it must be {len(widths)} widths by {len(depths)} depths"
            )
        if not (np.isfinite(points[name]).all() and points[name].min() > 0):
            raise ValueError(f"{path}: [{corner}] {name} holds {points[name].min()}, every number must be above 0")
    return Sram(widths, depths, points)
