"""Way of the records between memory, the coefficient unit and the lanes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from arch.vector import Word
from rtl.vector.coefficient_unit import COEFFICIENTS, record_pieces, record_width


class RecordPort(wiring.Component):
    """Reads the records of a group, or writes them.

    Law: `loading` or `storing` from cycle s on, N beats: `over` is high from s + N + L (loading) or s + N (storing) on.

    Args:
        cfg: widths.
        group: channels of a group.

    Ports:
        restart: begin with the first record. loading, storing: level. over: all are read, or handed to the queue.
        pending: one is still to be pushed. count, address: channels of the group, first beat; stable. backward: the
        lanes take the coefficients of the gradient.
        rd_*: memory, only while loading. record_*: see `CoefficientUnit`. coefficient_*: see `Lanes`.
        reserve, room, push, push_addr, push_data: see `WriteQueue`.
    """

    def __init__(self, cfg: Config, group: int) -> None:
        self._cfg, self._group, self._pieces = cfg, group, record_pieces(cfg)
        super().__init__(
            {
                "restart": In(1),
                "loading": In(1),
                "storing": In(1),
                "over": Out(1),
                "pending": Out(1),
                "count": In(range(group + 1)),
                "address": In(32),
                "backward": In(1),
                "rd_req_valid": Out(1),
                "rd_req_ready": In(1),
                "rd_req_addr": Out(32),
                "rd_resp_valid": In(1),
                "rd_resp_data": In(cfg.beat_bits),
                "record_en": Out(1),
                "record_addr": Out(range(group * self._pieces)),
                "record_in": Out(record_width(cfg)),
                "record_out": In(record_width(cfg)),
                "coefficient_en": Out(1),
                "coefficient_channel": Out(range(max(2, group))),
                "coefficient": Out(COEFFICIENTS),
                "reserve": Out(1),
                "room": In(1),
                "push": Out(1),
                "push_addr": Out(32),
                "push_data": Out(cfg.beat_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, pieces = self._cfg, self._pieces
        m = Module()
        total = Signal(range(self._group * pieces + 1))
        requested, place = Signal.like(total), Signal.like(total)
        arrives = Signal()
        m.d.comb += [
            total.eq(self.count * pieces),
            self.over.eq(place == total),
            arrives.eq(self.loading & self.rd_resp_valid),
            self.rd_req_valid.eq(self.loading & (requested != total)),
            self.rd_req_addr.eq(self.address + requested),
            self.record_en.eq(arrives),
            self.record_addr.eq(place),
            self.record_in.eq(self.rd_resp_data[: record_width(cfg)]),
            self.reserve.eq(self.storing & ~self.over & self.room),
            self.pending.eq(self.push),
            self.push_data.eq(self.record_out),
        ]
        # A piece is read in the cycle in which its place is reserved, and pushed in the next.
        m.d.sync += [self.push.eq(self.reserve), self.push_addr.eq(self.address + place)]
        with m.If(self.restart):
            m.d.sync += [requested.eq(0), place.eq(0)]
        with m.Else():
            with m.If(self.rd_req_valid & self.rd_req_ready):
                m.d.sync += requested.eq(requested + 1)
            with m.If(arrives | self.reserve):
                m.d.sync += place.eq(place + 1)

        # The three words of coefficients are taken out of the pieces of a record as they pass.
        words = record_width(cfg) // 32
        piece = Signal(range(max(2, pieces)))
        m.d.comb += piece.eq(place & (pieces - 1))
        found = []
        for n in range(3):
            word = Signal(32, name=f"word{n}", reset_less=True)
            for first, chosen in ((Word.FORWARD_AB, ~self.backward), (Word.BACKWARD_AB, self.backward)):
                with m.If(arrives & chosen & (piece == (first + n) // words)):
                    m.d.sync += word.eq(self.rd_resp_data.word_select((first + n) % words, 32))
            found.append(word)
        m.d.sync += [
            self.coefficient_en.eq(arrives & (piece == pieces - 1)),
            self.coefficient_channel.eq(place >> log2_exact(pieces, "pieces")),
        ]
        m.d.comb += self.coefficient.as_value().eq(Cat(found[0], found[1], found[2][:16]))
        return m
