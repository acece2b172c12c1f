"""Checks of a vector command, registered: a product and comparisons while its exponents are looked up."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.status import Status
from arch.vector import MAGIC, MAX_TERMS_LOG2, Clip, Op
from rtl.vector.command import VECTOR_COMMAND


class Checks(wiring.Component):
    """Whether a command can be done. Latency: `status` is that of the command of `LATENCY` cycles ago.

    Ports:
        command; status: OK, MAGIC or FIELD.
    """

    LATENCY = 3

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__({"command": In(VECTOR_COMMAND), "status": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.command
        pools, elementwise = Signal(), Signal()
        terms = Signal(32, reset_less=True)
        m.d.comb += [
            pools.eq((c.op == Op.POOL) | (c.op == Op.UNPOOL)),
            elementwise.eq((c.op == Op.AFFINE) | (c.op == Op.REDUCE)),
        ]
        m.d.sync += terms.eq(c.batches * c.positions)
        outside = []
        for size in ("height", "width"):
            last = Signal(signed(11), name=f"last_{size}", reset_less=True)
            count, window = c[f"in_{size}"], c[f"window_{size}"]
            m.d.sync += last.eq(Mux(c.step[1], (c[f"out_{size}"] - 1) << 1, c[f"out_{size}"] - 1) - c.padding)
            outside += [last >= count, window <= c.padding]
        windows = Cat(
            c[name] == 0
            for name in (
                "in_height",
                "in_width",
                "out_height",
                "out_width",
                "window_height",
                "window_width",
                "step",
            )
        )
        too_many = (1 << MAX_TERMS_LOG2) >> log2_exact(self._cfg.columns, "columns")
        found = Signal(6, reset_less=True)
        m.d.sync += found.eq(
            Cat(
                (c.op > Op.SOFTMAX) | (c.batches == 0) | (c.channels == 0) | (c.valid == 0),
                (c.valid > self._cfg.columns) | (c.gate > Clip.RELU6) | (c.clip > Clip.RELU6) | (c.step > 2),
                elementwise & (c.positions == 0),
                (c.op == Op.SOFTMAX) & (c.channels > 1024),
                pools & (windows.any() | Cat(outside).any()),
                (c.op == Op.REDUCE) & (terms > too_many),
            )
        )
        m.d.sync += self.status.eq(Mux(c.magic != MAGIC, Status.MAGIC, Mux(found.any(), Status.FIELD, Status.OK)))
        return m
