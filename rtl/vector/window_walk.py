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

#: A window along one axis: its number, where it begins and ends, and what of it lies inside of the input.
AXIS = data.StructLayout({"window": 8, "begin": signed(11), "end": signed(11), "low": 8, "high": 8})


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

    FIRST = 7

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

        # Stage 3: the first of them.
        place_3, valid_3, take_3 = Signal(PLACE), Signal(), Signal()
        high_row_3, high_column_3, some_3 = Signal(8), Signal(8), Signal()
        first_row_3, first_column_3 = Signal(AXIS), Signal(AXIS)
        m.d.comb += take_2.eq(~valid_3 | take_3)
        with m.If(self.start):
            m.d.sync += valid_3.eq(0)
        with m.Elif(take_2):
            m.d.sync += [
                valid_3.eq(valid_2),
                place_3.eq(place_2),
                high_row_3.eq(rows_2.high),
                high_column_3.eq(columns_2.high),
                some_3.eq((rows_2.low <= rows_2.high) & (columns_2.low <= columns_2.high)),
                first_row_3.eq(self._axis(m, "first_row", rows_2.low, command.window_height, command.in_height)),
                first_column_3.eq(self._axis(m, "first_column", columns_2.low, command.window_width, command.in_width)),
            ]

        # Stage 4: the term. A window's bounds are registers; those of the next are a step further.
        place, valid_4, end_4 = Signal(PLACE), Signal(), Signal()
        high_row, high_column = Signal(8), Signal(8)
        first_row, first_column, row_axis, column_axis = Signal(AXIS), Signal(AXIS), Signal(AXIS), Signal(AXIS)
        y, x, beat = Signal(8), Signal(8), Signal(16)
        holds, elements, gradient = Signal(), Signal(), Signal()  # which term it is
        some = Signal()  # there are windows
        next_row, next_column = (
            self._next(m, "row", row_axis, command.in_height),
            self._next(m, "column", column_axis, command.in_width),
        )
        row_end, window_end, windows_row_end, windows_end = Signal(), Signal(), Signal(), Signal()
        maximum, beat_end = Signal(), Signal()
        m.d.comb += [
            maximum.eq(~command.average),
            row_end.eq(x == column_axis.high),
            window_end.eq(row_end & (y == row_axis.high)),
            windows_row_end.eq(column_axis.window == high_column),
            windows_end.eq(windows_row_end & (row_axis.window == high_row)),
            # The last term of a result: its last element, its last gradient, or the only one there is.
            end_4.eq(Mux(unpool, Mux(gradient, windows_end, holds & ~some), window_end)),
            beat_end.eq(beat + 1 == self.beats),
            take_3.eq(~valid_4 | (move & end_4 & beat_end)),
        ]

        def begin(there: Signal) -> list:
            """A result begins with the element itself, with a gradient or with an element of its window."""
            return [
                holds.eq(unpool & (maximum | ~there)),
                gradient.eq(unpool & ~maximum & there),
                elements.eq(~unpool),
            ]

        def enter(row: Signal, column: Signal) -> list:
            """A window begins with its first element inside."""
            return [row_axis.eq(row), column_axis.eq(column), y.eq(row.low), x.eq(column.low)]

        with m.If(self.start):
            m.d.sync += valid_4.eq(0)
        with m.Elif(take_3):
            m.d.sync += [
                valid_4.eq(valid_3),
                place.eq(place_3),
                high_row.eq(high_row_3),
                high_column.eq(high_column_3),
                first_row.eq(first_row_3),
                first_column.eq(first_column_3),
                some.eq(some_3),
                beat.eq(0),
                *enter(first_row_3, first_column_3),
                *begin(some_3),
            ]
        with m.Elif(move & valid_4):
            with m.If(end_4):
                m.d.sync += [beat.eq(beat + 1), *enter(first_row, first_column), *begin(some)]
            with m.Elif(elements):
                m.d.sync += x.eq(Mux(row_end, column_axis.low, x + 1))
                with m.If(row_end):
                    m.d.sync += y.eq(y + 1)
                with m.If(window_end):  # only UNPOOL comes here
                    m.d.sync += [elements.eq(0), gradient.eq(1)]
            with m.Elif(holds):
                m.d.sync += [holds.eq(0), elements.eq(1)]
            with m.Else():
                with m.If(windows_row_end):
                    m.d.sync += enter(next_row, first_column)
                with m.Else():
                    m.d.sync += enter(row_axis, next_column)
                m.d.sync += [elements.eq(maximum), gradient.eq(~maximum)]

        step_4 = Signal(LANE_STEP)
        before = Signal()  # in row-major order, the element comes before the one whose gradient it is
        m.d.comb += before.eq((y < place.y) | ((y == place.y) & (x < place.x)))
        m.d.comb += [
            step_4.hold.eq(holds),
            step_4.largest.eq(elements & ~unpool & maximum),
            step_4.compare.eq(elements & unpool),
            step_4.strict.eq(before),
            step_4.fresh.eq(elements & (y == row_axis.low) & (x == column_axis.low)),
            step_4.masked.eq(gradient & maximum),
            step_4.right.eq(Mux(holds, Right.ZERO, Right.A)),
            step_4.adds.eq(holds | gradient | (elements & ~unpool & (end_4 | ~maximum))),
            step_4.first.eq(
                Mux(
                    unpool,
                    holds
                    | (
                        gradient
                        & ~maximum
                        & (row_axis.window == first_row.window)
                        & (column_axis.window == first_column.window)
                    ),
                    step_4.fresh | maximum,
                )
            ),
            step_4.last.eq(end_4),
        ]

        # Stages 5 to 7: addresses, by two products.
        valid_5, valid_6 = Signal(), Signal()
        carried = data.StructLayout(
            {"base": 32, "out_base": 32, "stride": 16, "beat": 16, "last_batch": 1, "end": 1, "step": LANE_STEP}
        )
        info_5, info_6 = Signal(carried, reset_less=True), Signal(carried, reset_less=True)
        read_5, out_5 = Signal(16, reset_less=True), Signal(16, reset_less=True)
        read_6, out_6 = Signal(32, reset_less=True), Signal(32, reset_less=True)
        row, column, row_width = Signal(8), Signal(8), Signal(8)
        nowhere = Signal()
        m.d.comb += [
            # An average's gradient has no input: where no window is, it reads the gradient's first beat.
            nowhere.eq(holds & ~maximum),
            row.eq(Mux(gradient, row_axis.window, Mux(holds, place.y, y))),
            column.eq(Mux(gradient, column_axis.window, Mux(holds, place.x, x))),
            row_width.eq(Mux(gradient, command.out_width, command.in_width)),
        ]
        with m.If(self.start):
            m.d.sync += [valid_5.eq(0), valid_6.eq(0), self.valid.eq(0)]
        with m.Elif(move):
            m.d.sync += [
                valid_5.eq(valid_4),
                read_5.eq(Mux(nowhere, 0, row * row_width + column)),
                out_5.eq(place.y * width + place.x),
                info_5.base.eq(Mux(gradient | nowhere, place.b, place.a)),
                info_5.out_base.eq(place.out),
                info_5.stride.eq(Mux(gradient, command.b_stride, command.a_stride)),
                info_5.beat.eq(beat),
                info_5.last_batch.eq(place.last_batch),
                info_5.end.eq(place.end & end_4 & beat_end),
                info_5.step.eq(step_4),
                valid_6.eq(valid_5),
                read_6.eq(read_5 * info_5.stride),
                out_6.eq(out_5 * command.out_stride),
                info_6.eq(info_5),
                self.valid.eq(valid_6),
                self.term.addr.eq(info_6.base + read_6 + info_6.beat),
                self.term.out_addr.eq(info_6.out_base + out_6 + info_6.beat),
                self.term.beat.eq(info_6.beat),
                self.term.last_batch.eq(info_6.last_batch),
                self.term.end.eq(info_6.end),
                self.term.step.eq(info_6.step),
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

    def _axis(self, m: Module, name: str, window: Signal, size: Signal, count: Signal) -> Signal:
        """A window along an axis, from its number."""
        command = self.command
        axis = Signal(AXIS, name=name)
        m.d.comb += [
            axis.window.eq(window),
            axis.begin.eq(Mux(command.step[1], window << 1, window) - command.padding),
            axis.end.eq(axis.begin + size - 1),
        ]
        self._clip(m, axis, count)
        return axis

    def _next(self, m: Module, name: str, axis: Signal, count: Signal) -> Signal:
        """The window after it."""
        after = Signal(AXIS, name=f"next_{name}")
        m.d.comb += [
            after.window.eq(axis.window + 1),
            after.begin.eq(axis.begin + self.command.step),
            after.end.eq(axis.end + self.command.step),
        ]
        self._clip(m, after, count)
        return after

    def _clip(self, m: Module, axis: Signal, count: Signal) -> None:
        """What of a window lies inside of the input."""
        m.d.comb += [
            axis.low.eq(Mux(axis.begin < 0, 0, axis.begin)),
            axis.high.eq(Mux(axis.end >= count, count - 1, axis.end)),
        ]
