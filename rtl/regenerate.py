"""Weight regeneration: the initial weight of a position from its index, one a cycle, nothing stored.

`W0 = sat_A(rhe(normal * scale_t / 2**11))`, where `normal` is the sum of the four bytes of a hash of
the position, less 510. The hash is two rounds of three steps (shift, add, shift, exclusive-or); two
steps fit a pipeline stage, so a round never waits for another. Once the decayed scale is zero the
unit rests: its registers keep still and the output is zero.

Phases that regenerate update nothing: the product is made by the multipliers of `rtl.weight_update`, and in a weight
update the hash serves `rtl.exploration`, whose rule is one of its first round.

Definition: `golden.regenerate` (after DropBack, Golub et al., arXiv 1806.06949; the shift amounts are
those of Jenkins' integer hash).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config
from rtl.payload import payload

K_BITS = 13
C_BITS = 13
TAP_BITS = 6
WORD_BITS = 32
SCALE_BITS = 16
SCALE_SHIFT = 11
FACTOR_BITS = 10
NORMAL_OFFSET = 510
#: The steps of a mix round: add the word shifted left, then exclusive-or it shifted (+ left, - right).
STEPS = ((12, -19), (5, 9), (3, -16))


def mix_step(m: Module, word: Value, step: int, name: str) -> Value:
    """One step of a mix round, combinational; `name` is the prefix of the intermediate signal."""
    add, shift = STEPS[step]
    total = Signal(WORD_BITS, name=f"{name}_sum")
    m.d.comb += total.eq(word + (word << add)[:WORD_BITS])
    shifted = (total << shift)[:WORD_BITS] if shift > 0 else total >> -shift
    return total ^ shifted


class Regenerate(wiring.Component):
    """Regenerated weight of a position.

    Latency: `w0` in cycle t + `LATENCY` belongs to the inputs of cycle t, if `enable` was set then;
    otherwise it keeps its value. One a cycle (II = 1), no stall.

    Args:
        cfg: `operand_bits` is the width A of the result.

    Ports:
        enable: a position is presented. k, c, tap: its coordinates, absolute. salt: of the layer.
        hash_enable: something else is presented, of which only the hash is wanted; not while a position is under way.
        hash: its word after one round, from the next cycle on until something is presented again.
        scale_t: scale of this step, unsigned; must not change from the cycle before an enable until `LATENCY` cycles
        after it.
        factor_enable, factor: `normal`, to be multiplied. scaled: its product with scale_t, signed, from the next cycle
        until after that factor_enable is high again.
        w0: mantissa, signed A; zero if scale_t is.
    """

    LATENCY = 6

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "enable": In(1),
                "hash_enable": In(1),
                "k": In(K_BITS),
                "c": In(C_BITS),
                "tap": In(TAP_BITS),
                "salt": In(WORD_BITS),
                "scale_t": In(SCALE_BITS),
                "hash": Out(WORD_BITS),
                "factor_enable": Out(1),
                "factor": Out(signed(FACTOR_BITS)),
                "scaled": In(signed(FACTOR_BITS + SCALE_BITS)),
                "w0": Out(signed(cfg.operand_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        bits = self._cfg.operand_bits
        m = Module()

        wanted = Signal()
        enables, running = Signal(self.LATENCY - 1), Signal(self.LATENCY - 2)
        m.d.sync += [
            wanted.eq(self.scale_t.any()),
            enables.eq(Cat(self.enable, enables)),
            running.eq(Cat(self.enable & wanted, running)),
        ]
        runs = Cat(self.enable & wanted, running)

        moves = [runs[0] | self.hash_enable, *runs[1:3]]
        word: Value = Cat(self.tap, self.c, self.k) ^ self.salt
        for stage in range(3):
            first = Signal(WORD_BITS, name=f"half_{stage}")
            m.d.comb += first.eq(mix_step(m, word, 2 * stage % 3, f"a{stage}"))
            mixed = Signal(WORD_BITS, name=f"mixed_{stage + 1}", reset_less=True)
            with m.If(moves[stage]):
                m.d.sync += mixed.eq(mix_step(m, first, (2 * stage + 1) % 3, f"b{stage}"))
            if stage == 1:
                m.d.comb += self.hash.eq(first)
            word = mixed

        normal = Signal(signed(FACTOR_BITS), reset_less=True)
        with m.If(runs[3]):
            m.d.sync += normal.eq((word[0:8] + word[8:16]) + (word[16:24] + word[24:32]) - NORMAL_OFFSET)
        m.d.comb += [self.factor_enable.eq(runs[4]), self.factor.eq(normal)]

        # Half to even: a tie rounds up only if the bit above it is set.
        total = Signal(signed(len(self.scaled) + 1))
        m.d.comb += total.eq(self.scaled + ((1 << SCALE_SHIFT - 1) - 1) + self.scaled[SCALE_SHIFT])
        rounded = Signal(signed(len(total) - SCALE_SHIFT))
        m.d.comb += rounded.eq(total >> SCALE_SHIFT)
        weight = payload(m, self.w0, "weight")
        with m.If(enables[-1]):
            m.d.sync += weight.eq(Mux(wanted, saturate(m, rounded, bits, "w0"), 0))
        return m


def saturate(m: Module, value: Value, bits: int, name: str) -> Value:
    """`value` (signed) limited to `bits` signed bits, combinational."""
    if len(value) <= bits:
        return value
    fits = Signal(name=f"{name}_fits")
    top = value[bits - 1 :]
    m.d.comb += fits.eq((top == 0) | top.all())
    limit = Cat((~value[-1]).replicate(bits - 1), value[-1])
    return Mux(fits, value[:bits], limit).as_signed()
