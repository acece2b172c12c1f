"""Requantiser: shift an accumulator, round half to even, saturate; count the bits of its magnitude.

Two combinational halves, each behind a register. `ShiftSticky` shifts by powers of two; on the way
right it keeps the last bit shifted out (guard) and whether any before it was set (sticky), on the
way left it notes whether a bit that mattered fell off. `RoundSaturate` rounds with guard, sticky
and the lowest bit kept, as floating-point units do, and saturates.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

SHIFT_BITS = 7
MIN_SHIFT = -31
MAX_SHIFT = 63
_RIGHT_LEVELS = 6
_LEFT_LEVELS = 5


def _check(in_bits: int, out_bits: int) -> None:
    if not 2 <= in_bits <= 64:
        raise ValueError(f"in_bits must be between 2 and 64, not {in_bits}")
    if not 2 <= out_bits <= 63:
        raise ValueError(f"out_bits must be between 2 and 63, not {out_bits}")


class ShiftSticky(wiring.Component):
    """First half, combinational: `x / 2**shift`, not yet rounded.

    Ports:
        x: signed, in_bits. shift: signed, -31 to 63.
        kept: floor of the quotient, signed, max(in_bits, out_bits). guard, sticky: the half, and
        less than the half, of what the floor left out. over: a left shift left out_bits.
    """

    def __init__(self, in_bits: int, out_bits: int) -> None:
        _check(in_bits, out_bits)
        self._in_bits, self._out_bits = in_bits, out_bits
        super().__init__(
            {
                "x": In(signed(in_bits)),
                "shift": In(signed(SHIFT_BITS)),
                "kept": Out(signed(max(in_bits, out_bits))),
                "guard": Out(1),
                "sticky": Out(1),
                "over": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._in_bits + 1  # bit 0 is the guard

        value = Signal(signed(width), name="right_in")
        sticky = Const(0, 1)
        m.d.comb += value.eq(Cat(Const(0, 1), self.x))
        for level in reversed(range(_RIGHT_LEVELS)):
            step = 1 << level
            shifted = Signal(signed(width), name=f"right{step}")
            lost = Signal(name=f"lost{step}")
            m.d.comb += [shifted.eq(value), lost.eq(sticky)]
            with m.If(self.shift[level]):
                m.d.comb += [
                    shifted.eq(value >> step),
                    # Past the width every bit is lost, the copies of the sign among them.
                    lost.eq(sticky | value[: min(step, width)].any()),
                ]
            value, sticky = shifted, lost
        right, right_sticky = value, sticky

        bits = self._out_bits
        distance = Signal(_LEFT_LEVELS)
        value = Signal(signed(bits), name="left_in")
        over = Signal(name="over_in")
        m.d.comb += [distance.eq(-self.shift), value.eq(self.x)]
        if self._in_bits > bits:
            m.d.comb += over.eq(_differ(self.x[bits - 1 :]))
        for level in range(_LEFT_LEVELS):
            step = 1 << level
            shifted = Signal(signed(bits), name=f"left{step}")
            fell = Signal(name=f"over{step}")
            m.d.comb += [shifted.eq(value), fell.eq(over)]
            with m.If(distance[level]):
                gone = _differ(value[bits - 1 - step :]) if step < bits else value.any()
                m.d.comb += [
                    shifted.eq(Cat(Const(0, step), value)),
                    fell.eq(over | gone),
                ]
            value, over = shifted, fell

        left = Signal()
        m.d.comb += left.eq(self.shift[-1])
        m.d.comb += [
            self.kept.eq(Mux(left, value, right[1:].as_signed())),
            self.guard.eq(~left & right[0]),
            self.sticky.eq(~left & right_sticky),
            self.over.eq(left & over),
        ]
        return m


class RoundSaturate(wiring.Component):
    """Second half, combinational: round half to even, saturate.

    Ports: those of `ShiftSticky`'s outputs as inputs, and negative: x was. value: signed out_bits.
    saturated: the rounded quotient did not fit; value is then the end of the range nearer to it.
    """

    def __init__(self, in_bits: int, out_bits: int) -> None:
        _check(in_bits, out_bits)
        self._out_bits = out_bits
        super().__init__(
            {
                "kept": In(signed(max(in_bits, out_bits))),
                "guard": In(1),
                "sticky": In(1),
                "over": In(1),
                "negative": In(1),
                "value": Out(signed(out_bits)),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._out_bits
        up = Signal()
        rounded = Signal(signed(len(self.kept) + 1))
        m.d.comb += [
            up.eq(self.guard & (self.sticky | self.kept[0])),
            rounded.eq(self.kept + up),
            self.saturated.eq(self.over | _differ(rounded[bits - 1 :])),
            # The lowest number is the complement of the highest.
            self.value.eq(
                Mux(self.saturated, Cat(Mux(self.negative, 0, ~Const(0, bits - 1)), self.negative), rounded[:bits])
            ),
        ]
        return m


class Requantise(wiring.Component):
    """Pipelined requantiser: one value a cycle, result `LATENCY` cycles later.

    Args:
        in_bits: width of the accumulator, 2 to 64.
        out_bits: width of the result, 2 to 63.

    Ports:
        en: the pipeline moves; low holds both stages. Left unconnected it is high.
        x, shift: accumulator and right shift (-31 to 63, negative shifts left; others are not legal).
        value, saturated: rounded and saturated quotient, and whether it had to be saturated.
        magnitude_bits: bit length of |x|, 0 for 0. Belongs to the same x as value.

    Raises:
        ValueError: a width out of range, by name.
    """

    LATENCY = 2

    def __init__(self, in_bits: int, out_bits: int) -> None:
        _check(in_bits, out_bits)
        self._in_bits, self._out_bits = in_bits, out_bits
        super().__init__(
            {
                "en": In(1, init=1),
                "x": In(signed(in_bits)),
                "shift": In(signed(SHIFT_BITS)),
                "value": Out(signed(out_bits)),
                "saturated": Out(1),
                "magnitude_bits": Out(in_bits.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.shifter = shifter = ShiftSticky(self._in_bits, self._out_bits)
        m.submodules.rounder = rounder = RoundSaturate(self._in_bits, self._out_bits)
        negative = Signal()
        magnitude = Signal(self._in_bits, reset_less=True)
        m.d.comb += [
            shifter.x.eq(self.x),
            shifter.shift.eq(self.shift),
            negative.eq(self.x[-1]),
        ]
        with m.If(self.en):
            for name in ("kept", "guard", "sticky", "over"):
                source = getattr(shifter, name)
                register = Signal(source.shape(), name=f"{name}_1", reset_less=True)
                m.d.sync += register.eq(source)
                m.d.comb += getattr(rounder, name).eq(register)
            negative_1 = Signal(reset_less=True)
            m.d.sync += [
                negative_1.eq(negative),
                magnitude.eq((self.x ^ negative.replicate(self._in_bits)) + negative),
                self.value.eq(rounder.value),
                self.saturated.eq(rounder.saturated),
                self.magnitude_bits.eq(bit_length(m, magnitude)),
            ]
        m.d.comb += rounder.negative.eq(negative_1)
        return m


def _differ(bits: object) -> object:
    """Whether the bits are neither all zero nor all one: they are not copies of one sign bit."""
    return bits.any() & ~bits.all()


def leading_one(bits: Value) -> Value:
    """Index of the highest bit that is set, 0 if none is: a balanced tree, a multiplexer a level."""
    if len(bits) <= 2:
        return bits[1] if len(bits) == 2 else Const(0, 1)
    half = 1 << (len(bits) - 1).bit_length() - 1
    lower, upper = bits[:half], bits[half:]
    return Cat(Mux(upper.any(), leading_one(upper), leading_one(lower)), upper.any())


def bit_length(m: Module, value: Signal) -> Signal:
    """Position of the leading one, counted from 1, 0 if there is none; combinational, depth is logarithmic."""
    length = Signal(len(value).bit_length())
    m.d.comb += length.eq(leading_one(Cat(Const(1, 1), value)))  # a one below it: no addition behind the search
    return length
