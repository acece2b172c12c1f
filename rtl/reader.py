"""Reader: everything the machine reads, through one port, in a fixed order, without an arbiter.

In a slot up to five things are read: the next command, the region headers of the planned working set,
and for the one being loaded its gathered operand, its auxiliary operand (stationary operand or ReLU
gate) and its weights. Each is a list of *runs* of consecutive beats. One `ListWalker` walks the lists to
make requests, a second one walks the same lists to say what a response is; nothing is tagged.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.command import WORDS, Phase
from arch.config import MAX_SEGMENTS, Config, log2_exact
from rtl.command import COMMAND
from rtl.list_walker import KINDS, RUN_BITS, Kind, ListWalker
from rtl.ram import styled

SEGMENT_BITS = log2_exact(MAX_SEGMENTS, "MAX_SEGMENTS")
"""Width of a segment number."""

BANK_BITS = 2
"""Width of the number of a bank of totals (a plan), of an assignment bank, and of a gate bank."""


def fetch_beats(cfg: Config) -> int:
    """Beats of a command in memory."""
    return -(-32 * WORDS // cfg.beat_bits)


def aux_interval(cfg: Config) -> int:
    """Cycles from request to request of the stationary operand: a beat is written in so many pieces."""
    return cfg.bus_elements // cfg.stationary_pack


class Reader(wiring.Component):
    """The read port of the machine.

    Law, from the cycle s of `slot_start`, L the memory's latency (request in t, response in t + L), memory always
    ready, lists as in `Kind`, n_r the beats of run r, tau = 1, but `aux_interval(cfg)` for AUX in WU:

        T_FETCH = s + FIRST,  T_{k+1} = T_k + cost_k
        cost_k = 1 when k is inactive or has no runs, else sum over its runs of (SETUP + n_r * tau_k)
        request of beat i of run r of kind k:  T_k + sum_{r'<r} (SETUP + n_r' * tau_k) + SETUP + i * tau_k
        response: request + L, presented on `out_*` in that same cycle

    The response side passes inactive kinds and empty runs at one a cycle, at the latest L cycles behind the request
    side. `kind_done[k]` rises at P_{k+1}, where P_FETCH = s + FIRST and, r running over the runs of kind k,

        p = P_k; for each run: p = last response of the run + 1 if n_r > 0, else p + 1;  P_{k+1} = p
        (P_{k+1} = P_k + 1 when k is inactive or has no runs)

    and `done` = all kinds done, from P_5 on; an idle slot is done at s + FIRST + 5. When `done` rises, the request
    side may still owe the pause behind the last stationary beat (at most `aux_interval` cycles); the next slot_start
    must wait for it, as it does behind the loader's SETTLE.

    Runs. FETCH: one of `fetch_beats(cfg)` at program_addr + fetch_index * fetch_beats. PLAN: `segments` of header_beats
    at w_addr + g * w_stride. X, AUX: x_runs of x_run at x_addr + (r / x_cols) * x_pitch + (r mod x_cols) * x_stride,
    likewise aux: rows of x_cols runs; the last row may be shorter. W: load_segments runs, run q of total[bank, segment
    + q] beats at w_addr + (segment + q) * w_stride + header_beats + offset[bank, segment + q].

    Args:
        cfg: widths.

    Ports:
        slot_start: pulse. All `*_active`, commands and `load_bank` are stable from the cycle after it to the
        end of the slot; `plan_ok` from two cycles after it.
        fetch_active, program_addr, fetch_index: what to fetch.
        plan_active, plan_command, plan_ok: PLAN is read iff plan_active, plan_command.plan and plan_ok (the
        planner's word that the headers fit).
        load_active, load_command, load_bank: X, AUX and W are read iff load_active and load_x, load_aux (not of a
        NOP) or load_w; load_bank: bank of totals.
        total_we, total_bank, total_segment, total_value, offset_value: table of beats to load of a region, and of
        those to skip before them, written by the planner.
        rd_req_*, rd_resp_*: memory port, beat addresses.
        hold: no response is accepted in this cycle (from the loader).
        out_valid, out_kind, out_run, out_index, out_last, out_data: a response, taken in this cycle. `out_last` marks
        the last beat of a run, `out_index` counts within it.
        kind_done: one bit a kind, level, 0 from the cycle after slot_start until that kind is over.
        req_kind: kind the request side is at (trace). done: level.
    """

    FIRST = 1
    SETUP = 1

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "slot_start": In(1),
                "fetch_active": In(1),
                "program_addr": In(32),
                "fetch_index": In(32),
                "plan_active": In(1),
                "plan_command": In(COMMAND),
                "plan_ok": In(1),
                "load_active": In(1),
                "load_command": In(COMMAND),
                "load_bank": In(BANK_BITS),
                "total_we": In(1),
                "total_bank": In(BANK_BITS),
                "total_segment": In(SEGMENT_BITS),
                "total_value": In(RUN_BITS),
                "offset_value": In(RUN_BITS),
                "rd_req_valid": Out(1),
                "rd_req_ready": In(1),
                "rd_req_addr": Out(32),
                "rd_resp_valid": In(1),
                "rd_resp_ready": Out(1),
                "rd_resp_data": In(cfg.beat_bits),
                "hold": In(1),
                "out_valid": Out(1),
                "out_kind": Out(range(KINDS + 1)),
                "out_run": Out(RUN_BITS),
                "out_index": Out(RUN_BITS),
                "out_last": Out(1),
                "out_data": Out(cfg.beat_bits),
                "kind_done": Out(KINDS),
                "req_kind": Out(range(KINDS + 1)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        m.submodules.requests = requests = ListWalker()
        m.submodules.responses = responses = ListWalker()
        depth = 1 << (BANK_BITS + SEGMENT_BITS)
        # Beats of a region but one; whether there are any; and those before them. The latter two are asked first, or
        # added to, so apart: a RAM block answers late, a memory as narrow as `somes` is none in any case.
        m.submodules.totals = totals = Memory(shape=RUN_BITS, depth=depth, init=[])
        m.submodules.somes = somes = Memory(shape=1, depth=depth, init=[])
        attrs = styled("distributed" if cfg.copies else None)
        m.submodules.offsets = offsets = Memory(shape=RUN_BITS, depth=depth, init=[], attrs=attrs)
        plan, load = self.plan_command, self.load_command

        # -- the five lists, the same for both walkers -----------------------------------------
        stationary = Signal()
        m.d.comb += stationary.eq(load.phase == Phase.WU)
        written = {totals: self.total_value - 1, somes: self.total_value.any(), offsets: self.offset_value}
        for memory, value in written.items():
            write = memory.write_port()
            m.d.comb += [
                write.en.eq(self.total_we),
                write.addr.eq((self.total_bank << SEGMENT_BITS) | self.total_segment),
                write.data.eq(value),
            ]
        # Whether a kind has runs is found before the walk comes to it, to PLAN in the second cycle of a slot.
        wanted = {
            Kind.PLAN: self.plan_active & plan.plan & plan.segments.any(),
            Kind.X: self.load_active & load.load_x & load.x_runs.any(),
            Kind.AUX: self.load_active & load.load_aux & (load.phase != Phase.NOP) & load.aux_runs.any(),
            Kind.W: self.load_active & load.load_w & load.load_segments.any(),
        }
        active = Signal(KINDS)
        m.d.comb += active[Kind.FETCH].eq(self.fetch_active)
        for kind, condition in wanted.items():
            has_runs = Signal(name=f"has_runs_{kind.name.lower()}")
            m.d.sync += has_runs.eq(condition)
            m.d.comb += active[kind].eq(has_runs & self.plan_ok if kind == Kind.PLAN else has_runs)
        lengths = {
            Kind.FETCH: Const(fetch_beats(cfg)),
            Kind.PLAN: plan.header_beats,
            Kind.X: load.x_run,
            Kind.AUX: load.aux_run,
        }
        some, rest = Signal(len(lengths)), Signal(ArrayLayout(RUN_BITS, len(lengths)))
        m.d.comb += some.eq(Cat(length.any() for length in lengths.values()))
        m.d.comb += [rest[kind].eq(length - 1) for kind, length in lengths.items()]
        skip = Signal(RUN_BITS)
        for walker in (requests, responses):
            read, read_some = totals.read_port(), somes.read_port()
            asked = [read, read_some]
            if walker is requests:
                read_offset = offsets.read_port()
                asked.append(read_offset)
                m.d.comb += skip.eq(Mux(walker.kind == Kind.W, read_offset.data, 0))
            segment = Signal(SEGMENT_BITS)
            m.d.comb += [
                walker.start.eq(self.slot_start),
                walker.active.eq(active),
                walker.runs[Kind.FETCH].eq(1),
                walker.runs[Kind.PLAN].eq(plan.segments),
                walker.runs[Kind.X].eq(load.x_runs),
                walker.runs[Kind.AUX].eq(load.aux_runs),
                walker.runs[Kind.W].eq(load.load_segments),
                *(walker.rest[kind].eq(rest[kind]) for kind in lengths),
                walker.rest[Kind.W].eq(read.data),
                walker.some.eq(Cat(some, read_some.data)),
                segment.eq(load.segment + walker.peek),
            ]
            for port in asked:
                m.d.comb += [port.addr.eq((self.load_bank << SEGMENT_BITS) | segment), port.en.eq(1)]

        # -- requests --------------------------------------------------------------------------
        # Where the weights start takes three levels of adders; they have four cycles before W can begin.
        terms = [Mux(load.segment[bit], load.w_stride << bit, 0) for bit in range(SEGMENT_BITS)]
        bases = [*terms, load.w_addr, load.header_beats]
        for level in range(3):
            sums = [Signal(32, name=f"w_base_{level}_{i}", reset_less=True) for i in range(-(-len(bases) // 2))]
            m.d.sync += [whole.eq(sum(bases[2 * i : 2 * i + 2])) for i, whole in enumerate(sums)]
            bases = sums
        (weights,) = bases
        start, stride = Signal(32), Signal(32)
        with m.Switch(requests.kind):
            with m.Case(Kind.FETCH):
                shift = log2_exact(fetch_beats(cfg), "beats of a command")
                m.d.comb += start.eq(self.program_addr + (self.fetch_index << shift))
            with m.Case(Kind.PLAN):
                m.d.comb += [start.eq(plan.w_addr), stride.eq(plan.w_stride)]
            with m.Case(Kind.X):
                m.d.comb += [start.eq(load.x_addr), stride.eq(load.x_stride)]
            with m.Case(Kind.AUX):
                m.d.comb += [start.eq(load.aux_addr), stride.eq(load.aux_stride)]
            with m.Default():
                m.d.comb += [start.eq(weights), stride.eq(load.w_stride)]
        # The run after this one begins a stride from it, or a pitch from where its row began.
        tile = Signal()
        cols, left, left_now = Signal(16), Signal(16), Signal(16)
        pitch = Signal(32)
        with m.Switch(requests.kind if cfg.maps else KINDS):  # without maps there is one row
            with m.Case(Kind.X):
                m.d.comb += [tile.eq(1), cols.eq(load.x_cols), pitch.eq(load.x_pitch)]
            with m.Case(Kind.AUX):
                m.d.comb += [tile.eq(1), cols.eq(load.aux_cols), pitch.eq(load.aux_pitch)]
        run_start = Signal(32)
        row_start, next_start, address = (
            Signal(32, name=name, reset_less=True) for name in ("row_start", "next_start", "address")
        )
        first, row_begins, row_ends = Signal(), Signal(), Signal()
        row_begins_next = Signal()
        m.d.comb += [
            first.eq(requests.run == 0),
            run_start.eq(Mux(first, start, next_start)),
            left_now.eq(Mux(first | row_begins_next, cols, left)),
            row_begins.eq(first | row_begins_next),
            row_ends.eq(tile & (left_now == 1)),
        ]

        interval = aux_interval(cfg)
        gap = Signal(range(max(2, interval)))  # idle cycles still owed after a request
        slow, accepted = Signal(), Signal()
        m.d.comb += [
            slow.eq((requests.kind == Kind.AUX) & stationary & (interval > 1)),
            self.rd_req_valid.eq(requests.beats & (gap == 0)),
            self.rd_req_addr.eq(address),
            accepted.eq(self.rd_req_valid & self.rd_req_ready),
            requests.advance.eq(Mux(slow, gap == 1, accepted)),
            self.req_kind.eq(requests.kind),
        ]
        with m.If(requests.setup):
            m.d.sync += [
                address.eq(run_start + skip),
                next_start.eq(Mux(row_ends & ~row_begins, row_start, run_start) + Mux(row_ends, pitch, stride)),
                left.eq(left_now - 1),
                row_begins_next.eq(row_ends),
            ]
            with m.If(row_begins):
                m.d.sync += row_start.eq(run_start)
        with m.If(accepted):
            m.d.sync += address.eq(address + 1)
            with m.If(slow):
                m.d.sync += gap.eq(interval - 1)
        with m.Elif(gap.any()):
            m.d.sync += gap.eq(gap - 1)

        # -- responses -------------------------------------------------------------------------
        m.d.comb += [
            self.rd_resp_ready.eq(responses.beats & ~self.hold),
            self.out_valid.eq(self.rd_resp_valid & self.rd_resp_ready),
            responses.advance.eq(self.out_valid),
            self.out_kind.eq(responses.kind),
            self.out_run.eq(responses.run),
            self.out_index.eq(responses.index),
            self.out_last.eq(responses.last),
            self.out_data.eq(self.rd_resp_data),
            self.done.eq(responses.done),
        ]
        m.d.comb += [self.kind_done[k].eq(responses.kind > k) for k in range(KINDS)]
        return m
