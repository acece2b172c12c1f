"""Write queue: what stands between the drain, which cannot stop half way, and the memory's write port.

A psum word is cleared as it is read, so a drainer that has begun a beat must finish it. It
therefore asks for a place in this queue before it begins (`reserve`), and begins only when there is
one (`room`): credit-based flow control. Drainers and queue need not be near each other: a reservation counts a cycle
later, that there is room may be heard a cycle later, and there is room as long as two more beats may be on their way.
With a memory that always takes writes the queue never fills, so it costs latency and no throughput.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from arch.config import Config


class WriteQueue(wiring.Component):
    """Queue of beats with their addresses, in front of the write port.

    Latency: a beat pushed in cycle t shows on the write port in t + `LATENCY` at the earliest; one
    beat a cycle. `idle` is high from the cycle after the last reserved beat was written.

    Args:
        cfg: widths.
        depth: beats reserved but not yet written, at most; by default `depth(cfg)`.

    Ports:
        reserve: a place is taken in this cycle; only if there was `room` in this cycle or the one before. push,
        push_addr, push_data: the beat, any time later, in order of reservation. wr_*: write port (valid holds until
        ready).

    Raises:
        ValueError: depth below 5: it could not keep up with a beat a cycle.
    """

    LATENCY = 2
    DEPTH = 16

    @classmethod
    def depth(cls, cfg: Config) -> int:
        """Covers the longest pipeline before it, a beat a cycle (`BlockDrainer`), and its own latency."""
        return max(cls.DEPTH, 1 << (cfg.chain_rows + 9).bit_length())

    def __init__(self, cfg: Config, depth: int | None = None) -> None:
        depth = self.depth(cfg) if depth is None else depth
        if depth < self.LATENCY + 3:
            raise ValueError(f"depth must be at least {self.LATENCY + 3}, not {depth}")
        self._cfg, self._depth = cfg, depth
        super().__init__(
            {
                "reserve": In(1),
                "room": Out(1, init=1),
                "idle": Out(1, init=1),
                "push": In(1),
                "push_addr": In(32),
                "push_data": In(cfg.beat_bits),
                "wr_valid": Out(1),
                "wr_ready": In(1),
                "wr_addr": Out(32),
                "wr_data": Out(cfg.beat_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=32 + self._cfg.beat_bits, depth=self._depth)
        reserved, reserved_next = Signal(range(self._depth + 1)), Signal(range(self._depth + 1))
        asked, written = Signal(), Signal()
        m.d.comb += [
            fifo.w_en.eq(self.push),
            fifo.w_data.eq(Cat(self.push_addr, self.push_data)),
            self.wr_valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.wr_ready),
            Cat(self.wr_addr, self.wr_data).eq(fifo.r_data),
            written.eq(self.wr_valid & self.wr_ready),
            reserved_next.eq(reserved + asked - written),
        ]
        m.d.sync += [
            asked.eq(self.reserve),
            reserved.eq(reserved_next),
            self.room.eq(reserved_next < self._depth - 2),
            self.idle.eq(reserved_next == 0),
        ]
        return m
