"""Weight update of a row: gradient times learning rate, subtract, compare with the threshold.

The row controller announces a visit with the operation that completes its gradient; the gradient
leaves the adder tree a fixed number of cycles later. What is known of the visit is sent as soon as it is known,
`VisitDelay` carries it there, and `WeightUpdate` turns the two into the stream that the CSB encoder stores. Words
without a visit flow through as bare markers, so the encoder sees every word in order.

The product takes two multipliers of half the gradient's width. Phases that regenerate weights update none, and there
they make the product of `rtl.regenerate`, one byte of the scale each.

DropBack's rule (Golub et al., arXiv 1806.06949) with a threshold for the sort (Yang et al., Procrustes,
MICRO 2020): adoption and eviction are one comparison.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.payload import payload
from rtl.regenerate import FACTOR_BITS, SCALE_BITS
from rtl.requantise import SHIFT_BITS, Requantise

_BYTE = SCALE_BITS // 2


def word_count_bits(cfg: Config) -> int:
    """Width of a number of positions of one mask word, 0 to mask_bits."""
    return cfg.mask_bits.bit_length()


class VisitDelay(wiring.Component):
    """Delay of a fixed number of cycles in a RAM: `q` in cycle t + delay is `d` in cycle t.

    One ring pointer reads and writes: a place is read in the cycle in which it is written again.
    Cheaper than `delay` registers of `width` bits from about four cycles on. Reset does not
    clear it: what leaves in the `delay` cycles after reset is from before.

    Args:
        width: of the payload, at least 1.
        delay: cycles, 3 to 96.

    Raises:
        ValueError: width or delay out of range.
    """

    def __init__(self, width: int, delay: int) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        if not 3 <= delay <= 96:
            raise ValueError(f"delay must be between 3 and 96, not {delay}")
        self._width, self._delay = width, delay
        super().__init__({"d": In(width), "q": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        places = self._delay - 1  # the read register is the last cycle
        m.submodules.memory = memory = Memory(shape=self._width, depth=places, init=[])
        write, read = memory.write_port(), memory.read_port()
        place = Signal(range(places), reset_less=True)
        m.d.sync += place.eq(Mux(place == places - 1, 0, place + 1))
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(place),
            write.data.eq(self.d),
            read.addr.eq(place),
            self.q.eq(read.data),
        ]
        return m


class WeightUpdate(wiring.Component):
    """One weight update a cycle.

    Latency: a visit (or a bare word marker) presented in cycle t needs its gradient on `g` in cycle
    t + dot_latency and appears at the outputs in cycle t + dot_latency + `LATENCY`. One a cycle, no stall.

        cycle after g   1 partial products   2 product   3, 4 requantise   5 candidate   6 compare

    Args:
        cfg: widths. Without `sparse` every visit is stored and kept, nothing is regenerated, and these ports do not
            exist: theta, dense_mode, visit_has_value, visit_next_explored, visit_next_count, keep, next_explored,
            next_count, adopted, evicted, factor_enable, factor, scale_t, scaled.
        dot_latency: cycles from the operation with which a visit is announced to its gradient
            (`RowDatapath.dot_latency`), 3 to 59.
        visit_lead, delta_lead: cycles by which ports come before that announcement, 0 to 16.

    Ports (constants are stable from the first visit to the last output):
        lr: mantissa of the learning rate, unsigned. shift: right shift of g * lr, -31 to 63.
        theta: threshold, unsigned 2A bits. dense_mode: keep every visited weight, explore none.
        g: exact gradient, signed `acc_bits`; used in the cycles that belong to a visit.
        visit_valid: a visit is completed. visit_word_last: the last visit of its word, or without visit_valid a word
        that has none.
        delta_lead cycles before: visit_has_value, visit_delta: whether it is stored, and its accumulated update, zero
        if it is not.
        visit_lead cycles before: visit_bit: its place in the mask word. For visit_word_last: visit_record_last: the
        last word of a record; visit_next_explored, visit_next_count: whether the word is explored in the next step,
        and its number of valid positions.
        valid, bit, word_last, record_last, next_explored, next_count: as above, delayed; next_explored is low in
        dense mode. keep: valid and kept. candidate: new accumulated update, signed 2A.
        adopted: keep, not stored before. evicted: valid, stored before, not kept.
        saturated: valid, and step or candidate was saturated.
        factor_enable, factor, scale_t: another product is wanted, and of what (`Regenerate`); not in the cycle of a
        visit's gradient or in the one after it. scaled: that product, combinational behind registers, from the next
        cycle until after that one of the two is presented again.
        All other outputs are registers, bit, record_last, next_explored and next_count those of a memory. valid,
        word_last, keep, adopted, evicted, saturated are low after reset, also for what was in flight; the others mean
        something only beside them.

    Raises:
        ValueError: dot_latency, visit_lead or delta_lead out of range.
    """

    LATENCY = 6
    _DELTA = 4  # cycles after g in which the step is ready

    def __init__(self, cfg: Config, dot_latency: int, visit_lead: int = 0, delta_lead: int = 0) -> None:
        if not 3 <= dot_latency <= 59:
            raise ValueError(f"dot_latency must be between 3 and 59, not {dot_latency}")
        for name, lead in (("visit_lead", visit_lead), ("delta_lead", delta_lead)):
            if not 0 <= lead <= 16:
                raise ValueError(f"{name} must be between 0 and 16, not {lead}")
        self._cfg, self._dot_latency, self._visit_lead, self._delta_lead = cfg, dot_latency, visit_lead, delta_lead
        bit, count = max(1, log2_exact(cfg.mask_bits, "mask_bits")), word_count_bits(cfg)
        ports = {
            "lr": In(cfg.lr_bits),
            "shift": In(signed(SHIFT_BITS)),
            "g": In(signed(cfg.acc_bits)),
            "visit_valid": In(1),
            "visit_bit": In(bit),
            "visit_delta": In(signed(cfg.delta_bits)),
            "visit_word_last": In(1),
            "visit_record_last": In(1),
            "valid": Out(1),
            "candidate": Out(signed(cfg.delta_bits)),
            "bit": Out(bit),
            "word_last": Out(1),
            "record_last": Out(1),
            "saturated": Out(1),
        }
        if cfg.sparse:
            ports |= {
                "theta": In(cfg.delta_bits),
                "dense_mode": In(1),
                "visit_has_value": In(1),
                "visit_next_explored": In(1),
                "visit_next_count": In(count),
                "keep": Out(1),
                "next_explored": Out(1),
                "next_count": Out(count),
                "adopted": Out(1),
                "evicted": Out(1),
                "factor_enable": In(1),
                "factor": In(signed(FACTOR_BITS)),
                "scale_t": In(SCALE_BITS),
                "scaled": Out(signed(FACTOR_BITS + SCALE_BITS)),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        cfg, bits = self._cfg, self._cfg.delta_bits
        m = Module()

        # What a visit carries, in RAM: up to the cycle of its step, or up to the outputs. Its flags are shifted along
        # in registers, because a reset must remove them.
        before = self._dot_latency + self._DELTA
        arrived = self._delayed(m, ("delta", "has_value"), before + self._delta_lead, "deltas")
        shown = self._delayed(
            m,
            ("bit", "record_last", "next_explored", "next_count"),
            self._dot_latency + self.LATENCY + self._visit_lead,
            "visits",
        )
        valids, word_lasts = Signal(before + 1), Signal(before + 1)
        m.d.sync += [
            valids.eq(Cat(self.visit_valid, valids)),
            word_lasts.eq(Cat(self.visit_word_last, word_lasts)),
        ]

        def valid_at(stage: int) -> object:
            """valid, `stage` cycles after the gradient."""
            return valids[self._dot_latency + stage - 1]

        # 1, 2: the product in two halves, so that no stage has a wide multiplier.
        half = cfg.acc_bits // 2
        multiplies, g_low, g_high = valid_at(0), self.g[:half], self.g[half:].as_signed()
        lr_low = lr_high = self.lr
        if cfg.sparse:
            multiplies = valid_at(0) | self.factor_enable
            g_low = Mux(self.factor_enable, self.factor, g_low)
            g_high = Mux(self.factor_enable, self.factor, g_high)
            lr_low = Mux(self.factor_enable, self.scale_t[:_BYTE], self.lr)
            lr_high = Mux(self.factor_enable, self.scale_t[_BYTE:], self.lr)
        low = Signal((g_low * lr_low).shape(), reset_less=True)
        high = Signal((g_high * lr_high).shape(), reset_less=True)
        product = Signal(signed(cfg.acc_bits + cfg.lr_bits), reset_less=True)
        with m.If(multiplies):  # idle cycles toggle nothing
            m.d.sync += [low.eq(g_low * lr_low), high.eq(g_high * lr_high)]
        with m.If(valid_at(1)):
            m.d.sync += product.eq((high << half) + low)
        if cfg.sparse:
            m.d.comb += self.scaled.eq((high << _BYTE) + low)

        # 3, 4
        m.submodules.requantise = requantise = Requantise(len(product), bits)
        m.d.comb += [requantise.x.eq(product), requantise.shift.eq(self.shift)]

        # 5
        difference = Signal(signed(bits + 1))
        over = Signal()
        candidate = Signal(signed(bits), reset_less=True)
        saturated = Signal(reset_less=True)
        m.d.comb += [
            difference.eq(arrived["delta"] - requantise.value),
            over.eq(difference[-1] ^ difference[-2]),
        ]
        with m.If(valid_at(4)):
            m.d.sync += [
                candidate.eq(Mux(over, Cat((~difference[-1]).replicate(bits - 1), difference[-1]), difference)),
                saturated.eq(requantise.saturated | over),
            ]

        # 6
        valid = Signal()
        m.d.comb += valid.eq(valid_at(5))
        m.d.sync += [
            self.valid.eq(valid),
            self.word_last.eq(word_lasts[before]),
            self.saturated.eq(valid & saturated),
            payload(m, self.candidate, "candidate_6").eq(candidate),
        ]
        m.d.comb += [self.bit.eq(shown["bit"]), self.record_last.eq(shown["record_last"])]
        if cfg.sparse:
            # |candidate| > theta without the absolute value: both signs are compared side by side.
            above, below, keep = Signal(), Signal(), Signal()
            has_value = Signal(reset_less=True)
            m.d.comb += [
                self.next_explored.eq(shown["next_explored"]),
                self.next_count.eq(shown["next_count"]),
                above.eq(candidate > self.theta),
                below.eq((candidate + self.theta) < 0),
                keep.eq(self.dense_mode | above | below),
            ]
            m.d.sync += [
                self.keep.eq(valid & keep),
                has_value.eq(arrived["has_value"]),
                self.adopted.eq(valid & keep & ~has_value),
                self.evicted.eq(valid & ~keep & has_value),
            ]
        return m

    def _delayed(self, m: Module, names: tuple[str, ...], delay: int, label: str) -> data.View:
        """The ports `visit_*` of these names, as far as there are such, `delay` cycles later."""
        given = {name: getattr(self, f"visit_{name}") for name in names if f"visit_{name}" in self.signature.members}
        if "next_explored" in given:
            given["next_explored"] = given["next_explored"] & ~self.dense_mode
        layout = data.StructLayout({name: value.shape() for name, value in given.items()})
        m.submodules[label] = memory = VisitDelay(layout.size, delay)
        m.d.comb += memory.d.eq(Cat(given.values()))
        return data.View(layout, memory.q)
