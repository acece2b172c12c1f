"""Gate buffer: one bit for each element of the ReLU gate tensor of a backward working set.

The loader keeps only whether an element is positive; two slots later the drainer zeroes the gradients
where it was not. Four banks: load, compute and drain each use one, and a new gate needs a fourth.
"""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.reader import BANK_BITS


class GateBuffer(wiring.Component):
    """4 banks x gate_beats x (columns * bus_elements) bits.

    A read addressed in cycle t answers in t + READ_LATENCY. Bit n * bus_elements + e of a word belongs to column n,
    element e, like the operands of a beat. Beats lie in order of arrival: (u, j) at u * aux_run + j.

    Ports:
        we, bank, addr, data: write (loader). read_bank, read_addr, read_data: read (drainer).
    """

    READ_LATENCY = 1

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        bits, address = cfg.columns * cfg.bus_elements, log2_exact(cfg.gate_beats, "gate_beats")
        super().__init__(
            {
                "we": In(1),
                "bank": In(BANK_BITS),
                "addr": In(address),
                "data": In(bits),
                "read_bank": In(BANK_BITS),
                "read_addr": In(address),
                "read_data": Out(bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        shift = log2_exact(cfg.gate_beats, "gate_beats")
        m.submodules.bits = bits = Memory(
            shape=cfg.columns * cfg.bus_elements, depth=cfg.gate_beats << BANK_BITS, init=[]
        )
        write, read = bits.write_port(), bits.read_port()
        m.d.comb += [
            write.en.eq(self.we),
            write.addr.eq((self.bank << shift) | self.addr),
            write.data.eq(self.data),
            read.en.eq(1),
            read.addr.eq((self.read_bank << shift) | self.read_addr),
            self.read_data.eq(read.data),
        ]
        return m
