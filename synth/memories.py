"""Memories of a module: what Yosys found, by kind, before anything is mapped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

COLLECT = ("memory -nomap", "opt_clean")
"""Yosys commands that make one cell of a memory with all its ports, and of a register behind a read a clocked read."""

DUMP = (*COLLECT, "tee -q -o memories.txt dump t:$mem_v2")
"""Yosys commands that collect memories and describe them in `memories.txt`."""

_CELL = re.compile(r"^\s*cell \$mem_v2 (\S+)$")
_PARAMETER = re.compile(r"^\s*parameter (?:signed )?\\(SIZE|WIDTH|RD_PORTS|WR_PORTS|RD_CLK_ENABLE) (\S+)$")


def parse(dump: str) -> list[dict[str, Any]]:
    """Memories in the output of `dump t:$mem_v2`: name, words, width, ports, and how many of the reads are clocked."""
    found: list[dict[str, str]] = []
    for line in dump.splitlines():
        if cell := _CELL.match(line):
            found.append({"name": re.sub(r"\$\d+$", "", cell.group(1).removeprefix("\\"))})
        elif found and (parameter := _PARAMETER.match(line)):
            found[-1][parameter.group(1)] = parameter.group(2)
    return [
        {
            "name": memory["name"],
            "words": int(memory["SIZE"]),
            "width": int(memory["WIDTH"]),
            "read": int(memory["RD_PORTS"]),
            "write": int(memory["WR_PORTS"]),
            "clocked": memory.get("RD_CLK_ENABLE", "").partition("'")[2].count("1"),
        }
        for memory in found
    ]


def kind(memory: dict[str, Any]) -> str:
    """What sort of memory it is, as `1R1W`; `a` marks reads without a clock, `ROM` one that is never written."""
    unclocked = memory["read"] - memory["clocked"]
    read = f"{memory['clocked']}R" if memory["clocked"] else ""
    read += f"{unclocked}aR" if unclocked else ""
    return f"{read}{memory['write']}W" if memory["write"] else f"{read} ROM"


def bits(memories: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Bits by kind."""
    summed: dict[str, int] = {}
    for memory in memories:
        summed[kind(memory)] = summed.get(kind(memory), 0) + memory["words"] * memory["width"]
    return summed
