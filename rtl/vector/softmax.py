"""Softmax cross-entropy: logits and labels -> gradient, loss, right answers; one element a cycle.

Sample after sample its logits are read twice: for the largest, then for the sum of all powers, whose
reciprocal and logarithm follow. Then all are read once more, and the gradient is written. Probabilities
are powers of two: a shift and a table with linear interpolation.
"""

from __future__ import annotations

import itertools
from math import e, log2

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.requantise import Requantise, bit_length
from rtl.vector.command import VECTOR_COMMAND

FRACTION, POWER, TABLE, U_BITS, LEFT = 20, 24, 8, 25, 6
LOW = FRACTION - TABLE  # bits that interpolate
SUM_BITS = 35  # 1024 powers
RECIPROCAL_BITS = 26
LOSS_BITS = 48
LOG2_E = round(log2(e) * 2**FRACTION)
CLASS_BITS = 11


def _entries(values: list[int]) -> list[int]:
    """Table entries with the step to the next one, for interpolation: step in the low 20 bits, signed."""
    return [(value << 20) | (after - value & (1 << 20) - 1) for value, after in itertools.pairwise(values)]


POWERS = _entries([round(2 ** (POWER - i / 2**TABLE)) for i in range(2**TABLE + 1)])
LOGARITHMS = _entries([round(log2(1 + i / 2**TABLE) * 2**FRACTION) for i in range(2**TABLE + 1)])


