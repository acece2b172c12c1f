"""Exponent table with peaks, and the decay of the regenerated weights: what changes at a commit.

A tensor's mantissas share one power-of-two exponent, chosen before the first is written: from the
largest magnitude drained in the step before, plus one bit of headroom.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config

EXPONENT_BITS = 8
ACC_EXPONENT_BITS = EXPONENT_BITS + 1  # that of the gathered tensor plus that of the weights
DECAY_BITS = 17
DECAY_SHIFT = 16
HEADROOM = 1
BW_RANGE = (-100, 27)

READS = ("x", "aux", "out", "vector", "csr")


class ExponentTable(wiring.Component):
    """Exponents of this step, peaks for the next.

    Latency: an exponent is read one cycle after its tensor number (`x`, `aux`, `out`, `vector`), or in the same cycle
    (`csr`). A peak is taken every cycle (II = 1), in any order of tensors. `commit` in cycle t: entries change
    during t+2 .. t+tensors+1, `commit_done` is high in cycle t + tensors + `COMMIT_EXTRA`, in which a tensor
    number may be presented again. From commit to commit_done no peak, read or write is allowed; a peak in the
    cycle of commit itself still counts.

    Args:
        cfg: operand width, entries.

    Ports:
        x_tensor, aux_tensor, out_tensor, vector_tensor: read; x_exponent, ...: signed 8 bits.
        csr_tensor, csr_exponent: read and write port of the host. csr_we, csr_value: write.
        clear: forget all peaks (a program starts).
        peak_valid, peak_tensor, peak_bits: bit length of the largest magnitude just drained, 0 if all was zero
        (ignored). peak_exponent: of the accumulators, signed 9 bits. peak_bw: drained by BW, not FW.
        commit: replace the exponents of all tensors with a peak, then forget the peaks. commit_done: one cycle.

    The table starts at zero; reset does not clear it (the host writes it), but forgets all peaks and
    abandons a commit.
    """

    COMMIT_EXTRA = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        tensor = (cfg.tensors - 1).bit_length()
        super().__init__(
            {
                **{f"{name}_tensor": In(tensor) for name in READS},
                **{f"{name}_exponent": Out(signed(EXPONENT_BITS)) for name in READS},
                "csr_we": In(1),
                "csr_value": In(signed(EXPONENT_BITS)),
                "clear": In(1),
                "peak_valid": In(1),
                "peak_tensor": In(tensor),
                "peak_bits": In(cfg.acc_bits.bit_length()),
                "peak_exponent": In(signed(ACC_EXPONENT_BITS)),
                "peak_bw": In(1),
                "commit": In(1),
                "commit_done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, bits = self._cfg, self._cfg.operand_bits
        m = Module()
        m.submodules.exponents = exponents = Memory(shape=signed(EXPONENT_BITS), depth=cfg.tensors, init=[])
        write = exponents.write_port()
        for name in READS:
            read = exponents.read_port(domain="comb" if name == "csr" else "sync")
            m.d.comb += [
                read.addr.eq(getattr(self, f"{name}_tensor")),
                getattr(self, f"{name}_exponent").eq(read.data),
            ]

        # A peak is read, compared and written back in two cycles; a transparent port hands on what
        # the peak of the cycle before is writing. `held` says which places mean anything.
        peak_layout = data.StructLayout({"peak": signed(ACC_EXPONENT_BITS + 1), "bw": 1})
        m.submodules.peaks = peaks = Memory(shape=peak_layout, depth=cfg.tensors, init=[])
        peak_write = peaks.write_port()
        peak_read = peaks.read_port(transparent_for=(peak_write,))
        held = Signal(cfg.tensors)
        sweeping, place, read_done = Signal(), Signal(range(cfg.tensors)), Signal()
        place_1 = Signal.like(place, reset_less=True)
        taken, taken_1 = Signal(), Signal()
        first = Signal(reset_less=True)
        new, tensor_1 = Signal(peak_layout, reset_less=True), Signal.like(self.peak_tensor, reset_less=True)
        m.d.comb += [
            taken.eq(self.peak_valid & self.peak_bits.any()),
            peak_read.addr.eq(Mux(sweeping, place, self.peak_tensor)),
            peak_write.en.eq(taken_1),
            peak_write.addr.eq(tensor_1),
            peak_write.data.eq(new),
        ]
        m.d.sync += taken_1.eq(taken)
        with m.If(taken):
            m.d.sync += [
                new.peak.eq(self.peak_exponent + self.peak_bits),
                new.bw.eq(self.peak_bw),
                tensor_1.eq(self.peak_tensor),
                first.eq(~held.bit_select(self.peak_tensor, 1)),
                held.bit_select(self.peak_tensor, 1).eq(1),
            ]
        with m.If(~first & (peak_read.data.peak > new.peak)):
            m.d.comb += peak_write.data.peak.eq(peak_read.data.peak)

        # The sweep: read place i, replace exponent i a cycle later.
        exact, clamped = Signal(signed(ACC_EXPONENT_BITS + 2)), Signal(signed(EXPONENT_BITS))
        low, high = Signal(signed(EXPONENT_BITS)), Signal(signed(EXPONENT_BITS))
        bw = peak_read.data.bw
        m.d.comb += [
            exact.eq(peak_read.data.peak + (HEADROOM - (bits - 1))),
            low.eq(Mux(bw, BW_RANGE[0], -(bits - 2))),
            high.eq(Mux(bw, BW_RANGE[1], 0)),
            clamped.eq(Mux(exact < low, low, Mux(exact > high, high, exact))),
            write.en.eq(Mux(read_done, held.bit_select(place_1, 1), self.csr_we)),
            write.addr.eq(Mux(read_done, place_1, self.csr_tensor)),
            write.data.eq(Mux(read_done, clamped, self.csr_value)),
        ]
        ending = Signal()
        m.d.comb += ending.eq(read_done & ~sweeping)
        m.d.sync += [
            read_done.eq(sweeping),
            place_1.eq(place),
            self.commit_done.eq(ending),
        ]
        with m.If(sweeping):
            m.d.sync += place.eq(place + 1)
            with m.If(place == cfg.tensors - 1):
                m.d.sync += [sweeping.eq(0), place.eq(0)]
        with m.Elif(self.commit):
            m.d.sync += sweeping.eq(1)
        with m.If(ending | self.clear):
            m.d.sync += held.eq(0)
        return m


class Decay(wiring.Component):
    """The factor by which regenerated weights have shrunk, 17 bits, 1.0 = 2**16.

    Latency: `advance` in cycle t changes `decay` in cycle t + `LATENCY`; `load` in cycle t + 1. Between an
    advance and its result neither is allowed.

    Ports:
        load, load_value: set it; more than 1.0 is taken for 1.0.
        advance: decay = (decay * factor) >> 16. factor: 17 bits; more than 1.0 is taken for 1.0.
        decay: 0 after reset.
    """

    LATENCY = 2

    def __init__(self) -> None:
        super().__init__(
            {
                "load": In(1),
                "load_value": In(DECAY_BITS),
                "advance": In(1),
                "factor": In(DECAY_BITS),
                "decay": Out(DECAY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        one = 1 << DECAY_SHIFT
        product = Signal(2 * DECAY_BITS, reset_less=True)
        multiplied = Signal()
        factor = Signal(DECAY_BITS)
        m.d.comb += factor.eq(Mux(self.factor[-1], one, self.factor))
        m.d.sync += multiplied.eq(self.advance)
        with m.If(self.advance):
            m.d.sync += product.eq(self.decay * factor)
        with m.If(self.load):
            m.d.sync += self.decay.eq(Mux(self.load_value[-1], one, self.load_value))
        with m.Elif(multiplied):
            m.d.sync += self.decay.eq(product >> DECAY_SHIFT)
        return m
