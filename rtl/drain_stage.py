"""Drain stage: one of two drainers, the write queue, and the commit that may follow.

Partial sums become activations or gradients (`FlowDrainer`), update buffers become regions
(`BlockDrainer`); never both in one slot, so they share the queue and the lookup of units.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import Config, log2_exact
from arch.status import Status
from rtl.assignment import row_bits, unit_bits
from rtl.block_drainer import BlockDrainer
from rtl.command import COMMAND
from rtl.csb_encoder import record_info
from rtl.dense_drainer import DenseDrainer
from rtl.drainer import FlowDrainer
from rtl.exponents import ACC_EXPONENT_BITS
from rtl.lane_tally import words_per_cycle
from rtl.requantise import SHIFT_BITS, bit_length
from rtl.write_queue import WriteQueue


class DrainStage(wiring.Component):
    """Engine of the drain stage.

    Law: with a write port that is always ready and `slot_start` in cycle s, `done` is high from

        s + 1                                              nothing to drain or commit
        s + D + END + commit, where
        D = N + FlowDrainer.DONE_LATENCY + h + 2           FW, BW with drain; N = positions * out_run * E,
                                                           h = Config.chain_rows - 1
        D = see BlockDrainer, + 3                          WU with drain
        D = 1                                              commit only
        commit = tensors + ExponentTable.COMMIT_EXTRA      with `commit`, otherwise 0

    (the 3: the write queue's latency, plus one for its `idle`; the 2: less the cycle by which the drainer of sums is
    done after its last push). An overflow ends the drain where it is found and suppresses the commit.

    Args:
        cfg: widths and sizes.

    Ports:
        slot_start, active, command, done: as for every engine; active if the stage holds a command.
        error: a `Status`, held until slot_start.
        shift, ones, acc_exponent: of this command's drain, stable from slot_start + `FlowDrainer.SHIFT_NEEDED` on.
        assign_*, side_*, gate_*, rows_*: see `FlowDrainer` and `BlockDrainer` (dense: `DenseDrainer`). wr_*: write
        port.
        saturated: saturated elements in this cycle.
        peak_valid, peak_tensor, peak_bits, peak_exponent, peak_bw, commit, commit_done: to and from `ExponentTable`;
        `commit` also advances decay and step.
    """

    END = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        records = {
            "rows_mask_next": Out(cfg.rows),
            "rows_mask_last": Out(1),
            "rows_info_next": Out(cfg.rows),
            "rows_info": In(record_info(cfg)),
            "rows_mask": In(words_per_cycle(cfg) * cfg.mask_bits),
        }
        super().__init__(
            {
                "slot_start": In(1),
                "active": In(1),
                "command": In(COMMAND),
                "done": Out(1, init=1),
                "error": Out(4),
                "shift": In(signed(SHIFT_BITS)),
                "ones": In(cfg.operand_bits),
                "acc_exponent": In(signed(ACC_EXPONENT_BITS)),
                "assign_unit": Out(unit_bits(cfg)),
                "assign_row": In(row_bits(cfg)),
                "assign_slot": In(unit_bits(cfg)),
                "side_addr": Out(log2_exact(cfg.psum_depth, "psum_depth")),
                "side_clear": Out(cfg.rows),
                "side_q": In(cfg.columns * cfg.acc_bits),
                "gate_addr": Out(log2_exact(cfg.gate_beats, "gate_beats")),
                "gate_q": In(cfg.columns * cfg.bus_elements),
                "rows_start": Out(1),
                "rows_next": Out(cfg.rows),
                **(records if cfg.sparse else {}),
                "rows_data": In(cfg.beat_bits),
                "wr_valid": Out(1),
                "wr_ready": In(1),
                "wr_addr": Out(32),
                "wr_data": Out(cfg.beat_bits),
                "saturated": Out(range(cfg.columns + 1)),
                "peak_valid": Out(1),
                "peak_tensor": Out((cfg.tensors - 1).bit_length()),
                "peak_bits": Out(cfg.acc_bits.bit_length()),
                "peak_exponent": Out(signed(ACC_EXPONENT_BITS)),
                "peak_bw": Out(1),
                "commit": Out(1),
                "commit_done": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command = self._cfg, self.command
        m = Module()
        m.submodules.flow = flow = FlowDrainer(cfg)
        m.submodules.blocks = blocks = BlockDrainer(cfg) if cfg.sparse else DenseDrainer(cfg)
        m.submodules.queue = queue = WriteQueue(cfg)

        update, flows, stores, begins = Signal(), Signal(), Signal(), Signal()
        room = Signal(init=1)  # much hangs on it, and the queue is near the memory
        m.d.sync += room.eq(queue.room)
        m.d.comb += [
            update.eq(command.phase == Phase.WU),
            flows.eq(command.drain & ((command.phase == Phase.FW) | (command.phase == Phase.BW))),
            stores.eq(command.drain & update),
            begins.eq(self.slot_start & self.active & (flows | stores | command.commit)),
            flow.start.eq(begins & flows),
            blocks.start.eq(begins & stores),
            flow.command.eq(command),
            blocks.command.eq(command),
            flow.shift.eq(self.shift),
            flow.ones.eq(self.ones),
            self.assign_unit.eq(Mux(update, blocks.assign_unit, flow.assign_unit)),
            self.saturated.eq(flow.saturated),
        ]
        for name in ("side_addr", "side_clear", "gate_addr"):
            m.d.comb += getattr(self, name).eq(getattr(flow, name))
        for name in ("side_q", "gate_q", "assign_row", "assign_slot"):
            m.d.comb += getattr(flow, name).eq(getattr(self, name))
        for name, member in blocks.signature.members.items():
            if name.startswith("rows_"):
                outer, inner = getattr(self, name), getattr(blocks, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        m.d.comb += blocks.assign_row.eq(self.assign_row)
        m.d.comb += [
            queue.reserve.eq(flow.reserve | blocks.reserve),
            flow.room.eq(room),
            blocks.room.eq(room),
            queue.push.eq(flow.push | blocks.push),
            queue.push_addr.eq(Mux(update, blocks.push_addr, flow.push_addr)),
            queue.push_data.eq(Mux(update, blocks.push_data, flow.push_data)),
            self.wr_valid.eq(queue.wr_valid),
            queue.wr_ready.eq(self.wr_ready),
            self.wr_addr.eq(queue.wr_addr),
            self.wr_data.eq(queue.wr_data),
        ]

        m.d.sync += self.peak_bits.eq(bit_length(m, flow.magnitude))
        m.d.comb += [
            self.peak_tensor.eq(command.out_tensor),
            self.peak_exponent.eq(self.acc_exponent),
            self.peak_bw.eq((command.phase == Phase.BW) | command.gradient),
            # The drainer holds its error until it starts again; it is no later command's.
            self.error.eq(Mux(blocks.error & stores, Status.STORE_OVERFLOW, Status.OK)),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(begins):
                m.d.sync += self.done.eq(0)
                m.next = "DRAIN"
            with m.State("DRAIN"), m.If(flow.done & blocks.done & queue.idle):
                m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += [
                    self.peak_valid.eq(flows),
                    self.commit.eq(command.commit & ~(stores & blocks.error)),
                ]
                m.next = "COMMIT"
                with m.If(~self.commit):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("COMMIT"), m.If(self.commit_done):
                m.d.sync += self.done.eq(1)
                m.next = "IDLE"
        return m
