"""Command processor: moves commands through fetch, plan, load, compute and drain, one slot each.

It is a scalar pipeline whose instructions are working sets. All stages work on their commands at the
same time; when the last is done, every command moves on. The only interlock is `wait`: such a command
stays in plan while a command whose partial sums are drained is in load or compute, and meanwhile bubbles
go down the pipeline; so it loads after the tensors of all commands before it have been written.
"""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import FIELDS, WORDS, Phase
from arch.config import Config, log2_exact
from arch.status import Status
from arch.vector import MAGIC as VECTOR
from rtl.command import COMMAND, EARLY, connected, is_connected, slice_command
from rtl.list_walker import KINDS, RUN_BITS, Kind
from rtl.reader import BANK_BITS, fetch_beats
from rtl.registers import INDEX_BITS

STAGES = ("plan", "load", "compute", "drain")


class CommandProcessor(wiring.Component):
    """Pipeline of working sets.

    Law: `start` in cycle w: `busy` from w + 1, the first slot_start in w + `FIRST_SLOT`. A slot that starts in cycle s
    ends in the first cycle d >= s + MIN_WAIT in which all engines are done; the next slot_start is in d + 1,
    or, after the last one, `busy` falls in d + 1. So a program is busy for the sum of its slot lengths
    d - s + 1. Without commands it is busy for one cycle and fails with Status.PROGRAM.

    An error ends the program with the slot; of several the oldest command's is reported. Then, and after
    `scrub`, partial sums are cleared in all rows, as an abandoned working set may leave some: busy for
    2 * psum_depth cycles more (after `scrub`: that many). Commands older than the failing one have run
    to their end, commit included; of younger ones nothing was written.

    Without maps the fields of maps are constants in all commands (`rtl.command.connected`), and one that needs others,
    or a vector command, goes on with a magic number of 0.

    Args:
        cfg: widths.

    Ports:
        start, program_empty: run `commands` commands. scrub: only clear the partial sums.
        busy, finish, finish_status, finish_index: to `Registers`; finish is high in the last cycle of the last slot (of
        the one busy cycle without commands), which is the last busy cycle unless partial sums are cleared after it.
        slot_start: pulse. fetch_active, fetch_index: to the reader. in_valid, in_kind, in_index, in_data: from it.
        plan_*, load_*, compute_*, drain_*: valid (a command is there), command, index; all stable from slot_start to
        the end of the slot, but for the fields of a command that are not `EARLY`: from the cycle after slot_start.
        plan_active: the command is in plan for the first slot. *_done, *_error: of the engines.
        plan_total_bank, plan_bank, load_gate_bank: banks chosen by planner (of totals, of assignments) and loader;
        load_total_bank: bank of totals of that stage; load_bank, drain_bank: assignment bank of those stages;
        drain_gate_bank: gate bank of the drain.
        gather_bank, weight_bank, tap_bank, stat_bank, psum_bank, update_bank: banks used by compute; update_bank is
        written by it.
        scrubbing, scrub_addr: clear this partial sum, in all rows, in the bank that compute does not use.
        wait_load, wait_plan, wait_drain: this cycle counts for that counter.
    """

    FIRST_SLOT = 1
    MIN_WAIT = 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "scrub": In(1),
                "commands": In(INDEX_BITS),
                "busy": Out(1),
                "finish": Out(1),
                "finish_status": Out(4),
                "finish_index": Out(INDEX_BITS),
                "slot_start": Out(1),
                "fetch_active": Out(1),
                "fetch_index": Out(INDEX_BITS),
                "in_valid": In(1),
                "in_kind": In(range(KINDS + 1)),
                "in_index": In(RUN_BITS),
                "in_data": In(cfg.beat_bits),
                "reader_done": In(1),
                "plan_active": Out(1),
                **{f"{stage}_valid": Out(1) for stage in STAGES},
                **{f"{stage}_command": Out(COMMAND) for stage in STAGES},
                **{f"{stage}_index": Out(INDEX_BITS) for stage in STAGES},
                **{f"{stage}_done": In(1) for stage in STAGES},
                **{f"{stage}_error": In(4) for stage in STAGES},
                "plan_total_bank": In(BANK_BITS),
                "load_total_bank": Out(BANK_BITS),
                "plan_bank": In(BANK_BITS),
                "load_bank": Out(BANK_BITS),
                "drain_bank": Out(BANK_BITS),
                "load_gate_bank": In(BANK_BITS),
                "drain_gate_bank": Out(BANK_BITS),
                **{f"{name}_bank": Out(1) for name in ("gather", "weight", "tap", "stat", "psum", "update")},
                "scrubbing": Out(1),
                "scrub_addr": Out(log2_exact(cfg.psum_depth, "psum_depth")),
                "wait_load": Out(1),
                "wait_plan": Out(1),
                "wait_drain": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = {stage: getattr(self, f"{stage}_valid") for stage in STAGES}
        # Whether a stage has a command is reset, the command is not.
        command = {stage: Signal(COMMAND, name=f"{stage}_held", reset_less=True) for stage in STAGES}
        for stage, held in command.items():
            # Without maps, constants leave the ports, so that they reach all that hangs on them, and no register holds
            # them.
            shown = held.as_value() if self._cfg.maps else connected(held)
            m.d.comb += getattr(self, f"{stage}_command").as_value().eq(shown)
        index = {stage: getattr(self, f"{stage}_index") for stage in STAGES}
        done = {stage: getattr(self, f"{stage}_done") for stage in STAGES}

        # Fetch: every beat of a command goes where it belongs, so what a build does not read has no register.
        raw = Signal(32 * WORDS, reset_less=True)
        fetch_valid, fetched = Signal(), Signal()
        for beat in range(fetch_beats(self._cfg)):
            with m.If(self.in_valid & (self.in_kind == Kind.FETCH) & (self.in_index == beat)):
                m.d.sync += raw.word_select(beat, min(self._cfg.beat_bits, len(raw))).eq(self.in_data)
        planned = Signal()
        m.d.comb += [
            self.fetch_active.eq(fetch_valid & ~fetched),
            self.plan_active.eq(valid["plan"] & ~planned),
        ]

        # The slot: all engines are done, and have had the time to say that they are not.
        running, slot_start_1 = Signal(), Signal()
        settled = Signal()
        all_done, slot_end = Signal(), Signal()
        m.d.comb += [
            settled.eq(running & ~self.slot_start & ~slot_start_1 & ~slot_end),
            all_done.eq(Cat(self.reader_done, *done.values()).all()),
        ]
        # A register, for the engines are far apart, and what a slot's end moves is everywhere.
        m.d.sync += [slot_start_1.eq(self.slot_start), slot_end.eq(settled & all_done)]
        compute_over = Signal()
        m.d.comb += [
            compute_over.eq(running & ~self.slot_start & done["compute"]),
            self.wait_load.eq(compute_over & ~done["load"]),
            self.wait_plan.eq(compute_over & done["load"] & ~done["plan"]),
            self.wait_drain.eq(compute_over & done["load"] & done["plan"] & ~done["drain"]),
        ]

        # Errors: the oldest command's.
        error, error_index = Signal(4), Signal(INDEX_BITS)
        for stage in STAGES:  # later ones override: drain is oldest
            with m.If(valid[stage] & getattr(self, f"{stage}_error").any()):
                m.d.comb += [error.eq(getattr(self, f"{stage}_error")), error_index.eq(index[stage])]

        hold, more, empty = Signal(), Signal(), Signal()
        next_index = Signal(INDEX_BITS)
        m.d.comb += [
            hold.eq(
                valid["plan"]
                & command["plan"].wait
                & ((valid["load"] & _writes(command["load"])) | (valid["compute"] & _writes(command["compute"])))
            ),
            next_index.eq(self.fetch_index + 1),
            more.eq(fetch_valid & (next_index != self.commands)),
            empty.eq(~fetch_valid & ~valid["plan"] & ~valid["load"] & ~valid["compute"]),
        ]

        # Thousands of registers hang on a register, not on what ends a slot: most of a command moves a cycle later.
        fetched_command, held = self._fetched(m, raw), Signal()
        with m.If(self.slot_start):
            _move(m, command, fetched_command, held, [name for name in FIELDS if name not in EARLY])
        scrub_left = Signal(range(2))
        m.d.comb += self.finish_index.eq(error_index)
        m.d.sync += self.slot_start.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += self.busy.eq(1)
                    m.next = "EMPTY"
                    with m.If(self.commands != 0):
                        m.d.sync += [
                            self.slot_start.eq(1),
                            fetch_valid.eq(1),
                            fetched.eq(0),
                            self.fetch_index.eq(0),
                        ]
                        m.next = "RUN"
                with m.Elif(self.scrub):
                    m.d.sync += [self.busy.eq(1), self.scrub_addr.eq(0), scrub_left.eq(1)]
                    m.next = "SCRUB"
            with m.State("EMPTY"):
                m.d.comb += [self.finish.eq(1), self.finish_status.eq(Status.PROGRAM), self.finish_index.eq(0)]
                m.d.sync += self.busy.eq(0)
                m.next = "IDLE"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(slot_end):
                    self._advance(m, valid, command, index, fetch_valid, fetched, planned, hold, more, next_index)
                    _move(m, command, fetched_command, hold, EARLY)
                    m.d.sync += [self.slot_start.eq(1), held.eq(hold)]
                    with m.If(error.any()):
                        m.d.comb += [self.finish.eq(1), self.finish_status.eq(error)]
                        m.d.sync += [self.slot_start.eq(0), self.scrub_addr.eq(0), scrub_left.eq(1)]
                        m.d.sync += [fetch_valid.eq(0), *(flag.eq(0) for flag in valid.values())]
                        m.next = "SCRUB"
                    with m.Elif(empty):
                        m.d.comb += self.finish.eq(1)
                        m.d.sync += [self.slot_start.eq(0), self.busy.eq(0)]
                        m.next = "IDLE"
            with m.State("SCRUB"):
                m.d.comb += self.scrubbing.eq(1)
                m.d.sync += self.scrub_addr.eq(self.scrub_addr + 1)
                with m.If(self.scrub_addr.all()):
                    m.d.sync += [self.psum_bank.eq(~self.psum_bank), scrub_left.eq(0)]
                    with m.If(scrub_left == 0):
                        m.d.sync += self.busy.eq(0)
                        m.next = "IDLE"
        return m

    def _advance(
        self,
        m: Module,
        valid: dict[str, Signal],
        command: dict[str, Signal],
        index: dict[str, Signal],
        fetch_valid: Signal,
        fetched: Signal,
        planned: Signal,
        hold: Signal,
        more: Signal,
        next_index: Signal,
    ) -> None:
        """End of a slot: everything but the commands moves on, and banks with it."""
        load, compute = command["load"], command["compute"]
        leaving = valid["compute"]
        entering = valid["load"]
        m.d.sync += [
            self.psum_bank.eq(self.psum_bank ^ (leaving & _flows(compute))),
            self.update_bank.eq(self.update_bank ^ (leaving & _updates(compute))),
            self.gather_bank.eq(self.gather_bank ^ (entering & load.load_x)),
            self.weight_bank.eq(self.weight_bank ^ (entering & load.load_w)),
            self.tap_bank.eq(self.tap_bank ^ (entering & (load.phase != Phase.NOP) & ~load.ahead)),
            self.stat_bank.eq(self.stat_bank ^ (entering & load.load_aux & (load.phase == Phase.WU))),
        ]
        compute_bank, compute_gate_bank = Signal(BANK_BITS), Signal(BANK_BITS)
        m.d.sync += [
            valid["drain"].eq(valid["compute"]),
            index["drain"].eq(index["compute"]),
            self.drain_bank.eq(compute_bank),
            self.drain_gate_bank.eq(compute_gate_bank),
            valid["compute"].eq(valid["load"]),
            index["compute"].eq(index["load"]),
            compute_bank.eq(self.load_bank),
            compute_gate_bank.eq(self.load_gate_bank),
            fetched.eq(1),
            planned.eq(1),
        ]
        with m.If(hold):
            m.d.sync += valid["load"].eq(0)
        with m.Else():
            m.d.sync += [
                valid["load"].eq(valid["plan"]),
                index["load"].eq(index["plan"]),
                self.load_total_bank.eq(self.plan_total_bank),
                self.load_bank.eq(self.plan_bank),
                valid["plan"].eq(fetch_valid),
                index["plan"].eq(self.fetch_index),
                fetch_valid.eq(more),
                self.fetch_index.eq(next_index),
                fetched.eq(0),
                planned.eq(0),
            ]

    def _fetched(self, m: Module, raw: Signal) -> Signal:
        """The command that was fetched, as the stages see it."""
        fetched, sliced = Signal(COMMAND, name="fetched_command"), Signal(COMMAND)
        m.d.comb += sliced.as_value().eq(slice_command(raw))
        if self._cfg.maps:
            self._vector_or_not(m, sliced, fetched)
        else:
            m.d.comb += fetched.eq(sliced)
            with m.If((sliced.magic == VECTOR) | ((sliced.phase != Phase.NOP) & ~is_connected(sliced))):
                m.d.comb += fetched.magic.eq(0)  # no command of this build, says the planner
        return fetched

    @staticmethod
    def _vector_or_not(m: Module, sliced: Signal, fetched_command: Signal) -> None:
        """Of a vector command nothing but its magic number goes on: to all stages but drain it is a NOP."""
        with m.If(sliced.magic == VECTOR):
            m.d.comb += [fetched_command.phase.eq(Phase.NOP), fetched_command.magic.eq(VECTOR)]
        with m.Else():
            m.d.comb += fetched_command.eq(sliced)


def _move(m: Module, command: dict[str, Signal], fetched: Signal, held: Signal, names: Iterable[str]) -> None:
    """Fields of the commands go to the next stage; `held`: the plan stage keeps its own."""
    for name in names:
        m.d.sync += [
            command["drain"][name].eq(command["compute"][name]),
            command["compute"][name].eq(command["load"][name]),
        ]
        with m.If(~held):
            m.d.sync += [command["load"][name].eq(command["plan"][name]), command["plan"][name].eq(fetched[name])]


def _flows(command: Signal) -> Value:
    """Whether a command drains partial sums."""
    return command.drain & ((command.phase == Phase.FW) | (command.phase == Phase.BW))


def _writes(command: Signal) -> Value:
    """Whether a command will write what others wait for."""
    return _flows(command) | (command.magic == VECTOR)


def _updates(command: Signal) -> Value:
    """Whether a command updates weights."""
    return (command.phase == Phase.WU) & ~command.ahead & ~command.sum_store
