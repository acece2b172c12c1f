"""Write queue: the Verilated unit against a list, cycle by cycle."""

import pytest

from arch.config import PRESETS
from golden import writing
from rtl.drainer import FlowDrainer
from rtl.write_queue import WriteQueue
from scripts.simulate import run_bench
from tb import tb_write_queue as bench

TINY = PRESETS["tiny"]


@pytest.mark.parametrize("depth", (5, 6, 8, 13))
def test_unit_equals_model(depth: int) -> None:
    parameters = {"config": TINY, "depth": depth}
    results = run_bench(lambda: WriteQueue(TINY, depth), "write_queue", "tb.tb_write_queue", parameters=parameters)
    assert results.tests == 4


@pytest.mark.parametrize("depth", (0, 4))
def test_depth_is_checked(depth: int) -> None:
    with pytest.raises(ValueError, match=f"^depth must be at least 5, not {depth}$"):
        WriteQueue(TINY, depth)


def test_constants() -> None:
    assert WriteQueue.LATENCY == bench.LATENCY == writing.QUEUE


@pytest.mark.parametrize("rows", (2, 8, 9, 13, 14, 64))
def test_depth_covers_the_way_to_the_rows(rows: int) -> None:
    for cfg in (TINY.with_(rows=rows, units=128), TINY.with_(rows=rows, units=128, copies=True)):
        depth, hops = WriteQueue.depth(cfg), writing.hops(cfg)
        for elements in (2, 4, 8):  # beats reserved at once: from a beat's first element until it is written
            latency = FlowDrainer.PUSH_LATENCY + hops + elements - 1 + WriteQueue.LATENCY
            assert latency // elements + 1 < depth - 2
        assert writing.BLOCK_PUSH + hops + WriteQueue.LATENCY + 1 < depth - 2  # a beat a cycle
