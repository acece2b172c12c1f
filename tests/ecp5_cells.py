"""ECP5's combinational cells by models of their own, which know nothing of the passes over mapped netlists."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from synth import mapping, tools

Module = dict[str, Any]


def built(body: str, bits: int, folder: Path) -> Module:
    """A module of combinational logic, mapped to the cells of an ECP5."""
    ports = ", ".join(f"input [{bits - 1}:0] {name}" for name in "abcd")
    text = f"module unit({ports}, input s, input t, output [{bits - 1}:0] q); assign q = {body}; endmodule"
    (folder / "unit.v").write_text(text)
    tools.yosys([*mapping.READ, "synth_ecp5 -top unit -json netlist.json"], folder)
    return json.loads((folder / "netlist.json").read_text())["modules"]["unit"]  # type: ignore[no-any-return]


def random_inputs(bits: int) -> dict[str, np.ndarray]:
    """For a module that is `built`; some of them such that the carry of a + c runs through."""
    rng = np.random.default_rng(1)
    inputs = {port: rng.integers(0, 1 << bits, 4000) for port in "abcd"}
    inputs["c"][::3] = (1 << bits) - 1 - inputs["a"][::3]
    return inputs | {port: rng.integers(0, 2, 4000) for port in "st"}


def evaluated(module: Module, inputs: Mapping[str, np.ndarray], unconnected: int = 0) -> np.ndarray:
    """Output `q` for many inputs at once: cells are worked out as soon as what they read is known."""
    nets: dict[int | str, np.ndarray] = {}
    count = len(inputs["a"])
    for constant, value in (("0", 0), ("1", 1), ("x", unconnected)):
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
                if pins.get(pin, "x") != "x":
                    assert pins[pin] not in nets, "driven twice"
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
