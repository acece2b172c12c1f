"""Gradient buffer of a row: exact gradients wait here between the tiles of a map.

A gradient is a sum over all positions of a map, and a working set holds a tile of them. The visits of a region come in
the same order for every tile, so their gradients are stored in that order and found by counting: no addresses, no tags.
The last tile's sums go on to the weight update with what has been stored added to them.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.payload import payload


class GradientBuffer(wiring.Component):
    """Sums in, gradients out; one visit a cycle.

    Latency: `sum` belongs to the visit presented `dot_latency` cycles earlier; its gradient is at `g` `LATENCY` cycles
    after the sum. What is stored can be read by a visit presented 3 cycles later or more.

    Without maps nothing is stored: `g` is the sum, in the same cycle as otherwise.

    Args:
        cfg: widths; `cfg.gradients` can be stored.
        dot_latency: 3 or more.

    Ports:
        start: a working set begins; its visits are counted from the next cycle on.
        add, store: of the visit presented in this cycle: add what was stored; store, instead of handing on.
        visit_valid: a visit is completed. visit_void: it has no positions, its sum is zero whatever `sum` says.
        sum: signed `acc_bits`. g: likewise.
        error: more visits than can be stored, of a working set that adds or stores; held until start.
    """

    LATENCY = 1

    def __init__(self, cfg: Config, dot_latency: int) -> None:
        if dot_latency < 3:
            raise ValueError(f"dot_latency must be at least 3, not {dot_latency}")
        self._cfg, self._dot_latency = cfg, dot_latency
        super().__init__(
            {
                "start": In(1),
                "add": In(1),
                "store": In(1),
                "visit_valid": In(1),
                "visit_void": In(1),
                "sum": In(signed(cfg.acc_bits)),
                "g": Out(signed(cfg.acc_bits)),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, dots = self._cfg, self._dot_latency
        m = Module()
        gradient = payload(m, self.g, "gradient")
        if not cfg.maps:  # nothing waits, and every visit has positions
            valid = Signal(dots)
            m.d.sync += valid.eq(Cat(self.visit_valid, valid))
            with m.If(valid[dots - 1]):
                m.d.sync += gradient.eq(self.sum)
            return m
        m.submodules.memory = memory = Memory(shape=signed(cfg.acc_bits), depth=cfg.gradients, init=[])
        write, read = memory.write_port(), memory.read_port()

        # Counted where they come in: the error is known before the working set is over.
        room, fresh = Signal(log2_exact(cfg.gradients, "gradients") + 1), Signal()
        with m.If(self.start):
            m.d.sync += [room.eq(cfg.gradients), self.error.eq(0), fresh.eq(1)]
        with m.Elif(self.visit_valid):
            m.d.sync += fresh.eq(0)
            with m.If(room.any()):
                m.d.sync += room.eq(room - 1)
            with m.Elif(self.add | self.store):
                m.d.sync += self.error.eq(1)

        # The flags travel with the visit: the next working set may begin before the last sums are here.
        valid, first = Signal(dots + 1), Signal(dots + 1)
        add, store, void = Signal(dots), Signal(dots + 1), Signal(dots)
        m.d.sync += [
            valid.eq(Cat(self.visit_valid, valid)),
            first.eq(Cat(fresh, first)),
            add.eq(Cat(self.add, add)),
            store.eq(Cat(self.store, store)),
            void.eq(Cat(self.visit_void, void)),
        ]
        for stage, port in ((dots - 2, read), (dots, write)):
            following = Signal(len(port.addr), name=f"following_{stage}", reset_less=True)
            m.d.comb += port.addr.eq(Mux(first[stage], 0, following))
            with m.If(valid[stage]):
                m.d.sync += following.eq(port.addr + 1)
        m.d.comb += [
            read.en.eq(valid[dots - 2] & add[dots - 2]),
            write.en.eq(valid[dots] & store[dots]),
            write.data.eq(self.g),
        ]
        with m.If(valid[dots - 1]):  # idle cycles toggle nothing
            m.d.sync += gradient.eq(Mux(void[dots - 1], 0, self.sum) + Mux(add[dots - 1], read.data, 0))
        return m
