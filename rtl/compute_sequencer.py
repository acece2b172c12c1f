"""Compute sequencer: the compute stage's part in a slot, and the numbers the slot needs.

Rows compute on their own; this module derives their shifts and scale from the exponent table, starts
them together, waits for the last, and in WU hands the counts of all rows to the quantile estimator.
Rows report events as they happen; the events of a cycle are counted here once for all rows, which
costs a population count instead of counters in every row.
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import Config
from arch.status import Status
from rtl.command import COMMAND
from rtl.exponents import ACC_EXPONENT_BITS, DECAY_BITS, DECAY_SHIFT, EXPONENT_BITS
from rtl.gradient_buffer import GradientBuffer
from rtl.pe_row import RowDatapath
from rtl.quantile import QuantileEstimator
from rtl.reduction import total
from rtl.requantise import MAX_SHIFT, MIN_SHIFT, SHIFT_BITS
from rtl.row import Row
from rtl.weight_update import WeightUpdate

COUNT_BITS = 24
EVENTS = ("kept", "seen", "adopted", "evicted", "saturated")


class ComputeSequencer(wiring.Component):
    """Engine of the compute stage.

    Law, from the cycle s of `slot_start`; c is the first cycle in which `row_done` is high in all rows again
    (c = s + START + the rows' own law):

        not active: done from s + 1
        compute_start in s + START - `Row.START_LATENCY`, so that the rows start in s + START
        FW, BW, WU that stores its sums: done from c + FLOW_END
        WU: done from c + update_end(cfg);  the observation is made in
            c + update_end(cfg) - QuantileEstimator.LATENCY - 1, so theta has its new value when `done` rises

    Numbers of the slot, each stable until the next: scale_t, step from s + 3; update_shift (compute command) from
    s + 3; ones, acc_exponent (drain command) from s + 3; drain_shift from s + 4. All are from before any commit
    of the slot. Shifts beyond what the requantiser takes (-31 to 63) are clamped.

    Args:
        cfg: widths and sizes. Without `sparse` these ports do not exist: decay, step, scale_t, slot_step, total_kept,
            total_seen.

    Ports:
        slot_start, active, command, done: as for every engine, but stable from slot_start itself on; active if the
        stage holds a command that is not NOP. error: a `Status` (UPDATE_OVERFLOW, SUM_OVERFLOW), held until slot_start.
        drain_command: command of the drain stage, likewise.
        x_tensor, aux_tensor, out_tensor, x_exponent, aux_exponent, out_exponent: `ExponentTable`.
        weight_exponent, lr_exponent: signed. decay, step: now.
        compute_start: pulse, to all rows, which have a register for it. row_*: one bit a row: done, busy, scan
        (levels), update_error, sum_error (held), and the events of a weight update: kept, seen, adopted, evicted,
        saturated.
        observe, total_kept, total_seen: to the quantile estimator; zero again two cycles after compute_start.
        busy_count, scan_count, barrier_count: rows that issued, scanned, or did neither while another did, a cycle ago;
        kept_count, ...: events a cycle ago.
    """

    START = 4
    FLOW_END = 2
    EXTRA = 3  # register behind the row, count, total

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        tensor = (cfg.tensors - 1).bit_length()
        rows = range(cfg.rows + 1)
        sparse = {
            "decay": In(DECAY_BITS),
            "step": In(32),
            "scale_t": Out(16),
            "slot_step": Out(32),
            "total_kept": Out(COUNT_BITS),
            "total_seen": Out(COUNT_BITS),
        }
        super().__init__(
            {
                "slot_start": In(1),
                "active": In(1),
                "command": In(COMMAND),
                "drain_command": In(COMMAND),
                "done": Out(1, init=1),
                "error": Out(4),
                **{f"{name}_tensor": Out(tensor) for name in ("x", "aux", "out")},
                **{f"{name}_exponent": In(signed(EXPONENT_BITS)) for name in ("x", "aux", "out")},
                "weight_exponent": In(signed(EXPONENT_BITS)),
                "lr_exponent": In(signed(16)),
                **(sparse if cfg.sparse else {}),
                "update_shift": Out(signed(SHIFT_BITS)),
                "drain_shift": Out(signed(SHIFT_BITS)),
                "ones": Out(cfg.operand_bits),
                "acc_exponent": Out(signed(ACC_EXPONENT_BITS)),
                "compute_start": Out(1),
                "row_done": In(cfg.rows),
                "row_busy": In(cfg.rows),
                "row_scan": In(cfg.rows),
                "row_update_error": In(cfg.rows),
                "row_sum_error": In(cfg.rows),
                **{f"row_{name}": In(cfg.rows) for name in EVENTS},
                "observe": Out(1),
                "busy_count": Out(rows),
                "scan_count": Out(rows),
                "barrier_count": Out(rows),
                **{f"{name}_count": Out(rows) for name in EVENTS},
            }
        )

    @classmethod
    def update_end(cls, cfg: Config) -> int:
        """Cycles from the last row's done to `done` in WU."""
        dots = RowDatapath.dot_latency(cfg) + GradientBuffer.LATENCY
        return dots + WeightUpdate.LATENCY + cls.EXTRA + QuantileEstimator.LATENCY

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._numbers(m)
        self._counts(m)

        update, update_error = Signal(), Signal()
        finished = Signal()
        m.d.comb += update.eq((self.command.phase == Phase.WU) & ~self.command.sum_store)
        m.d.sync += [finished.eq(self.row_done.all()), update_error.eq(self.row_update_error.any())]
        # From all rows done (seen one cycle late) to the last event counted and added up.
        observe_at = self.update_end(self._cfg) - QuantileEstimator.LATENCY - 2
        wait = Signal(range(self.update_end(self._cfg)))
        with m.If(self.slot_start):
            m.d.sync += self.error.eq(Status.OK)
        with m.FSM():
            with m.State("IDLE"), m.If(self.slot_start & self.active):
                m.d.sync += [self.done.eq(0), wait.eq(self.START - Row.START_LATENCY - 2)]
                m.next = "NUMBERS"
            with m.State("NUMBERS"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += self.compute_start.eq(1)
                    m.next = "START"
            with m.State("START"):
                m.d.sync += [self.compute_start.eq(0), wait.eq(0)]
                m.next = "FALL"
            with m.State("FALL"):  # row_done is falling, `finished` is a cycle behind it
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == Row.START_LATENCY):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.sync += wait.eq(0)
                with m.If(finished):
                    with m.If(self.row_sum_error.any()):
                        m.d.sync += self.error.eq(Status.SUM_OVERFLOW)
                    m.next = "UPDATES"
                    with m.If(~update):
                        m.d.sync += self.done.eq(1)
                        m.next = "IDLE"
            with m.State("UPDATES"):
                m.d.sync += wait.eq(wait + 1)
                m.d.comb += self.observe.eq(wait == observe_at - 1)
                with m.If(wait == self.update_end(self._cfg) - 3):
                    m.d.sync += self.done.eq(1)
                    with m.If((self.error == Status.OK) & update_error):
                        m.d.sync += self.error.eq(Status.UPDATE_OVERFLOW)
                    m.next = "IDLE"
        return m

    def _numbers(self, m: Module) -> None:
        """Exponents of the compute command are read in s, of the drain command in s + 1."""
        cfg, command, drain = self._cfg, self.command, self.drain_command
        m.d.comb += [
            self.x_tensor.eq(Mux(self.slot_start, command.x_tensor, drain.x_tensor)),
            self.aux_tensor.eq(command.aux_tensor),
            self.out_tensor.eq(drain.out_tensor),
        ]
        at_1, at_2, at_3 = Signal(), Signal(), Signal()
        m.d.sync += [at_1.eq(self.slot_start), at_2.eq(at_1), at_3.eq(at_2)]
        update_shift = Signal(signed(19), reset_less=True)
        drain_shift = Signal(signed(11), reset_less=True)
        limit = cfg.operand_bits - 2
        one_place = Signal(range(limit + 1))
        below = Signal(signed(EXPONENT_BITS + 1))
        m.d.comb += [
            below.eq(-self.out_exponent),
            one_place.eq(Mux(below < 0, 0, Mux(below > limit, limit, below))),
        ]
        with m.If(at_1):
            m.d.sync += [
                update_shift.eq(
                    self.weight_exponent - cfg.operand_bits - self.x_exponent - self.aux_exponent - self.lr_exponent
                ),
            ]
        with m.If(at_2):
            m.d.sync += [
                self.update_shift.eq(_clamp(update_shift)),
                drain_shift.eq(self.out_exponent - self.x_exponent - self.weight_exponent),
                self.acc_exponent.eq(self.x_exponent + self.weight_exponent),
                self.ones.eq(Const(1) << one_place),
            ]
        if cfg.sparse:
            scaled = Signal(16 + DECAY_BITS, reset_less=True)
            with m.If(at_1):
                m.d.sync += [scaled.eq(command.scale * self.decay), self.slot_step.eq(self.step)]
            with m.If(at_2):
                m.d.sync += self.scale_t.eq(scaled >> DECAY_SHIFT)
        with m.If(at_3):
            m.d.sync += self.drain_shift.eq(_clamp(drain_shift))

    def _counts(self, m: Module) -> None:
        rows = self._cfg.rows
        busy, scan, active = (Signal(range(rows + 1), name=f"{n}_now") for n in ("busy", "scan", "active"))
        m.d.comb += [
            busy.eq(total(self.row_busy)),
            scan.eq(total(self.row_scan)),
            active.eq(busy + scan),
        ]
        m.d.sync += [
            self.busy_count.eq(busy),
            self.scan_count.eq(scan),
            self.barrier_count.eq(Mux(active == 0, 0, rows - active)),
        ]
        for name in EVENTS:
            m.d.sync += getattr(self, f"{name}_count").eq(total(getattr(self, f"row_{name}")))
        if self._cfg.sparse:
            m.d.sync += [
                self.total_kept.eq(self.total_kept + self.kept_count),
                self.total_seen.eq(self.total_seen + self.seen_count),
            ]
            started = Signal()  # a cycle later, long before the first visit is updated
            m.d.sync += started.eq(self.compute_start)
            with m.If(started):
                m.d.sync += [self.total_kept.eq(0), self.total_seen.eq(0)]


def _clamp(shift: Signal) -> object:
    return Mux(shift < MIN_SHIFT, MIN_SHIFT, Mux(shift > MAX_SHIFT, MAX_SHIFT, shift[:SHIFT_BITS].as_signed()))
