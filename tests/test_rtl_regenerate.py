"""Weight regeneration: the Verilated unit against `golden.regenerate`."""

import pytest
from amaranth.back.verilog import convert

from arch.config import PRESETS
from golden import regenerate
from rtl import regenerate as rtl
from scripts.simulate import run_bench

CONFIGS = {"a16": PRESETS["tiny"], "a8": PRESETS["tiny"].with_(operand_bits=8)}


@pytest.mark.parametrize("name", CONFIGS)
def test_regenerate_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    parameters = {"config": cfg, "latency": rtl.Regenerate.LATENCY}
    run_bench(
        rtl.Regenerate(cfg), "regenerate", "tb.tb_regenerate", parameters=parameters, testcase="regenerated_weights"
    )


def test_constants_are_those_of_the_definition() -> None:
    names = ("K_BITS", "C_BITS", "TAP_BITS", "SCALE_BITS", "SCALE_SHIFT")
    assert [getattr(rtl, n) for n in names] == [getattr(regenerate, n) for n in names]
    assert rtl.NORMAL_OFFSET == regenerate.NORMAL_LIMIT


def test_latencies() -> None:
    assert rtl.Regenerate.LATENCY == 6


def test_regenerate_has_no_multiplier() -> None:
    """The one it uses is that of the weight update."""
    assert " * " not in convert(rtl.Regenerate(CONFIGS["a16"]), name="top", strip_internal_attrs=True)
