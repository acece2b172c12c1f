"""One module of a netlist as a graph of single bits: what depends on what, up to registers and memories.

Arithmetic and shifts are taken for such that every output bit depends on all inputs. A ROM that is read without a clock
is a table of constants, often a `case` statement, and becomes LUTs: it is logic here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synth import memories
from synth.errors import SynthError
from synth.mapping import PART, UNIT, Flow

CLOCKED, UNCLOCKED = "clocked", "unclocked"
"""Kinds of read: the data come from a register in the memory, or follow the address in the same cycle."""

THROUGH = "read address, unclocked"
"""The one input of a memory that is no end: its data follow it."""

_REGISTER = re.compile(r"\$(?:ff|(?:a|s|al)?dffs?r?(?:e|ce)?)$")
_BITWISE = {"$and", "$or", "$xor", "$xnor", "$not", "$pos", "$buf"}
_SELECTS = {"$mux", "$pmux"}

Bits = list[int]
Graph = dict[str, Any]


def numbers(bits: Iterable[int | str]) -> Bits:
    """Bits but for constants, which are texts."""
    return [bit for bit in bits if isinstance(bit, int)]


def graph(text: str) -> Graph:
    """What depends on what in one module, from Yosys's `write_json`: bits are numbers.

    The entries: `ports`, as in the first line of the module, each with direction and bits (constants stay); `logic`,
    groups of inputs and of outputs that depend on all of them; `reads` and `inputs` of memories; `parts`, numbers with
    the bits at their ports, as in their declarations.

    Raises:
        SynthError: it is no such netlist, or has a cell whose directions Yosys does not know.
    """
    try:
        modules = json.loads(text)["modules"]
        module = modules[UNIT]
        ports = [[port["direction"], port["bits"]] for port in module["ports"].values()]
        found: Graph = {"ports": ports, "logic": [], "reads": [], "inputs": [], "parts": []}
        for name, cell in module["cells"].items():
            kind, pins = cell["type"], cell["connections"]
            if kind.startswith(PART):
                # By position: names with numbers in them may differ from one elaboration to the next.
                connected = [pins.get(port, []) for port in modules[kind]["ports"]]
                found["parts"].append([int(kind.removeprefix(PART)), connected])
            elif kind == "$mem_v2":
                _memory(found, re.sub(r"\$\d+$", "", name), cell["parameters"], pins)
            elif not _REGISTER.match(kind):
                found["logic"] += _logic(kind, cell["port_directions"], pins)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SynthError(f"not a netlist of a module {UNIT!r}: {error!r}") from None
    return found


def _logic(kind: str, directions: Mapping[str, str], pins: Mapping[str, list[int | str]]) -> list[list[Bits]]:
    """One cell, as groups: one for every output bit where bits do not mix, or else one for all."""
    if kind in _BITWISE:
        operands = [pins[name] for name in ("A", "B") if name in pins]
        # A narrow operand is extended by its last bit, or by zeros: the last bit covers both.
        per_bit = [[operand[min(n, len(operand) - 1)] for operand in operands] for n in range(len(pins["Y"]))]
        return [[numbers(inputs), numbers([bit])] for inputs, bit in zip(per_bit, pins["Y"], strict=True)]
    if kind in _SELECTS:
        width = len(pins["Y"])
        per_bit = [[pins["A"][n], *pins["B"][n::width], *pins["S"]] for n in range(width)]
        return [[numbers(inputs), numbers([bit])] for inputs, bit in zip(per_bit, pins["Y"], strict=True)]
    by_direction: dict[str, Bits] = defaultdict(list)
    for name, bits in pins.items():
        by_direction[directions[name]] += numbers(bits)
    return [[by_direction["input"], by_direction["output"]]] if by_direction["output"] else []


def _memory(found: Graph, name: str, parameters: Mapping[str, str], pins: Mapping[str, list[int | str]]) -> None:
    """Enter a memory: reads and inputs, or, where a ROM is read without a clock, logic."""
    abits, width, writes = (int(parameters[key], 2) for key in ("ABITS", "WIDTH", "WR_PORTS"))
    clocked = [bit == "1" for bit in reversed(parameters["RD_CLK_ENABLE"])]
    for port in range(int(parameters["RD_PORTS"], 2)):
        address = numbers(pins["RD_ADDR"][port * abits : (port + 1) * abits])
        data = numbers(pins["RD_DATA"][port * width : (port + 1) * width])
        if not clocked[port] and not writes:
            found["logic"].append([address, data])
            continue
        found["reads"].append([name, CLOCKED if clocked[port] else UNCLOCKED, data])
        found["inputs"].append([name, "read address" if clocked[port] else THROUGH, address])
        if clocked[port]:
            enables = [pins[pin][port] for pin in ("RD_EN", "RD_ARST", "RD_SRST")]
            found["inputs"].append([name, "read enable", numbers(enables)])
    for pin, what in (("WR_ADDR", "write address"), ("WR_EN", "write enable"), ("WR_DATA", "write data")):
        found["inputs"].append([name, what, numbers(pins[pin])])


FLOW = Flow(
    "paths",
    # Yosys takes a register behind a read into the memory only if enables have been made the register's own.
    ("opt", *memories.COLLECT, "write_json graph.txt", "tee -q -o stat.json stat -json"),
    inputs=(Path(__file__).read_text(),),
    results={"graph": graph},
)
"""One module as a graph, its children left out."""
