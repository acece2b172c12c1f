"""The vector stage: the Verilated unit against golden, byte for byte and cycle for cycle."""

import pytest

from arch.config import PRESETS
from golden.vector import law, softmax
from rtl.vector import softmax as softmax_rtl
from rtl.vector.coefficient_unit import CoefficientUnit
from rtl.vector.lanes import Lanes
from rtl.vector.programs import PROGRAMS
from rtl.vector.softmax import Softmax
from rtl.vector.stage import VectorStage
from rtl.vector.window_walk import WindowWalk
from scripts.simulate import run_bench

TINY, SMALL = PRESETS["tiny"], PRESETS["small"]
EIGHT = TINY.with_(operand_bits=8, bus_elements=4)
BUILDS = {
    "tiny1": (TINY, 1, 16),
    "tiny2": (TINY, 2, 2),
    "eight1": (EIGHT, 1, 4),
    "eight4": (EIGHT, 4, 16),
    "small2": (SMALL, 2, 16),
    "small4": (SMALL, 4, 8),
    "narrow": (TINY.with_(columns=2), 2, 8),
    "wide8": (TINY.with_(operand_bits=8, bus_elements=8), 2, 32),
}


@pytest.mark.parametrize("name", BUILDS)
def test_unit_equals_golden(name: str) -> None:
    cfg, elements, group = BUILDS[name]
    results = run_bench(
        lambda: VectorStage(cfg, elements, group),
        "vector_stage",
        "tb.tb_vector_stage",
        parameters={"config": cfg, "elements": elements, "group": group},
        seed=len(name),
    )
    assert results.tests == 11


@pytest.mark.parametrize("seed", range(20, 23))
@pytest.mark.parametrize("case", ["affine", "reduce", "unpool", "softmax", "reset_in_flight"])
def test_more_seeds(seed: int, case: str) -> None:
    cfg, elements, group = BUILDS["eight1"]
    results = run_bench(
        lambda: VectorStage(cfg, elements, group),
        "vector_stage",
        "tb.tb_vector_stage",
        parameters={"config": cfg, "elements": elements, "group": group},
        seed=seed,
        testcase=case,
    )
    assert results.tests == 1


@pytest.mark.parametrize("name", ["tiny1", "eight4"])
def test_step(name: str) -> None:
    cfg, elements, group = BUILDS[name]
    results = run_bench(
        lambda: VectorStage(cfg, elements, group),
        "vector_stage",
        "tb.tb_vector_step",
        parameters={"config": cfg, "elements": elements, "group": group},
    )
    assert results.tests == 1


@pytest.mark.soak
def test_paper() -> None:
    cfg = PRESETS["paper"]
    results = run_bench(
        lambda: VectorStage(cfg),
        "vector_stage",
        "tb.tb_vector_stage",
        parameters={"config": cfg, "elements": 2, "group": 32},
        seed=3,
    )
    assert results.tests == 11


def test_constants() -> None:
    """What the law says once in golden, the units say once in their docstrings."""
    for program, name in zip(PROGRAMS, ("constant", "forward", "backward", "inference"), strict=True):
        assert len(program) == law.INSTRUCTIONS[name]
    assert CoefficientUnit.SPACING == law.UNIT_SPACING
    assert WindowWalk.FIRST == law.WINDOW_WALK
    assert Lanes.PUSH + 3 == law.LANES and Lanes.SUMS + 1 == law.REDUCTION
    assert (Softmax.FLUSH, Softmax.DIVIDE) == (law.SOFTMAX_FLUSH, law.DIVISION)
    assert softmax_rtl.LOG2_E == softmax.LOG2_E
    for table, entries in ((softmax.POWERS, softmax_rtl.POWERS), (softmax.LOGARITHMS, softmax_rtl.LOGARITHMS)):
        assert [entry >> 20 for entry in entries] == table[:-1].tolist()


@pytest.mark.parametrize(
    ("elements", "group", "message"),
    [
        (3, 32, "elements must be a power of two, not 3"),
        (4, 32, "elements must be at most 2, not 4"),
        (1, 1, "group must be between 2 and 1024, not 1"),
        (1, 2048, "group must be between 2 and 1024, not 2048"),
        (1, 24, "group must be a power of two, not 24"),
    ],
)
def test_bad_arguments(elements: int, group: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        VectorStage(TINY, elements, group)
