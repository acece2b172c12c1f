"""Pins when a bench sees what: the ground every other bench stands on.

The design under test (see `tests/test_simulate.py`) has an input `d`, a register `q` that takes it
at every edge, a counter `count`, and the combinational `sum = count + d`.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ReadOnly, RisingEdge

import tb


@cocotb.test()
async def register_shows_its_old_value_at_the_edge(dut: Any) -> None:
    """After RisingEdge a register still reads its old value, after ReadOnly the new one."""
    await tb.start(dut)
    for _ in range(8):
        await RisingEdge(dut.clk)
        before = int(dut.count.value)
        await ReadOnly()
        assert int(dut.count.value) == (before + 1) % 256


@cocotb.test()
async def input_written_at_an_edge_misses_it(dut: Any) -> None:
    """What is written after RisingEdge is captured by the next edge, not by this one."""
    await tb.start(dut)
    dut.d.value = 1
    await RisingEdge(dut.clk)
    dut.d.value = 2
    await RisingEdge(dut.clk)
    assert int(dut.q.value) == 1
    dut.d.value = 3
    await ReadOnly()
    assert int(dut.q.value) == 2
    await RisingEdge(dut.clk)
    assert int(dut.q.value) == 2


@cocotb.test()
async def combinational_output_belongs_to_the_ending_cycle(dut: Any) -> None:
    """At an edge a combinational output shows that cycle's registers and that cycle's inputs."""
    await tb.start(dut)
    for value in (5, 77, 200, 0, 255):
        dut.d.value = value
        await RisingEdge(dut.clk)
        assert int(dut.sum.value) == (int(dut.count.value) + value) % 256


@cocotb.test()
async def reset_ends_in_the_first_cycle_after_it(dut: Any) -> None:
    """`tb.start` and `tb.reset` return where the registers hold their reset values."""
    await tb.start(dut)
    await RisingEdge(dut.clk)
    assert int(dut.count.value) == 0
    await RisingEdge(dut.clk)
    assert int(dut.count.value) == 1
    await tb.reset(dut)
    await RisingEdge(dut.clk)
    assert int(dut.count.value) == 0


@cocotb.test()
async def parameters_arrive(dut: Any) -> None:
    """Parameters, configuration and seed given to `run_bench` reach the bench."""
    given = tb.parameters()
    assert given["label"] == "convention"
    assert tb.config().rows == given["config"]["rows"] == 4
    assert tb.seed() == 7
    await tb.start(dut)
