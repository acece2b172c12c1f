"""A standard-cell library in Liberty format: where it is, what its cells measure, and whether it is one.

The project carries none. A library is a file or a folder of files (`.lib`, `.lib.gz`), given by path, or by name below
the folder in `PROCRUSTES_LIBERTY` or `../shared/data/liberty`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from synth import cache
from synth.errors import SynthError

KNOWN = {"sky130": "sky130hd", "asap7": "asap7"}
"""Libraries by name: the folder that holds them."""

AVOIDED = ("*lpflow*", "*probe*", "*macro*", "*TIE*", "*SDF*", "*DLL*", "*DHL*")
"""Cells that no logic should use: for power switches, test, ties and latches."""

_CELL = re.compile(r'^\s*cell\s*\(\s*"?([\w.]+)"?\s*\)\s*\{', re.MULTILINE)
_AREA = re.compile(r"^\s*area\s*:\s*\"?([-+\d.eE]+)\"?\s*;?\s*$", re.MULTILINE)
_SEQUENTIAL = re.compile(r"^\s*(?:ff|latch|statetable)\s*\(|clock_gating_integrated_cell", re.MULTILINE)


@dataclass(frozen=True)
class Library:
    """A library that was read.

    Attributes:
        name: for reports.
        files: Liberty files, not compressed.
        digest: of their content.
        area: of every cell.
        sequential: cells with a state.
        nand2: area of the smallest two-input NAND: the gate equivalent.
        gate: whether it has a cell that gates a clock.
    """

    name: str
    files: tuple[Path, ...]
    digest: str
    area: dict[str, float]
    sequential: frozenset[str]
    nand2: float
    gate: bool

    @property
    def names(self) -> dict[str, Path]:
        """The files, by the names under which Yosys finds them: its sandbox does not hold every folder."""
        return {f"cells{number}.lib": path for number, path in enumerate(self.files)}

    @property
    def options(self) -> str:
        """Of Yosys, to name the files."""
        return " ".join(f"-liberty {name}" for name in self.names)

    @property
    def avoided(self) -> str:
        """Of Yosys, to leave out cells."""
        return " ".join(f"-dont_use {pattern}" for pattern in AVOIDED)


def folders() -> list[Path]:
    """Where libraries are looked for by name."""
    named = os.environ.get("PROCRUSTES_LIBERTY")
    beside = cache.ROOT.parent / "shared" / "data" / "liberty"
    return [*([Path(named)] if named else []), beside]


def find(name: str) -> Path | None:
    """Folder of a library of `KNOWN`, if it is there."""
    return next((folder / KNOWN[name] for folder in folders() if (folder / KNOWN[name]).is_dir()), None)


def read(name: str, path: Path) -> Library:
    """Read a library from a file or a folder of files.

    Raises:
        SynthError: nothing there, or no library with areas, flip-flops and a NAND.
    """
    if not path.exists():
        raise SynthError(f"cell library {name}: {path} does not exist")
    sources = [path] if path.is_file() else sorted([*path.glob("*.lib"), *path.glob("*.lib.gz")])
    if not sources:
        raise SynthError(f"cell library {name}: {path} holds no .lib or .lib.gz file")
    area: dict[str, float] = {}
    sequential: set[str] = set()
    gate = False
    files, digest = [], hashlib.sha256()
    for source in sources:
        text = _text(name, source)
        digest.update(text.encode())
        if not re.search(r"^\s*library\s*\(", text, re.MULTILINE):
            raise SynthError(f"cell library {name}: {source} is not in Liberty format: it has no library(...) group")
        if text.count("{") != text.count("}"):
            raise SynthError(
                f"cell library {name}: {source} is cut off: {text.count('{')} opening braces, {text.count('}')} closing"
            )
        for cell, body in _cells(text):
            found = _AREA.search(body)
            if found is None:
                raise SynthError(f"cell library {name}: cell {cell} in {source} has no area")
            area[cell] = float(found.group(1))
            if _SEQUENTIAL.search(body):
                sequential.add(cell)
            gate |= "clock_gating_integrated_cell" in body
        files.append(_plain(source, text))
    nands = [size for cell, size in area.items() if re.search(r"nand2(?!\d)(?!b)", cell, re.IGNORECASE) and size > 0]
    if not nands:
        raise SynthError(f"cell library {name}: no two-input NAND (a cell named *nand2*) among {len(area)} cells")
    if not sequential:
        raise SynthError(f"cell library {name}: no flip-flop among {len(area)} cells")
    return Library(name, tuple(files), digest.hexdigest(), area, frozenset(sequential), min(nands), gate)


def _text(name: str, source: Path) -> str:
    try:
        raw = source.read_bytes()
        return (gzip.decompress(raw) if source.suffix == ".gz" else raw).decode("latin-1")
    except (OSError, EOFError) as error:
        raise SynthError(f"cell library {name}: cannot read {source}: {error}") from None


def _cells(text: str) -> list[tuple[str, str]]:
    starts = list(_CELL.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [(start.group(1), text[start.end() : end]) for start, end in zip(starts, ends, strict=True)]


def _plain(source: Path, text: str) -> Path:
    """The file itself, or a copy that is not compressed."""
    if source.suffix != ".gz":
        return source.resolve()
    copy = cache.root() / "liberty" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-{source.stem}"
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_suffix(".part")
        part.write_text(text, encoding="latin-1")
        part.replace(copy)
    return copy
