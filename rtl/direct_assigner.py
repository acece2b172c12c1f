"""Assigner of the dense build: units stay where they are stored, `ceil(N/R)` consecutive ones to a row.

What `rtl.balancer` does by policy NONE, without counts. All units of a dense network weigh the same.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import Policy
from arch.config import Config, log2_exact
from rtl.balancer import FIELD_BITS, reciprocal


class DirectAssigner(wiring.Component):
    """A row and a slot in it for each of N units: row u // h, slot u % h, h = ceil(N/R).

    Latency, from the cycle in which `start` is high to that in which `done` is: N + 8, as
    `golden.balancer.balance_cycles` says of policy NONE; 2 if N = 0 or in case of an error.

    Args:
        cfg: rows and units.

    Ports: those of `rtl.balancer.Balancer` with the same names and meanings, but for counts and loads.
        error: with done, nothing was assigned: n > cfg.units, n > rows * cap, or a policy other than NONE.
    """

    LATENCY = 8  # beyond a cycle for each unit

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._index_bits = log2_exact(cfg.units, "units")
        super().__init__(
            {
                "start": In(1),
                "n": In(FIELD_BITS),
                "cap": In(FIELD_BITS),
                "policy": In(2),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(1),
                "assign_we": Out(1),
                "assign_unit": Out(self._index_bits),
                "assign_row": Out(range(cfg.rows)),
                "assign_slot": Out(self._index_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        rows, units = self._cfg.rows, self._cfg.units
        m = Module()
        n, cap, policy = Signal(range(units + 1)), Signal(range(units + 1)), Signal(2)
        over = Signal()
        last, h_last = Signal(self._index_bits), Signal(self._index_bits)  # N - 1, h - 1
        refused = Signal()
        multiplier, shift = reciprocal(rows, units)
        m.d.comb += [
            last.eq(n - 1),
            refused.eq((policy != Policy.NONE) | over | (n > cap * rows)),
        ]
        unit, row, slot = (Signal.like(port) for port in (self.assign_unit, self.assign_row, self.assign_slot))
        settle = Signal(range(self.LATENCY))
        m.d.sync += [self.done.eq(0), self.error.eq(0), self.assign_we.eq(0)]
        with m.FSM() as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [
                    n.eq(self.n),
                    cap.eq(Mux(self.cap > units, units, self.cap)),
                    over.eq(self.n > units),
                    policy.eq(self.policy),
                ]
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [h_last.eq((last * multiplier) >> shift), unit.eq(0), row.eq(0), slot.eq(0)]
                m.d.sync += settle.eq(self.LATENCY - 3)
                m.next = "DEAL"
                with m.If(refused | (n == 0)):
                    m.d.sync += [self.done.eq(1), self.error.eq(refused)]
                    m.next = "IDLE"
            with m.State("DEAL"):
                m.d.sync += [self.assign_we.eq(1), unit.eq(unit + 1), slot.eq(slot + 1)]
                with m.If(slot == h_last):
                    m.d.sync += [slot.eq(0), row.eq(row + 1)]
                with m.If(unit == last):
                    m.next = "SETTLE"
            with m.State("SETTLE"):  # the law is the balancer's, whose pipeline is longer
                m.d.sync += settle.eq(settle - 1)
                with m.If(settle == 0):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        m.d.sync += [self.assign_unit.eq(unit), self.assign_row.eq(row), self.assign_slot.eq(slot)]
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
