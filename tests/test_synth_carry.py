"""Carry cells that take in LUTs: fewer cells, and the same function by models of the cells that know nothing of it."""

import copy
from pathlib import Path

import numpy as np
import pytest

from synth import carry
from tests.ecp5_cells import Module, built, ccu2c, evaluated, random_inputs

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


def luts(module: Module) -> int:
    return sum(cell["type"] == "LUT4" for cell in module["cells"].values())


@pytest.mark.parametrize("name", BODIES)
def test_function_stays(name: str, tmp_path: Path) -> None:
    body, takes = BODIES[name]
    before = built(body, BITS, tmp_path)
    after = copy.deepcopy(before)
    gone = carry.absorb(after)
    assert luts(after) == luts(before) - gone
    if takes is not None:
        assert (gone >= BITS - 1) if takes else gone == 0
    inputs = random_inputs(BITS)
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
    module = built(BODIES["mask"][0], BITS, tmp_path)
    for cell in module["cells"].values():
        if cell["type"] == "CCU2C":
            cell["parameters"] |= {"INJECT1_0": "YES", "INJECT1_1": "YES"}
    assert carry.absorb(module) == 0
