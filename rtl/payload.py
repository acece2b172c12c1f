"""Registers that a reset leaves alone.

What a register holds matters after a reset only if nothing beside it says whether it does. Data that comes with a flag
needs none, then: a gate a bit less in standard cells, and on an FPGA thousands of ends less on the wire of the reset. A
`Signal` says so by itself (`reset_less`); a port cannot, and has such a register in front of it.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data


def payload(m: Module, port: Signal | data.View, name: str) -> Signal | data.View:
    """A register without reset, of the port's shape, that drives it; to be assigned in its place.

    Args:
        m: gets the connection; not within `m.If`, where it would be conditional.
        port: an output.
        name: of the register.
    """
    register = Signal(port.shape(), name=name, reset_less=True)
    m.d.comb += port.eq(register)
    return register
