"""Addresses of a visit: its channel in the gather banks and its unit's partial sum, through the box of its tap.

Sparse and dense rows find their visits in different ways; from there on they do the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from arch.command import Phase
from arch.config import Config, log2_exact
from rtl.box_walk import AXES, BoxWalk
from rtl.row_coordinates import channel_bits, slot_bits
from rtl.tap_table import TapMemory


@dataclass(frozen=True)
class Visit:
    """A visit in the cycle in which it begins.

    Attributes:
        first: it does.
        k, c: output, input channel within the block.
        slot: of the unit.
        channel: gathered channel of the word's bit 0.
        tap: of the word.
    """

    first: Value
    k: Value
    c: Value
    slot: Value
    channel: Value
    tap: Value


def visit_address(
    m: Module, cfg: Config, row: wiring.Component, taps: TapMemory, visit: Visit, first: Value, issue: Value
) -> tuple[Signal, Signal, Signal]:
    """Let a `BoxWalk` follow the visits of a row.

    Args:
        m: gets the walk as a submodule.
        cfg: widths.
        row: the controller: phase, depthwise, wide, log2_positions and the steps of the command.
        taps: asked for the box.
        visit: in cycle t.
        first: in cycle t + 1, whether a visit began in t.
        issue: in cycle t + 1, whether it has a position; and for each further one.

    Returns:
        gather and psum address, in cycle t + 2 (of further positions, one cycle after their `issue`); and which half of
        a psum word holds the channel (WU), in cycle t + 1, until the next visit.
    """
    m.submodules.walk = walk = BoxWalk(cfg)
    back, update = row.phase == Phase.BW, row.phase == Phase.WU
    pack = log2_exact(cfg.stationary_pack, "stationary_pack")
    unit, base = Signal(slot_bits(cfg)), Signal(slot_bits(cfg), name="visit_base", reset_less=True)
    channel, half = Signal(channel_bits(cfg), name="visit_channel", reset_less=True), Signal(reset_less=True)
    of_k = Mux(update, Cat(visit.k[pack:], visit.slot), Cat(visit.k, visit.slot))
    m.d.comb += unit.eq(Mux(back, _lane(cfg, visit, row.wide), of_k))
    with m.If(visit.first):
        m.d.sync += [
            # A word begins at a multiple of its channels.
            channel.eq(visit.channel | Mux(back | row.depthwise, visit.k, visit.c)),
            base.eq(unit << row.log2_positions),
            half.eq(visit.k[:pack]),
        ]
    m.d.comb += [
        taps.box_en.eq(visit.first),
        taps.box_tap.eq(visit.tap),
        walk.first.eq(first),
        walk.issue.eq(issue),
        walk.box.eq(taps.box),
        walk.gather_base.eq(channel),
        walk.psum_base.eq(base),
    ]
    for name in (f"{operand}_{axis}" for operand in ("gather", "psum") for axis in AXES):
        m.d.comb += getattr(walk, name).eq(getattr(row, name))
    return walk.gather, walk.psum, half


def _lane(cfg: Config, visit: Visit, wide: Value) -> Value:
    """BW: number of an input channel among those of its row, from its place in the block and its unit's slot."""
    lanes = log2_exact(cfg.lane_group, "lane_group")
    one = Cat(visit.c[:lanes], visit.slot)
    return Mux(wide, Cat(visit.c[: lanes + 1], visit.slot), one) if cfg.groups_per_word > 1 else one
