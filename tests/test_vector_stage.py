"""The vector stage: the Verilated unit against golden, byte for byte and cycle for cycle."""

import pytest

from arch.config import PRESETS
from rtl.vector.stage import VectorStage
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
