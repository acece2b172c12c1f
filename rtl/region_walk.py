"""Walk over a region that is drained: record after record, then the header, word after word.

What the two drainers of new blocks have in common. Which beats a record has, and what the header says, is theirs.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config
from rtl.command import COMMAND
from rtl.record_fetch import RecordFetch
from rtl.row import Row


def answer_latency(cfg: Config) -> int:
    """Cycles from the decision to ask, over the register of the question, to the answer of a row."""
    return 1 + Row.answered(cfg)


class RegionWalk(wiring.Component):
    """Records as `RecordFetch` finds them, each as long as its drainer takes; a pause; then the header.

    Law: the first record begins `START` + h cycles after `start`, with h = `Config.chain_rows` - 1, each other one
    behind the one before without a gap, the header `HEADER` + h cycles behind the last. A record that does not fit
    takes the place of all that follow. `done` rises with the last word of the header, or so long after the last record
    if there is none to write.

    Args:
        cfg: widths and sizes.

    Ports:
        start, command, done, error, assign_unit, assign_row, rows_info_next, rows_info: see `BlockDrainer`.
        room: a beat may be reserved. Without it nothing moves, so that the order of beats stays.
        begins: a record begins in the next cycle, that of `row`, with `value_beats`. first: it is the first one, until
        the next begins. streaming: its beats may be asked for. asks: one is; ends: the record ends in this cycle.
        used: beats asked for so far.
        header_begins: the header does, in the next cycle. word: a word of it is made, number `word_index` of all and
        `in_beat` of its beat; beat_end: the last one there. reserves: with a word, that its beat begins.
        record, read_word: see `RecordFetch`.
    """

    START = RecordFetch.READY + 1
    HEADER = 5  # the last mask group is counted, the last beat pushed

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._fetch = fetch = RecordFetch(cfg)
        of_fetch = fetch.signature.members
        names = ("assign_unit", "assign_row", "rows_info_next", "rows_info", "record", "read_word")
        self._passed = [name for name in names if name in of_fetch]
        super().__init__(
            {
                "start": In(1),
                "command": In(COMMAND),
                **{name: of_fetch[name] for name in (*self._passed, "row", "value_beats")},
                "room": In(1),
                "begins": Out(1),
                "first": Out(1),
                "streaming": Out(1),
                "asks": In(1),
                "ends": In(1),
                "used": Out(32),
                "header_begins": Out(1),
                "word": Out(1),
                "word_index": Out(range(256 * cfg.words_per_beat)),
                "in_beat": Out(range(max(2, cfg.words_per_beat))),
                "beat_end": Out(1),
                "reserves": Out(1),
                "done": Out(1, init=1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command, fetch = self._cfg, self.command, self._fetch
        settle = self.HEADER + cfg.chain_rows - 1
        m = Module()
        m.submodules.fetch = fetch
        m.d.comb += [fetch.start.eq(self.start), fetch.command.eq(command), fetch.pop.eq(self.begins)]
        for name in (*self._passed, "row", "value_beats"):
            port, inner = getattr(self, name), getattr(fetch, name)
            flows_out = fetch.signature.members[name].flow is Out
            m.d.comb += port.eq(inner) if flows_out else inner.eq(port)

        record, next_record = Signal(16), Signal(16)
        busy, failed = Signal(), Signal()  # a record is under way; the last one did not fit
        settling, header_left = Signal(range(settle - 1)), Signal(8)
        m.d.comb += [
            next_record.eq(record + 1),
            self.first.eq(record == 0),
            self.beat_end.eq(self.in_beat == cfg.words_per_beat - 1),
            self.reserves.eq(self.word & ~self.in_beat.any()),
        ]
        with m.If(self.asks):
            m.d.sync += self.used.eq(self.used + 1)
        with m.If(self.start):
            m.d.sync += [self.done.eq(0), self.error.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [record.eq(0), self.used.eq(0), busy.eq(0), failed.eq(0)]
                with m.If(self.start):
                    m.next = "STREAM"
            with m.State("STREAM"):
                m.d.comb += [
                    self.streaming.eq(busy & self.room),
                    self.begins.eq(fetch.valid & (self.ends | ~busy)),
                ]
                m.d.sync += settling.eq(settle - 2)
                with m.If(self.ends):
                    m.d.sync += [record.eq(next_record), busy.eq(0)]
                    with m.If(next_record == command.block_rows):
                        m.next = "SETTLE"
                with m.If(self.begins):
                    m.d.sync += busy.eq(1)
                    with m.If(~fetch.fits):
                        m.d.sync += failed.eq(1)
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += settling.eq(settling - 1)
                with m.If(settling == 0):
                    m.d.comb += self.header_begins.eq(1)
                    m.d.sync += [self.word_index.eq(0), self.in_beat.eq(0), header_left.eq(command.header_beats)]
                    m.next = "HEADER"
                    with m.If(failed | (command.header_beats == 0)):
                        m.next = "FLUSH"
            with m.State("HEADER"):
                m.d.comb += self.word.eq(self.room | self.in_beat.any())  # a begun beat waits for nothing
                with m.If(self.word):
                    m.d.sync += self.word_index.eq(self.word_index + 1)
                    m.d.sync += self.in_beat.eq(self.in_beat + 1)
                    with m.If(self.beat_end):
                        m.d.sync += [self.in_beat.eq(0), header_left.eq(header_left - 1)]
                        with m.If(header_left == 1):
                            m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.sync += [self.done.eq(1), self.error.eq(failed)]
                m.next = "IDLE"
        return m


def behind(m: Module, asked: Signal, cfg: Config) -> list[Signal]:
    """What was asked, so much later: a cycle before its answer, with its answer, and when that is pushed."""
    steps = [asked]
    for step in range(1, answer_latency(cfg) + 2):
        steps.append(Signal.like(asked, name=f"asked_{step}"))
        m.d.sync += steps[step].eq(steps[step - 1])
    return steps[-3:]
