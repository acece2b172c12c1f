"""Carry chains that begin and end within themselves: the same function, whatever an open carry in is, and no more cells
that nextpnr puts around them."""

import copy
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from synth import carry, chain_ends, tools
from tests.ecp5_cells import Module, built, evaluated, random_inputs

BODIES = {
    "sum": ("a + c", 0),
    "sum with its carry": ("a[HIGH-1:0] + c[HIGH-1:0]", 0),
    "difference": ("a - c", 0),
    "comparison": ("a < c", 1),
    "signed comparison": ("$signed(a) >= $signed(c)", 1),
    "sum of three": ("a + c + d", 0),
    "sum compared": ("(a + c) < d", 1),
    "multiplexer in front": ("(s ? a : b) + c", 0),
    "multiplexers compared": ("(s ? a : b) < (t ? c : d)", 1),
}
"""What is computed, and how many chains' last carries are read if the number of bits is even."""

INPUTS = 6


def same(after: Module, before: Module, inputs: dict[str, np.ndarray]) -> bool:
    """Whether both compute the same, the one with either value at what is unconnected."""
    expected = evaluated(before, inputs)
    return all(np.array_equal(evaluated(after, inputs, unconnected), expected) for unconnected in (0, 1))


def carries(module: Module) -> list[str]:
    return [name for name, cell in module["cells"].items() if cell["type"] == "CCU2C"]


def outside(module: Module) -> int:
    """Carry pins connected to what is no carry pin of the other sort, as nextpnr sees it: each costs a cell."""
    cells = [module["cells"][name]["connections"] for name in carries(module)]
    ins, outs = ([bit for cell in cells for bit in cell[pin] if bit != "x"] for pin in ("CIN", "COUT"))
    return sum(bit not in outs for bit in ins) + sum(bit not in ins for bit in outs)


@pytest.mark.parametrize("bits", (8, 9))
@pytest.mark.parametrize("name", BODIES)
def test_function_stays(name: str, bits: int, tmp_path: Path) -> None:
    body, read = BODIES[name]
    before = built(body.replace("HIGH", str(bits - 1)), bits, tmp_path)
    carried = copy.deepcopy(before)
    carry.absorb(carried)
    for module in (before, carried):
        after = copy.deepcopy(module)
        saved = chain_ends.mend(after)
        assert outside(after) == 0
        assert saved == outside(module) + len(carries(module)) - len(carries(after))
        assert same(after, before, random_inputs(bits))
    if bits % 2 == 0:
        pins = carry.readers(before)
        last = {before["cells"][name]["connections"]["COUT"][0] for name in carries(before)}
        links = {before["cells"][name]["connections"]["CIN"][0] for name in carries(before)}
        assert sum(pins[net] > 0 for net in last - links) == read


def chain(cells: int, begin: int | str, read: Sequence[int], seed: int = 0) -> Module:
    """A chain with tables and inputs at random: its carry in, and which halves' sums (or, -1, last carry) are read."""
    rng = np.random.default_rng(seed)
    numbers = itertools.count(2)
    inputs = [next(numbers) for _ in range(INPUTS)]
    carry_net, outputs, made = begin, [], {}
    for cell in range(cells):
        pins = {
            pin + half: [str(rng.integers(2)) if rng.random() < 0.2 else int(rng.choice(inputs))]
            for pin in "ABCD"
            for half in "01"
        }
        sums = {f"S{half}": [next(numbers)] for half in "01"}
        outputs += [net for place, (net,) in enumerate(sums.values()) if 2 * cell + place in read]
        out = next(numbers)
        made[f"sum_{cell}"] = {
            "hide_name": 0,
            "type": "CCU2C",
            "parameters": {f"INIT{half}": f"{rng.integers(1 << 16):016b}" for half in "01"}
            | {f"INJECT1_{half}": "NO" for half in "01"},
            "attributes": {},
            "port_directions": dict.fromkeys([*pins, "CIN"], "input") | dict.fromkeys([*sums, "COUT"], "output"),
            "connections": pins | sums | {"CIN": [carry_net], "COUT": [out]},
        }
        carry_net = out
    if -1 in read:
        outputs.append(carry_net)
    ports = {"a": {"direction": "input", "bits": inputs}, "q": {"direction": "output", "bits": outputs}}
    return {"attributes": {"top": "1"}, "ports": ports, "cells": made, "netnames": {}}


EVERY = {"a": np.arange(1 << INPUTS)}
SIGNAL = 2
"""Net of the first input."""


@pytest.mark.parametrize("cells", (1, 2, 3))
@pytest.mark.parametrize("begin", ("0", "1", SIGNAL))
def test_any_tables(begin: int | str, cells: int) -> None:
    for top, carried, seed in itertools.product(range(2 * cells), (False, True), range(6)):
        before = chain(cells, begin, [*range(0, top, 2), top, *([-1] if carried else [])], seed)
        after = copy.deepcopy(before)
        saved = chain_ends.mend(after)
        assert same(after, before, EVERY)
        used = 2 * cells + 1 if carried else top + 1
        needed = (1 + used + 1) // 2
        assert (len(carries(after)), outside(after), saved) == (needed, 0, 2 + cells - needed)
        assert list(after["cells"])[:cells] == list(before["cells"])[:needed]

        again = copy.deepcopy(after)
        assert chain_ends.mend(again) == 0 and again == after


def test_a_name_that_is_taken() -> None:
    module = chain(1, "0", [0, 1])
    module["cells"]["sum_0_end"] = other = {"type": "GSR", "connections": {}, "port_directions": {}}
    assert chain_ends.mend(module) == 1
    assert module["cells"]["sum_0_end"] is other and len(carries(module)) == 2


def test_what_stays() -> None:
    """A carry read on its way to the next cell, by that of another chain or otherwise, or one that is cut."""
    on_its_way = chain(3, "1", range(6))
    on_its_way["ports"]["q"]["bits"].append(on_its_way["cells"]["sum_1"]["connections"]["COUT"][0])
    fork = chain(3, "1", range(6))
    fork["cells"]["sum_2"]["connections"]["CIN"] = fork["cells"]["sum_0"]["connections"]["COUT"]
    cut = chain(3, "1", range(6))
    cut["cells"]["sum_1"]["parameters"]["INJECT1_1"] = "YES"
    for module in (on_its_way, fork, cut):
        before = copy.deepcopy(module)
        assert chain_ends.mend(module) == 0 and module == before


@pytest.mark.parametrize(
    ("cells", "begin", "read"),
    ((2, "0", range(3)), (2, "1", range(4)), (2, SIGNAL, range(3)), (2, "0", (-1,)), (2, "1", (*range(3), -1))),
)
def test_nextpnr_adds_nothing(cells: int, begin: int | str, read: Sequence[int], tmp_path: Path) -> None:
    def packed(module: Module) -> tuple[int, int]:
        """Halves of carry cells that nextpnr has in the end, and of those that it has put in."""
        (tmp_path / "in.json").write_text(json.dumps({"creator": "test", "modules": {"top": module}}))
        tools.nextpnr(["--25k", "--json", "in.json", "--write", "packed.json", "--pack-only"], tmp_path)
        found = json.loads((tmp_path / "packed.json").read_text())["modules"]["top"]["cells"]
        names = [name for name, cell in found.items() if cell["parameters"].get("MODE") == "CCU2"]
        return len(names), sum(name.startswith("$nextpnr_CCU2C") for name in names)

    module = chain(cells, begin, read)
    before = packed(module)
    assert before == (2 * cells + 4, 4)
    saved = chain_ends.mend(module)
    assert saved > 0 and packed(module) == (before[0] - 2 * saved, 0)