class Softmax(wiring.Component):
    """Engine of SOFTMAX commands.

    Law: golden/vector/law.py.

    Ports:
        start: pulse. command, exponent (of the logits): stable. done: low from the cycle after start.
        rd_*: memory. reserve, room, push, push_addr, push_data: see `WriteQueue`.
        loss: sum in bits, 20 fraction bits; right: right answers; of the samples since start.
    """

    FLUSH = 12
    DIVIDE = RECIPROCAL_BITS + 3

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "command": In(VECTOR_COMMAND),
                "exponent": In(signed(8)),
                "done": Out(1, init=1),
                "rd_req_valid": Out(1),
                "rd_req_ready": In(1),
                "rd_req_addr": Out(32),
                "rd_resp_valid": In(1),
                "rd_resp_ready": Out(1),
                "rd_resp_data": In(cfg.beat_bits),
                "reserve": Out(1),
                "room": In(1),
                "push": Out(1),
                "push_addr": Out(32),
                "push_data": Out(cfg.beat_bits),
                "loss": Out(signed(LOSS_BITS)),
                "right": Out(24),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command = self._cfg, self.command
        bits, columns, bus = cfg.operand_bits, cfg.columns, cfg.bus_elements
        bus_log2, column_log2 = log2_exact(bus, "bus_elements"), log2_exact(columns, "columns")
        m = Module()

        def delay(source: Signal, name: str, cycles: int = 1, resets: bool = False) -> Signal:
            for n in range(cycles):
                register = Signal(source.shape(), name=f"{name}_d{n}", reset_less=not resets)
                m.d.sync += register.eq(source)
                source = register
            return source

        # What is being done: which sub-batch, which sample, which reading of its logits.
        batch, column = Signal(16), Signal(range(columns + 1))
        logits_addr, labels_addr, out_addr = Signal(32), Signal(32), Signal(32)
        batch_addr, batch_over = Signal(32), Signal()
        labels = Signal(16 * columns)
        streaming, summing, writing = Signal(), Signal(), Signal()
        beats, live = Signal(CLASS_BITS), Signal(range(columns + 1))
        last_batch = Signal()
        m.d.comb += [
            beats.eq((command.channels + (bus - 1)) >> bus_log2),
            last_batch.eq(batch + 1 == command.batches),
            live.eq(Mux(last_batch, command.valid, columns)),
        ]

        # Beats in, elements out: E of one column, or of all columns when the gradient is written.
        asking, answering, requested = Signal(), Signal(), Signal(CLASS_BITS)
        work, full = Signal(cfg.beat_bits, reset_less=True), Signal()
        beat, element, place = Signal(CLASS_BITS), Signal(max(1, bus_log2)), Signal(max(1, column_log2))
        go, beat_end, stream_end = Signal(), Signal(), Signal()
        m.d.comb += [
            go.eq(full & (~writing | self.room | element.any() | place.any())),
            self.reserve.eq(go & writing & ~element.any() & ~place.any()),
            beat_end.eq(go & (element == bus - 1) & (~writing | (place == columns - 1))),
            stream_end.eq(beat_end & (beat + 1 == beats)),
        ]
        with m.If(streaming & (requested != beats) & self.rd_req_ready):
            m.d.sync += requested.eq(requested + 1)
        with m.If(streaming & self.rd_resp_valid & self.rd_resp_ready):
            m.d.sync += [work.eq(self.rd_resp_data), full.eq(1)]
        with m.Elif(beat_end):
            m.d.sync += full.eq(0)
        with m.If(go):
            m.d.sync += element.eq(element + 1)
            with m.If(element == bus - 1):
                m.d.sync += place.eq(Mux(place == columns - 1, 0, place + 1))
        with m.If(beat_end):
            m.d.sync += beat.eq(beat + 1)
        m.d.comb += [
            self.rd_req_valid.eq(asking | (streaming & (requested != beats))),
            self.rd_req_addr.eq(Mux(asking, labels_addr, logits_addr + requested)),
            self.rd_resp_ready.eq(answering | (streaming & (~full | beat_end))),
        ]

        # Stage 1: the element; of a sample whose gradient is written, what was found about it.
        found_layout = data.StructLayout({"largest": signed(bits), "reciprocal": RECIPROCAL_BITS, "size": 6})
        m.submodules.found = found = Memory(shape=found_layout.size, depth=columns, init=[])
        found_write, found_read = found.write_port(), found.read_port()
        which = Signal(max(1, column_log2))
        m.d.comb += [which.eq(Mux(writing, place, column)), found_read.addr.eq(which)]
        x_1, label_1 = Signal(signed(bits), reset_less=True), Signal(16, reset_less=True)
        class_1 = Signal(CLASS_BITS + 3, reset_less=True)
        m.d.sync += [
            x_1.eq(work.word_select(Cat(element, which)[: bus_log2 + column_log2], bits).as_signed()),
            label_1.eq(labels.word_select(which, 16)),
            class_1.eq(Cat(element, beat)),
        ]
        go_1, end_1 = delay(go, "go_1", resets=True), delay(beat_end, "end_1", resets=True)
        sample_1 = delay(which < live, "sample_1")
        element_1, which_1 = delay(element, "element_1"), delay(which, "which_1")
        class_real = Signal()
        m.d.comb += class_real.eq(class_1 < command.channels)
        largest, best, some = Signal(signed(bits)), Signal(CLASS_BITS + 3), Signal()
        with m.If(go_1 & class_real & ~summing & ~writing), m.If(~some | (x_1 > largest)):
            m.d.sync += [some.eq(1), largest.eq(x_1), best.eq(class_1)]
        known = Signal(found_layout)
        m.d.comb += known.as_value().eq(found_read.data)

        # Stages 2 to 4: how many bits less likely than the largest.
        distance = Signal(bits + 1, reset_less=True)
        product_3 = Signal(bits + 1 + 21, reset_less=True)
        u_4 = Signal(U_BITS, reset_less=True)
        m.d.sync += [
            distance.eq(Mux(writing, known.largest, largest) - x_1),
            product_3.eq(distance * LOG2_E),
        ]
        # Left by up to `LEFT`, right by any number: one shift to the right, of what has been shifted by `LEFT`.
        right_by = Signal(6, reset_less=True)
        m.d.sync += right_by.eq(Mux(self.exponent > LEFT, 0, Mux(self.exponent < LEFT - 63, 63, LEFT - self.exponent)))
        shifted = Signal(len(product_3) + LEFT)
        m.d.comb += shifted.eq((product_3 << LEFT) >> right_by)
        m.d.sync += u_4.eq(Mux(shifted[U_BITS:].any(), (1 << U_BITS) - 1, shifted))

        # Stages 5 to 8: its power of two. A table's entry waits in a register: its memory is slow.
        m.submodules.powers = powers = Memory(shape=45, depth=2**TABLE, init=POWERS)
        power_read = powers.read_port()
        m.d.comb += power_read.addr.eq(u_4[LOW:FRACTION])
        power_6 = delay(power_read.data, "power_6")
        rest_6, whole_7 = delay(u_4[:LOW], "rest", 2), delay(u_4[FRACTION:], "whole", 3)
        part_7 = Signal(signed(20 + LOW + 1), reset_less=True)
        base_7 = delay(power_6[20:], "base_7")
        p_8 = Signal(POWER + 1, reset_less=True)
        interpolated = Signal(POWER + 2)
        m.d.comb += interpolated.eq(base_7 + (part_7 >> LOW))
        m.d.sync += [part_7.eq(power_6[:20].as_signed() * rest_6), p_8.eq(interpolated >> whole_7)]

        # Stage 8, sums of a sample.
        counts_1 = Signal()
        m.d.comb += counts_1.eq(go_1 & class_real & summing)
        counts_8 = delay(counts_1, "counts", 7, resets=True)
        mine_1 = Signal()
        m.d.comb += mine_1.eq(class_1 == label_1)
        mine_4 = delay(mine_1 & counts_1, "mine", 3, resets=True)
        total, u_label = Signal(SUM_BITS), Signal(U_BITS)
        with m.If(counts_8):
            m.d.sync += total.eq(total + p_8)
        with m.If(mine_4):
            m.d.sync += u_label.eq(u_4)

        # Stages 8 to 12: the gradient.
        reciprocal_8, size_8 = delay(known.reciprocal, "reciprocal", 7), delay(known.size, "size", 7)
        scaled_9, shift_9 = Signal(POWER + 1 + RECIPROCAL_BITS, reset_less=True), Signal(7, reset_less=True)
        m.d.sync += [scaled_9.eq(p_8 * reciprocal_8), shift_9.eq(size_8 + (POWER - (bits - 2)))]
        m.submodules.requantise = requantise = Requantise(len(scaled_9) + 1, bits)
        m.d.comb += [requantise.x.eq(scaled_9), requantise.shift.eq(shift_9)]
        mine_11, real_11 = delay(mine_1, "mine_to_11", 10), delay(class_real & sample_1, "real", 10)
        gradient = Signal(signed(bits + 1))
        m.d.comb += gradient.eq(Mux(real_11, requantise.value - (mine_11 << (bits - 2)), 0))
        write_11 = delay(go_1 & writing, "write_11", 10, resets=True)
        end_11 = delay(end_1 & writing, "end_11", 10, resets=True)
        element_11, which_11 = delay(element_1, "element_11", 10), delay(which_1, "which_11", 10)
        packed = Signal(cfg.beat_bits, reset_less=True)
        for n in range(columns):
            for k in range(bus):
                low = (n * bus + k) * bits
                with m.If(write_11 & (which_11 == n) & (element_11 == k)):
                    m.d.sync += packed[low : low + bits].eq(gradient)
        m.d.sync += self.push.eq(end_11)
        m.d.comb += [self.push_data.eq(packed), self.push_addr.eq(out_addr)]
        with m.If(self.push):
            m.d.sync += out_addr.eq(out_addr + 1)
        with m.Elif(batch_over):
            m.d.sync += [batch_addr.eq(batch_addr + command.out_batch), out_addr.eq(batch_addr + command.out_batch)]

        # Reciprocal, a bit a cycle; logarithm meanwhile.
        size = Signal(6, reset_less=True)
        remainder, quotient = Signal(SUM_BITS + 1, reset_less=True), Signal(RECIPROCAL_BITS, reset_less=True)
        counter = Signal(range(64))
        m.submodules.logarithms = logarithms = Memory(shape=45, depth=2**TABLE, init=LOGARITHMS)
        log_read = logarithms.read_port()
        normal = Signal(SUM_BITS, reset_less=True)
        log_entry = Signal(45, reset_less=True)
        log_part = Signal(signed(20 + LOW + 1), reset_less=True)
        logarithm = Signal(signed(FRACTION + 7), reset_less=True)
        m.d.sync += [
            size.eq(bit_length(m, total)),
            normal.eq(total << (SUM_BITS - size)[:6]),
            log_entry.eq(log_read.data),
            log_part.eq(log_entry[:20].as_signed() * normal[SUM_BITS - 1 - FRACTION : SUM_BITS - 1 - TABLE]),
            logarithm.eq(
                log_entry[20:] + (log_part >> LOW) + Cat(Const(0, FRACTION), (size - (POWER + 1))[:6]).as_signed()
            ),
        ]
        m.d.comb += log_read.addr.eq(normal[SUM_BITS - 1 - TABLE : SUM_BITS - 1])
        enough, difference = Signal(), Signal(SUM_BITS + 1)
        m.d.comb += [
            enough.eq(remainder >= total),
            difference.eq(Mux(enough, remainder - total, remainder)),
            found_write.addr.eq(column),
            found_write.data.eq(Cat(largest, quotient, size)),
        ]

        begin_stream = [requested.eq(0), beat.eq(0), element.eq(0), place.eq(0), full.eq(0)]
        label = Signal(16)
        m.d.comb += label.eq(labels.word_select(column[: max(1, column_log2)], 16))
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [
                    self.done.eq(0),
                    batch.eq(0),
                    logits_addr.eq(command.a_addr),
                    labels_addr.eq(command.b_addr),
                    out_addr.eq(command.out_addr),
                    batch_addr.eq(command.out_addr),
                    self.loss.eq(0),
                    self.right.eq(0),
                ]
                m.next = "LABELS"
            with m.State("LABELS"):
                m.d.comb += asking.eq(1)
                with m.If(self.rd_req_ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += answering.eq(1)
                with m.If(self.rd_resp_valid):
                    m.d.sync += [labels.eq(self.rd_resp_data[: 16 * columns]), column.eq(0)]
                    m.next = "SAMPLE"
            with m.State("SAMPLE"):
                m.d.sync += [*begin_stream, some.eq(0), summing.eq(0), total.eq(0), u_label.eq(0)]
                m.d.sync += writing.eq(column == live)
                m.next = "STREAM"
            with m.State("STREAM"):
                m.d.comb += streaming.eq(1)
                m.d.sync += counter.eq(0)
                with m.If(stream_end):
                    m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == self.FLUSH - 1):
                    m.d.sync += [*begin_stream, counter.eq(0), summing.eq(1)]
                    m.next = "STREAM"
                    with m.If(summing):
                        m.next = "DIVIDE"
                    with m.If(writing):
                        m.next = "BATCH"
            with m.State("DIVIDE"):
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == 2):
                    m.d.sync += remainder.eq(Const(1, SUM_BITS + 1) << (size - 1)[:6])
                with m.Elif(counter > 2):
                    m.d.sync += [quotient.eq(Cat(enough, quotient)), remainder.eq(difference << 1)]
                with m.If(counter == self.DIVIDE - 1):
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += found_write.en.eq(1)
                m.d.sync += [
                    column.eq(column + 1),
                    self.loss.eq(self.loss + u_label + logarithm),
                    self.right.eq(self.right + (best == label)),
                ]
                m.next = "SAMPLE"
            with m.State("BATCH"):
                m.d.comb += batch_over.eq(1)
                m.d.sync += [
                    batch.eq(batch + 1),
                    logits_addr.eq(logits_addr + command.a_batch),
                    labels_addr.eq(labels_addr + command.b_batch),
                    writing.eq(0),
                    column.eq(0),
                ]
                m.next = "LABELS"
                with m.If(last_batch):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        return m
