"""CSB encoder of a row: turns kept weights into records, in the update buffer, ready to be drained.

Weights are updated in stored order, so new masks, values and counts simply append: no sorting, no
pointers. A row encodes its own records alone, in one bank, while the other one is drained.

Unused lanes must read as zero, and no register collects a line: the first word (value) of a line
writes the whole line, zeros beside it, and each later one writes its own lane. A line of values is a
beat; one of masks is a mask group, as many words as the lane tally takes at once, so that no row
chooses between masks and values over the width of a beat.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from arch.command import FIELDS
from arch.config import Config, log2_exact
from rtl.lane_tally import words_per_cycle
from rtl.ram import ram
from rtl.weight_update import word_count_bits


def record_info(cfg: Config) -> data.StructLayout:
    """What the drainer is told of a record: nnz, its visits in the next update, its words without any then."""
    words = (1 << FIELDS["words"].bits) - 1
    bits = (words * cfg.mask_bits).bit_length()
    return data.StructLayout({"nnz": bits, "visits": bits, "empty": words.bit_length()})


#: What masks and counts are made of.
_OF_WORDS = ("start", "keep", "bit", "word_last", "record_last", "next_explored", "next_count")


class _Appender:
    """Lane-granular appending to one bank of a memory: pointer, room, write.

    Args:
        m: module that gets the memory.
        name: of the memory.
        beats: room of a bank.
        lines: of a beat.
        lanes: of a line.
        lane_bits: width of a lane.
        start: back to the first lane.
        bank: bank written.
        push, word: into the next lane, in the same cycle.
        close: the next word begins a beat.
    """

    def __init__(
        self,
        m: Module,
        name: str,
        beats: int,
        lines: int,
        lanes: int,
        lane_bits: int,
        *,
        start: Value,
        bank: Value,
        push: Value,
        word: Value,
        close: Value,
    ) -> None:
        m.submodules[name] = memory = ram(lanes * lane_bits, 2 * beats * lines)
        write = memory.write_port(granularity=lane_bits)
        self.read = memory.read_port()
        self.full = Signal(name=f"{name}_full")
        part_bits, inner_bits = log2_exact(lanes, name), log2_exact(lanes * lines, name)
        place = Signal(range(2 * beats * lines * lanes), name=f"{name}_place")  # its top bit: beyond the bank
        lane = Signal(range(max(2, lanes)), name=f"{name}_lane")
        begun, first = Signal(name=f"{name}_begun"), Signal(name=f"{name}_first")
        taken, ends = Signal(name=f"{name}_taken"), Signal(name=f"{name}_ends")
        beside = Signal(lane_bits, name=f"{name}_beside")
        m.d.comb += [
            self.full.eq(place[-1]),
            taken.eq(push & ~self.full),
            begun.eq(place[:inner_bits].any() if inner_bits else 0),
            ends.eq(close & (taken | begun)),
            lane.eq(place[:part_bits]),
            first.eq(lane == 0),
            beside.eq(Mux(first, 0, word)),
            write.en.eq(Cat(taken & (first | (lane == i)) for i in range(lanes))),
            write.addr.eq(Cat(place[part_bits:-1], bank)),
            write.data.eq(Cat(word, *[beside] * (lanes - 1))),
        ]
        m.d.sync += place.eq((Mux(start, 0, place) | Mux(ends, lanes * lines - 1, 0)) + (taken | ends))


class CsbEncoder(wiring.Component):
    """Update buffer of a row: records of the working set in compute are written, the last one's are read.

    A record is its masks, its values from a fresh beat on, and its info: nnz, the sum over its words of n (n =
    next_explored ? next_count : kept), and how many of its words have n = 0. It has ceil(words / masks_per_beat) beats
    of masks, so a command's mask_beats must be exactly that. A mask group is `lane_tally.words_per_cycle` words; lanes
    without a word are zero in the groups that hold some.

    Latency: an input in cycle t can be drained from cycle t + `latency(cfg)` on (drain_start or a drain_*next in that
    cycle). One input a cycle, no stall. Drain: info comes one cycle after drain_info_next, `drain_data` one after
    drain_next, `drain_mask` one after drain_mask_next, each stays until the next. The three are read independently.

    Args:
        cfg: widths and depths.

    Ports:
        start: a working set begins: empty the bank, clear error. Nothing else comes in that cycle.
        bank: bank written; the drain reads the other one.
        keep, candidate, bit, word_last, record_last, next_explored, next_count: of `WeightUpdate`. record_last acts
        with word_last only.
        error: mask words or values did not fit, `latency(cfg)` - 1 cycles later; stays until start, as late. What did
        not fit is dropped, what came before is kept.
        drain_start: back to the first record. drain_next: read a beat of values. drain_mask_next: read a mask group;
        drain_mask_last: it is the last one of its record, the rest of the beat is passed over. drain_info_next: read
        the info of a record.
        drain_nnz, drain_visits, drain_empty: info. drain_data, drain_mask: what was read.
    """

    @staticmethod
    def latency(cfg: Config) -> int:
        """Cycles from an input until it can be drained: 2, with `copies` one more."""
        return 3 if cfg.copies else 2

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        info = record_info(cfg).members
        super().__init__(
            {
                "start": In(1),
                "bank": In(1),
                "keep": In(1),
                "candidate": In(signed(cfg.delta_bits)),
                "bit": In(max(1, log2_exact(cfg.mask_bits, "mask_bits"))),
                "word_last": In(1),
                "record_last": In(1),
                "next_explored": In(1),
                "next_count": In(word_count_bits(cfg)),
                "error": Out(1),
                "drain_start": In(1),
                "drain_next": In(1),
                "drain_mask_next": In(1),
                "drain_mask_last": In(1),
                "drain_info_next": In(1),
                "drain_data": Out(cfg.beat_bits),
                "drain_mask": Out(words_per_cycle(cfg) * cfg.mask_bits),
                **{f"drain_{name}": Out(info[name]) for name in info},
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        errors: list[Signal] = []
        values = _Appender(
            m,
            "values",
            cfg.value_beats,
            1,
            cfg.values_per_beat,
            cfg.delta_bits,
            start=self.start,
            bank=self.bank,
            close=self.word_last & self.record_last,
            push=self.keep,
            word=self.candidate,
        )

        # Masks and counts have more wires to the drain than to the row: on an FPGA they are near the one or the other.
        given: dict[str, Value] = {name: getattr(self, name) for name in _OF_WORDS}
        for name, port in given.items():
            if cfg.copies:
                given[name] = Signal.like(port, name=f"{name}_1", reset_less=name not in ("start", "keep", "word_last"))
                m.d.sync += given[name].eq(port)
        start, keep, word_end = given["start"], given["keep"], given["word_last"]
        record_end = Signal()
        m.d.comb += record_end.eq(word_end & given["record_last"])

        # What the current word has gathered so far.
        word_kept, word_kept_now = Signal(word_count_bits(cfg)), Signal(word_count_bits(cfg))
        mask, mask_now = Signal(cfg.mask_bits), Signal(cfg.mask_bits)
        visits = Signal(word_count_bits(cfg))  # of this word in the next update
        m.d.comb += [
            word_kept_now.eq(word_kept + keep),
            mask_now.eq(mask | (keep << given["bit"])),
            visits.eq(Mux(given["next_explored"], given["next_count"], word_kept_now)),
        ]
        m.d.sync += [word_kept.eq(word_kept_now), mask.eq(mask_now)]
        with m.If(word_end | start):
            m.d.sync += [word_kept.eq(0), mask.eq(0)]

        group = words_per_cycle(cfg)
        groups = cfg.masks_per_beat // group
        masks = _Appender(
            m,
            "masks",
            cfg.mask_beats,
            groups,
            group,
            cfg.mask_bits,
            start=start,
            bank=self.bank,
            close=record_end,
            push=word_end,
            word=mask_now,
        )
        too_many = {"values": (self.start, self.keep & values.full), "masks": (start, word_end & masks.full)}
        for name, (begins, full) in too_many.items():
            error = Signal(name=f"{name}_error")
            m.d.sync += error.eq(~begins & (error | full))
            errors.append(error)
        m.d.comb += self.error.eq(Cat(*errors).any())

        # Info is summed up in the registers from which it is written, one cycle after the record's end. A record has a
        # beat of masks at least, so there is room for the info of each whose masks fit.
        info = Signal(record_info(cfg))
        ended = Signal()
        m.submodules.infos = infos = ram(info.shape().size, 2 * cfg.mask_beats)
        write, read = infos.write_port(), infos.read_port()
        number = Signal(range(cfg.mask_beats))
        m.d.comb += [write.en.eq(ended), write.addr.eq(Cat(number, self.bank)), write.data.eq(info.as_value())]
        m.d.sync += [
            ended.eq(record_end & ~masks.full),
            number.eq(Mux(start, 0, number + ended)),
        ]
        fresh = Signal()
        m.d.comb += fresh.eq(ended | start)
        terms = {"nnz": keep, "visits": Mux(word_end, visits, 0), "empty": word_end & ~visits.any()}
        for name, term in terms.items():
            m.d.sync += info[name].eq(Mux(fresh, 0, info[name]) + term)

        # Drain: the other bank, from pointers that only move on.
        other = Signal()
        record = Signal(range(cfg.mask_beats))
        beat, place = Signal(range(cfg.value_beats)), Signal(range(cfg.mask_beats * groups))
        passes = Signal()
        m.d.comb += [
            other.eq(~self.bank),
            passes.eq(self.drain_mask_next & self.drain_mask_last),
            read.en.eq(self.drain_info_next),
            read.addr.eq(Cat(record, other)),
            *(getattr(self, f"drain_{name}").eq(data.View(info.shape(), read.data)[name]) for name in terms),
            values.read.en.eq(self.drain_next),
            values.read.addr.eq(Cat(beat, other)),
            self.drain_data.eq(values.read.data),
            masks.read.en.eq(self.drain_mask_next),
            masks.read.addr.eq(Cat(place, other)),
            self.drain_mask.eq(masks.read.data),
        ]
        m.d.sync += [
            record.eq(Mux(self.drain_start, 0, record + self.drain_info_next)),
            beat.eq(Mux(self.drain_start, 0, beat + self.drain_next)),
            place.eq(Mux(self.drain_start, 0, (place | Mux(passes, groups - 1, 0)) + self.drain_mask_next)),
        ]
        return m
