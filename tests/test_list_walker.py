"""List walker: the Verilated unit against a plain walk, cycle by cycle."""

from rtl.list_walker import KINDS, RUN_BITS, Kind, ListWalker
from scripts.simulate import run_bench
from tb import tb_list_walker as bench


def test_unit_equals_model() -> None:
    assert run_bench(ListWalker, "list_walker", "tb.tb_list_walker").tests == 5


def test_constants() -> None:
    assert (KINDS, Kind.W, RUN_BITS) == (bench.KINDS, bench.W, bench.RUN_BITS)
