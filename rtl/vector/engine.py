"""Vector engine: the vector stage in the place of the drain stage, when the command there is a vector command.

Of a vector command the pipeline carries no more than that it is one: 64 words through four stages would be 8,000
flip-flops. The engine waits until the reader has done its lists of the slot, takes the read port, fetches the command
again, and lets the stage run.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.vector import MAGIC
from rtl.command import COMMAND
from rtl.reader import fetch_beats
from rtl.vector.stage import VectorStage


class VectorEngine(wiring.Component):
    """Engine of the drain stage for vector commands.

    Law, from the cycle s of `slot_start`, with a memory that answers after L cycles and takes everything; the reader
    is done from cycle s + r on and a command has b beats:

        not a vector command: done from s + 1
        first beat of the command requested in s + r + 1, stage started in s + r + b + L + 1 = t
        done from t + golden.vector.law.cycles(...) + END

    Args:
        cfg: widths; `vector_elements` and `vector_group` are the stage's.

    Ports:
        slot_start, active, command, done: as for every engine of a slot. program_addr, index: where the command lies.
        reader_done: of the reader, low from the cycle after slot_start until its lists are over.
        owns: the memory's ports are the engine's (level).
        error, exponent_*, learning, rd_*, wr_*, saturated, peak_*, loss, right: see `VectorStage`.
    """

    END = 1

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._stage = VectorStage(cfg, cfg.vector_elements, cfg.vector_group)
        self._passed = {
            name: member
            for name, member in self._stage.signature.members.items()
            if name not in ("start", "command", "done", "rd_req_valid", "rd_req_addr", "rd_resp_ready")
        }
        super().__init__(
            {
                "slot_start": In(1),
                "active": In(1),
                "command": In(COMMAND),
                "program_addr": In(32),
                "index": In(32),
                "reader_done": In(1),
                "done": Out(1),
                "owns": Out(1),
                "rd_req_valid": Out(1),
                "rd_req_addr": Out(32),
                "rd_resp_ready": Out(1),
                **self._passed,
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, beats = self._cfg, fetch_beats(self._cfg)
        m = Module()
        m.submodules.stage = stage = self._stage
        for name, member in self._passed.items():
            outer, inner = getattr(self, name), getattr(stage, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)

        words = [Signal(cfg.beat_bits, name=f"words_{n}", reset_less=True) for n in range(beats)]
        asked, taken = Signal(range(beats + 1)), Signal(range(beats + 1))
        begins, fetching = Signal(), Signal()
        shift = log2_exact(beats, "beats of a command")
        m.d.comb += [
            begins.eq(self.slot_start & self.active & (self.command.magic == MAGIC)),
            stage.command.eq(Cat(*words)),
            self.rd_req_valid.eq((fetching & (asked != beats)) | stage.rd_req_valid),
            self.rd_req_addr.eq(Mux(fetching, self.program_addr + (self.index << shift) + asked, stage.rd_req_addr)),
            self.rd_resp_ready.eq(fetching | stage.rd_resp_ready),
            stage.rd_req_ready.eq(self.rd_req_ready & ~fetching),
            stage.rd_resp_valid.eq(self.rd_resp_valid & ~fetching),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.done.eq(1)
                m.d.sync += [asked.eq(0), taken.eq(0)]
                with m.If(begins):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(self.reader_done):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [fetching.eq(1), self.owns.eq(1)]
                m.d.sync += asked.eq(asked + (self.rd_req_valid & self.rd_req_ready))
                with m.If(self.rd_resp_valid):
                    m.d.sync += taken.eq(taken + 1)
                    with m.Switch(taken):
                        for n, word in enumerate(words):
                            with m.Case(n):
                                m.d.sync += word.eq(self.rd_resp_data)
                    with m.If(taken == beats - 1):
                        m.next = "START"
            with m.State("START"):
                m.d.comb += [stage.start.eq(1), self.owns.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.owns.eq(1)
                with m.If(stage.done):
                    m.next = "IDLE"
        return m
