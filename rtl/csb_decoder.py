"""Decoder of compressed sparse blocks: mask words in, visited weights out, one a cycle without a gap.

A word comes with the bits to visit and the bits that are stored. The decoder issues the visited bits in
ascending order, each for U positions (U comes with the word), and finds the stored value of a bit by counting the
stored bits below it. A word takes max(1, n * U) cycles; the next one follows in the very next cycle. A word without
visits that may be passed over makes room for the next one while another is still under way, and then takes none.

How a gap is avoided: whether one visit is left is found while the one before it is under way, so that the end of a
word is known from flags, and the stages before the decoder all advance together when it takes a word. A word that
waits does so in the registers of the stage before.

Counting ones instead of keeping values in sequence is what lets a row walk the transpose (backward
phase) of blocks that are stored once; the mask-and-packed-values format is that of Procrustes.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact
from rtl.payload import payload
from rtl.reduction import some, total
from rtl.tap_table import position_bits
from rtl.weight_buffer import value_bits

_POPCOUNT_CHUNK = 8


def bit_bits(cfg: Config) -> int:
    """Width of the place of a bit in a mask word."""
    return log2_exact(cfg.mask_bits, "mask_bits")


class CsbDecoder(wiring.Component):
    """Words to visits.

    Latency: the first cycle of a word accepted in cycle t by an idle decoder is shown in cycle t + `LATENCY`;
    a word accepted earlier follows its predecessor without a gap. `address` comes `ADDRESS_LATENCY` cycles
    after the visit. Nothing downstream can hold the decoder up.

    Args:
        cfg: mask and value-buffer sizes.
        tag_bits: width of what travels with a word.

    Ports:
        valid, ready: input stream; a transfer happens when both are high. ready is high without valid, and with it
        may depend on what is offered: the stages before advance when it is high.
        positions: U, 0 counts as 1. visit: bits to visit. none: there is nothing to visit, whatever `visit` says; to be
        set if visit has no bits. It decides whether the stages before advance, so it should be early in its cycle.
        mask: stored bits. offset: place of the word's first value. skip: the word may be passed over if it has nothing
        to visit. tags: anything.
        issue: this cycle visits a bit at a position. scan: this cycle is the one of a word with nothing to visit.
        first, last: with issue, its first, its last position. word_last: the word's last cycle (issue or scan).
        bit, has_value: the bit, and whether it is stored. tags_out: of its word. These three keep until
        the next first or scan.
        address: place of the bit's value, `ADDRESS_LATENCY` cycles later; meaningless without has_value. It keeps
        until the next first.
    """

    LATENCY = 2
    ADDRESS_LATENCY = 3

    def __init__(self, cfg: Config, tag_bits: int) -> None:
        if tag_bits < 1:
            raise ValueError(f"tag_bits must be at least 1, not {tag_bits}")
        self._cfg, self._tag_bits = cfg, tag_bits
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "positions": In(position_bits(cfg)),
                "visit": In(cfg.mask_bits),
                "none": In(1),
                "mask": In(cfg.mask_bits),
                "offset": In(value_bits(cfg)),
                "skip": In(1),
                "tags": In(tag_bits),
                "issue": Out(1),
                "scan": Out(1),
                "first": Out(1),
                "last": Out(1),
                "word_last": Out(1),
                "bit": Out(bit_bits(cfg)),
                "has_value": Out(1),
                "tags_out": Out(tag_bits),
                "address": Out(value_bits(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()

        def register(shape: object, name: str) -> Signal:
            return Signal(Shape.cast(shape), name=name, reset_less=True)

        # What waits is kept by the stage before: it moves when this one takes its word, or passes over it.
        take = Signal()
        m.d.comb += self.ready.eq(~self.valid | take | (self.skip & self.none))

        # Walked: the visits that are left, and flags that say a cycle ahead where it ends.
        busy, empty, single = Signal(), register(1, "empty"), register(1, "single")
        first, last = register(1, "at_first"), register(1, "at_last")
        rest, mask = register(cfg.mask_bits, "rest"), register(cfg.mask_bits, "mask_0")
        offset, tags = register(value_bits(cfg), "offset_0"), register(self._tag_bits, "tags_0")
        # Positions that are left, but for one: of this visit, of any.
        more, again = register(position_bits(cfg), "more"), register(position_bits(cfg), "again")
        rest_less, following = Signal(cfg.mask_bits), Signal(cfg.mask_bits)
        following_more = Signal.like(more, name="following_more")
        positions_less = Signal.like(more, name="positions_less")
        _, two_left = some(following)
        m.d.comb += [
            positions_less.eq(Mux(self.positions == 0, 0, self.positions - 1)),
            rest_less.eq(rest - 1),
            take.eq(~busy | empty | (single & last)),
            following.eq(Mux(take, self.visit, rest & rest_less)),
            following_more.eq(Mux(take, positions_less, Mux(last, again, more - 1))),
        ]
        m.d.sync += [more.eq(following_more), first.eq(take | last), last.eq(following_more == 0)]
        with m.If(take):
            m.d.sync += [
                busy.eq(self.valid),
                empty.eq(self.none),
                mask.eq(self.mask),
                offset.eq(self.offset),
                tags.eq(self.tags),
                again.eq(positions_less),
            ]
        with m.If(take | last):
            m.d.sync += [rest.eq(following), single.eq(~two_left)]

        # Shown: the lowest bit that is left, and the stored bits below it, some of them together.
        lowest, under = Signal(cfg.mask_bits), Signal(cfg.mask_bits)
        fresh, offset_1 = Signal(), register(value_bits(cfg), "offset_1")
        parts = [
            register(range(min(_POPCOUNT_CHUNK, cfg.mask_bits) + 1), f"part_{n}")
            for n in range(-(-cfg.mask_bits // _POPCOUNT_CHUNK))
        ]
        m.d.comb += [
            lowest.eq(rest & ~rest_less),
            under.eq(~rest & rest_less & mask),
            fresh.eq(busy & (empty | first)),
        ]
        m.d.sync += [
            self.issue.eq(busy & ~empty),
            self.scan.eq(busy & empty),
            self.first.eq(busy & ~empty & first),
            self.last.eq(busy & ~empty & last),
            self.word_last.eq(busy & take),
        ]
        bit, has_value = payload(m, self.bit, "bit_1"), payload(m, self.has_value, "has_value_1")
        tags_1 = payload(m, self.tags_out, "tags_1")
        with m.If(fresh):
            m.d.sync += [
                bit.eq(
                    Cat(Cat(lowest[i] for i in range(cfg.mask_bits) if i >> n & 1).any() for n in range(bit_bits(cfg)))
                ),
                has_value.eq((lowest & mask).any()),
                tags_1.eq(tags),
                offset_1.eq(offset),
                *(part.eq(total(under.word_select(n, _POPCOUNT_CHUNK))) for n, part in enumerate(parts)),
            ]

        # Addressed, and kept until the value is wanted: an address has fewer bits than what it is made of.
        address_2, address_3 = register(value_bits(cfg), "address_2"), register(value_bits(cfg), "address_3")
        m.d.sync += [address_2.eq(offset_1 + total(parts)), address_3.eq(address_2)]
        m.d.sync += payload(m, self.address, "address_4").eq(address_3)
        return m
