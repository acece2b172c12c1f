"""Requantiser: shift an accumulator, round half to even, saturate; count the bits of its magnitude.

Two combinational halves, each behind a register. `ShiftSticky` shifts by powers of two, the largest first, and keeps
after each only what smaller ones can still bring into the result: of what falls off below, whether any bit was set
(sticky), of what falls off above, whether it was more than copies of the sign (over). `RoundSaturate` rounds with
sticky, the last bit shifted out (guard) and the lowest one kept, as floating-point units do, and saturates.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.payload import payload

SHIFT_BITS = 7
MIN_SHIFT = -31
MAX_SHIFT = 63
_LEVELS = 5


class ShiftSticky(wiring.Component):
    """First half, combinational: `x / 2**shift`, not yet rounded.

    A left shift is a right shift of x with 32 zeros behind it, so there is one shifter, and it is no wider than the
    result and the shifts still to come.

    Ports:
        x: signed, in_bits. shift: signed, -31 to 63.
        kept: lowest out_bits + 1 bits of the quotient's floor, signed; rounded up, it may fit where the floor did not.
        guard, sticky: the half, and less than the half, of what the floor left out. over: the floor is not `kept`.
    """

    def __init__(self, in_bits: int, out_bits: int) -> None:
        self._in_bits, self._out_bits = in_bits, out_bits
        super().__init__(
            {
                "x": In(signed(in_bits)),
                "shift": In(signed(SHIFT_BITS)),
                "kept": Out(signed(out_bits + 1)),
                "guard": Out(1),
                "sticky": Out(1),
                "over": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        result, reach = len(self.kept) + 1, 1 << _LEVELS  # bit 0 of the result is the guard

        # The shift's upper bits, -1, 0 or 1, say where the window begins from which the lower ones choose.
        left, none, right = (_cut(self.x, place * reach - 1, result + reach - 1) for place in (-1, 0, 1))
        chosen = [
            Mux(self.shift[-1], if_left, Mux(self.shift[_LEVELS], if_right, if_none))
            for if_left, if_none, if_right in zip(left, none, right, strict=True)
        ]
        for level in reversed(range(_LEVELS)):
            step = 1 << level
            value = Signal(signed(result + 2 * step - 1), name=f"before{step}")
            sticky, over = Signal(name=f"sticky{step}"), Signal(name=f"over{step}")
            m.d.comb += [signal.eq(source) for signal, source in zip((value, sticky, over), chosen, strict=True)]
            stays, _, above = _cut(value, 0, result + step - 1)
            moves, below, _ = _cut(value, step, result + step - 1)
            by = self.shift[level]
            chosen = [Mux(by, moves, stays), sticky | (by & below), over | (~by & above)]
        shifted = Signal(result)
        m.d.comb += [
            shifted.eq(chosen[0]),
            self.kept.eq(shifted[1:]),
            self.guard.eq(shifted[0]),
            self.sticky.eq(chosen[1]),
            self.over.eq(chosen[2]),
        ]
        return m


class RoundSaturate(wiring.Component):
    """Second half, combinational: round half to even, saturate.

    Ports: those of `ShiftSticky`'s outputs as inputs, and negative: x was. value: signed out_bits.
    saturated: the rounded quotient did not fit; value is then the end of the range nearer to it.
    """

    def __init__(self, out_bits: int) -> None:
        self._out_bits = out_bits
        super().__init__(
            {
                "kept": In(signed(out_bits + 1)),
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
        saturated is low after a reset, the other two stay.

    Raises:
        ValueError: a width out of range, by name.
    """

    LATENCY = 2

    def __init__(self, in_bits: int, out_bits: int) -> None:
        if not 2 <= in_bits <= 64:
            raise ValueError(f"in_bits must be between 2 and 64, not {in_bits}")
        if not 2 <= out_bits <= 63:
            raise ValueError(f"out_bits must be between 2 and 63, not {out_bits}")
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
        m.submodules.rounder = rounder = RoundSaturate(self._out_bits)
        negative = Signal()
        magnitude = Signal(self._in_bits, reset_less=True)
        m.d.comb += [
            shifter.x.eq(self.x),
            shifter.shift.eq(self.shift),
            negative.eq(self.x[-1]),
        ]
        value, magnitude_bits = payload(m, self.value, "value_2"), payload(m, self.magnitude_bits, "magnitude_bits_2")
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
                value.eq(rounder.value),
                self.saturated.eq(rounder.saturated),
                magnitude_bits.eq(bit_length(m, magnitude)),
            ]
        m.d.comb += rounder.negative.eq(negative_1)
        return m


def _cut(x: Value, low: int, width: int) -> tuple[Value, Value, Value]:
    """`width` bits of a signed number from bit `low` on, zeros before its first and copies of its sign after its last.

    Returns: the bits; whether any below is set; whether those above, and the highest of them, differ.
    """
    last = len(x) - 1
    bits = Cat(Const(0, 1) if n < 0 else x[min(n, last)] for n in range(low, low + width))
    return bits, x[: max(0, min(low, len(x)))].any(), _differ(x[min(low + width - 1, last) :])


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
