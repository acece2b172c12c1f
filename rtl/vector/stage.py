"""The vector stage: does one vector command, from memory to memory.

Walks say which beats are read; the lanes compute with them; the coefficient unit turns sums and records
into coefficients, a group of channels at a time. What a command needs done one after the other is one
state machine here; everything with a throughput is in the units.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.vector import WORDS, Op
from rtl.exponents import ACC_EXPONENT_BITS, EXPONENT_BITS
from rtl.vector.checks import Checks
from rtl.vector.coefficient_unit import CoefficientUnit, record_pieces
from rtl.vector.command import VECTOR_COMMAND, slice_command
from rtl.vector.element_walk import ElementWalk
from rtl.vector.lanes import Lanes
from rtl.vector.programs import Program
from rtl.vector.record_port import RecordPort
from rtl.vector.softmax import LOSS_BITS, Softmax
from rtl.vector.terms import TERM
from rtl.vector.window_walk import WindowWalk
from rtl.write_queue import WriteQueue

TENSORS = ("a", "b", "gate", "out")


class VectorStage(wiring.Component):
    """Engine of vector commands.

    Law: golden/vector/law.py; with a memory that answers after L cycles and takes everything, `done` is high from
    the cycle of `start` plus `law.cycles(...)` on. In short: every beat read costs E/V cycles, every group of
    channels with records its records twice and the program of the coefficient unit.

    Args:
        cfg: widths.
        elements: V, elements of every column a cycle, a power of two, 1 to E.
        group: channels whose records are in the stage at a time, a power of two, at least E.

    Ports:
        start: pulse; command: `arch.vector.WORDS` words, word 0 lowest, stable from start to done.
        done, error: done is low from the cycle after start; error is a `Status`, held until the next start.
        exponent_tensor, exponent: read port of the exponent table, answers one cycle later.
        learning: register LEARNING, stable.
        rd_*, wr_*: memory. saturated: saturated elements in this cycle.
        peak_*: one report at the end of a command that writes a tensor of the table, as `ExponentTable` takes it.
        loss, right: of the last SOFTMAX command.

    Raises:
        ValueError: elements or group out of range, by name.
    """

    def __init__(self, cfg: Config, elements: int = 2, group: int = 32) -> None:
        for name, value in (("elements", elements), ("group", group)):
            log2_exact(value, name)
        if elements > cfg.bus_elements:
            raise ValueError(f"elements must be at most {cfg.bus_elements}, not {elements}")
        if not cfg.bus_elements <= group <= 1024:
            raise ValueError(f"group must be between {cfg.bus_elements} and 1024, not {group}")
        self._cfg, self._elements, self._group = cfg, elements, group
        super().__init__(
            {
                "start": In(1),
                "command": In(32 * WORDS),
                "done": Out(1, init=1),
                "error": Out(4),
                "exponent_tensor": Out(8),
                "exponent": In(signed(EXPONENT_BITS)),
                "learning": In(32),
                "rd_req_valid": Out(1),
                "rd_req_ready": In(1),
                "rd_req_addr": Out(32),
                "rd_resp_valid": In(1),
                "rd_resp_ready": Out(1),
                "rd_resp_data": In(cfg.beat_bits),
                "wr_valid": Out(1),
                "wr_ready": In(1),
                "wr_addr": Out(32),
                "wr_data": Out(cfg.beat_bits),
                "saturated": Out(range(cfg.columns * elements + 1)),
                "peak_valid": Out(1),
                "peak_tensor": Out(8),
                "peak_bits": Out(cfg.acc_bits.bit_length()),
                "peak_exponent": Out(signed(ACC_EXPONENT_BITS)),
                "peak_bw": Out(1),
                "loss": Out(LOSS_BITS),
                "right": Out(24),
            }
        )

    QUEUE = 16  # beats under way from reservation to memory, with a beat a cycle

    def elaborate(self, platform: object) -> Module:
        cfg, group = self._cfg, self._group
        bus_log2 = log2_exact(cfg.bus_elements, "bus_elements")
        m = Module()
        command = Signal(VECTOR_COMMAND)
        m.d.comb += command.as_value().eq(slice_command(self.command))
        m.submodules.checks = checks = Checks(cfg)
        m.submodules.queue = queue = WriteQueue(cfg, self.QUEUE)
        m.submodules.lanes = lanes = Lanes(cfg, self._elements, group)
        m.submodules.unit = unit = CoefficientUnit(cfg, self._elements, group)
        m.submodules.records = port = RecordPort(cfg, group)
        m.submodules.softmax = softmax = Softmax(cfg)
        m.submodules.element_request = element_request = ElementWalk()
        m.submodules.element_answer = element_answer = ElementWalk()
        m.submodules.window_request = window_request = WindowWalk()
        m.submodules.window_answer = window_answer = WindowWalk()

        pools, records, exponents = Signal(), Signal(), {name: Signal(signed(8), name=f"e_{name}") for name in TENSORS}
        m.d.comb += [
            checks.command.eq(command),
            pools.eq((command.op == Op.POOL) | (command.op == Op.UNPOOL)),
            records.eq((command.op == Op.REDUCE) | (command.op == Op.COEFFICIENTS) | command.records),
        ]

        # The group: channels, beats, records.
        first, count, beats, first_beat = Signal(17), Signal(range(group + 1)), Signal(16), Signal(16)
        record_addr, left, group_last = Signal(32), Signal(17), Signal()
        all_beats = Signal(16)
        m.d.comb += [
            left.eq(command.channels - first),
            group_last.eq(left <= group),
            all_beats.eq((command.channels + (cfg.bus_elements - 1)) >> bus_log2),
        ]

        # The pass: the walk of the operation, once for the requests, once for the answers.
        passing, pass_start = Signal(), Signal()
        request, answer = Signal(TERM), Signal(TERM)
        request_valid, answer_valid, request_go, answer_go = Signal(), Signal(), Signal(), Signal()
        for walk, is_pool in (
            (element_request, 0),
            (element_answer, 0),
            (window_request, 1),
            (window_answer, 1),
        ):
            m.d.comb += [
                walk.start.eq(pass_start & (pools == is_pool)),
                walk.command.eq(command),
                walk.beats.eq(beats),
            ]
        for walk in (element_request, element_answer):
            m.d.comb += walk.first_beat.eq(first_beat)
        m.d.comb += [
            request.eq(Mux(pools, window_request.term.as_value(), element_request.term.as_value())),
            answer.eq(Mux(pools, window_answer.term.as_value(), element_answer.term.as_value())),
            request_valid.eq(Mux(pools, window_request.valid, element_request.valid)),
            answer_valid.eq(Mux(pools, window_answer.valid, element_answer.valid)),
            request_go.eq(passing & self.rd_req_ready),
            answer_go.eq(passing & self.rd_resp_valid & lanes.ready),
            element_request.ready.eq(request_go),
            window_request.ready.eq(request_go),
            element_answer.ready.eq(answer_go),
            window_answer.ready.eq(answer_go),
            lanes.valid.eq(passing & self.rd_resp_valid & answer_valid),
            lanes.data.eq(self.rd_resp_data),
            lanes.term.eq(answer),
            lanes.command.eq(command),
            lanes.first_beat.eq(first_beat),
            lanes.out_exponent.eq(exponents["out"]),
            lanes.constants.eq(unit.coefficients),
            self.saturated.eq(lanes.saturated),
        ]
        for name, ceiling in (("gate", lanes.gate_ceiling), ("out", lanes.out_ceiling)):
            m.d.sync += ceiling.eq(_ceiling(m, name, exponents[name], cfg.operand_bits))
        below, limit = Signal(signed(9)), cfg.operand_bits - 2
        m.d.comb += below.eq(-exponents["out"])
        m.d.sync += lanes.one.eq(1 << Mux(below < 0, 0, Mux(below > limit, limit, below))[: limit.bit_length()])

        # Records: read into the unit, or their coefficients into the lanes; written back.
        m.d.comb += [
            port.count.eq(count),
            port.address.eq(record_addr),
            port.backward.eq(command.backward),
            port.rd_req_ready.eq(self.rd_req_ready),
            port.rd_resp_valid.eq(self.rd_resp_valid),
            port.rd_resp_data.eq(self.rd_resp_data),
            port.record_out.eq(unit.record_out),
            port.room.eq(queue.room),
            unit.record_en.eq(port.record_en),
            unit.record_addr.eq(port.record_addr),
            unit.record_in.eq(port.record_in),
            lanes.coefficient_en.eq(port.coefficient_en),
            lanes.coefficient_channel.eq(port.coefficient_channel),
            lanes.coefficient.eq(port.coefficient),
            unit.command.eq(command),
            unit.a_exponent.eq(Mux(command.op == Op.UNPOOL, exponents["b"], exponents["a"])),
            unit.b_exponent.eq(exponents["b"]),
            unit.learning.eq(self.learning),
            unit.sum_en.eq(lanes.sum_en),
            unit.sum_addr.eq(lanes.sum_addr),
            unit.sum_plain.eq(lanes.sum_plain),
            unit.sum_product.eq(lanes.sum_product),
        ]

        # Memory: one of records, pass and softmax has it.
        m.d.comb += [
            self.rd_req_valid.eq(port.rd_req_valid | softmax.rd_req_valid | (passing & request_valid)),
            self.rd_req_addr.eq(Mux(port.loading, port.rd_req_addr, Mux(passing, request.addr, softmax.rd_req_addr))),
            self.rd_resp_ready.eq(port.loading | (passing & lanes.ready & answer_valid) | softmax.rd_resp_ready),
            softmax.command.eq(command),
            softmax.exponent.eq(exponents["a"]),
            softmax.rd_req_ready.eq(self.rd_req_ready),
            softmax.rd_resp_valid.eq(self.rd_resp_valid),
            softmax.rd_resp_data.eq(self.rd_resp_data),
            softmax.room.eq(queue.room),
            lanes.room.eq(queue.room),
            self.loss.eq(softmax.loss),
            self.right.eq(softmax.right),
            queue.reserve.eq(lanes.reserve | softmax.reserve | port.reserve),
            queue.push.eq(lanes.push | softmax.push | port.push),
            queue.push_addr.eq(Mux(port.push, port.push_addr, Mux(softmax.push, softmax.push_addr, lanes.push_addr))),
            queue.push_data.eq(Mux(port.push, port.push_data, Mux(softmax.push, softmax.push_data, lanes.push_data))),
            self.wr_valid.eq(queue.wr_valid),
            queue.wr_ready.eq(self.wr_ready),
            self.wr_addr.eq(queue.wr_addr),
            self.wr_data.eq(queue.wr_data),
        ]

        wait = Signal(range(8))
        peak = Signal(signed(len(lanes.peak) + 1))
        m.d.comb += [
            self.exponent_tensor.eq(Array(command[f"{name}_tensor"] for name in TENSORS)[wait[:2]]),
            self.peak_tensor.eq(command.out_tensor),
            self.peak_bw.eq(command.backward),
            self.peak_bits.eq(lanes.any),
            peak.eq(lanes.peak - 1),
            self.peak_exponent.eq(Mux(peak < -256, -256, Mux(peak > 255, 255, peak))),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.comb += lanes.clear.eq(1)
                m.d.sync += [self.done.eq(0), self.error.eq(0), wait.eq(0)]
                m.next = "EXPONENTS"
            with m.State("EXPONENTS"):
                m.d.sync += wait.eq(wait + 1)
                for index, name in enumerate(TENSORS):
                    with m.If(wait == index + 1):
                        m.d.sync += exponents[name].eq(self.exponent)
                with m.If(wait == len(TENSORS)):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    self.error.eq(checks.status),
                    first.eq(0),
                    first_beat.eq(0),
                    record_addr.eq(command.record_addr),
                ]
                m.next = "GROUP"
                with m.If(checks.status.any()):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(command.op == Op.SOFTMAX):
                    m.d.comb += softmax.start.eq(1)
                    m.next = "SOFTMAX"
            with m.State("SOFTMAX"), m.If(softmax.done & queue.idle):
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"
            with m.State("GROUP"):
                grouped = records & ~pools
                m.d.sync += [
                    count.eq(Mux(grouped, Mux(group_last, left, group), 1)),
                    beats.eq(Mux(grouped & ~group_last, group >> bus_log2, all_beats - first_beat)),
                ]
                m.d.comb += port.restart.eq(1)
                with m.If(~grouped):
                    m.next = "UNIT"
                with m.Elif(command.op == Op.REDUCE):
                    m.next = "PASS"
                with m.Else():
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += port.loading.eq(~port.over)
                with m.If(port.over):
                    m.next = "UNIT"
                    with m.If(command.op == Op.AFFINE):
                        m.next = "PASS"
            with m.State("UNIT"):
                m.d.comb += unit.start.eq(1)
                m.next = "COMPUTE"
            with m.State("COMPUTE"), m.If(unit.done):
                m.d.comb += port.restart.eq(1)
                m.next = "STORE"
                with m.If(pools | (command.op == Op.AFFINE)):
                    m.next = "PASS"
            with m.State("STORE"):
                m.d.comb += port.storing.eq(1)
                with m.If(port.over & ~port.pending & queue.idle):
                    m.next = "NEXT"
            with m.State("PASS"):
                m.d.comb += pass_start.eq(1)
                m.next = "STREAM"
            with m.State("STREAM"):
                m.d.comb += passing.eq(1)
                with m.If(lanes.valid & lanes.ready & answer.end):
                    m.next = "FLUSH"
            with m.State("FLUSH"), m.If(~lanes.busy & queue.idle):
                m.next = "NEXT"
                with m.If(command.op == Op.REDUCE):
                    m.next = "LOAD"
            with m.State("NEXT"):
                m.d.sync += [
                    first.eq(first + group),
                    first_beat.eq(first_beat + (group >> bus_log2)),
                    record_addr.eq(record_addr + count * record_pieces(cfg)),
                ]
                m.next = "GROUP"
                with m.If(group_last | ~records | pools):
                    m.d.comb += self.peak_valid.eq(pools | (command.op == Op.AFFINE))
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        program = Mux(
            command.op == Op.COEFFICIENTS,
            Program.INFERENCE,
            Mux(command.backward, Program.BACKWARD, Program.FORWARD),
        )
        m.d.comb += [
            unit.count.eq(count),
            unit.program.eq(Mux(pools | (command.op == Op.AFFINE), Program.CONSTANT, program)),
        ]
        return m


def _ceiling(m: Module, name: str, exponent: Signal, bits: int) -> Signal:
    """6.0 as a mantissa of this exponent, rounded half to even; out of reach: 2**(bits - 1)."""
    six = Signal(bits, name=f"six_{name}")
    m.d.comb += six.eq(1 << (bits - 1))
    with m.Switch(exponent):
        for e in range(-(bits - 4), 1):
            with m.Case(e):
                m.d.comb += six.eq(6 << -e)
        for e, value in ((1, 3), (2, 2), (3, 1)):
            with m.Case(e):
                m.d.comb += six.eq(value)
    with m.If(exponent > 3):
        m.d.comb += six.eq(0)
    return six
