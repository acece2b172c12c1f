"""List walker: where the walk over the runs of the five kinds is, which are what a slot reads.

It knows no addresses and no data: the reader walks the same lists twice, once to make requests, once to say what a
response is, so that nothing needs to be tagged.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

RUN_BITS = 16
"""Width of a number of runs, of the beats of a run, and of a region's total of record beats."""


class Kind(IntEnum):
    """What is read, in the order in which it is read."""

    FETCH = 0
    PLAN = 1
    X = 2
    AUX = 3
    W = 4


KINDS = len(Kind)


class ListWalker(wiring.Component):
    """Walks the runs of the five kinds: setup cycle, beats, setup cycle, beats, ...

    From the cycle after `start` on: a kind that is not active costs one cycle; an active one costs per run one cycle
    (`setup`) and then stays in `beats` until `advance` has been high once for each beat of the run. A run of length
    zero is its setup cycle only. `kind` is `KINDS` when all is done.

    Ports:
        start: begin; only when done. advance: a beat is dealt with (only in `beats`).
        active: one bit a kind, high only if it has runs. runs: of a kind, constant during it. some, rest: whether its
        next run has any beats, and how many behind the first, sampled in setup cycles. peek: index of the W run of
        which both must be there in the next cycle (one cycle ahead, so that they can come from a memory).
        kind, run, index: where the walk is; beat `index` of run `run`. setup: setup cycle of an active
        kind's run (also of an empty one). beats: inside a run. last: this beat is the last of its run.
        last_run: this run is the last of its kind. done: nothing left.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "advance": In(1),
                "active": In(KINDS),
                "runs": In(ArrayLayout(RUN_BITS, KINDS)),
                "rest": In(ArrayLayout(RUN_BITS, KINDS)),
                "some": In(KINDS),
                "peek": Out(RUN_BITS),
                "kind": Out(range(KINDS + 1), init=KINDS),
                "run": Out(RUN_BITS),
                "index": Out(RUN_BITS),
                "setup": Out(1),
                "beats": Out(1),
                "last": Out(1),
                "last_run": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        runs, rest = Signal(RUN_BITS), Signal(RUN_BITS)
        idle_kind, some = Signal(), Signal()  # of the kind, and of its run: each found before the kind chooses
        left = Signal(RUN_BITS)  # beats of the run after this one
        m.d.comb += [
            self.done.eq(self.kind == KINDS),
            runs.eq(Array(self.runs[k] for k in range(KINDS))[self.kind]),
            some.eq(Array(self.some[k] for k in range(KINDS))[self.kind]),
            rest.eq(Array(self.rest[k] for k in range(KINDS))[self.kind]),
            idle_kind.eq(~Array(self.active[k] for k in range(KINDS))[self.kind] | self.done),
            self.setup.eq(~self.done & ~self.beats & ~idle_kind),
            self.last.eq(left == 0),
            self.last_run.eq(self.run + 1 == runs),
            # Outside W the next run of W, if any, is its first.
            self.peek.eq(Mux(self.kind == Kind.W, self.run + 1, 0)),
        ]

        next_kind, next_run = Signal(), Signal()
        with m.If(self.beats), m.If(self.advance):
            m.d.sync += [self.index.eq(self.index + 1), left.eq(left - 1)]
            with m.If(self.last):
                m.d.comb += next_run.eq(1)
        with m.Elif(~self.done):
            with m.If(idle_kind):
                m.d.comb += next_kind.eq(1)
            with m.Else():
                m.d.sync += [self.beats.eq(some), left.eq(rest), self.index.eq(0)]
                m.d.comb += next_run.eq(~some)
        with m.If(next_run):
            m.d.sync += [self.beats.eq(0), self.run.eq(self.run + 1)]
        with m.If(next_kind | (next_run & self.last_run)):
            m.d.sync += [self.kind.eq(self.kind + 1), self.run.eq(0)]
        with m.If(self.start):
            m.d.sync += [self.kind.eq(0), self.run.eq(0)]
        return m
