"""Bench: one program on the whole accelerator, driven by cocotb cycle by cycle, against what the golden model predicts.

It notes how many cycles a second it made; the batch harness is measured against that.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cocotb

from tb import config, parameters, start
from tb.top_driver import Top
from tb.top_program import Program


@cocotb.test
async def program_runs(dut: Any) -> None:
    """Registers, start, and memory service until the program is over; then everything is compared."""
    p = parameters()
    program = Program(p["program"])
    await start(dut)
    top = Top(dut, config(), program.before.copy(), p["latency"])
    await program.restore(top)
    await program.prepare(top)
    began = time.perf_counter()
    log = await top.run(program.limit(top))
    seconds = time.perf_counter() - began
    await program.check(top, log)
    Path(p["result"]).write_text(json.dumps({"cycles": log.cycles, "seconds": seconds}))
