"""Lanes of the vector stage: V elements of every column a cycle, one multiplier each.

A beat stays for E/V cycles, so every beat read costs the same, whatever is done with it: it opens a
gate, is held or compared, adds a product to the sum of its result, or enters the sums over samples.
Sums of a beat are kept until it is complete; then it is rounded and written.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.vector import FACTOR_BITS, PLAIN_BITS, SQUARE_BITS, SUM_BITS, Clip, Op
from rtl.reduction import total
from rtl.requantise import SHIFT_BITS, Requantise
from rtl.vector.coefficient_unit import COEFFICIENTS
from rtl.vector.command import VECTOR_COMMAND
from rtl.vector.peak_finder import PEAK_BITS, Q_BITS, PeakFinder
from rtl.vector.sample_sums import SampleSums
from rtl.vector.terms import LANE_STEP, TERM, Right


class Lanes(wiring.Component):
    """Beats with terms -> beats, or sums.

    Law: a beat taken in cycle t is worked on in cycles t + 1 .. t + E/V, and the next can be taken in t + E/V.
    Where it completes a result, that is pushed in cycle t + E/V + `PUSH`; where it completes sums, those of its
    first V channels are shown in cycle t + 1 + `SUMS` + log2 C. The first V elements of a result wait until the
    write queue has room. `busy` is low from the cycle on in which nothing is on its way.

    Args:
        cfg: widths.
        elements: V, a power of two, 1 to E.
        group: channels with coefficients.

    Ports:
        clear: forget the peak. command, first_beat, out_exponent, gate_ceiling, out_ceiling, one, constants: stable.
        coefficient_en, coefficient_channel, coefficient: fill the memory of coefficients.
        valid, ready, data, term: beats. reserve, room, push, push_addr, push_data: see `WriteQueue`.
        sum_en, sum_addr, sum_plain, sum_product: sums over samples of V channels.
        saturated: elements saturated, a few cycles ago. any, peak: something was not zero; least p with all
        magnitudes before rounding below 2**p.
    """

    PUSH = 8
    SUMS = 4

    def __init__(self, cfg: Config, elements: int, group: int) -> None:
        self._cfg, self._elements, self._group = cfg, elements, group
        self._chunks = cfg.bus_elements // elements
        super().__init__(
            {
                "clear": In(1),
                "command": In(VECTOR_COMMAND),
                "first_beat": In(16),
                "out_exponent": In(signed(8)),
                "gate_ceiling": In(cfg.operand_bits),
                "out_ceiling": In(cfg.operand_bits),
                "one": In(cfg.operand_bits),
                "constants": In(COEFFICIENTS),
                "coefficient_en": In(1),
                "coefficient_channel": In(range(max(2, group))),
                "coefficient": In(COEFFICIENTS),
                "valid": In(1),
                "ready": Out(1),
                "data": In(cfg.beat_bits),
                "term": In(TERM),
                "reserve": Out(1),
                "room": In(1),
                "push": Out(1),
                "push_addr": Out(32),
                "push_data": Out(cfg.beat_bits),
                "sum_en": Out(1),
                "sum_addr": Out(range(max(2, group // elements))),
                "sum_plain": Out(elements * PLAIN_BITS),
                "sum_product": Out(elements * SQUARE_BITS),
                "saturated": Out(range(cfg.columns * elements + 1)),
                "busy": Out(1),
                "any": Out(1),
                "peak": Out(signed(PEAK_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, elements, chunks, command = self._cfg, self._elements, self._chunks, self.command
        bits, columns, bus = cfg.operand_bits, cfg.columns, cfg.bus_elements
        chunk_bits = log2_exact(chunks, "chunks")
        m = Module()

        def delay(source: Signal, name: str, cycles: int = 1, resets: bool = False) -> Signal:
            for n in range(cycles):
                register = Signal(source.shape(), name=f"{name}_d{n}", reset_less=not resets)
                m.d.sync += register.eq(source)
                source = register
            return source

        # Stage 0: the beat that is worked on, V elements of every column a cycle.
        work, term, full = Signal(cfg.beat_bits, reset_less=True), Signal(TERM, reset_less=True), Signal()
        chunk = Signal(max(1, chunk_bits))
        go, done_0, begins = Signal(), Signal(), Signal()
        m.d.comb += [
            begins.eq(term.step.last & (chunk == 0)),
            go.eq(full & (~begins | self.room)),
            self.reserve.eq(go & begins),
            done_0.eq(go & (chunk == chunks - 1)),
            self.ready.eq(~full | done_0),
        ]
        with m.If(self.ready):
            m.d.sync += full.eq(self.valid)
            with m.If(self.valid):
                m.d.sync += [work.eq(self.data), term.eq(self.term)]
        if chunks > 1:
            with m.If(go):
                m.d.sync += chunk.eq(chunk + 1)
        group_place = Signal(range(max(2, self._group // elements)))
        m.d.comb += group_place.eq((term.beat << chunk_bits) + chunk)
        channels_left = Signal(signed(18))
        m.d.comb += channels_left.eq(
            command.channels - ((self.first_beat + term.beat) << log2_exact(bus, "bus_elements")) - chunk * elements
        )

        # Stage 1: elements and coefficients are here.
        step_1 = data.View(LANE_STEP, delay(Mux(go, term.step.as_value(), 0), "step_1", resets=True))
        chunk_1 = delay(chunk, "chunk_1")
        place_1 = delay(group_place, "place_1")
        out_addr_1 = delay(term.out_addr, "out_addr_1")
        alive_1 = Signal(columns, reset_less=True)
        counts_1, ones_1 = Signal(elements, reset_less=True), Signal(elements, reset_less=True)
        m.d.sync += [
            alive_1.eq(Cat(~term.last_batch | (n < command.valid) for n in range(columns))),
            counts_1.eq(Cat(channels_left > v + command.ones for v in range(elements))),
            ones_1.eq(Cat(command.ones & (channels_left == v + 1) for v in range(elements))),
        ]
        k_1 = []
        for v in range(elements):
            memory = Memory(shape=COEFFICIENTS.size, depth=max(2, self._group // elements), init=[])
            m.submodules[f"coefficients{v}"] = memory
            write, read = memory.write_port(), memory.read_port()
            log2_v = log2_exact(elements, "elements")
            chosen = Signal(COEFFICIENTS, name=f"coefficients_{v}")
            m.d.comb += [
                write.en.eq(self.coefficient_en & (self.coefficient_channel[:log2_v] == v if log2_v else 1)),
                write.addr.eq(self.coefficient_channel >> log2_v),
                write.data.eq(self.coefficient.as_value()),
                read.addr.eq(group_place),
                chosen.as_value().eq(Mux(command.records, read.data, self.constants.as_value())),
            ]
            with m.If(command.op != Op.AFFINE):
                m.d.comb += [chosen.as_value().eq(self.constants.as_value()), chosen.c.eq(0)]
            k_1.append(chosen)

        # Stage 1 to 3, lane by lane: operands; product; sum.
        step_3 = delay(step_1, "step_3", 2, resets=True)
        chunk_3 = delay(chunk_1, "chunk_3", 2)
        c_3 = [delay(k.c, f"c{v}", 2) for v, k in enumerate(k_1)]
        lefts_3, products_3, sums_4, masks_4 = [], [], [], []
        for n in range(columns):
            for v in range(elements):
                name = f"{n}_{v}"
                x_1 = Signal(signed(bits), name=f"x_{name}", reset_less=True)
                parts = [work[(n * bus + k * elements + v) * bits :][:bits].as_signed() for k in range(chunks)]
                m.d.sync += x_1.eq(Array(parts)[chunk] if chunks > 1 else parts[0])
                held = Array(Signal(signed(bits), name=f"held_{name}_{k}", reset_less=True) for k in range(chunks))
                mask = Array(Signal(name=f"mask_{name}_{k}", reset_less=True) for k in range(chunks))
                h, mask_1 = Signal(signed(bits), name=f"h_{name}"), Signal(name=f"m_{name}")
                greater, equal, opens = Signal(name=f"gt_{name}"), Signal(name=f"eq_{name}"), Signal(name=f"op_{name}")
                left, left_2 = (
                    Signal(signed(bits), name=f"l_{name}"),
                    Signal(signed(bits), name=f"l2_{name}", reset_less=True),
                )
                right_2 = Signal(signed(FACTOR_BITS), name=f"r_{name}", reset_less=True)
                m.d.comb += [
                    h.eq(held[chunk_1]),
                    mask_1.eq(mask[chunk_1]),
                    greater.eq(x_1 > h),
                    equal.eq(x_1 == h),
                    opens.eq((x_1 > 0) & ((command.gate == Clip.RELU) | (x_1 < self.gate_ceiling))),
                    left.eq(x_1),
                ]
                with m.If((step_1.masked & ~mask_1) | (step_1.reduces & ~alive_1[n])):
                    m.d.comb += left.eq(0)
                with m.Elif(step_1.left_held | (step_1.largest & ~step_1.fresh & ~greater)):
                    m.d.comb += left.eq(h)
                with m.If(step_1.hold | step_1.largest):
                    m.d.sync += held[chunk_1].eq(left)
                with m.If(step_1.gate):
                    m.d.sync += mask[chunk_1].eq(opens)
                with m.Elif(step_1.compare):
                    m.d.sync += mask[chunk_1].eq((step_1.fresh | mask_1) & ~greater & ~(step_1.strict & equal))
                m.d.sync += left_2.eq(left)
                with m.Switch(step_1.right):
                    with m.Case(Right.A):
                        m.d.sync += right_2.eq(k_1[v].a)
                    with m.Case(Right.B):
                        m.d.sync += right_2.eq(k_1[v].b)
                    with m.Case(Right.ELEMENT):
                        m.d.sync += right_2.eq(x_1)
                    with m.Default():
                        m.d.sync += right_2.eq(0)
                product_3 = Signal(signed(bits + FACTOR_BITS), name=f"p_{name}", reset_less=True)
                left_3 = Signal(signed(bits), name=f"l3_{name}", reset_less=True)
                m.d.sync += [product_3.eq(left_2 * right_2), left_3.eq(left_2)]
                sums = Array(Signal(signed(SUM_BITS), name=f"s_{name}_{k}", reset_less=True) for k in range(chunks))
                sum_3 = Signal(signed(SUM_BITS), name=f"sum_{name}")
                sum_4 = Signal(signed(SUM_BITS), name=f"sum4_{name}", reset_less=True)
                m.d.comb += sum_3.eq(Mux(step_3.first, c_3[v], sums[chunk_3]) + product_3)
                m.d.sync += sum_4.eq(sum_3)
                with m.If(step_3.adds):
                    m.d.sync += sums[chunk_3].eq(sum_3)
                lefts_3.append(left_3)
                products_3.append(product_3)
                sums_4.append(sum_4)
                masks_4.append(delay(mask_1, f"mask_to_4_{name}", 3))

        m.submodules.sample_sums = sample_sums = SampleSums(cfg, elements, self._group // elements)
        m.d.comb += [
            sample_sums.left.eq(Cat(lefts_3)),
            sample_sums.product.eq(Cat(products_3)),
            sample_sums.en.eq(step_3.reduces),
            sample_sums.first.eq(step_3.reduce_first),
            sample_sums.last.eq(step_3.reduce_last),
            sample_sums.chunk.eq(chunk_3),
            sample_sums.place.eq(delay(place_1, "place_3", 2)),
            self.sum_en.eq(sample_sums.sum_en),
            self.sum_addr.eq(sample_sums.sum_addr),
            self.sum_plain.eq(sample_sums.sum_plain),
            self.sum_product.eq(sample_sums.sum_product),
        ]

        # Stage 4: gate, activation, padding. Stages 5 to 7: rounding.
        step_4 = delay(step_3, "step_4", resets=True)
        alive_4, counts_4 = delay(alive_1, "alive", 3), delay(counts_1, "counts", 3)
        gated_result = Signal()
        m.d.comb += gated_result.eq((command.op == Op.AFFINE) & (command.gate != 0) & command.gate_result)
        shifts_5, q_8 = [], []
        for v, k in enumerate(k_1):
            exact, shift = Signal(signed(Q_BITS + 2), name=f"exact{v}"), Signal(signed(SHIFT_BITS), name=f"shift{v}")
            q_1 = Signal(signed(Q_BITS), name=f"q{v}")
            m.d.comb += [
                q_1.eq(k.q),
                exact.eq(self.out_exponent - q_1),
                shift.eq(Mux(exact < -31, -31, Mux(exact > 63, 63, exact))),
            ]
            shifts_5.append(delay(shift, f"shift_{v}", 4))
            q_8.append(delay(q_1, f"q_{v}", 7))
        values_7, saturated_7, z_5 = [], [], []
        for n in range(columns):
            for v in range(elements):
                name, index = f"{n}_{v}", n * elements + v
                z = Signal(signed(SUM_BITS), name=f"z_{name}", reset_less=True)
                keep = Signal(name=f"keep_{name}")
                m.d.comb += keep.eq(
                    step_4.last
                    & alive_4[n]
                    & counts_4[v]
                    & ~((command.clip != Clip.NONE) & sums_4[index][-1])
                    & (~gated_result | masks_4[index])
                )
                m.d.sync += z.eq(Mux(keep, sums_4[index], 0))
                m.submodules[f"requantise_{name}"] = requantise = Requantise(SUM_BITS, bits)
                m.d.comb += [requantise.x.eq(z), requantise.shift.eq(shifts_5[v])]
                values_7.append(requantise.value)
                saturated_7.append(requantise.saturated)
                z_5.append(z)
        m.submodules.peaks = peaks = PeakFinder(cfg, elements)
        m.d.comb += [
            peaks.clear.eq(self.clear),
            peaks.en.eq(delay(step_4.last, "last_to_10", 6, resets=True)),
            peaks.sums.eq(Cat(z_5)),
            peaks.q.eq(Cat(q_8)),
            peaks.six.eq(command.clip == Clip.RELU6),
            self.any.eq(peaks.any),
            self.peak.eq(peaks.peak),
        ]

        # Stage 7: the ceiling; V elements of every column enter the beat. Stage 8: it is complete.
        last_7 = delay(step_4.last, "last", 3, resets=True)
        chunk_7, ones_7 = delay(chunk_3, "chunk_7", 4), delay(ones_1, "ones", 6)
        packed = Signal(cfg.beat_bits, reset_less=True)
        counted = []
        for n in range(columns):
            for v in range(elements):
                index = n * elements + v
                over, value = Signal(name=f"over_{n}_{v}"), Signal(bits, name=f"value_{n}_{v}")
                m.d.comb += [
                    over.eq((command.clip == Clip.RELU6) & (values_7[index] > self.out_ceiling)),
                    value.eq(Mux(ones_7[v], self.one, Mux(over, self.out_ceiling, values_7[index]))),
                ]
                counted.append(saturated_7[index] & ~over & last_7)
                for k in range(chunks):
                    low = (n * bus + k * elements + v) * bits
                    with m.If(last_7 & (chunk_7 == k)):
                        m.d.sync += packed[low : low + bits].eq(value)
        by_column = []
        for n in range(columns):
            count = Signal(range(elements + 1), name=f"saturated_{n}", reset_less=True)
            m.d.sync += count.eq(total(counted[n * elements : (n + 1) * elements]))
            by_column.append(count)
        last_8 = delay(last_7, "last_8", resets=True)
        m.d.sync += [
            self.saturated.eq(Mux(last_8, total(by_column), 0)),
            self.push.eq(last_7 & (chunk_7 == chunks - 1)),
            self.push_addr.eq(delay(out_addr_1, "out_addr", 6)),
        ]
        m.d.comb += self.push_data.eq(packed)

        # Busy until the slowest, the sums over samples, has come out.
        flush = max(self.SUMS + log2_exact(columns, "columns") + 1, self.PUSH + 3)
        left_over = Signal(range(flush + 1))
        m.d.comb += self.busy.eq(full | left_over.any())
        with m.If(full):
            m.d.sync += left_over.eq(flush)
        with m.Elif(left_over.any()):
            m.d.sync += left_over.eq(left_over - 1)
        return m
