"""Arithmetic of the coefficient unit: one operation on numbers m · 2**e a cycle, pipelined.

A number has a signed mantissa, 2**30 <= |m| < 2**31, and an exponent; zero is m = e = 0. Every operation
makes an exact (or, for sums, floored far below the last place) 64-bit integer, and all share what
follows: magnitude, leading one, shift, rounding.
"""

from __future__ import annotations

from enum import IntEnum
from math import isqrt

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.vector import FACTOR_BITS, TERM_BITS, WORD_MANTISSA
from rtl.requantise import leading_one

MANTISSA = 31
EXPONENT_BITS = 12
WIDE = 52  # integers that LOAD takes
NUMBER = data.StructLayout({"m": signed(MANTISSA + 1), "e": signed(EXPONENT_BITS)})
SEEDS = [isqrt((1 << 40) // (2 * (128 + i % 128) + 1 << i // 128)) for i in range(256)]


class RealOp(IntEnum):
    """Operations."""

    LOAD = 0  # any integer and exponent become a number
    MUL = 1
    ADD = 2
    SEED = 3  # reciprocal square root, 8 bits
    TOP = 4  # the larger power of two
    FIX_FACTOR = 5  # x / (2**16 y's exponent), as a 16-bit integer
    FIX_TERM = 6  # the same as a 32-bit integer
    UNIT = 7  # exponent of x + 16, as an integer
    PACK = 8  # a word


class RealUnit(wiring.Component):
    """One operation a cycle (II = 1); the result of the operands of cycle t is at the outputs in t + `LATENCY`.

    Ports:
        op: a `RealOp`. negate: ADD subtracts y. clamp: ADD makes what is negative zero. halve: MUL by a half.
        x_m, x_e: LOAD takes any integer of 52 bits; for all else a normalised number, but for factors of a MUL.
        y: second operand.
        number: of LOAD, MUL, ADD, SEED, TOP. word: of the others, two's complement of its width or a packed word.
    """

    LATENCY = 8

    def __init__(self) -> None:
        super().__init__(
            {
                "op": In(4),
                "negate": In(1),
                "clamp": In(1),
                "halve": In(1),
                "x_m": In(signed(WIDE)),
                "x_e": In(signed(EXPONENT_BITS)),
                "y": In(NUMBER),
                "number": Out(NUMBER),
                "word": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def delay(source: Signal, name: str, cycles: int = 1) -> Signal:
            for n in range(cycles):
                register = Signal(source.shape(), name=f"{name}_d{n}", reset_less=True)
                m.d.sync += register.eq(source)
                source = register
            return source

        # Stage 1: product; which operand is smaller and by how much; the seed.
        op_1 = delay(self.op, "op_1")
        clamp_3 = delay(self.clamp, "clamp", 3)
        half = (MANTISSA + 1) // 2  # of a factor: what a multiplier takes
        parts = {
            name: Signal(signed(2 * half + 2), name=f"product_{name}", reset_less=True)
            for name in ("ll", "lh", "hl", "hh")
        }
        x = Signal(signed(MANTISSA + 1))
        y = Signal(signed(MANTISSA + 1))
        x_zero, y_zero, swap, x_first = Signal(), Signal(), Signal(), Signal()
        distance = Signal(signed(EXPONENT_BITS + 2))
        big, small = Signal(signed(MANTISSA + 1), reset_less=True), Signal(signed(MANTISSA + 1), reset_less=True)
        shift, e_1 = Signal(6, reset_less=True), Signal(signed(EXPONENT_BITS), reset_less=True)
        wide_1 = Signal(signed(WIDE), reset_less=True)
        odd, index = Signal(), Signal(8)
        seeds = Array(Const(v, 16) for v in SEEDS)
        fixes = (self.op == RealOp.FIX_FACTOR) | (self.op == RealOp.FIX_TERM)
        m.d.comb += [
            x.eq(self.x_m),
            y.eq(Mux(self.negate, -self.y.m, self.y.m)),
            x_zero.eq(x == 0),
            y_zero.eq(self.y.m == 0),
            swap.eq(x_zero | (~y_zero & (self.y.e > self.x_e))),
            x_first.eq(~x_zero & (y_zero | (self.x_e >= self.y.e))),
            odd.eq(self.x_e[0]),
            index.eq(Cat(x[MANTISSA - 8 : MANTISSA - 1], odd)),
        ]
        with m.If(fixes):
            m.d.comb += distance.eq(self.y.e - self.x_e + (MANTISSA + 1 - FACTOR_BITS))
        with m.Elif(self.op == RealOp.PACK):
            m.d.comb += distance.eq(MANTISSA - (WORD_MANTISSA - 1))
        with m.Elif(swap):
            m.d.comb += distance.eq(self.y.e - self.x_e)
        with m.Else():
            m.d.comb += distance.eq(self.x_e - self.y.e)
        m.d.sync += [
            *(part.eq(_part(x, name[0], half) * _part(self.y.m, name[1], half)) for name, part in parts.items()),
            big.eq(Mux(swap, y, x)),
            small.eq(Mux((self.op == RealOp.ADD) & ~swap, y, x)),
            shift.eq(Mux(distance < 0, 0, Mux(distance > 63, 63, distance))),
            wide_1.eq(self.x_m),
        ]
        with m.Switch(self.op):
            with m.Case(RealOp.MUL):
                m.d.sync += e_1.eq(self.x_e + self.y.e - self.halve)
            with m.Case(RealOp.ADD):
                m.d.sync += e_1.eq(Mux(swap, self.y.e, self.x_e) - MANTISSA)
            with m.Case(RealOp.SEED):
                m.d.sync += [
                    e_1.eq(-MANTISSA - ((self.x_e + (MANTISSA - 1) - odd) >> 1)),
                    wide_1.eq(Mux(x > 0, seeds[index] << 15, 0)),
                ]
            with m.Case(RealOp.TOP):
                m.d.sync += [
                    e_1.eq(Mux(x_first, self.x_e, self.y.e)),
                    wide_1.eq(Mux(x_zero & y_zero, 0, 1 << (MANTISSA - 1))),
                ]
            with m.Default():
                m.d.sync += e_1.eq(self.x_e)

        # Stage 2: the smaller one aligned. Stage 3: an integer of 64 bits.
        op_2, e_3 = delay(op_1, "op_2"), delay(e_1, "e", 2)
        op_3 = delay(op_2, "op_3")
        product_2 = Signal(signed(2 * MANTISSA + 2), reset_less=True)
        big_2, wide_2 = delay(big, "big"), delay(wide_1, "wide")
        m.d.sync += product_2.eq(
            Cat(parts["ll"][: 2 * half], parts["hh"]).as_signed() + ((parts["lh"] + parts["hl"]) << half)
        )
        aligned = Signal(signed(2 * MANTISSA + 1), reset_less=True)
        w = Signal(signed(64), reset_less=True)
        m.d.sync += aligned.eq(Cat(Const(0, MANTISSA), small).as_signed() >> shift)
        with m.Switch(op_2):
            with m.Case(RealOp.MUL):
                m.d.sync += w.eq(product_2)
            with m.Case(RealOp.ADD):
                m.d.sync += w.eq(Cat(Const(0, MANTISSA), big_2).as_signed() + aligned)
            with m.Case(RealOp.FIX_FACTOR, RealOp.FIX_TERM, RealOp.PACK):
                m.d.sync += w.eq(aligned)
            with m.Default():
                m.d.sync += w.eq(wide_2)

        # Stage 4: magnitude. Stage 5: its length. Stage 6: leading one to the top.
        negative = Signal(reset_less=True)
        magnitude = Signal(64, reset_less=True)
        m.d.sync += [
            negative.eq(w[-1]),
            magnitude.eq(Mux(w[-1], Mux(clamp_3, 0, -w), w)),
        ]
        position, nothing = Signal(6, reset_less=True), Signal(reset_less=True)
        m.d.sync += [position.eq(leading_one(magnitude)), nothing.eq(magnitude == 0)]
        magnitude_5 = delay(magnitude, "magnitude_5")
        magnitude_6 = delay(magnitude_5, "magnitude_6")
        shifted = Signal(64, reset_less=True)
        e_6 = Signal(signed(EXPONENT_BITS), reset_less=True)
        e_5 = delay(e_3, "e_5", 2)
        m.d.sync += [
            shifted.eq(magnitude_5 << ~position),  # 63 less the position
            e_6.eq(e_5 + position - (MANTISSA - 1)),
        ]
        nothing_6 = delay(nothing, "nothing_6")
        raw_e_6 = delay(e_5, "raw_e")

        # Stage 7: rounding, at the 31st bit from the top, or where an integer ends.
        op_6 = delay(op_3, "op_6", 3)
        integral = Signal()
        kept, guard, sticky = Signal(34), Signal(), Signal()
        m.d.comb += integral.eq((op_6 == RealOp.FIX_FACTOR) | (op_6 == RealOp.FIX_TERM) | (op_6 == RealOp.PACK))
        with m.If(integral):
            m.d.comb += [
                kept.eq(magnitude_6[MANTISSA:]),
                guard.eq(magnitude_6[MANTISSA - 1]),
                sticky.eq(magnitude_6[: MANTISSA - 1].any()),
            ]
        with m.Else():
            m.d.comb += [kept.eq(shifted[33:]), guard.eq(shifted[32]), sticky.eq(shifted[:32].any())]
        rounded = Signal(34, reset_less=True)
        m.d.sync += rounded.eq(kept + (guard & (sticky | kept[0])))
        op_7, e_7, raw_e_7 = delay(op_6, "op_7"), delay(e_6, "e_7"), delay(raw_e_6, "raw_e_7")
        negative_7, nothing_7 = delay(negative, "negative", 3), delay(nothing_6, "nothing_7")

        # Stage 8: carries, signs, ends of the range.
        def with_sign(value: Signal, bits: int) -> Signal:
            return Mux(negative_7, -value, value)[:bits]

        carried = Signal()
        mantissa = Signal(MANTISSA + 1)
        m.d.comb += [carried.eq(rounded[MANTISSA]), mantissa.eq(Mux(carried, 1 << (MANTISSA - 1), rounded))]
        m.d.sync += [
            self.number.m.eq(with_sign(mantissa, MANTISSA + 1)),
            self.number.e.eq(Mux(nothing_7, 0, e_7 + carried)),
        ]
        half = WORD_MANTISSA - 1
        packed_e = Signal(signed(EXPONENT_BITS + 1))
        packed = Signal(WORD_MANTISSA)
        m.d.comb += [
            packed_e.eq(raw_e_7 + (MANTISSA - half) + rounded[half]),
            packed.eq(Mux(rounded[half], 1 << (half - 1), rounded)),
        ]
        with m.Switch(op_7):
            with m.Case(RealOp.FIX_FACTOR, RealOp.FIX_TERM):
                for op, bits in ((RealOp.FIX_FACTOR, FACTOR_BITS), (RealOp.FIX_TERM, TERM_BITS)):
                    # An exponent that fits leaves one value too many: the power of two itself.
                    with m.If(op_7 == op):
                        over = rounded[bits - 1 :].any() & ~negative_7
                        m.d.sync += self.word.eq(Mux(over, (1 << (bits - 1)) - 1, with_sign(rounded, bits)))
            with m.Case(RealOp.UNIT):
                unit = Signal(signed(16))
                m.d.comb += unit.eq(Mux(nothing_7, 0, e_7) + (MANTISSA + 1 - FACTOR_BITS))
                m.d.sync += self.word.eq(unit[:])
            with m.Default():
                zero = (packed_e < -128) | ~rounded.any()
                with m.If(packed_e > 127):
                    m.d.sync += self.word.eq(
                        Cat(
                            Mux(negative_7, -Const((1 << half) - 1, WORD_MANTISSA), (1 << half) - 1)[:WORD_MANTISSA],
                            Const(127, 8),
                        )
                    )
                with m.Elif(zero):
                    m.d.sync += self.word.eq(0)
                with m.Else():
                    m.d.sync += self.word.eq(Cat(with_sign(packed, WORD_MANTISSA), packed_e[:8]))
        return m


def _part(factor: Signal, name: str, half: int) -> Value:
    """The lower half of a factor, which has no sign, or the upper one."""
    return factor[half:].as_signed() if name == "h" else factor[:half]
