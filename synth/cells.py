"""Standard cells: area of the logic of each module, memories apart."""

from __future__ import annotations

from typing import Any

from synth import memories
from synth.errors import SynthError
from synth.liberty import Library
from synth.mapping import Flow

GATED = 8
"""Flip-flops from which on a common enable is worth a gate in the clock."""


def flow(library: Library) -> Flow:
    """From Verilog to cells of a library. Memories stay what they are: bits, not flip-flops.

    Multipliers become Booth trees; enables of `GATED` and more flip-flops gate their clock, if the library can.
    """
    gates = []
    if library.gate:
        gates = [
            "dfflegalize -cell $_DFF_P_ 01 -cell $_DFFE_PP_ 01",
            f"clockgate {library.options} -min_net_size {GATED}",
        ]
    script = (
        "opt -nodffe -nosdff",
        "fsm",
        "opt",
        "wreduce",
        "peepopt",
        "opt_clean",
        "booth",
        "alumacc",
        "share",
        "opt",
        *memories.DUMP,
        "opt -fast -full",
        "opt -undriven -fine",
        "techmap",
        "opt -fast",
        "attrmap -remove init",
        *gates,
        f"dfflibmap {library.avoided} {library.options}",
        "opt -fast",
        f"abc {library.avoided} {library.options}",
        "opt_clean",
        "tee -q -o stat.json stat -json",
    )
    return Flow(library.name, script, (library.digest,), library.names, {"memories": memories.parse})


def own(library: Library, mapped: dict[str, Any]) -> dict[str, float]:
    """What a module has of its own: area, sequential area, gate equivalents, cells, flip-flops.

    Raises:
        SynthError: a cell that is neither in the library nor a memory: something was not mapped.
    """
    result = dict.fromkeys(("area", "sequential", "ge", "cells", "flip_flops"), 0.0)
    for cell, count in mapped["cells"].items():
        if cell in ("$mem_v2", "$scopeinfo"):
            continue
        if cell not in library.area:
            raise SynthError(f"{count} cells {cell} were not mapped to {library.name}")
        result["area"] += count * library.area[cell]
        result["cells"] += count
        if cell in library.sequential:
            result["sequential"] += count * library.area[cell]
            result["flip_flops"] += count
    result["ge"] = result["area"] / library.nand2
    return result
