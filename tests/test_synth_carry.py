"""Carry cells that take in LUTs: fewer cells, and the same function by models of the cells that know nothing of it."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import carry, mapping, tools

BITS = 9
BODIES = {
    "multiplexer": ("(s ? a : b) + c", True),
    "mask": ("(a & {9{s}}) + c", True),
    "two masks": ("(a & {9{s}}) + (c & {9{t}})", True),
    "masked difference": ("c - (s ? a : 9'd0)", True),
    "choice of three": ("(s ? a : t ? b : d) + c", False),
    "sum alone": ("a + c", False),
    "step": ("s ? (t ? a + 1 : a - 1) : a", None),
    "comparison": ("{8'd0, (s ? a : b) < c}", None),
    "multiplexer read twice": ("((s ? a : b) + c) ^ {(s ? a : b), 1'b0}", None),
}
"""What is added, and whether LUTs must be taken in: yes, no, or as it comes."""

Module = dict[str, Any]


def built(body: str, folder: Path) -> Module:
    """A module of combinational logic, mapped to the cells of an ECP5."""
    ports = ", ".join(f"input [{BITS - 1}:0] {name}" for name in "abcd")
    text = f"module unit({ports}, input s, input t, output [{BITS - 1}:0] q); assign q = {body}; endmodule"
    (folder / "unit.v").write_text(text)
    tools.yosys([*mapping.READ, "synth_ecp5 -top unit -json netlist.json"], folder)
    return json.loads((folder / "netlist.json").read_text())["modules"]["unit"]  # type: ignore[no-any-return]


def evaluated(module: Module, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Output `q` for many inputs at once: cells are worked out as soon as what they read is known."""
    nets: dict[int | str, np.ndarray] = {}
    count = len(inputs["a"])
    for constant, value in (("0", 0), ("1", 1), ("x", 0)):
        nets[constant] = np.full(count, value)
    for name, values in inputs.items():
        for place, net in enumerate(module["ports"][name]["bits"]):
            nets[net] = values >> place & 1
    left = list(module["cells"].values())
    while left:
        later = []
        for cell in left:
            pins, parameters = {pin: bits[0] for pin, bits in cell["connections"].items() if bits}, cell["parameters"]
            reads = [net for pin, net in pins.items() if cell["port_directions"][pin] == "input"]
            if not all(net in nets for net in reads):
                later.append(cell)
                continue
            into = {pin: nets[net] for pin, net in pins.items() if net in nets}
            for pin, value in CELLS[cell["type"]](into, parameters).items():
                if pin in pins:
                    nets[pins[pin]] = value
        assert len(later) < len(left), "a loop"
        left = later
    return sum(nets[net] << place for place, net in enumerate(module["ports"]["q"]["bits"]))  # type: ignore[return-value]


Pins = Mapping[str, np.ndarray]


def lut(init: str, *inputs: np.ndarray) -> np.ndarray:
    """A table, the first input lowest."""
    table = np.array([int(bit == "1") for bit in reversed(init)])
    return table[sum(value << place for place, value in enumerate(inputs))]  # type: ignore[no-any-return]


def lut4(pins: Pins, parameters: Mapping[str, str]) -> dict[str, np.ndarray]:
    return {"Z": lut(parameters["INIT"], *(pins[pin] for pin in "ABCD"))}


def choice(one: str, zero: str, select: str) -> Callable[[Pins, Mapping[str, str]], dict[str, np.ndarray]]:
    return lambda pins, _: {"Z": np.where(pins[select] == 1, pins[one], pins[zero])}


def ccu2c(pins: Pins, parameters: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Two bits of a carry chain; a carry injected is none."""
    chain, out = pins["CIN"], {}
    for half in "01":
        init = parameters[f"INIT{half}"]
        propagate = lut(init, *(pins[pin + half] for pin in "ABCD"))
        generate = lut(init[-4:], pins[f"A{half}"], pins[f"B{half}"])
        closed = parameters[f"INJECT1_{half}"] == "YES"
        out[f"S{half}"] = propagate ^ (0 if closed else chain)
        chain = np.where(propagate == 1, chain, 0 if closed else generate)
    return {**out, "COUT": chain}


CELLS = {
    "LUT4": lut4,
    "CCU2C": ccu2c,
    "PFUMX": choice("ALUT", "BLUT", "C0"),
    "L6MUX21": choice("D1", "D0", "SD"),
}


def luts(module: Module) -> int:
    return sum(cell["type"] == "LUT4" for cell in module["cells"].values())


@pytest.mark.parametrize("name", BODIES)
def test_function_stays(name: str, tmp_path: Path) -> None:
    body, takes = BODIES[name]
    before = built(body, tmp_path)
    after = copy.deepcopy(before)
    gone = carry.absorb(after)
    assert luts(after) == luts(before) - gone
    if takes is not None:
        assert (gone >= BITS - 1) if takes else gone == 0
    rng = np.random.default_rng(1)
    inputs = {port: rng.integers(0, 1 << BITS, 4000) for port in "abcd"} | {
        port: rng.integers(0, 2, 4000) for port in "st"
    }
    # Where a carry runs through, too.
    inputs["c"][::3] = (1 << BITS) - 1 - inputs["a"][::3]
    assert np.array_equal(evaluated(after, inputs), evaluated(before, inputs))


def test_models_add() -> None:
    """The models are right where no pass has been: sums by Yosys' own mapping."""
    pins = {
        pin + half: np.array([0, 1, 0, 1]) if pin == "A" else np.array([0, 0, 1, 1]) for pin in "AB" for half in "01"
    }
    pins |= {pin + half: np.full(4, int(pin == "D")) for pin in "CD" for half in "01"}
    init = f"{0x96AA:016b}"
    found = ccu2c(
        {**pins, "CIN": np.ones(4, int)}, {f"{p}{h}": v for h in "01" for p, v in (("INIT", init), ("INJECT1_", "NO"))}
    )
    total = 3 * (pins["A0"] + pins["B0"]) + 1
    assert np.array_equal(found["S0"] + 2 * found["S1"] + 4 * found["COUT"], total)


def test_a_carry_that_is_cut_stays(tmp_path: Path) -> None:
    """Half a cell whose carry is injected follows another law; nothing is put into it."""
    module = built(BODIES["mask"][0], tmp_path)
    for cell in module["cells"].values():
        if cell["type"] == "CCU2C":
            cell["parameters"] |= {"INJECT1_0": "YES", "INJECT1_1": "YES"}
    assert carry.absorb(module) == 0
