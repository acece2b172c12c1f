"""Paths from the read data of a memory, through logic only, to an input of a memory: static, on the netlist.

A block RAM answers late and wants its inputs early, so a path from one memory to another bounds the clock; a path
*through* a memory, from a read into the address of a read without a clock and out again, has two answers in one cycle.

Each distinct module is a graph (`synth/module_graph.py`), cached by content. A module says which of its inputs and
memories reach its outputs, and which inputs reach its memories; the module it stands in joins what its parts say. So
the whole design takes as long as its distinct modules. No condition is looked at: a path may be listed that no data
ever takes; none is missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from synth.errors import SynthError
from synth.mapping import parts, run_all
from synth.module_graph import FLOW, THROUGH, UNCLOCKED, Bits, Graph, numbers
from synth.netlist import Netlist


class Read(NamedTuple):
    """Read data of a memory, by the unit that it stands in."""

    unit: str
    memory: str
    kind: str


class Input(NamedTuple):
    """An input of a memory: address, enable or data of its read or write ports."""

    unit: str
    memory: str
    what: str


class Path(NamedTuple):
    """From a read to an input, with no register between; `within` is the unit in which the two meet."""

    source: Read
    end: Input
    within: str


@dataclass(frozen=True)
class _Summary:
    """What a module says to the one it stands in.

    Sets of input bits are masks; input bits are counted over all input ports, in order.

    Attributes:
        ports: direction and width of every port.
        outputs: for every output bit, the input bits and the reads that reach it.
        ends: for inputs of memories, the input bits that reach them.
    """

    ports: list[tuple[str, int]]
    outputs: list[tuple[int, frozenset[Read]]]
    ends: dict[Input, int]


def _propagate(feeds: Mapping[int, list[int]], given: dict[int, int]) -> dict[int, int]:
    """Union of masks along all edges: `feeds` names the nodes before a node, `given` has the masks of the first ones.

    Nodes are visited in an order in which those before come first; where cells that mix all bits close a loop, again.
    """
    order: list[int] = []
    entered: set[int] = set()
    for root in feeds:
        stack = [(root, False)]
        while stack:
            node, left = stack.pop()
            if left:
                order.append(node)
            elif node not in entered and node in feeds:
                entered.add(node)
                stack.append((node, True))
                stack += [(before, False) for before in feeds[node]]
    value, changed = dict(given), True
    while changed:
        changed = False
        for node in order:
            old = value.get(node, 0)
            new = old
            for before in feeds[node]:
                new |= value.get(before, 0)
            if new != old:
                value[node], changed = new, True
    return value


class _Joined:
    """One module with the summaries of its parts: its graph, closed.

    Args:
        unit: its name.
        own: its graph.
        order: its ports in the order of their declarations, by their places in the graph.
        inside: summaries of its parts, by number.
    """

    def __init__(self, unit: str, own: Graph, order: list[int], inside: list[_Summary]) -> None:
        self.unit = unit
        self.ports = [own["ports"][place] for place in order]
        self.inputs = [bit for direction, bits in self.ports if direction == "input" for bit in bits]
        self.reads: list[Read] = []
        self._number: dict[Read, int] = {}
        self._given: dict[int, int] = defaultdict(int)
        self._feeds: dict[int, list[int]] = defaultdict(list)
        self._groups = 0
        self._ends: dict[Input, set[int]] = defaultdict(set)
        for number, bit in enumerate(self.inputs):
            self._given[bit] = 1 << number
        for before, after in own["logic"]:
            self._group(before, after)
        for memory, kind, bits in own["reads"]:
            for bit in bits:
                self._given[bit] |= self._mask(Read(unit, memory, kind))
        for memory, what, bits in own["inputs"]:
            self._ends[Input(unit, memory, what)].update(bits)
        for part, connected in own["parts"]:
            self._part(inside[part], connected)
        self._value = _propagate(self._feeds, self._given)

    def _mask(self, read: Read) -> int:
        """Of a read: the bits above those of the inputs."""
        if read not in self._number:
            self._number[read] = len(self.reads)
            self.reads.append(read)
        return 1 << (len(self.inputs) + self._number[read])

    def _group(self, before: Iterable[int], after: Iterable[int]) -> None:
        """All of `after` depend on all of `before`: by way of one node, numbered below zero."""
        self._groups += 1
        self._feeds[-self._groups] = list(before)
        for bit in after:
            self._feeds[bit].append(-self._groups)

    def _part(self, summary: _Summary, connected: list[list[int | str]]) -> None:
        """Join a part at its ports.

        Raises:
            SynthError: the ports do not fit, which is an error of this program.
        """
        fits = len(connected) == len(summary.ports) and all(
            len(bits) in (0, width) for bits, (_, width) in zip(connected, summary.ports, strict=True)
        )
        if not fits:
            raise SynthError(f"a part of {self.unit} has other ports than its module")
        outside: dict[str, list[int | str]] = {"input": [], "output": []}
        for bits, (direction, width) in zip(connected, summary.ports, strict=True):
            outside[direction] += bits or ["x"] * width
        inputs = outside["input"]
        together: dict[int, Bits] = defaultdict(list)
        for bit, (mask, reads) in zip(outside["output"], summary.outputs, strict=True):
            if isinstance(bit, int):
                together[mask].append(bit)
                for read in reads:
                    self._given[bit] |= self._mask(read)
        for mask, after in together.items():
            if mask:
                self._group(numbers(_chosen(inputs, mask)), after)
        for end, mask in summary.ends.items():
            self._ends[end].update(numbers(_chosen(inputs, mask)))

    def _split(self, bits: Iterable[int | str]) -> tuple[int, frozenset[Read]]:
        """Input bits and reads that reach some of `bits`."""
        mask = 0
        for bit in numbers(bits):
            mask |= self._value.get(bit, 0)
        high = mask >> len(self.inputs)
        return mask & ((1 << len(self.inputs)) - 1), frozenset(_chosen(self.reads, high))

    def summary(self) -> _Summary:
        """For the module that it stands in."""
        ports = [(direction, len(bits)) for direction, bits in self.ports]
        outputs = [self._split([bit]) for direction, bits in self.ports if direction == "output" for bit in bits]
        return _Summary(ports, outputs, {end: self._split(bits)[0] for end, bits in self._ends.items()})

    def paths(self) -> set[Path]:
        """Those that close in this module: their ends are its own or in different parts."""
        return {Path(read, end, self.unit) for end, bits in self._ends.items() for read in self._split(bits)[1]}


def _chosen(items: list[Any], mask: int) -> list[Any]:
    """The items whose bits are set."""
    found = []
    while mask:
        low = mask & -mask
        found.append(items[low.bit_length() - 1])
        mask ^= low
    return found


def paths(netlist: Netlist, names: Mapping[str, str], graphs: Mapping[str, Graph]) -> list[Path]:
    """All paths between memories of a design, each once, sorted.

    Args:
        netlist: the modules.
        names: of their units.
        graphs: of all modules, as `FLOW` finds them.
    """
    summaries: dict[str, _Summary] = {}
    found: set[Path] = set()

    def visit(name: str) -> _Summary:
        if name not in summaries:
            inside = [visit(part) for part in parts(netlist, name)]
            joined = _Joined(names[name], graphs[name], netlist[name].declared, inside)
            found.update(joined.paths())
            summaries[name] = joined.summary()
        return summaries[name]

    visit(netlist.top)
    return sorted(found)


def measure(
    netlist: Netlist, names: Mapping[str, str], jobs: int = 1, done: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Entry of `synth.json`.

    `paths` lists ends, kind of read, input, and the units in which the two meet; `through` is how many lead into a read
    without a clock, and so through a memory; `through_from_unclocked` how many of these begin at such a read as well.

    Raises:
        SynthError: Yosys failed.
    """
    mapped = run_all(FLOW, netlist, list(netlist), jobs, done)
    found = paths(netlist, names, {name: mapped[name]["graph"] for name in netlist})
    pairs: dict[tuple[Read, Input], list[str]] = defaultdict(list)
    for path in found:
        pairs[path.source, path.end].append(path.within)
    through = [read for read, end in pairs if end.what == THROUGH]
    return {
        "through": len(through),
        "through_from_unclocked": sum(read.kind == UNCLOCKED for read in through),
        "paths": [
            {"from": f"{read.unit}.{read.memory}", "read": read.kind, "to": f"{end.unit}.{end.memory}"}
            | {"input": end.what, "within": within}
            for (read, end), within in pairs.items()
        ],
    }
