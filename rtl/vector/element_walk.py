"""Walk of AFFINE and REDUCE: operands side by side, element by element."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.vector import Op
from rtl.vector.command import VECTOR_COMMAND
from rtl.vector.terms import LANE_STEP, TERM, Right, assemble


class ElementWalk(wiring.Component):
    """Beats of one to three operands, in the order gate, a, b.

    AFFINE goes through sub-batches, positions, beats, so that results are written in the order of memory; REDUCE
    through beats, sub-batches, positions, so that a sum is complete before the next begins.
    Law: `start` in cycle s, the first term is valid in s + 1, then one in every cycle with `ready`.

    Ports:
        start: pulse. command, first_beat, beats: stable until the last term: which beats of every position.
        valid, ready, term: the walk.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "command": In(VECTOR_COMMAND),
                "first_beat": In(16),
                "beats": In(16),
                "valid": Out(1),
                "ready": In(1),
                "term": Out(TERM),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        command = self.command
        beat, position, batch = Signal(16), Signal(16), Signal(16)
        gate_now, b_now = Signal(), Signal()  # neither: operand a
        reduce, second, gated = Signal(), Signal(), Signal()
        m.d.comb += [
            reduce.eq(command.op == Op.REDUCE),
            second.eq(Mux(reduce, command.backward, command.has_b)),
            gated.eq(command.gate != 0),
        ]
        set_end, beat_last, position_last, batch_last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            set_end.eq(b_now | (~gate_now & ~second)),
            beat_last.eq(beat + 1 == self.beats),
            position_last.eq(position + 1 == command.positions),
            batch_last.eq(batch + 1 == command.batches),
        ]
        # What moves with the last term of a set: the three counters, in one of two orders.
        beat_moves, position_moves, batch_moves, go, end = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            go.eq(self.valid & self.ready),
            beat_moves.eq(~reduce | (position_last & batch_last)),
            position_moves.eq(reduce | beat_last),
            batch_moves.eq(position_moves & position_last),
            end.eq(set_end & beat_last & position_last & batch_last),
        ]
        with m.If(self.start):
            m.d.sync += [self.valid.eq(1), beat.eq(0), position.eq(0), batch.eq(0), gate_now.eq(gated), b_now.eq(0)]
        with m.Elif(go):
            m.d.sync += [gate_now.eq(set_end & gated), b_now.eq(~set_end & ~gate_now)]
            with m.If(end):
                m.d.sync += self.valid.eq(0)
            with m.If(set_end):
                with m.If(beat_moves):
                    m.d.sync += beat.eq(Mux(beat_last, 0, beat + 1))
                with m.If(position_moves):
                    m.d.sync += position.eq(Mux(position_last, 0, position + 1))
                with m.If(batch_moves):
                    m.d.sync += batch.eq(Mux(batch_last, 0, batch + 1))

        places = {}
        for name in ("a", "b", "gate", "out"):
            addr, stride, per_batch = (command[f"{name}_{what}"] for what in ("addr", "stride", "batch"))
            base, of_batch, of_position = (Signal(32, name=f"{name}_{what}") for what in ("base", "batch", "position"))
            next_batch = Signal(32, name=f"{name}_next_batch")
            m.d.comb += [
                base.eq(addr + self.first_beat),
                next_batch.eq(Mux(batch_last, base, of_batch + per_batch)),
            ]
            with m.If(self.start):
                m.d.sync += [of_batch.eq(base), of_position.eq(base)]
            with m.Elif(go & set_end):
                with m.If(batch_moves):
                    m.d.sync += [of_batch.eq(next_batch), of_position.eq(next_batch)]
                with m.Elif(position_moves):
                    m.d.sync += of_position.eq(of_position + stride)
            places[name] = of_position

        addr, out_addr = Signal(32), Signal(32)
        right, masked = Signal(2), Signal()
        first_set = Signal()
        m.d.comb += [
            addr.eq(Mux(gate_now, places["gate"], Mux(b_now, places["b"], places["a"])) + beat),
            out_addr.eq(places["out"] + beat),
            right.eq(Mux(reduce, Right.ELEMENT, Mux(b_now, Right.B, Right.A))),
            masked.eq(gated & ~gate_now & ~b_now & (reduce | ~command.gate_result)),
            first_set.eq((position == 0) & (batch == 0)),
        ]
        step = assemble(
            LANE_STEP,
            gate=gate_now,
            masked=masked,
            hold=reduce & second & ~gate_now & ~b_now,
            left_held=reduce & b_now,
            right=right,
            adds=~reduce & ~gate_now,
            first=~b_now,
            last=~reduce & set_end,
            reduces=reduce & set_end,
            reduce_first=first_set,
            reduce_last=position_last & batch_last,
        )
        m.d.comb += self.term.as_value().eq(
            assemble(TERM, addr=addr, out_addr=out_addr, beat=beat, last_batch=batch_last, end=end, step=step)
        )
        return m
