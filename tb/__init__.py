"""cocotb benches, and the few things every bench needs.

The sampling convention, pinned by `tb_convention`: a bench wakes at `RisingEdge(clk)`, reads what
the design showed *in the cycle that ends there* (registers still hold their old values, and
combinational outputs have settled with that cycle's inputs), then writes the inputs of the next
cycle. One wake-up a cycle, and what a bench reads is what a synchronous neighbour would have seen.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arch.config import Config

PARAMETERS = "PROCRUSTES_PARAMETERS"


def parameters() -> dict[str, Any]:
    """Parameters given to `scripts.simulate.run_bench`, as decoded JSON."""
    return dict(json.loads(os.environ.get(PARAMETERS, "{}")))


def config(name: str = "config") -> Config:
    """The `Config` passed to the bench under `name`.

    Raises:
        KeyError: the bench was run without it.
    """
    from arch.config import Config

    return Config(**parameters()[name])


def seed() -> int:
    """The seed given to `run_bench`; make every generator of a bench from it."""
    return int(os.environ.get("COCOTB_RANDOM_SEED", "1"))


async def start(dut: Any, reset_cycles: int = 2) -> None:
    """Start the clock and hold reset; returns at an edge, in the first cycle after reset."""
    from cocotb.clock import Clock

    # The smallest even period: time means nothing here, and short times keep VCD files small.
    Clock(dut.clk, 2, unit="ns").start()
    await reset(dut, reset_cycles)


async def reset(dut: Any, cycles: int = 2) -> None:
    """Assert the synchronous reset for `cycles` cycles; returns in the first cycle after it."""
    from cocotb.triggers import RisingEdge

    await RisingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
