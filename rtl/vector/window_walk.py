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
        "batch_end": 1,  # the last of its sub-batch
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
        start: pulse. command, beats: stable from two cycles before until the last term.
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
        # What follows from the command alone is in registers, and so is whether a counter is at its end: when all that
        # is before the lanes moves on has to be decided in one cycle.
        width = Signal(8, reset_less=True)
        m.d.sync += width.eq(Mux(unpool, command.in_width, command.out_width))
        x_last, x_next, x_first = self._end(m, "x", at.x, Mux(unpool, command.in_width, command.out_width))
        y_last, y_next, y_first = self._end(m, "y", at.y, Mux(unpool, command.in_height, command.out_height))
        batch_last, batch_next, batch_first = self._end(m, "batch", batch, command.batches)
        beat = Signal(16)
        beat_end, beat_next, beat_first = self._end(m, "beat", beat, self.beats)
        m.d.comb += [
            at.last_batch.eq(batch_last),
            at.batch_end.eq(x_last & y_last),
        ]
        counters = Signal(data.StructLayout({"y": 8, "x": 8}))
        m.d.comb += [at.y.eq(counters.y), at.x.eq(counters.x)]
        with m.If(self.start):
            m.d.sync += [going.eq(1), counters.eq(0), batch.eq(0)]
            m.d.sync += [x_last.eq(x_first), y_last.eq(y_first), batch_last.eq(batch_first)]
        with m.Elif(going & take_1):
            m.d.sync += [counters.x.eq(Mux(x_last, 0, counters.x + 1)), x_last.eq(Mux(x_last, x_first, x_next))]
            with m.If(x_last):
                m.d.sync += [counters.y.eq(Mux(y_last, 0, counters.y + 1)), y_last.eq(Mux(y_last, y_first, y_next))]
                with m.If(y_last):
                    m.d.sync += [batch.eq(batch + 1), batch_last.eq(batch_next)]
            with m.If(at.batch_end & at.last_batch):
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
        bases = {
            name: Signal(32, name=f"{name}_base") for name in ("a", "b", "out")
        }  # of the sub-batch, in every tensor
        high_row, high_column = Signal(8), Signal(8)
        first_row, first_column, row_axis, column_axis = Signal(AXIS), Signal(AXIS), Signal(AXIS), Signal(AXIS)
        y, x = Signal(8), Signal(8)
        holds, elements, gradient = Signal(), Signal(), Signal()  # which term it is
        some = Signal()  # there are windows
        next_row, next_column = (
            self._next(m, "row", row_axis, command.in_height),
            self._next(m, "column", column_axis, command.in_width),
        )
        row_end, window_end, windows_row_end, windows_end = Signal(), Signal(), Signal(), Signal()
        maximum = Signal()
        m.d.comb += [
            maximum.eq(~command.average),
            row_end.eq(x == column_axis.high),
            window_end.eq(row_end & (y == row_axis.high)),
            windows_row_end.eq(column_axis.window == high_column),
            windows_end.eq(windows_row_end & (row_axis.window == high_row)),
            # The last term of a result: its last element, its last gradient, or the only one there is.
            end_4.eq(Mux(unpool, Mux(gradient, windows_end, holds & ~some), window_end)),
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
                beat_end.eq(beat_first),
                *enter(first_row_3, first_column_3),
                *begin(some_3),
            ]
        with m.Elif(move & valid_4):
            with m.If(end_4):
                m.d.sync += [beat.eq(beat + 1), beat_end.eq(beat_next), *enter(first_row, first_column), *begin(some)]
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

        for name, base in bases.items():
            with m.If(self.start):
                m.d.sync += base.eq(command[f"{name}_addr"])
            with m.Elif(valid_4 & take_3 & place.batch_end):
                m.d.sync += base.eq(base + command[f"{name}_batch"])

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
                info_5.base.eq(Mux(gradient | nowhere, bases["b"], bases["a"])),
                info_5.out_base.eq(bases["out"]),
                info_5.stride.eq(Mux(gradient, command.b_stride, command.a_stride)),
                info_5.beat.eq(beat),
                info_5.last_batch.eq(place.last_batch),
                info_5.end.eq(place.batch_end & place.last_batch & end_4 & beat_end),
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

    def _end(self, m: Module, name: str, counter: Signal, count: Signal) -> tuple[Signal, Signal, Signal]:
        """Whether a counter is at its last value: a register, and what it becomes with the next value and the first."""
        last, following, first = Signal(name=f"{name}_last"), Signal(name=f"{name}_next"), Signal(name=f"{name}_first")
        before = Signal(len(counter), name=f"{name}_before_last", reset_less=True)
        m.d.sync += [before.eq(count - 2), first.eq(count == 1)]
        m.d.comb += following.eq(counter == before)
        return last, following, first

    def _windows(self, m: Module, name: str, at: Signal, window: Signal, count: Signal, unpool: Signal) -> Signal:
        """First and last window that contains a row (a column) of the input; itself in POOL."""
        command = self.command
        span = Signal(RANGE, name=f"{name}_windows")
        reach, low = Signal(9, name=f"{name}_reach"), Signal(signed(10), name=f"{name}_from")
        high = Signal(9, name=f"{name}_to")
        offset, last = (
            Signal(signed(10), name=f"{name}_offset", reset_less=True),
            self._last(m, f"{name}_windows", count),
        )
        double = command.step[1]
        # Halves are rounded up: with a step of two, a one is in the offset.
        m.d.sync += offset.eq(command.padding - window + 1 + double)
        m.d.comb += [
            reach.eq(at + command.padding),
            low.eq(at + offset),
            high.eq(Mux(double, reach >> 1, reach)),
            span.low.eq(at),
            span.high.eq(at),
        ]
        with m.If(unpool):
            m.d.comb += [
                span.low.eq(Mux(low < 0, 0, Mux(double, low >> 1, low))),
                span.high.eq(Mux(high > last, last, high)),
            ]
        return span

    def _axis(self, m: Module, name: str, window: Signal, size: Signal, count: Signal) -> Signal:
        """A window along an axis, from its number."""
        command = self.command
        axis = Signal(AXIS, name=name)
        first = Signal(9, name=f"{name}_from")
        to_end = Signal(signed(10), name=f"{name}_to_end", reset_less=True)
        to_over = Signal(signed(11), name=f"{name}_to_over", reset_less=True)
        over = Signal(signed(12), name=f"{name}_over")
        m.d.sync += [to_end.eq(size - 1 - command.padding), to_over.eq(size - 1 - command.padding - count)]
        m.d.comb += [
            axis.window.eq(window),
            first.eq(Mux(command.step[1], window << 1, window)),
            axis.begin.eq(first - command.padding),
            axis.end.eq(first + to_end),
            over.eq(first + to_over),
        ]
        self._clip(m, axis, over, self._last(m, name, count))
        return axis

    def _next(self, m: Module, name: str, axis: Signal, count: Signal) -> Signal:
        """The window after it."""
        after = Signal(AXIS, name=f"next_{name}")
        to_over = Signal(signed(10), name=f"next_{name}_to_over", reset_less=True)
        over = Signal(signed(12), name=f"next_{name}_over")
        m.d.sync += to_over.eq(self.command.step - count)
        m.d.comb += [
            after.window.eq(axis.window + 1),
            after.begin.eq(axis.begin + self.command.step),
            after.end.eq(axis.end + self.command.step),
            over.eq(axis.end + to_over),
        ]
        self._clip(m, after, over, self._last(m, f"next_{name}", count))
        return after

    def _last(self, m: Module, name: str, count: Signal) -> Signal:
        """The last of so many, a cycle later."""
        last = Signal(8, name=f"{name}_last", reset_less=True)
        m.d.sync += last.eq(count - 1)
        return last

    def _clip(self, m: Module, axis: Signal, over: Signal, last: Signal) -> None:
        """What of a window lies inside of the input; `over` is not negative if it ends beyond."""
        m.d.comb += [
            axis.low.eq(Mux(axis.begin < 0, 0, axis.begin)),
            axis.high.eq(Mux(over < 0, axis.end, last)),
        ]
