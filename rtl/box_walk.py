"""Walk through the box of a visit: gather and psum address of one position a cycle.

A box is three loops: columns within rows within images. A step adds a constant of the command to the address that
began the loop which goes on, so an address takes one adder and no multiplier.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.payload import payload
from rtl.tap_table import box_layout, position_bits

PITCH_BITS = 16
AXES = ("image", "row", "col")


class BoxWalk(wiring.Component):
    """Addresses of a visit.

    Latency: the address of a position is at the outputs one cycle after its `issue`, and stays until the next.

    Without maps a box has one row and one column.

    Args:
        cfg: widths.

    Ports:
        first: with issue, a visit begins: box, gather_base and psum_base are added up. issue: one position.
        box: of the visit, constant during it (also in the cycles of its other positions).
        gather_image, gather_row, gather_col, psum_image, psum_row, psum_col: steps, constant.
        gather, psum: addresses.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        gather, psum = log2_exact(cfg.gather_depth, "gather_depth"), log2_exact(cfg.psum_depth, "psum_depth")
        super().__init__(
            {
                "first": In(1),
                "issue": In(1),
                "box": In(box_layout(cfg)),
                "gather_base": In(gather),
                "psum_base": In(psum),
                **{f"{name}_{axis}": In(PITCH_BITS) for name in ("gather", "psum") for axis in AXES},
                "gather": Out(gather),
                "psum": Out(psum),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = position_bits(self._cfg)
        cols_left, rows_left = Signal(width, reset_less=True), Signal(width, reset_less=True)
        new_row, new_image = Signal(), Signal()
        if self._cfg.maps:
            m.d.comb += [new_row.eq(cols_left == 0), new_image.eq(new_row & (rows_left == 0))]
        else:  # images alone
            m.d.comb += [new_row.eq(1), new_image.eq(1)]
        with m.If(self.first):
            m.d.sync += [cols_left.eq(self.box.cols - 1), rows_left.eq(self.box.rows - 1)]
        with m.Elif(self.issue):
            m.d.sync += cols_left.eq(Mux(new_row, self.box.cols - 1, cols_left - 1))
            with m.If(new_image):
                m.d.sync += rows_left.eq(self.box.rows - 1)
            with m.Elif(new_row):
                m.d.sync += rows_left.eq(rows_left - 1)
        for name in ("gather", "psum"):
            out = payload(m, getattr(self, name), f"{name}_address")
            base = getattr(self, f"{name}_base")
            image, row, col = (getattr(self, f"{name}_{axis}")[: len(out)] for axis in AXES)
            row_start = Signal(len(out), name=f"{name}_row_start", reset_less=True)
            image_start = Signal(len(out), name=f"{name}_image_start", reset_less=True)
            since, step = Signal(len(out), name=f"{name}_since"), Signal(len(out), name=f"{name}_step")
            following = Signal(len(out), name=f"{name}_following")
            m.d.comb += [
                since.eq(Mux(self.first, base, Mux(new_image, image_start, Mux(new_row, row_start, out)))),
                step.eq(Mux(self.first, self.box[name], Mux(new_image, image, Mux(new_row, row, col)))),
                following.eq(since + step),
            ]
            with m.If(self.first | self.issue):
                m.d.sync += out.eq(following)
                with m.If(self.first | new_row):
                    m.d.sync += row_start.eq(following)
                with m.If(self.first | new_image):
                    m.d.sync += image_start.eq(following)
        return m
