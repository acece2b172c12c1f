"""Entries of the backward phase: units (lane groups, or pairs) are walked, each is sent to the row that owns it."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring

from arch.config import Config
from rtl.dense_drainer import dense_words
from rtl.exploration import group_bits
from rtl.payload import payload
from rtl.row_coordinates import word_bits


def load_entries(
    m: Module,
    cfg: Config,
    loader: wiring.Component,
    begin: Signal,
    wanted: Value,
    first_block: Signal,
    block_step: Signal,
) -> tuple[Signal, Signal]:
    """Drive the entry bus of a `Loader`.

    Unit n is looked up in the cycle s + 4 + n and on the bus in s + `Loader.ENTRIES` + n, s that of slot_start.

    Args:
        m: of the loader; gets the registers.
        cfg: widths.
        loader: the loader, its ports.
        begin: cycle s + 1.
        wanted: there are lane groups to send.
        first_block: block column of the first segment, valid from s + 3 on.
        block_step: block columns of a segment.

    Returns: unit to look up, and whether all entries have been sent.
    """
    command = loader.command
    width = len(loader.entry_record_base)
    room = command.mask_beats if cfg.sparse else dense_words(cfg, command.words)  # of a record, in a row
    begin_1, begin_2 = Signal(), Signal()  # s + 2, s + 3
    looking, looked, found, over = Signal(), Signal(), Signal(), Signal()
    unit, in_segment = Signal(16, reset_less=True), Signal(16, reset_less=True)
    word, group = Signal(word_bits(cfg), reset_less=True), Signal(group_bits(cfg), reset_less=True)
    block, base = Signal.like(first_block, reset_less=True), Signal(width, reset_less=True)
    base_step = Signal(width, reset_less=True)
    unit_last, segment_last, word_last = Signal(), Signal(), Signal()
    m.d.comb += [
        unit_last.eq(unit + 1 == command.units),
        segment_last.eq(in_segment + 1 + command.wide == command.groups),
        word_last.eq((group | command.wide) == cfg.groups_per_word - 1),
    ]
    m.d.sync += [
        begin_1.eq(begin),
        begin_2.eq(begin_1),
        found.eq(looked),
        over.eq(found),
        base_step.eq(command.records[:width] * room[:width]),
    ]
    with m.If(loader.slot_start):
        m.d.sync += [looking.eq(0), looked.eq(0), found.eq(0), over.eq(0)]
    with m.Elif(begin_2):
        m.d.sync += [
            unit.eq(0),
            in_segment.eq(0),
            word.eq(0),
            group.eq(0),
            block.eq(first_block),
            base.eq(0),
            looking.eq(wanted & (command.units != 0)),
            looked.eq(command.units == 0),
        ]
    with m.Elif(looking):
        m.d.sync += [
            unit.eq(unit + 1),
            in_segment.eq(in_segment + 1 + command.wide),
            group.eq(group + 1 + command.wide),
        ]
        with m.If(word_last):
            m.d.sync += [word.eq(word + 1), group.eq(0)]
        with m.If(segment_last):
            m.d.sync += [
                in_segment.eq(0),
                word.eq(0),
                group.eq(0),
                block.eq(block + block_step),
                base.eq(base + base_step),
            ]
        with m.If(unit_last):
            m.d.sync += [looking.eq(0), looked.eq(1)]
    # A unit's place waits for what the table says of it, then both go to the rows.
    place: dict[str, Value] = {
        "valid": looking,
        "word": word,
        "group": group,
        "record_base": base,
        "cb": block + word,
    }
    bus: dict[str, Value] = {"row": loader.assign_row, "slot": loader.assign_slot}
    for name, value in place.items():
        bus[name] = Signal.like(getattr(loader, f"entry_{name}"), name=f"found_{name}", reset_less=name != "valid")
        m.d.sync += bus[name].eq(value)
    for name, value in bus.items():
        port = getattr(loader, f"entry_{name}")
        m.d.sync += (port if name == "valid" else payload(m, port, f"shown_{name}")).eq(value)
    return unit, over
