"""Stationary operand of a weight update: a beat is written in pieces, each to the row that owns its channels.

A beat brings `bus_elements` channels of every column; a piece is `stationary_pack` of them, which share a word. A beat
takes as many cycles as it has pieces: the reader asks for one beat in so many cycles (`rtl.reader.aux_interval`), and
`hold` keeps off those that a memory gives sooner.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.list_walker import Kind
from rtl.payload import payload
from rtl.reader import aux_interval


def load_stationary(m: Module, cfg: Config, loader: wiring.Component) -> tuple[Signal, Signal]:
    """Put stationary operands on the bus, and drive `hold`, of a `Loader`.

    A beat given in cycle t is piece p in t + 1 + p, when its unit is looked up, and on the bus in t + 4 + p.

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
        # A piece is on the bus a cycle later than a beat that is not cut: one of weights may not be right behind it.
        loader.hold.eq((left > 1) | (valid & loader.kind_done[Kind.AUX])),
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

    # t+2+p: row and slot are known; t+3+p: they stand in registers, for the table is a RAM block, which answers late.
    place = data.StructLayout(
        {
            "valid": 1,
            "position": 16,
            "pair": range(max(2, cfg.block_k // pack)),  # piece within the unit
            "data": cfg.columns * pack * bits,
        }
    )
    found, known = Signal(place), Signal(place)
    row, slot = Signal.like(loader.stat_row, reset_less=True), Signal.like(loader.assign_slot, reset_less=True)
    word = Signal.like(loader.stat_addr)
    m.d.sync += [
        found.valid.eq(valid & (channel < command.out_channels)),
        found.position.eq(position),
        found.pair.eq(channel[pack_shift:unit_shift]),
        found.data.eq(Cat(lane[: pack * bits] for lane in lanes)),
        known.eq(found),
        row.eq(loader.assign_row),
        slot.eq(loader.assign_slot),
    ]
    # t+4+p: the write.
    m.d.comb += word.eq((slot << (unit_shift - pack_shift)) | known.pair)
    m.d.sync += [
        loader.stat_we.eq(known.valid),
        payload(m, loader.stat_row, "stat_row_1").eq(row),
        payload(m, loader.stat_addr, "stat_addr_1").eq((word << command.log2_positions) + known.position),
    ]
    piece = Cat(
        Cat(known.data.word_select(n, pack * bits), Const(0, (cfg.bus_elements - pack) * bits))
        for n in range(cfg.columns)
    )
    return unit, valid, piece, known.valid
