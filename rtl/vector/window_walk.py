"""Walk of POOL and UNPOOL: the windows of a pool, or those that contain a position."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.vector import Op
from rtl.vector.command import VECTOR_COMMAND
from rtl.vector.terms import LANE_STEP, TERM, Right

PLACE = data.StructLayout(
    {
        "y": 8,
        "x": 8,
        "last_batch": 1,
        "end": 1,
        "a": 32,  # where the sub-batch begins, in every tensor
        "b": 32,
        "out": 32,
    }
)
RANGE = data.StructLayout({"low": 8, "high": 8})


class WindowWalk(wiring.Component):
    """Beats of the elements of windows.

    For each sub-batch, position (y, x) of the tensor written and beat of it:
    POOL: the elements of window (y, x), row by row.
    UNPOOL, max: the element itself; for each window that contains it, row by row: its elements, its gradient.
    UNPOOL, average: the gradients of these windows; if there is none, one element that counts as zero.

    Law: `start` in cycle s, the first term is valid in s + `FIRST`, then one in every cycle with `ready`.

    Ports:
        start: pulse. command, beats: stable until the last term.
        valid, ready, term: the walk.
    """

    FIRST = 6

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "command": In(VECTOR_COMMAND),
                "beats": In(16),
                "valid": Out(1),
                "ready": In(1),
                "term": Out(TERM),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        command = self.command
        move = Signal()  # the address pipeline moves
        m.d.comb += move.eq(~self.valid | self.ready)
        unpool = Signal()
        m.d.comb += unpool.eq(command.op == Op.UNPOOL)

        # Stage 1: positions of the tensor written.
        going, take_1 = Signal(), Signal()
        at, batch = Signal(PLACE), Signal(16)
        height, width = Signal(8), Signal(8)
        x_last, y_last = Signal(), Signal()
        m.d.comb += [
            height.eq(Mux(unpool, command.in_height, command.out_height)),
            width.eq(Mux(unpool, command.in_width, command.out_width)),
            x_last.eq(at.x + 1 == width),
            y_last.eq(at.y + 1 == height),
            at.last_batch.eq(batch + 1 == command.batches),
            at.end.eq(x_last & y_last & at.last_batch),
        ]
        counters = Signal(data.StructLayout({"y": 8, "x": 8}))
        m.d.comb += [at.y.eq(counters.y), at.x.eq(counters.x)]
        for name in ("a", "b", "out"):
            begin = Signal(32, name=f"{name}_begin")
            m.d.comb += at[name].eq(begin)
            with m.If(self.start):
                m.d.sync += begin.eq(command[f"{name}_addr"])
            with m.Elif(going & take_1 & x_last & y_last):
                m.d.sync += begin.eq(begin + command[f"{name}_batch"])
        with m.If(self.start):
            m.d.sync += [going.eq(1), counters.eq(0), batch.eq(0)]
        with m.Elif(going & take_1):
            m.d.sync += counters.x.eq(Mux(x_last, 0, counters.x + 1))
            with m.If(x_last):
                m.d.sync += counters.y.eq(Mux(y_last, 0, counters.y + 1))
                with m.If(y_last):
                    m.d.sync += batch.eq(batch + 1)
            with m.If(at.end):
                m.d.sync += going.eq(0)

        # Stage 2: the windows that matter there.
        place_2, valid_2, take_2 = Signal(PLACE), Signal(), Signal()
        rows_2, columns_2 = Signal(RANGE), Signal(RANGE)
        m.d.comb += take_1.eq(~valid_2 | take_2)
        with m.If(self.start):
            m.d.sync += valid_2.eq(0)
        with m.Elif(take_1):
            m.d.sync += [
                valid_2.eq(going),
                place_2.eq(at),
                rows_2.eq(self._windows(m, "row", at.y, command.window_height, command.out_height, unpool)),
                columns_2.eq(self._windows(m, "column", at.x, command.window_width, command.out_width, unpool)),
            ]

        # Stage 3: the term.
        place, valid_3, end_3 = Signal(PLACE), Signal(), Signal()
        rows, columns = Signal(RANGE), Signal(RANGE)
        window_y, window_x, y, x, beat = Signal(8), Signal(8), Signal(8), Signal(8), Signal(16)
        holds, elements, gradient = Signal(), Signal(), Signal()  # which term it is
        some = Signal()  # there are windows
        element_rows, element_columns = Signal(RANGE), Signal(RANGE)
        m.d.comb += [
            element_rows.eq(self._inside(m, "row", window_y, command.window_height, command.in_height)),
            element_columns.eq(self._inside(m, "column", window_x, command.window_width, command.in_width)),
        ]
        row_end, window_end, windows_row_end, windows_end = Signal(), Signal(), Signal(), Signal()
        next_window_y, next_window_x = Signal(8), Signal(8)
        maximum, beat_end = Signal(), Signal()
        m.d.comb += [
            maximum.eq(~command.average),
            row_end.eq(x == element_columns.high),
            window_end.eq(row_end & (y == element_rows.high)),
            windows_row_end.eq(window_x == columns.high),
            windows_end.eq(windows_row_end & (window_y == rows.high)),
            next_window_x.eq(Mux(windows_row_end, columns.low, window_x + 1)),
            next_window_y.eq(Mux(windows_row_end, Mux(windows_end, rows.low, window_y + 1), window_y)),
            # The last term of a result: its last element, its last gradient, or the only one there is.
            end_3.eq(Mux(unpool, Mux(gradient, windows_end, holds & ~some), window_end)),
            beat_end.eq(beat + 1 == self.beats),
            take_2.eq(~valid_3 | (move & end_3 & beat_end)),
        ]
        some_2 = Signal()
        m.d.comb += some_2.eq((rows_2.low <= rows_2.high) & (columns_2.low <= columns_2.high))

        def begin(there: Signal) -> list:
            """A result begins with the element itself, with a gradient or with an element of its window."""
            return [
                holds.eq(unpool & (maximum | ~there)),
                gradient.eq(unpool & ~maximum & there),
                elements.eq(~unpool),
            ]

        def enter(window_row: Signal, window_column: Signal, name: str) -> list:
            """A window begins with its first element inside."""
            first_row = self._inside(m, f"{name}_row", window_row, command.window_height, command.in_height)
            first_column = self._inside(m, f"{name}_column", window_column, command.window_width, command.in_width)
            return [window_y.eq(window_row), window_x.eq(window_column), y.eq(first_row.low), x.eq(first_column.low)]

        with m.If(self.start):
            m.d.sync += valid_3.eq(0)
        with m.Elif(take_2):
            m.d.sync += [
                valid_3.eq(valid_2),
                place.eq(place_2),
                rows.eq(rows_2),
                columns.eq(columns_2),
                some.eq(some_2),
                beat.eq(0),
                *enter(rows_2.low, columns_2.low, "first"),
                *begin(some_2),
            ]
        with m.Elif(move & valid_3):
            with m.If(end_3):
                m.d.sync += [beat.eq(beat + 1), *enter(rows.low, columns.low, "again"), *begin(some)]
            with m.Elif(elements):
                m.d.sync += x.eq(Mux(row_end, element_columns.low, x + 1))
                with m.If(row_end):
                    m.d.sync += y.eq(y + 1)
                with m.If(window_end):  # only UNPOOL comes here
                    m.d.sync += [elements.eq(0), gradient.eq(1)]
            with m.Elif(holds):
                m.d.sync += [holds.eq(0), elements.eq(1)]
            with m.Else():
                m.d.sync += [
                    *enter(next_window_y, next_window_x, "next"),
                    elements.eq(maximum),
                    gradient.eq(~maximum),
                ]

        step_3 = Signal(LANE_STEP)
        before = Signal()  # in row-major order, the element comes before the one whose gradient it is
        m.d.comb += before.eq((y < place.y) | ((y == place.y) & (x < place.x)))
        m.d.comb += [
            step_3.hold.eq(holds),
            step_3.largest.eq(elements & ~unpool & maximum),
            step_3.compare.eq(elements & unpool),
            step_3.strict.eq(before),
            step_3.fresh.eq(elements & (y == element_rows.low) & (x == element_columns.low)),
            step_3.masked.eq(gradient & maximum),
            step_3.right.eq(Mux(holds, Right.ZERO, Right.A)),
            step_3.adds.eq(holds | gradient | (elements & ~unpool & (end_3 | ~maximum))),
            step_3.first.eq(
                Mux(
                    unpool,
                    holds | (gradient & ~maximum & (window_y == rows.low) & (window_x == columns.low)),
                    step_3.fresh | maximum,
                )
            ),
            step_3.last.eq(end_3),
        ]

        # Stages 4 to 6: addresses, by two products.
        valid_4, valid_5 = Signal(), Signal()
        carried = data.StructLayout(
            {"base": 32, "out_base": 32, "stride": 16, "beat": 16, "last_batch": 1, "end": 1, "step": LANE_STEP}
        )
        info_4, info_5 = Signal(carried, reset_less=True), Signal(carried, reset_less=True)
        read_4, out_4 = Signal(16, reset_less=True), Signal(16, reset_less=True)
        read_5, out_5 = Signal(32, reset_less=True), Signal(32, reset_less=True)
        row, column, row_width = Signal(8), Signal(8), Signal(8)
        nowhere = Signal()
        m.d.comb += [
            # An average's gradient has no input: where no window is, it reads the gradient's first beat.
            nowhere.eq(holds & ~maximum),
            row.eq(Mux(gradient, window_y, Mux(holds, place.y, y))),
            column.eq(Mux(gradient, window_x, Mux(holds, place.x, x))),
            row_width.eq(Mux(gradient, command.out_width, command.in_width)),
        ]
        with m.If(self.start):
            m.d.sync += [valid_4.eq(0), valid_5.eq(0), self.valid.eq(0)]
        with m.Elif(move):
            m.d.sync += [
                valid_4.eq(valid_3),
                read_4.eq(Mux(nowhere, 0, row * row_width + column)),
                out_4.eq(place.y * width + place.x),
                info_4.base.eq(Mux(gradient | nowhere, place.b, place.a)),
                info_4.out_base.eq(place.out),
                info_4.stride.eq(Mux(gradient, command.b_stride, command.a_stride)),
                info_4.beat.eq(beat),
                info_4.last_batch.eq(place.last_batch),
                info_4.end.eq(place.end & end_3 & beat_end),
                info_4.step.eq(step_3),
                valid_5.eq(valid_4),
                read_5.eq(read_4 * info_4.stride),
                out_5.eq(out_4 * command.out_stride),
                info_5.eq(info_4),
                self.valid.eq(valid_5),
                self.term.addr.eq(info_5.base + read_5 + info_5.beat),
                self.term.out_addr.eq(info_5.out_base + out_5 + info_5.beat),
                self.term.beat.eq(info_5.beat),
                self.term.last_batch.eq(info_5.last_batch),
                self.term.end.eq(info_5.end),
                self.term.step.eq(info_5.step),
            ]
        return m

    def _windows(self, m: Module, name: str, at: Signal, window: Signal, count: Signal, unpool: Signal) -> Signal:
        """First and last window that contains a row (a column) of the input; itself in POOL."""
        command = self.command
        span = Signal(RANGE, name=f"{name}_windows")
        reach, low = Signal(9, name=f"{name}_reach"), Signal(signed(10), name=f"{name}_from")
        high = Signal(9, name=f"{name}_to")
        double = command.step[1]
        m.d.comb += [
            reach.eq(at + command.padding),
            low.eq(reach - window + 1),
            high.eq(Mux(double, reach >> 1, reach)),
            span.low.eq(at),
            span.high.eq(at),
        ]
        with m.If(unpool):
            m.d.comb += [
                span.low.eq(Mux(low < 0, 0, Mux(double, (low + 1) >> 1, low))),
                span.high.eq(Mux(high >= count, count - 1, high)),
            ]
        return span

    def _inside(self, m: Module, name: str, window: Signal, size: Signal, count: Signal) -> Signal:
        """First and last row (column) of the input in a window."""
        command = self.command
        span = Signal(RANGE, name=f"{name}_inside")
        low, high = Signal(signed(11), name=f"{name}_low"), Signal(signed(11), name=f"{name}_high")
        m.d.comb += [
            low.eq(Mux(command.step[1], window << 1, window) - command.padding),
            high.eq(low + size - 1),
            span.low.eq(Mux(low < 0, 0, low)),
            span.high.eq(Mux(high >= count, count - 1, high)),
        ]
        return span
