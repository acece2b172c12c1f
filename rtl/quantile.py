"""Quantile estimator: follows the threshold that keeps the wanted share of the visited weights.

A register holds log2 theta. Once a working set the counts of all rows move it by
`(kept - keep * seen) >> rate`: the DUMIQE recurrence (Yazidi and Hammer; in hardware Yang et al., Procrustes,
MICRO 2020), averaged over the working set in the log domain, where it is an addition.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config

FRACTION_BITS = 20
TABLE_BITS = 8
SHARE_BITS = 16
COUNT_BITS = 24
RATE_BITS = 6
#: round(2**(i/256) * 2**15); exact, because no power comes near a tie.
EXP2_TABLE = [round(2 ** (i / 256) * (1 << 15)) for i in range(1 << TABLE_BITS)]


class QuantileEstimator(wiring.Component):
    """log2 theta, its feedback loop, and theta.

    Latency: `observe` in cycle t changes `log2_theta` in cycle t + `LOG2_LATENCY` and `theta` in cycle
    t + `LATENCY`; `load` changes them in t + 1 and t + `LOAD_LATENCY`. One observation a cycle (II = 1); a load
    in the cycle in which an earlier observation would be added (t + 3 after it) replaces that.

    Args:
        cfg: width of the accumulated updates (2A).

    Ports:
        load, load_log2: set log2 theta, 20 fraction bits; clamped to what is held.
        observe, kept, seen: counts of a working set, 24 bits.
        keep_share: share to keep, 16 fraction bits. rate: right shift of the error, 0 to 63. Both are
        stable for three cycles from observe on.
        log2_theta: 0 to (2A-1) * 2**20 - 1. theta: table * 2**integer / 2**15, 2A bits, a register; 1 after reset.
    """

    LOG2_LATENCY = 4
    LATENCY = 6
    LOAD_LATENCY = 3

    def __init__(self, cfg: Config) -> None:
        self._bits = cfg.delta_bits
        self._limit = ((cfg.delta_bits - 1) << FRACTION_BITS) - 1
        super().__init__(
            {
                "load": In(1),
                "load_log2": In(32),
                "observe": In(1),
                "kept": In(COUNT_BITS),
                "seen": In(COUNT_BITS),
                "keep_share": In(SHARE_BITS),
                "rate": In(RATE_BITS),
                "log2_theta": Out(self._limit.bit_length()),
                "theta": Out(cfg.delta_bits, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        error_bits = COUNT_BITS + SHARE_BITS + 1
        strobes = Signal(3)  # a reset removes observations in flight
        m.d.sync += strobes.eq(Cat(self.observe, strobes))

        wanted = Signal(COUNT_BITS + SHARE_BITS, reset_less=True)
        kept = Signal(COUNT_BITS, reset_less=True)
        error = Signal(signed(error_bits), reset_less=True)
        step = Signal(signed(error_bits), reset_less=True)
        with m.If(self.observe):
            m.d.sync += [wanted.eq(self.seen * self.keep_share), kept.eq(self.kept)]
        with m.If(strobes[0]):
            m.d.sync += error.eq((kept << SHARE_BITS) - wanted)
        with m.If(strobes[1]):
            m.d.sync += step.eq(error >> self.rate)

        moved = Signal(signed(error_bits + 1))
        changed, looked_up = Signal(), Signal()
        m.d.comb += moved.eq(self.log2_theta + step)
        m.d.sync += [changed.eq(self.load | strobes[2]), looked_up.eq(changed)]
        with m.If(self.load):
            m.d.sync += self.log2_theta.eq(Mux(self.load_log2 > self._limit, self._limit, self.load_log2))
        with m.Elif(strobes[2]):
            m.d.sync += self.log2_theta.eq(Mux(moved < 0, 0, Mux(moved > self._limit, self._limit, moved)))

        m.submodules.exp2 = exp2 = Memory(shape=unsigned(16), depth=1 << TABLE_BITS, init=EXP2_TABLE)
        read = exp2.read_port()
        whole = Signal(len(self.log2_theta) - FRACTION_BITS, reset_less=True)
        m.d.comb += [
            read.en.eq(changed),
            read.addr.eq(self.log2_theta[FRACTION_BITS - TABLE_BITS : FRACTION_BITS]),
        ]
        m.d.sync += whole.eq(self.log2_theta[FRACTION_BITS:])
        shifted = Signal(15 + self._bits)
        m.d.comb += shifted.eq(Cat(read.data, Const(0, self._bits - 1)) << whole)
        with m.If(looked_up):
            m.d.sync += self.theta.eq(shifted[15:])
        return m
