"""Planner: validates a command, keeps the headers of its regions, and has the units shared out.

Validation comes first, so that no later unit has to defend itself against a size that contradicts
another. Headers are buffered as they arrive and walked once all are there, one word a cycle: the record
total of a region goes to the reader's table, unit counts to the balancer, whose result fills a bank of
the assignment table. A plan that *keeps* the units where they are ends with the walk: commands that add to the partial
sums of one before must find them in the same rows.
"""

from __future__ import annotations

from enum import Enum

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.command import Phase
from arch.config import PLAN_BEATS, Config, log2_exact
from arch.status import Status
from rtl.assignment import row_bits, unit_bits
from rtl.balancer import Balancer, load_bits
from rtl.command import COMMAND
from rtl.direct_assigner import DirectAssigner
from rtl.list_walker import KINDS, RUN_BITS, Kind
from rtl.reader import BANK_BITS, SEGMENT_BITS
from rtl.row_queue import COUNT_BITS
from rtl.validator import Validator


class _State(Enum):
    IDLE = 0
    CHECK = 1
    HEADERS = 2
    WALK = 3
    BALANCE = 4


class Planner(wiring.Component):
    """The plan stage, balancer included.

    Laws, from the cycle s of `slot_start`:

        `plan_ok` is valid from s + 2.
        not active: done from s + 1. Invalid, or without `plan`: done from s + VALIDATE + 1, and so is `error`.
        with `plan`: h = max(s + VALIDATE + 1, P_X), P_X the cycle in which the reader's kind_done[PLAN] rises;
          N = segments * (1 + block_rows) header words, in BW segments * (1 + block_rows + groups);
          done from h + N + WALK + balance_cycles(units, rows, policy) + 1   (golden.balancer.balance_cycles)
        with `keep`, or a header that contradicts itself (Status.HEADER): done from h + N + WALK + 1.

    What to load of a region follows from its records' counts: a record takes mask_beats + ceil(nnz / values_per_beat)
    beats; the command's records are `records` of them from `record0` on. Their sum over all records must be
    the header's word 0, and fit 16 bits.

    Counts: unit i of FW and NOP: sum of nnz of record record0 + i over the segments; WU: of cycles (high half); BW:
    unit g * groups + j: nnz of lane group j of segment g; `wide`: of two lane groups. Saturated at 65535. Units
    >= `units` are left out.

    Args:
        cfg: widths and sizes.
        balancer: a component with the ports of `rtl.balancer.Balancer` (dense: of `DirectAssigner`, which counts
            nothing); that one if absent.

    Ports:
        slot_start, active, command: as for every engine; stable from the cycle after slot_start.
        in_valid, in_kind, in_data, kind_done: the reader's out_valid, out_kind, out_data, kind_done.
        plan_ok: to the reader: the headers of this command may be read.
        total_we, total_segment, total_value, offset_value: to the reader's table, together with `total_bank`.
        total_bank, bank: banks of totals and of assignments of the command in the plan stage, from s + 2 on (the next
        one for a command with `plan`, otherwise that of the command before; a plan with `keep` keeps `bank`).
        assign_we, assign_unit, assign_row, assign_slot: to the assignment table, together with `bank`.
        max_load, sum_load: of the balancer, held after a plan; not in a dense build.
        done, error: level; `error` is a `Status`, cleared by slot_start.
    """

    VALIDATE = Validator.CYCLES
    WALK = 6

    def __init__(self, cfg: Config, balancer: wiring.Component | None = None) -> None:
        self._cfg = cfg
        default = Balancer if cfg.sparse else DirectAssigner
        self._balancer = default(cfg) if balancer is None else balancer
        loads = {f"{name}_load": Out(load_bits(cfg.units)) for name in ("max", "sum")} if cfg.sparse else {}
        super().__init__(
            {
                "slot_start": In(1),
                "active": In(1),
                "command": In(COMMAND),
                "in_valid": In(1),
                "in_kind": In(range(KINDS + 1)),
                "in_data": In(cfg.beat_bits),
                "kind_done": In(KINDS),
                "plan_ok": Out(1),
                "total_we": Out(1),
                "total_bank": Out(BANK_BITS),
                "total_segment": Out(SEGMENT_BITS),
                "total_value": Out(RUN_BITS),
                "offset_value": Out(RUN_BITS),
                "bank": Out(BANK_BITS),
                "assign_we": Out(1),
                "assign_unit": Out(unit_bits(cfg)),
                "assign_row": Out(row_bits(cfg)),
                "assign_slot": Out(unit_bits(cfg)),
                **loads,
                "done": Out(1),
                "error": Out(4),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        balancer = self._balancer
        m.submodules["balancer" if self._cfg.sparse else "assigner"] = balancer
        command = self.command
        state = Signal(_State)
        m.submodules.validator = validator = Validator(self._cfg)
        walked, contradicts = self._walk(m, state, balancer)

        m.d.comb += [
            self.done.eq((state == _State.IDLE) | ~self.active),
            balancer.n.eq(command.units),
            balancer.cap.eq(command.cap),
            balancer.policy.eq(command.policy),
            self.assign_we.eq(balancer.assign_we),
            self.assign_unit.eq(balancer.assign_unit),
            self.assign_row.eq(balancer.assign_row),
            self.assign_slot.eq(balancer.assign_slot),
        ]
        if self._cfg.sparse:
            m.d.comb += [self.max_load.eq(balancer.max_load), self.sum_load.eq(balancer.sum_load)]
        step = Signal(range(self.VALIDATE))
        m.d.comb += [
            validator.command.eq(command),
            validator.step.eq(step),
            self.plan_ok.eq(validator.plan_ok),
        ]
        with m.Switch(state):
            with m.Case(_State.CHECK):
                m.d.sync += step.eq(step + 1)
                with m.If((step == 0) & self.active & command.plan):
                    m.d.sync += self.total_bank.eq(self.total_bank + 1)
                    with m.If(~command.keep):
                        m.d.sync += self.bank.eq(self.bank + 1)
                with m.If(~self.active):
                    m.d.sync += state.eq(_State.IDLE)
                with m.Elif(step == self.VALIDATE - 1):
                    m.d.sync += self.error.eq(validator.verdict)
                    m.d.sync += state.eq(
                        Mux((validator.verdict == Status.OK) & command.plan, _State.HEADERS, _State.IDLE)
                    )
            with m.Case(_State.HEADERS), m.If(self.kind_done[Kind.PLAN]):
                m.d.sync += state.eq(_State.WALK)
            with m.Case(_State.WALK), m.If(walked):
                with m.If(contradicts):
                    m.d.sync += [self.error.eq(Status.HEADER), state.eq(_State.IDLE)]
                with m.Elif(command.keep):
                    m.d.sync += state.eq(_State.IDLE)
                with m.Else():
                    m.d.comb += balancer.start.eq(1)
                    m.d.sync += state.eq(_State.BALANCE)
            with m.Case(_State.BALANCE), m.If(balancer.done):
                m.d.sync += state.eq(_State.IDLE)
                with m.If(balancer.error):
                    m.d.sync += self.error.eq(Status.UNITS_OVERFLOW)
        with m.If(self.slot_start):
            m.d.sync += [state.eq(_State.CHECK), step.eq(0), self.error.eq(Status.OK)]
        return m

    def _walk(self, m: Module, state: Signal, balancer: wiring.Component) -> tuple[Signal, Signal]:
        """Header buffer and walk, in state WALK: address, word, use, one word a cycle.

        Returns: `walked`, high once the last word was used and its region's beats are known, and whether a header
        contradicts itself.
        """
        cfg, command = self._cfg, self.command
        address_bits = log2_exact(PLAN_BEATS, "plan beats")
        m.submodules.headers = headers = Memory(shape=cfg.beat_bits, depth=PLAN_BEATS, init=[])
        write, read = headers.write_port(), headers.read_port()
        arrived = Signal(address_bits)
        m.d.comb += [
            write.en.eq(self.in_valid & (self.in_kind == Kind.PLAN)),
            write.addr.eq(arrived),
            write.data.eq(self.in_data),
        ]
        with m.If(write.en):
            m.d.sync += arrived.eq(arrived + 1)
        with m.If(self.slot_start):
            m.d.sync += arrived.eq(0)

        back, last_word = Signal(), Signal(17)
        m.d.comb += back.eq(command.phase == Phase.BW)
        # Only BW counts lane groups; elsewhere the walk ends with the records.
        m.d.sync += last_word.eq(command.block_rows + Mux(back, command.groups, 0))

        # Stage 0: where the next word is and what it means.
        walking = Signal()
        segment, region = Signal(SEGMENT_BITS), Signal(address_bits)
        beat, word = Signal(address_bits), Signal(17)
        lane = Signal(range(cfg.words_per_beat))
        unit = Signal(20)
        first_word, past_word = Signal(17), Signal(17)  # words of the command's records
        m.d.sync += [first_word.eq(command.record0 + 1), past_word.eq(first_word + command.records)]
        is_total, is_record, is_chosen, is_counted, ends = Signal(), Signal(), Signal(), Signal(), Signal()
        is_before, is_final = Signal(), Signal()
        m.d.comb += [
            is_total.eq(word == 0),
            is_record.eq(~is_total & (word <= command.block_rows)),
            is_before.eq(is_record & (word < first_word)),
            is_chosen.eq(is_record & ~is_before & (word < past_word)),
            is_counted.eq(Mux(back, ~is_total & ~is_record, is_chosen)),
            is_final.eq(back | (segment + 1 == command.segments)),
            ends.eq(word == last_word),
            read.en.eq(1),
            read.addr.eq(beat),
        ]
        with m.If((state == _State.HEADERS) & self.kind_done[Kind.PLAN]):
            m.d.sync += [walking.eq(1), segment.eq(0), region.eq(0), beat.eq(0), word.eq(0), lane.eq(0), unit.eq(0)]
        with m.Elif(walking):
            m.d.sync += [word.eq(word + 1), lane.eq(lane + 1)]
            with m.If(lane == cfg.words_per_beat - 1):
                m.d.sync += [lane.eq(0), beat.eq(beat + 1)]
            with m.If(is_counted):
                m.d.sync += unit.eq(unit + 1)
            with m.If(ends):
                next_region = Signal(address_bits)
                m.d.comb += next_region.eq(region + command.header_beats)
                m.d.sync += [word.eq(0), lane.eq(0), segment.eq(segment + 1)]
                m.d.sync += [region.eq(next_region), beat.eq(next_region)]
                with m.If(~back):
                    m.d.sync += unit.eq(0)
                with m.If(segment + 1 == command.segments):
                    m.d.sync += walking.eq(0)

        # Stage 1: its beat has arrived. Stage 2: the word is used.
        stages = [
            {
                "walking": walking,
                "is_total": is_total,
                "is_record": is_record,
                "is_before": is_before,
                "is_chosen": is_chosen,
                "is_counted": is_counted,
                "is_final": is_final,
                "ends": ends,
                "segment": segment,
                "lane": lane,
                "unit": unit,
            }
        ]
        for number in (1, 2):
            now = {
                name: Signal.like(signal, name=f"{name}_{number}", reset_less=name != "walking")
                for name, signal in stages[0].items()
            }
            m.d.sync += [signal.eq(stages[-1][name]) for name, signal in now.items()]
            stages.append(now)
        content = Signal(32, reset_less=True)
        m.d.sync += content.eq(read.data.word_select(stages[1]["lane"], 32))
        use = stages[2]
        if cfg.sparse:
            m.d.comb += balancer.begin.eq((state == _State.HEADERS) & self.kind_done[Kind.PLAN])
            self._counts(m, balancer, use, content, back)
        contradicts = self._beats(m, use, content)
        # Three more stages until the last region's beats are in the table, and the last count in its list.
        last_used, settled = Signal(), Signal(2)
        walked = Signal()
        m.d.sync += [
            last_used.eq(use["walking"] & ~stages[1]["walking"]),
            settled.eq(Cat(last_used, settled)),
            walked.eq(settled[-1]),
        ]
        return walked, contradicts

    def _counts(
        self, m: Module, balancer: wiring.Component, use: dict[str, Signal], content: Signal, back: Signal
    ) -> None:
        """Visits of a unit, from a header word to the balancer."""
        command = self.command
        narrow, count, index = Signal(32), Signal(COUNT_BITS), Signal.like(use["unit"])
        pairs, second = Signal(), Signal()  # BW: units of two lane groups; this is the other one of its unit
        m.d.comb += [
            pairs.eq(back & command.wide),
            second.eq(pairs & use["unit"][0]),
            index.eq(Mux(pairs, use["unit"] >> 1, use["unit"])),
            narrow.eq(Mux(back, content, Mux(command.phase == Phase.WU, content[16:], content[:16]))),
            count.eq(Mux(narrow[COUNT_BITS:].any(), (1 << COUNT_BITS) - 1, narrow)),
            balancer.count_we.eq(use["walking"] & use["is_counted"] & (index < command.units)),
            balancer.count_add.eq((~back & use["segment"].any()) | second),
            balancer.count_final.eq(use["is_final"] & (second | ~pairs)),
            balancer.count_index.eq(index),
            balancer.count_value.eq(count),
        ]

    def _beats(self, m: Module, use: dict[str, Signal], content: Signal) -> Signal:
        """Beats of a region's records, added up as its words pass: all, before the command's, and the command's.

        Returns: whether a region's header contradicts itself; valid once the walk is over.
        """
        command = self.command
        shift = log2_exact(self._cfg.values_per_beat, "values_per_beat")
        # Stage 3: beats of one record. Stage 4: the sums; word 0 empties them.
        beats = Signal(17, reset_less=True)
        names = ("walking", "is_total", "is_record", "is_before", "is_chosen", "ends", "segment")
        now = {name: Signal.like(use[name], name=f"{name}_3", reset_less=name != "walking") for name in names}
        promised_3, promised = Signal(32, reset_less=True), Signal(32, reset_less=True)
        m.d.sync += [signal.eq(use[name]) for name, signal in now.items()]
        m.d.sync += [
            beats.eq(command.mask_beats + ((content[:16] + ((1 << shift) - 1)) >> shift)),
            promised_3.eq(content),
        ]
        every, before, chosen = (Signal(32, name=name, reset_less=True) for name in ("every", "before", "chosen"))
        ended = Signal()
        m.d.sync += ended.eq(now["walking"] & now["ends"])
        m.d.sync += self.total_segment.eq(now["segment"])
        with m.If(now["walking"]):
            with m.If(now["is_total"]):
                m.d.sync += [promised.eq(promised_3), every.eq(0), before.eq(0), chosen.eq(0)]
            for number, flag in ((every, "is_record"), (before, "is_before"), (chosen, "is_chosen")):
                with m.If(now[flag]):
                    m.d.sync += number.eq(number + beats)
        m.d.comb += [
            self.total_we.eq(ended),
            self.total_value.eq(chosen),
            self.offset_value.eq(before),
        ]
        contradicts = Signal()
        with m.If(self.slot_start):
            m.d.sync += contradicts.eq(0)
        with m.Elif(ended & ((every != promised) | every[RUN_BITS:].any())):
            m.d.sync += contradicts.eq(1)
        return contradicts
