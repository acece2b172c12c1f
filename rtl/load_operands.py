"""Operands of the forward and backward phase: what is gathered goes to all rows, what gates a gradient to the drain."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.list_walker import Kind
from rtl.payload import payload


def load_gathered(m: Module, cfg: Config, loader: wiring.Component, latency: int) -> None:
    """Gather addresses of a `Loader`, X: every row gets every beat; position after position, `gather_stride` apart.

    A beat given in cycle t is at its address in t + `latency`.

    Args:
        m: of the loader; gets the registers.
        cfg: widths.
        loader: the loader, its ports.
        latency: of the bus, whose beats come by another way.
    """
    base = Signal.like(loader.col_addr)
    element_shift = log2_exact(cfg.bus_elements, "bus_elements")
    here, valid = Signal(), Signal(latency - 1)
    m.d.comb += here.eq(loader.in_valid & (loader.in_kind == Kind.X))
    m.d.sync += Cat(valid, loader.col_we).eq(Cat(here, valid))
    address: Value = base + loader.in_index
    for stage in range(1, latency):
        register = Signal.like(loader.col_addr, name=f"col_addr_{stage}", reset_less=True)
        m.d.sync += register.eq(address)
        address = register
    m.d.sync += payload(m, loader.col_addr, f"col_addr_{latency}").eq(address)
    with m.If(loader.slot_start):
        m.d.sync += base.eq(0)
    with m.Elif(here & loader.in_last):
        m.d.sync += base.eq(base + (loader.command.gather_stride >> element_shift))


def load_gate(m: Module, cfg: Config, loader: wiring.Component, turn: Value) -> None:
    """Drive the gate port of a `Loader`, AUX but in WU: is the element positive?

    Beats go to successive addresses of a bank of their own, a cycle after they were given.

    Args:
        m: of the loader; gets the registers.
        cfg: widths.
        loader: the loader, its ports.
        turn: the next bank's turn.
    """
    here, bits = Signal(), Signal(cfg.columns * cfg.bus_elements)
    m.d.comb += here.eq(loader.in_valid & (loader.in_kind == Kind.AUX) & (loader.command.phase != Phase.WU))
    for index in range(len(bits)):
        element = loader.in_data.word_select(index, cfg.operand_bits)
        m.d.comb += bits[index].eq(element.any() & ~element[-1])
    m.d.sync += [loader.gate_we.eq(here), payload(m, loader.gate_data, "gate_data_1").eq(bits)]
    with m.If(turn):
        m.d.sync += loader.gate_bank.eq(loader.gate_bank + 1)
    with m.If(loader.slot_start):
        m.d.sync += loader.gate_addr.eq(0)
    with m.Elif(loader.gate_we):
        m.d.sync += loader.gate_addr.eq(loader.gate_addr + 1)
