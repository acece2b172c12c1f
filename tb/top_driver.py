"""The whole accelerator under cocotb: its control port, and a memory in Python that answers late or stalls.

The memory keeps the law of `scripts.harness`: a read request accepted in cycle t is answered in t + latency, answers
come in order, and a read sees what was written in earlier cycles, not in its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.config import Config
from arch.status import Register

START, SCRUB = 1, 2
SPARE = 64  # cycles beyond the predicted ones before a program counts as hung
BUSY, DONE = 1, 2  # bits of CONTROL


@dataclass
class Log:
    """What was seen since the last `Top.begin`.

    Attributes:
        cycles: in which the machine was busy.
        reads, writes: cycle and beat address of every access.
        rows, central: trace records of the busy cycles; nothing in a build without them.
    """

    cycles: int = 0
    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    rows: bytearray = field(default_factory=bytearray)
    central: list[int] = field(default_factory=list)


class Top:
    """The machine, its memory and its host, between two programs or in one.

    Args:
        dut: the accelerator, in the first cycle after a reset (`tb.start`); no input has been driven yet.
        cfg: its configuration; with a trace every busy cycle is logged.
        memory: uint8 (beats, bytes of a beat); changed in place. An access outside it is an IndexError.
        latency: cycles from a request to its answer.
        stalls: probabilities that in a cycle no request is accepted, a due answer is put off, no write is accepted.
        hostile: show rubbish wherever the protocol leaves a value open: answers that are not valid, the control port
            when nothing is written. Costs time.
    """

    def __init__(self, dut: Any, cfg: Config, memory: np.ndarray, latency: int,
                 stalls: tuple[float, float, float] = (0, 0, 0), hostile: bool = False) -> None:  # fmt: skip
        self.dut, self.cfg, self.memory, self.latency, self.stalls = dut, cfg, memory, latency, stalls
        self.rng = np.random.default_rng(tb.seed())
        self.log = Log()
        self._beat, self._hostile = cfg.beat_bits // 8, hostile
        self._due: deque[tuple[int, int]] = deque()  # cycle of the answer, data
        self._now, self._presented = 0, False
        self._ready = [1, 1]  # what requests and writes see in this cycle
        self._open: list[tuple[int, ...] | None] = [None, None]  # a request and a write that were refused
        for name in ("ctl_addr", "ctl_wdata", "ctl_we", "rd_resp_valid", "rd_resp_data"):
            getattr(dut, name).value = 0
        dut.rd_req_ready.value = dut.wr_ready.value = 1

    # -- host ---------------------------------------------------------------------------------
    async def write(self, register: int, value: int) -> None:
        """Write to the control port; takes one cycle."""
        self.drive(register, value, we=1)
        await self.cycle()
        self.dut.ctl_we.value = 0
        if self._hostile:
            self.drive(int(self.rng.integers(512)), int(self.rng.integers(1 << 32)), we=0)

    async def read(self, register: int) -> int:
        """Read from the control port; takes one cycle."""
        self.dut.ctl_addr.value = register
        await self.cycle()
        return self.answer()

    def drive(self, register: int, value: int, we: int) -> None:
        """The control port of the coming cycle, and of those after it."""
        self.dut.ctl_addr.value = register
        self.dut.ctl_wdata.value = value & 0xFFFFFFFF
        self.dut.ctl_we.value = we

    def answer(self) -> int:
        """What the control port read in the cycle that ended."""
        return int(self.dut.ctl_rdata.value)

    def begin(self) -> None:
        """Forget the log; cycle 0 of the next one is the next busy cycle."""
        self.log = Log()

    async def start(self) -> None:
        """Start the program set up; the next cycle is its first."""
        await self.write(Register.CONTROL, START)

    async def run(self, limit: int) -> Log:
        """Start the program set up, and wait for its end; `limit` busy cycles at most."""
        self.begin()
        await self.start()
        while await self.cycle():
            assert self.log.cycles <= limit, f"busy after {limit} cycles"
        assert self.log.cycles, "a program was started, and the machine did not become busy"
        return self.log

    async def scrub(self) -> int:
        """Have the machine forget partial sums and peaks; how many cycles it took."""
        self.begin()
        await self.write(Register.CONTROL, SCRUB)
        while await self.cycle():
            pass
        return self.log.cycles

    async def reset(self, cycles: int = 2) -> None:
        """Reset the machine and the memory port; answers on their way are lost, what is stored stays."""
        self.dut.ctl_we.value = self.dut.rd_resp_valid.value = 0
        self.dut.rst.value = 1
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        self._due.clear()
        self._presented, self._open = False, [None, None]

    # -- clock and memory ---------------------------------------------------------------------
    async def cycle(self) -> bool:
        """One cycle; whether the machine was busy in it."""
        dut = self.dut
        await RisingEdge(dut.clk)  # what is read now belongs to the cycle that ends here
        self._now += 1
        busy = bool(dut.busy.value)
        if self._presented and dut.rd_resp_ready.value:
            self._due.popleft()
            self._presented = False
            if self._hostile:
                dut.rd_resp_data.value = int.from_bytes(self.rng.bytes(self._beat), "little")
        request = (int(dut.rd_req_addr.value),) if dut.rd_req_valid.value else None
        if self._accepts(0, request):
            data = self.memory[request[0]].tobytes()
            self._due.append((self._now + self.latency, int.from_bytes(data, "little")))
            self.log.reads.append((self.log.cycles, *request))
        written = (int(dut.wr_addr.value), int(dut.wr_data.value)) if dut.wr_valid.value else None
        if self._accepts(1, written):
            self.memory[written[0]] = np.frombuffer(written[1].to_bytes(self._beat, "little"), np.uint8)
            self.log.writes.append((self.log.cycles, written[0]))
        if busy:
            self._record()
        self._answer()
        if any(self.stalls):
            self._stall()
        return busy

    def _accepts(self, port: int, wanted: tuple[int, ...] | None) -> bool:
        """Whether a request (0) or write (1) is taken; one that was refused must be there again, unchanged."""
        refused = self._open[port]
        assert refused is None or wanted == refused, f"{wanted} after {refused} was not taken"
        taken = wanted is not None and bool(self._ready[port])
        self._open[port] = None if taken else wanted
        return taken

    def _record(self) -> None:
        self.log.cycles += 1
        if self.cfg.trace:
            self.log.rows += int(self.dut.trace_rows.value).to_bytes(8 * self.cfg.rows, "little")
            self.log.central.append(int(self.dut.trace_central.value))

    def _answer(self) -> None:
        """The answer of the coming cycle."""
        if self._presented:
            return
        due = bool(self._due) and self._due[0][0] <= self._now + 1
        if due and not (self.stalls[1] and self.rng.random() < self.stalls[1]):
            self.dut.rd_resp_data.value = self._due[0][1]
            self._presented = True
        self.dut.rd_resp_valid.value = int(self._presented)

    def _stall(self) -> None:
        """Whether requests and writes will be taken in the coming cycle."""
        self._ready = [int(self.rng.random() >= self.stalls[port]) for port in (0, 2)]
        self.dut.rd_req_ready.value, self.dut.wr_ready.value = self._ready
