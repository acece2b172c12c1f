"""Top of the accelerator: control port in, one memory port out, everything else inside.

    registers -> command processor -> reader -> planner (balancer)      plan
                                             -> loader -> rows          load
                                compute sequencer -> rows               compute
                                       drain stage <- rows              drain -> write port

Nothing here but wires: what connects engines, rows and the scalar units (exponents, decay, threshold).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import Config
from arch.trace import BITS as TRACE_BITS
from arch.trace import CENTRAL
from rtl.assignment import AssignmentTable
from rtl.command_processor import STAGES, CommandProcessor
from rtl.compute_sequencer import ComputeSequencer
from rtl.drain_stage import DrainStage
from rtl.emit import verilog as emit_verilog
from rtl.exponents import Decay, ExponentTable
from rtl.gate_buffer import GateBuffer
from rtl.loader import Loader
from rtl.planner import Planner
from rtl.quantile import QuantileEstimator
from rtl.reader import Reader
from rtl.registers import Registers
from rtl.row import Row
from rtl.rows import ROW_MODULE, Engines, connect_rows
from rtl.tap_table import TapBuilder
from rtl.vector.engine import VectorEngine


class Accelerator(wiring.Component):
    """The machine. Laws: see `CommandProcessor` and the engines.

    Args:
        cfg: configuration; with cfg.trace the trace ports exist.
        emit: True to use rows and PEs as instances of modules converted once (see `verilog`), False for Amaranth's
            simulator.

    Ports:
        ctl_*: control port (`Registers`). busy: a program runs.
        rd_req_*, rd_resp_*, wr_*: memory port; addresses count beats; responses come in order.
        trace_rows: the record of row r (`arch.trace`) at bits [64 r, 64 r + 64). trace_central: see
            `arch.trace.CENTRAL`.
    """

    def __init__(self, cfg: Config, *, emit: bool = True) -> None:
        self._cfg, self._emit = cfg, emit
        #: The row that `verilog` converts, or all rows.
        self.rows = [Row(cfg, emit=True)] if emit else [Row(cfg) for _ in range(cfg.rows)]
        ports = {
            "ctl_addr": In(9),
            "ctl_wdata": In(32),
            "ctl_we": In(1),
            "ctl_rdata": Out(32),
            "busy": Out(1),
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
        }
        if cfg.trace:
            ports |= {"trace_rows": Out(TRACE_BITS * cfg.rows), "trace_central": Out(64)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        m.submodules.registers = self._registers = Registers(cfg)
        m.submodules.processor = self._processor = CommandProcessor(cfg)
        m.submodules.reader = self._reader = Reader(cfg)
        m.submodules.planner = self._planner = Planner(cfg)
        m.submodules.loader = self._loader = Loader(cfg)
        m.submodules.taps = self._taps = TapBuilder(cfg)
        m.submodules.sequencer = self._sequencer = ComputeSequencer(cfg)
        m.submodules.drain = self._drain = DrainStage(cfg)
        self._vector = VectorEngine(cfg) if cfg.maps else None
        if self._vector:
            m.submodules.vector = self._vector
        m.submodules.table = self._table = AssignmentTable(cfg)
        m.submodules.gate = self._gate = GateBuffer(cfg)
        m.submodules.exponents = self._exponents = ExponentTable(cfg)
        if cfg.sparse:
            m.submodules.decay = self._decay = Decay()
            m.submodules.quantile = self._quantile = QuantileEstimator(cfg)
        self._control(m)
        self._memory(m)
        self._memory_port(m)
        self._stages(m)
        self._scalars(m)
        engines = Engines(
            self._registers,
            self._processor,
            self._loader,
            self._taps,
            self._sequencer,
            self._drain,
            self._quantile if cfg.sparse else None,
        )
        trace_rows = self.trace_rows if cfg.trace else None
        connect_rows(m, cfg, engines, self.rows, emit=self._emit, trace_rows=trace_rows)
        self._counters(m)
        if cfg.trace:
            self._central(m)
        return m

    def _control(self, m: Module) -> None:
        registers, processor = self._registers, self._processor
        for name in ("ctl_addr", "ctl_wdata", "ctl_we"):
            m.d.comb += getattr(registers, name).eq(getattr(self, name))
        m.d.comb += [
            self.ctl_rdata.eq(registers.ctl_rdata),
            self.busy.eq(processor.busy),
            registers.busy.eq(processor.busy),
            processor.start.eq(registers.start),
            processor.scrub.eq(registers.scrub),
            processor.commands.eq(registers.commands),
        ]
        for name in ("finish", "finish_status", "finish_index"):
            m.d.comb += getattr(registers, name).eq(getattr(processor, name))

    def _memory(self, m: Module) -> None:
        processor, reader = self._processor, self._reader
        planner = self._planner
        m.d.comb += [
            reader.slot_start.eq(processor.slot_start),
            reader.fetch_active.eq(processor.fetch_active),
            reader.fetch_index.eq(processor.fetch_index),
            reader.program_addr.eq(self._registers.program),
            reader.plan_active.eq(processor.plan_active),
            reader.plan_command.eq(processor.plan_command),
            reader.plan_ok.eq(planner.plan_ok),
            reader.load_active.eq(processor.load_valid),
            reader.load_command.eq(processor.load_command),
            reader.load_bank.eq(processor.load_total_bank),
            reader.hold.eq(self._loader.hold),
        ]
        for name in reader.signature.members:
            if name.startswith(("total_", "offset_")):
                m.d.comb += getattr(reader, name).eq(getattr(planner, name))
        for consumer in (processor, planner, self._loader):
            for name in consumer.signature.members:
                if name.startswith("in_"):
                    m.d.comb += getattr(consumer, name).eq(getattr(reader, f"out_{name[3:]}"))
        m.d.comb += [planner.kind_done.eq(reader.kind_done), self._loader.kind_done.eq(reader.kind_done)]

    def _memory_port(self, m: Module) -> None:
        """The port is the reader's and the drain's until the reader's lists are over, then the vector engine's."""
        reader, drain, vector = self._reader, self._drain, self._vector
        m.d.comb += reader.rd_resp_data.eq(self.rd_resp_data)
        if vector is None:
            for engine in (reader, drain):
                for name in engine.signature.members:
                    if name in ("rd_req_valid", "rd_req_addr", "rd_resp_ready", "wr_valid", "wr_addr", "wr_data"):
                        m.d.comb += getattr(self, name).eq(getattr(engine, name))
                    elif name in ("rd_req_ready", "rd_resp_valid", "wr_ready"):
                        m.d.comb += getattr(engine, name).eq(getattr(self, name))
            return
        for name in ("rd_req_valid", "rd_req_addr", "rd_resp_ready"):
            m.d.comb += getattr(self, name).eq(Mux(vector.owns, getattr(vector, name), getattr(reader, name)))
        for name in ("wr_valid", "wr_addr", "wr_data"):
            m.d.comb += getattr(self, name).eq(Mux(vector.owns, getattr(vector, name), getattr(drain, name)))
        for name in ("rd_req_ready", "rd_resp_valid"):
            m.d.comb += [
                getattr(reader, name).eq(getattr(self, name) & ~vector.owns),
                getattr(vector, name).eq(getattr(self, name) & vector.owns),
            ]
        m.d.comb += [
            vector.rd_resp_data.eq(self.rd_resp_data),
            drain.wr_ready.eq(self.wr_ready & ~vector.owns),
            vector.wr_ready.eq(self.wr_ready & vector.owns),
            vector.reader_done.eq(reader.done),
            vector.program_addr.eq(self._registers.program),
            vector.index.eq(self._processor.drain_index),
        ]

    def _stages(self, m: Module) -> None:
        processor, table, gate = self._processor, self._table, self._gate
        planner, loader, sequencer, drain = self._planner, self._loader, self._sequencer, self._drain
        computes = Signal()
        for stage, engine in zip(STAGES, (planner, loader, sequencer, drain), strict=True):
            m.d.comb += [
                engine.slot_start.eq(processor.slot_start),
                engine.active.eq(getattr(processor, f"{stage}_valid")),
                engine.command.eq(getattr(processor, f"{stage}_command")),
            ]
            if stage != "drain":
                m.d.comb += [
                    getattr(processor, f"{stage}_done").eq(engine.done),
                    getattr(processor, f"{stage}_error").eq(engine.error),
                ]
        self._drain_or_vector(m)
        m.d.comb += [
            planner.active.eq(processor.plan_active),
            self._taps.slot_start.eq(processor.slot_start),
            self._taps.active.eq(processor.load_valid),
            self._taps.command.eq(processor.load_command),
            loader.taps_over.eq(self._taps.over),
            computes.eq((processor.compute_command.phase != Phase.NOP) & ~processor.compute_command.ahead),
            sequencer.active.eq(processor.compute_valid & computes),
            sequencer.drain_command.eq(processor.drain_command),
            processor.reader_done.eq(self._reader.done),
            processor.plan_total_bank.eq(planner.total_bank),
            processor.plan_bank.eq(planner.bank),
            processor.load_gate_bank.eq(loader.gate_bank),
            table.we.eq(planner.assign_we),
            table.bank.eq(planner.bank),
            table.unit.eq(planner.assign_unit),
            table.row.eq(planner.assign_row),
            table.slot.eq(planner.assign_slot),
            table.load_bank.eq(processor.load_bank),
            table.load_unit.eq(loader.assign_unit),
            loader.assign_row.eq(table.load_row),
            loader.assign_slot.eq(table.load_slot),
            table.drain_bank.eq(processor.drain_bank),
            table.drain_unit.eq(drain.assign_unit),
            drain.assign_row.eq(table.drain_row),
            drain.assign_slot.eq(table.drain_slot),
            gate.we.eq(loader.gate_we),
            gate.bank.eq(loader.gate_bank),
            gate.addr.eq(loader.gate_addr),
            gate.data.eq(loader.gate_data),
            gate.read_bank.eq(processor.drain_gate_bank),
            gate.read_addr.eq(drain.gate_addr),
            drain.gate_q.eq(gate.read_data),
            drain.shift.eq(sequencer.drain_shift),
            drain.ones.eq(sequencer.ones),
            drain.acc_exponent.eq(sequencer.acc_exponent),
        ]

    def _drain_or_vector(self, m: Module) -> None:
        """The two engines of the drain stage, and what they share besides memory: the exponent table."""
        processor, drain, vector = self._processor, self._drain, self._vector
        exponents, registers = self._exponents, self._registers
        peaks = ("peak_valid", "peak_tensor", "peak_bits", "peak_exponent", "peak_bw")
        if vector is None:
            m.d.comb += [
                processor.drain_done.eq(drain.done),
                processor.drain_error.eq(drain.error),
                *(getattr(exponents, name).eq(getattr(drain, name)) for name in peaks),
            ]
            return
        m.d.comb += [
            processor.drain_done.eq(drain.done & vector.done),
            processor.drain_error.eq(drain.error | vector.error),
            *(
                getattr(exponents, name).eq(Mux(vector.owns, getattr(vector, name), getattr(drain, name)))
                for name in peaks
            ),
            vector.slot_start.eq(processor.slot_start),
            vector.active.eq(processor.drain_valid),
            vector.command.eq(processor.drain_command),
            exponents.vector_tensor.eq(vector.exponent_tensor),
            vector.exponent.eq(exponents.vector_exponent),
            vector.learning.eq(Cat(registers.lr, Const(0, 16 - self._cfg.lr_bits), registers.lr_exponent)),
            registers.loss.eq(vector.loss),
            registers.right.eq(vector.right),
        ]

    def _scalars(self, m: Module) -> None:
        registers, sequencer, drain, exponents = self._registers, self._sequencer, self._drain, self._exponents
        for name in ("x", "aux", "out"):
            m.d.comb += [
                getattr(exponents, f"{name}_tensor").eq(getattr(sequencer, f"{name}_tensor")),
                getattr(sequencer, f"{name}_exponent").eq(getattr(exponents, f"{name}_exponent")),
            ]
        m.d.comb += [
            exponents.commit.eq(drain.commit),
            exponents.clear.eq(registers.scrub),
            exponents.csr_tensor.eq(registers.exponent_tensor),
            exponents.csr_we.eq(registers.exponent_we),
            exponents.csr_value.eq(registers.exponent_value),
            registers.exponent.eq(exponents.csr_exponent),
            drain.commit_done.eq(exponents.commit_done),
            registers.advance.eq(drain.commit),
            sequencer.weight_exponent.eq(registers.weight_exponent),
            sequencer.lr_exponent.eq(registers.lr_exponent),
        ]
        if self._cfg.sparse:
            self._threshold_and_decay(m)

    def _threshold_and_decay(self, m: Module) -> None:
        """What only a sparse build has of scalars."""
        registers, sequencer, drain = self._registers, self._sequencer, self._drain
        decay, quantile = self._decay, self._quantile
        m.d.comb += [
            decay.load.eq(registers.decay_load),
            decay.load_value.eq(Mux(registers.load_value >> 16 == 0, registers.load_value, 1 << 16)),
            decay.advance.eq(drain.commit),
            decay.factor.eq(registers.lambda_),
            registers.decay.eq(decay.decay),
            quantile.load.eq(registers.threshold_load),
            quantile.load_log2.eq(registers.load_value),
            quantile.observe.eq(sequencer.observe),
            quantile.kept.eq(sequencer.total_kept),
            quantile.seen.eq(sequencer.total_seen),
            quantile.keep_share.eq(registers.keep),
            quantile.rate.eq(registers.rate),
            registers.log2_theta.eq(quantile.log2_theta),
            sequencer.decay.eq(decay.decay),
            sequencer.step.eq(registers.step),
        ]

    def _counters(self, m: Module) -> None:
        registers, processor, sequencer = self._registers, self._processor, self._sequencer
        # Which stage a cycle waits for is the word of four engines; a slot lasts longer than its last wait.
        m.d.sync += [
            registers.count_wait_load.eq(processor.wait_load),
            registers.count_wait_plan.eq(processor.wait_plan),
            registers.count_wait_drain.eq(processor.wait_drain),
        ]
        m.d.comb += [
            registers.count_busy.eq(sequencer.busy_count),
            registers.count_scan.eq(sequencer.scan_count),
            registers.count_barrier.eq(sequencer.barrier_count),
            registers.count_saturated.eq(
                self._drain.saturated + sequencer.saturated_count + (self._vector.saturated if self._vector else 0)
            ),
            registers.count_tracked.eq(sequencer.kept_count),
            registers.count_adopted.eq(sequencer.adopted_count),
            registers.count_evicted.eq(sequencer.evicted_count),
            registers.count_seen.eq(sequencer.seen_count),
            registers.count_reads.eq(self.rd_resp_valid & self.rd_resp_ready),
            registers.count_writes.eq(self.wr_valid & self.wr_ready),
        ]

    def _central(self, m: Module) -> None:
        processor, reader = self._processor, self._reader
        starts = Signal()  # as the rows see it
        m.d.sync += starts.eq(self._sequencer.compute_start)
        values = {
            "busy": processor.busy,
            "slot_start": processor.slot_start,
            "valid": Cat(getattr(processor, f"{stage}_valid") for stage in STAGES),
            "request": self.rd_req_valid & self.rd_req_ready,
            "request_kind": reader.req_kind,
            "response": self.rd_resp_valid & self.rd_resp_ready,
            "response_kind": reader.out_kind,
            "write": self.wr_valid & self.wr_ready,
            "done": Cat(*(getattr(processor, f"{stage}_done") for stage in STAGES), processor.reader_done),
            "compute_start": starts,
            "observe": self._sequencer.observe,
            "commit": self._drain.commit,
            "finish": processor.finish,
            "scrub": processor.scrubbing,
            **{
                f"{stage}_index": Mux(getattr(processor, f"{stage}_valid"), getattr(processor, f"{stage}_index"), 0)
                for stage in STAGES
            },
        }
        record, at = [], 0
        for name, field in CENTRAL.items():
            part = Signal(field.bits, name=f"central_{name}")
            m.d.comb += part.eq(values[name])
            record += [Const(0, field.low - at), part]
            at = field.low + field.bits
        m.d.comb += self.trace_central.eq(Cat(*record))


def verilog(cfg: Config, name: str = "top", *, source: bool = False) -> str:
    """Verilog of the accelerator; row and PE are modules `row` and `pe`, converted once.

    Args:
        cfg: configuration.
        name: of the top module.
        source: keep the source locations (see `rtl.emit`).
    """
    top = Accelerator(cfg)
    return "\n".join(
        [emit_verilog(top, cfg, name, source=source), emit_verilog(top.rows[0], cfg, ROW_MODULE, source=source)]
    )
