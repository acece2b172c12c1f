"""Taps of a filter: which box of positions each visits, built once for all rows, and a copy in every row.

A command gives for each row and each column of the filter where its positions begin and how many they are
(`golden/boxes.py` says why that is enough). The box of a tap is their product. `TapBuilder` makes them while a working
set loads, one a cycle, and broadcasts them; `TapMemory` keeps those of the working set in compute and of the one that
loads.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.command import MOST_KERNEL, Phase
from arch.config import Config, log2_exact
from rtl.command import COMMAND
from rtl.ram import ram

TAP_BITS = 6
"""Width of the number of a tap, row by row."""

KERNEL_BITS = 3


def position_bits(cfg: Config) -> int:
    """Width of a number of positions of a tile: each takes at least one partial sum."""
    return log2_exact(cfg.psum_depth, "psum_depth") + 1


def box_layout(cfg: Config) -> data.StructLayout:
    """Where the box of a tap begins, in the gather bank and in the tile, and how many rows and columns it has."""
    return data.StructLayout(
        {
            "gather": log2_exact(cfg.gather_depth, "gather_depth"),
            "psum": log2_exact(cfg.psum_depth, "psum_depth"),
            "rows": position_bits(cfg),
            "cols": position_bits(cfg),
        }
    )


class TapBuilder(wiring.Component):
    """Boxes of all taps of a command, one a cycle.

    Law, from the cycle s of `slot_start`: tap t is written in cycle s + `FIRST` + t, `over` is high again from cycle
    s + `FIRST` + taps on. A command that does not compute has no taps: `over` stays high from s + 1 on.

    Args:
        cfg: widths.

    Ports:
        slot_start: pulse. active, command: of the load stage, stable from the cycle after it.
        over: all taps have been written.
        tap_we, tap, box, count: a tap, its box, and the positions of it (images included; 0: it visits none).
    """

    FIRST = 4

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "slot_start": In(1),
                "active": In(1),
                "command": In(COMMAND),
                "over": Out(1),
                "tap_we": Out(1),
                "tap": Out(TAP_BITS),
                "box": Out(box_layout(cfg)),
                "count": Out(position_bits(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        command, width = self.command, position_bits(self._cfg)
        m = Module()
        computes, running, written = Signal(), Signal(), Signal(init=1)
        row, col, tap = Signal(KERNEL_BITS), Signal(KERNEL_BITS), Signal(TAP_BITS)
        col_last, last = Signal(), Signal()
        m.d.comb += [
            computes.eq(self.active & (command.phase != Phase.NOP) & ~command.ahead),
            col_last.eq(col + 1 == command.kernel_cols),
            last.eq(col_last & (row + 1 == command.kernel_rows)),
            self.over.eq(written | ~computes),
        ]
        with m.If(self.slot_start):
            m.d.sync += [running.eq(1), row.eq(0), col.eq(0), tap.eq(0)]
        with m.Elif(running):
            m.d.sync += [tap.eq(tap + 1), col.eq(Mux(col_last, 0, col + 1)), row.eq(row + col_last)]
            with m.If(last | ~computes):
                m.d.sync += running.eq(0)

        # Selected, multiplied, multiplied by the images.
        valid, last_at, tap_at = running & computes, last, tap
        chosen = {}
        for axis, index in (("row", row), ("col", col)):
            for name in ("gather", "psum", "count"):
                choices = Array(getattr(command, f"{axis}{n}_{name}") for n in range(MOST_KERNEL))
                chosen[axis, name] = Signal(16, name=f"{axis}_{name}", reset_less=True)
                m.d.sync += chosen[axis, name].eq(choices[index])
        box, area = Signal(box_layout(self._cfg), reset_less=True), Signal(width, reset_less=True)
        m.d.sync += [
            box.gather.eq(chosen["row", "gather"] + chosen["col", "gather"]),
            box.psum.eq(chosen["row", "psum"] + chosen["col", "psum"]),
            box.rows.eq(chosen["row", "count"]),
            box.cols.eq(chosen["col", "count"]),
            area.eq(chosen["row", "count"][:width] * chosen["col", "count"][:width]),
            self.box.eq(box),
            self.count.eq(area * command.images[:width]),
        ]
        for stage in range(1, self.FIRST):
            valid_d, last_d = Signal(name=f"valid_{stage}"), Signal(name=f"last_{stage}")
            tap_d = Signal(TAP_BITS, name=f"tap_{stage}", reset_less=True)
            m.d.sync += [valid_d.eq(valid), last_d.eq(last_at), tap_d.eq(tap_at)]
            valid, last_at, tap_at = valid_d, last_d, tap_d
        m.d.comb += [self.tap_we.eq(valid), self.tap.eq(tap_at)]
        with m.If(self.slot_start):
            m.d.sync += written.eq(0)
        with m.Elif((valid & last_at) | (running & ~computes)):
            m.d.sync += written.eq(1)
        return m


class TapMemory(wiring.Component):
    """The boxes of two working sets. Writes go to the bank that is not read.

    Without maps there is one tap, of one position an image: a register a bank.

    Latency: `count` follows `count_tap` by one cycle with `count_en`, `box` follows `box_tap` likewise; both keep their
    value while their enable is low.

    Args:
        cfg: widths.

    Ports:
        bank: read. tap_we, tap, box_in, count_in: see `TapBuilder`.
        count_en, count_tap, count. box_en, box_tap, box.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "bank": In(1),
                "tap_we": In(1),
                "tap": In(TAP_BITS),
                "box_in": In(box_layout(cfg)),
                "count_in": In(position_bits(cfg)),
                "count_en": In(1),
                "count_tap": In(TAP_BITS),
                "count": Out(position_bits(cfg)),
                "box_en": In(1),
                "box_tap": In(TAP_BITS),
                "box": Out(box_layout(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return self._memories() if self._cfg.maps else self._one()

    def _one(self) -> Module:
        """Without maps: one tap, and its box is always the same."""
        m = Module()
        counts = [Signal.like(self.count, name=f"count_{bank}") for bank in range(2)]
        for bank, count in enumerate(counts):
            with m.If(self.tap_we & (self.bank != bank)):
                m.d.sync += count.eq(self.count_in)
        with m.If(self.count_en):
            m.d.sync += self.count.eq(Mux(self.bank, counts[1], counts[0]))
        m.d.comb += [self.box.rows.eq(1), self.box.cols.eq(1)]
        return m

    def _memories(self) -> Module:
        m = Module()
        for name in ("count", "box"):
            out, value = getattr(self, name), getattr(self, f"{name}_in")
            shape = out.shape().size if isinstance(out.shape(), data.Layout) else len(out)
            m.submodules[name] = memory = ram(shape, 2 << TAP_BITS)
            write, read = memory.write_port(), memory.read_port()
            bits = value.as_value() if isinstance(value, data.View) else value
            m.d.comb += [
                write.en.eq(self.tap_we),
                write.addr.eq(Cat(self.tap, ~self.bank)),
                write.data.eq(bits),
                read.en.eq(getattr(self, f"{name}_en")),
                read.addr.eq(Cat(getattr(self, f"{name}_tap"), self.bank)),
                (out.as_value() if isinstance(out, data.View) else out).eq(read.data),
            ]
        return m
