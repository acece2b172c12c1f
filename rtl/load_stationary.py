"""Stationary operand of a weight update: a beat is written in pieces, each to the row that owns its channels.

A beat brings `bus_elements` channels of every column; a piece is `stationary_pack` of them, which share a word. A beat
takes as many cycles as it has pieces: the reader asks for one beat in so many cycles (`rtl.reader.aux_interval`), and
`hold` keeps off those that a memory gives sooner.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.payload import payload
from rtl.reader import Kind, aux_interval


def load_stationary(m: Module, cfg: Config, loader: wiring.Component) -> tuple[Signal, Signal]:
    """Put stationary operands on the bus, and drive `hold`, of a `Loader`.

    A beat given in cycle t is piece p in t + 1 + p, when its unit is looked up, and on the bus in t + 3 + p.

    Args:
        m: of the loader; gets the registers.
        cfg: widths.
        loader: the loader, its ports.

    Returns: unit to look up, and whether it is wanted; the beat to be written, a cycle before stat_we, and whether
    there is one.
    """
    command = loader.command
    pack, bits, pieces = cfg.stationary_pack, cfg.operand_bits, aux_interval(cfg)
    element_shift = log2_exact(cfg.bus_elements, "bus_elements")
    pack_shift, unit_shift = log2_exact(pack, "pack"), log2_exact(cfg.block_k, "block_k")
    here = Signal()
    m.d.comb += here.eq(loader.in_valid & (loader.in_kind == Kind.AUX) & (command.phase == Phase.WU))

    # t+1+p: piece p is lowest in each column; its unit is looked up.
    beat = Signal(cfg.beat_bits, reset_less=True)
    channel, position = Signal(16, reset_less=True), Signal(16, reset_less=True)
    left = Signal(range(pieces + 1))
    lanes = [beat.word_select(n, cfg.bus_elements * bits) for n in range(cfg.columns)]
    valid, unit = Signal(), Signal.like(loader.assign_unit)
    m.d.comb += [
        valid.eq(left.any()),
        loader.hold.eq(left > 1),
        unit.eq(channel >> unit_shift),
    ]
    # No enable for a register as wide as a beat: what is shifted into it is zero, and later nobody looks.
    shifted = Cat(Cat(lane[pack * bits :], Const(0, pack * bits)) for lane in lanes)
    m.d.sync += beat.eq(Mux(here, loader.in_data, shifted))
    with m.If(here):
        m.d.sync += [
            left.eq(pieces),
            channel.eq(loader.in_index << element_shift),
            position.eq(loader.in_run),
        ]
    with m.Elif(valid):
        m.d.sync += [
            left.eq(left - 1),
            channel.eq(channel + pack),
        ]

    # t+2+p: row and slot are known.
    valid_1, position_1 = Signal(), Signal(16, reset_less=True)
    pair_1 = Signal(range(max(2, cfg.block_k // pack)), reset_less=True)  # piece within the unit
    data_1 = Signal(cfg.columns * pack * bits, reset_less=True)
    word = Signal.like(loader.stat_addr)
    m.d.sync += [
        valid_1.eq(valid & (channel < command.out_channels)),
        position_1.eq(position),
        pair_1.eq(channel[pack_shift:unit_shift]),
        data_1.eq(Cat(lane[: pack * bits] for lane in lanes)),
    ]
    # t+3+p: the write.
    m.d.comb += word.eq((loader.assign_slot << (unit_shift - pack_shift)) | pair_1)
    m.d.sync += [
        loader.stat_we.eq(valid_1),
        payload(m, loader.stat_row, "stat_row_1").eq(loader.assign_row),
        payload(m, loader.stat_addr, "stat_addr_1").eq((word << command.log2_positions) + position_1),
    ]
    piece = Cat(
        Cat(data_1.word_select(n, pack * bits), Const(0, (cfg.bus_elements - pack) * bits)) for n in range(cfg.columns)
    )
    return unit, valid, piece, valid_1
