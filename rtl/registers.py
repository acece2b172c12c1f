"""Control and status registers, and the counters of a program (addresses: `arch.status`)."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config
from arch.status import Counter, Register
from rtl.exponents import DECAY_BITS, EXPONENT_BITS
from rtl.quantile import RATE_BITS, SHARE_BITS

INDEX_BITS = 16
"""Width of the number of commands and of a command's index."""

LOSS_BITS, RIGHT_BITS = 48, 24

#: Counters that a port `count_<name>` moves (by its value, every cycle); CYCLES and ROW_COUNTER follow from busy.
WIDTHS = {
    Counter.BUSY: 7,
    Counter.SCAN: 7,
    Counter.BARRIER: 7,
    Counter.WAIT_LOAD: 1,
    Counter.WAIT_PLAN: 1,
    Counter.WAIT_DRAIN: 1,
    Counter.SATURATED: 10,
    Counter.TRACKED: 7,
    Counter.ADOPTED: 7,
    Counter.EVICTED: 7,
    Counter.SEEN: 7,
    Counter.READS: 1,
    Counter.WRITES: 1,
}


class Registers(wiring.Component):
    """Host side of the machine.

    A write takes effect in the next cycle; while `busy` it is ignored. `ctl_rdata` is combinational: the register at
    `ctl_addr` as it is in this cycle. Reading is always possible; the exponents read while busy may be in the middle of
    a commit. Addresses without a register read as zero. Widths: COMMANDS 16 bits, DECAY and LAMBDA 17, KEEP 16,
    RATE 6, PERIOD 3, WEIGHT_EXPONENT 8 signed, LEARNING mantissa `lr_bits` and exponent 16 signed; upper bits are
    ignored; DECAY and THRESHOLD are clamped (see `rtl.exponents.Decay`, `rtl.quantile`). A reset makes all of them zero
    but the exponents, which lie in a memory, as the partial sums do: a host scrubs after a reset in flight.

    Args:
        cfg: widths and sizes. Without `sparse` the registers LAMBDA, KEEP, RATE, PERIOD, MODE, DECAY and THRESHOLD and
            their ports do not exist; they read as zero.

    Ports:
        ctl_addr, ctl_wdata, ctl_we, ctl_rdata: control port.
        start: in the cycle of a write of 1 to CONTROL. scrub: likewise of 2: forget what programs left unfinished,
        partial sums (see `CommandProcessor`) and peaks of tensors (which otherwise wait for the next commit). busy:
        from the command processor. finish, finish_status, finish_index: the program ends.
        program, commands, lambda_, keep, rate, lr, lr_exponent, log2_period, weight_exponent, dense_mode, step:
        values. advance: step + 1.
        threshold_load, decay_load with load_value: write ports of those units; log2_theta, decay: their values.
        exponent_tensor, exponent_we, exponent_value, exponent: csr port of `ExponentTable`.
        loss, right: of the last softmax.
        count_*: see `WIDTHS`; row_busy: one bit a row. Counters clear at `start`, and count on while idle.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        sparse = {
            "lambda_": Out(DECAY_BITS),
            "keep": Out(SHARE_BITS),
            "rate": Out(RATE_BITS),
            "log2_period": Out(3),
            "dense_mode": Out(1),
            "load_value": Out(32),
            "threshold_load": Out(1),
            "decay_load": Out(1),
            "log2_theta": In(32),
            "decay": In(DECAY_BITS),
        }
        super().__init__(
            {
                "ctl_addr": In(9),
                "ctl_wdata": In(32),
                "ctl_we": In(1),
                "ctl_rdata": Out(32),
                "start": Out(1),
                "scrub": Out(1),
                "busy": In(1),
                "finish": In(1),
                "finish_status": In(4),
                "finish_index": In(INDEX_BITS),
                "program": Out(32),
                "commands": Out(INDEX_BITS),
                "lr": Out(cfg.lr_bits),
                "lr_exponent": Out(signed(16)),
                "weight_exponent": Out(signed(EXPONENT_BITS)),
                "step": Out(32),
                "advance": In(1),
                **(sparse if cfg.sparse else {}),
                "exponent_tensor": Out((cfg.tensors - 1).bit_length()),
                "exponent_we": Out(1),
                "exponent_value": Out(signed(EXPONENT_BITS)),
                "exponent": In(signed(EXPONENT_BITS)),
                "row_busy": In(cfg.rows),
                "loss": In(LOSS_BITS),
                "right": In(RIGHT_BITS),
                **{f"count_{counter.name.lower()}": In(bits) for counter, bits in WIDTHS.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        write = Signal()
        exponents, is_exponent = Signal(9), Signal()
        m.d.comb += [
            write.eq(self.ctl_we & ~self.busy),
            exponents.eq(self.ctl_addr - Register.EXPONENT),
            is_exponent.eq(exponents < cfg.tensors),
            self.exponent_tensor.eq(exponents),
            self.exponent_value.eq(self.ctl_wdata),
            self.exponent_we.eq(write & is_exponent),
        ]
        registers = {
            Register.PROGRAM: self.program,
            Register.COMMANDS: self.commands,
            Register.STEP: self.step,
            Register.WEIGHT_EXPONENT: self.weight_exponent,
        }
        if cfg.sparse:
            registers |= {
                Register.LAMBDA: self.lambda_,
                Register.KEEP: self.keep,
                Register.RATE: self.rate,
                Register.PERIOD: self.log2_period,
                Register.MODE: self.dense_mode,
            }
        with m.If(self.advance):
            m.d.sync += self.step.eq(self.step + 1)
        with m.If(write), m.Switch(self.ctl_addr):
            for address, register in registers.items():
                with m.Case(address):
                    m.d.sync += register.eq(self.ctl_wdata)
            with m.Case(Register.LEARNING):
                m.d.sync += [self.lr.eq(self.ctl_wdata[:16]), self.lr_exponent.eq(self.ctl_wdata[16:])]
            with m.Case(Register.CONTROL):
                m.d.comb += [self.start.eq(self.ctl_wdata[0]), self.scrub.eq(self.ctl_wdata[1] & ~self.start)]
        if cfg.sparse:
            m.d.comb += [
                self.load_value.eq(self.ctl_wdata),
                self.threshold_load.eq(write & (self.ctl_addr == Register.THRESHOLD)),
                self.decay_load.eq(write & (self.ctl_addr == Register.DECAY)),
            ]

        done, status, error_at = Signal(), Signal(8), Signal(INDEX_BITS)
        with m.If(self.start):
            m.d.sync += [done.eq(0), status.eq(0), error_at.eq(0)]
        with m.Elif(self.finish):
            m.d.sync += [done.eq(1), status.eq(self.finish_status), error_at.eq(self.finish_index)]

        counters = {counter: Signal(32, name=f"counter_{counter.name.lower()}") for counter in Counter}
        rows = [Signal(32, name=f"row_counter{row}") for row in range(cfg.rows)]
        steps = {counter: getattr(self, f"count_{counter.name.lower()}") for counter in WIDTHS}
        steps[Counter.CYCLES] = self.busy
        with m.If(self.start):
            m.d.sync += [register.eq(0) for register in (*counters.values(), *rows)]
        with m.Else():
            m.d.sync += [register.eq(register + steps[counter]) for counter, register in counters.items()]
            m.d.sync += [register.eq(register + self.row_busy[row]) for row, register in enumerate(rows)]

        readable: dict[int, Value] = {
            **registers,
            Register.CONTROL: Cat(self.busy, done, Const(0, 6), status),
            Register.ERROR_AT: error_at,
            **({Register.DECAY: self.decay, Register.THRESHOLD: self.log2_theta} if cfg.sparse else {}),
            Register.LEARNING: Cat(self.lr, Const(0, 16 - cfg.lr_bits), self.lr_exponent),
            Register.LOSS: self.loss[:32],
            Register.LOSS_HIGH: self.loss[32:],
            Register.RIGHT: self.right,
            **{Register.COUNTER + counter: register for counter, register in counters.items()},
            **{Register.ROW_COUNTER + row: register for row, register in enumerate(rows)},
        }
        value = Signal(32)
        with m.Switch(self.ctl_addr):
            for address, register in readable.items():
                with m.Case(address):
                    m.d.comb += value.eq(register)
        m.d.comb += self.ctl_rdata.eq(Mux(is_exponent, self.exponent, value))
        return m
