"""Bench: one program on the whole accelerator, driven by cocotb cycle by cycle, against a memory in Python.

It is the second driver of the design, beside the batch harness: what it leaves in memory must be what the golden model
predicts, in as many cycles. It notes how many cycles a second it made.
"""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from arch.status import Register
from tb import config, parameters, start

START = 1
SPARE = 64  # cycles beyond the predicted ones


async def write(dut: Any, register: int, value: int) -> None:
    """One write to the control port."""
    dut.ctl_addr.value = register
    dut.ctl_wdata.value = value & 0xFFFFFFFF
    dut.ctl_we.value = 1
    await RisingEdge(dut.clk)
    dut.ctl_we.value = 0


@cocotb.test
async def program_runs(dut: Any) -> None:
    """Registers, start, and memory service until the program is over; then the image is compared."""
    p, cfg = parameters(), config()
    beat = cfg.beat_bits // 8
    memory = np.load(p["before"])
    for name in ("ctl_addr", "ctl_wdata", "ctl_we", "rd_resp_valid", "rd_resp_data"):
        getattr(dut, name).value = 0
    dut.rd_req_ready.value = dut.wr_ready.value = 1
    await start(dut)
    for register, value in p["registers"]:
        await write(dut, register, value)
    await write(dut, Register.CONTROL, START)

    due: deque[tuple[int, int]] = deque()  # cycle of the answer, data
    presented = False
    busy_cycles, now, began = 0, 0, time.perf_counter()
    while True:
        await RisingEdge(dut.clk)  # what is read now belongs to the cycle that ends here
        now += 1
        busy = int(dut.busy.value)
        busy_cycles += busy
        if presented and dut.rd_resp_ready.value:
            due.popleft()
            presented = False
        if dut.wr_valid.value:
            data = int(dut.wr_data.value).to_bytes(beat, "little")
            memory[int(dut.wr_addr.value)] = np.frombuffer(data, np.uint8)
        if dut.rd_req_valid.value:
            word = memory[int(dut.rd_req_addr.value)].tobytes()
            due.append((now + p["latency"], int.from_bytes(word, "little")))
        if due and due[0][0] <= now + 1 and not presented:
            dut.rd_resp_data.value = due[0][1]
            dut.rd_resp_valid.value = 1
            presented = True
        elif not presented:
            dut.rd_resp_valid.value = 0
        if busy_cycles and not busy:
            break
        assert now < p["cycles"] + SPARE, f"busy after {now} cycles, {p['cycles']} predicted"
    seconds = time.perf_counter() - began
    assert busy_cycles == p["cycles"]
    assert np.array_equal(memory, np.load(p["after"]))
    Path(p["result"]).write_text(json.dumps({"cycles": busy_cycles, "seconds": seconds}))
