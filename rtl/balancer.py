"""Load balancer: tallies the visits of each unit, then hands the units out to the rows.

Counts lie in a memory, in index order; sorting moves indices only, between the halves of a second
memory. What is handed out runs down one pipeline, one unit a cycle, whatever the policy:

    0 rank or index -> 1 index (order memory) -> 2 unit (half-tile memory) -> 3 count (count memory)
      -> 4 row and slot -> 5 assignment, load -> 6 largest load

Sorting uses the same stages 0 to 3, then the digit tables (4, 5). These are filled while the counts (or, PAIR, the
sums of half tiles) are made. LPT needs the least loaded row every
cycle. A tree of minima and an adder are too long a loop for that, so the rows wait in sorted order
(`RowQueue`): the minimum is always at the head.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.command import Policy
from arch.config import Config, log2_exact
from rtl.radix_sort import DIGITS, SWEEP, DigitTables, sort_key

COUNT_BITS = 16
FIELD_BITS = 16  # of `units` and `cap` in a command
_SORT_DRAIN = 5  # cycles from the issue of the last item until its index is written
_DEAL_DRAIN = 6  # ... until its load is known
_GATHER_DRAIN = 8  # ... until the digits of the last half tile's sum are in the tables


def load_bits(units: int) -> int:
    """Width of a row's load: the sum of `units` counts fits, whatever they are."""
    return COUNT_BITS + log2_exact(units, "units")


class RowQueue(wiring.Component):
    """Rows in order of load, least loaded first; the head takes a count and sinks to its new place.

    One step a cycle, no latency: `row` and `load` are registers. Equal loads are in order of row. A row
    told that it is `full` sinks below all others and never comes back.

    Loads are kept modulo 2**17. That is enough to compare them: a row grows only while it is the least
    loaded of the open ones, so no open row is ever more than one count (below 2**16) above another.

    Args:
        rows: number of rows, at least 2.

    Ports:
        init: every row empty and open, in order. step: the head takes `count`, and closes if `full`.
        row, load: of the head; load modulo 2**17. Meaningless once all rows are full.

    Raises:
        ValueError: fewer than 2 rows.
    """

    def __init__(self, rows: int) -> None:
        if rows < 2:
            raise ValueError(f"rows must be at least 2, not {rows}")
        self._rows = rows
        super().__init__(
            {
                "init": In(1),
                "step": In(1),
                "count": In(COUNT_BITS),
                "full": In(1),
                "row": Out(range(rows)),
                "load": Out(COUNT_BITS + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row_bits = len(self.row)
        key_bits = row_bits + COUNT_BITS + 1  # load above row: one comparison settles ties as well
        keys = [Signal(key_bits, init=r, name=f"key{r}") for r in range(self._rows)]
        closed = [Signal(name=f"closed{r}") for r in range(self._rows)]
        m.d.comb += [self.row.eq(keys[0][:row_bits]), self.load.eq(keys[0][row_bits:])]

        grown = Signal(COUNT_BITS + 1)
        moved = Signal(key_bits)
        m.d.comb += [grown.eq(self.load + self.count), moved.eq(Cat(self.row, grown))]
        before = [Signal(name=f"before{r}") for r in range(self._rows)]  # stays ahead of the head's new place
        m.d.comb += before[0].eq(1)
        for r in range(1, self._rows):
            difference = Signal(key_bits, name=f"difference{r}")
            m.d.comb += [difference.eq(keys[r] - moved), before[r].eq(~closed[r] & (self.full | difference[-1]))]

        for r in range(self._rows):
            with m.If(self.init):
                m.d.sync += [keys[r].eq(r), closed[r].eq(0)]
            with m.Elif(self.step & before[r]):
                m.d.sync += [keys[r].eq(moved), closed[r].eq(self.full)]
                if r + 1 < self._rows:
                    with m.If(before[r + 1]):
                        m.d.sync += [keys[r].eq(keys[r + 1]), closed[r].eq(closed[r + 1])]
        return m


class Balancer(wiring.Component):
    """Counts of up to `cfg.units` units; a row and a slot in it for each, by one of three policies.

    Policies (`arch.command.Policy`): NONE: unit u goes to row u // h, h = ceil(N/R). PAIR: half tiles of
    h = ceil(N/2R) units, the i-th densest in slots 0 to h-1 of row i, the i-th sparsest of the 2R from
    slot h on. LPT: by descending count, each to the least loaded row that holds fewer than `cap`. Order of
    density is that of `golden.balancer.sort_key`; loads are exact.

    Latency, from the cycle in which `start` is high to that in which `done` is (h and M = ceil(N/h) as in
    PAIR), whatever the counts; throughput one unit a cycle in each phase:

        NONE  N + 8              PAIR  N + Mh + 2M + 90              LPT  3N + 82

    2 cycles if N = 0 or in case of an error.

    Args:
        cfg: rows and units.

    Ports:
        begin: new counts follow, from the next cycle on. Not while busy, nor within 2 cycles after a final count.
        count_we, count_add, count_index, count_value: set a count, or add to it (saturating at 65535). One
            a cycle, to any index; ignored while busy.
        count_final: with count_we: this is the unit's count. Between begin and start exactly once for each
            of the units 0 to n-1 and for no other, the last one 3 cycles before start or earlier.
        start, n, cap, policy: hand N = n units out; sampled together, ignored while busy.
            n and cap are fields of a command, 16 bits.
        busy: from the cycle after start on. done: one cycle, busy is low again in it.
        error: with done, nothing was assigned: n > cfg.units, n > rows * cap, PAIR with n > rows and
            2h > cap, or an unknown policy.
        assign_we, assign_unit, assign_row, assign_slot: one assignment a cycle, all of them before done.
        max_load, sum_load: largest load of a row, and of all together; valid from done until the next
            start, exact (16 + log2(units) bits), zero after an error.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self._index_bits = log2_exact(cfg.units, "units")
        super().__init__(
            {
                "begin": In(1),
                "count_we": In(1),
                "count_add": In(1),
                "count_final": In(1),
                "count_index": In(self._index_bits),
                "count_value": In(COUNT_BITS),
                "start": In(1),
                "n": In(FIELD_BITS),
                "cap": In(FIELD_BITS),
                "policy": In(2),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(1),
                "assign_we": Out(1),
                "assign_unit": Out(self._index_bits),
                "assign_row": Out(range(cfg.rows)),
                "assign_slot": Out(self._index_bits),
                "max_load": Out(load_bits(cfg.units)),
                "sum_load": Out(load_bits(cfg.units)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, units, index_bits = self._cfg.rows, self._cfg.units, self._index_bits
        tile_bits = (2 * rows - 1).bit_length()

        m.submodules.tables = tables = DigitTables(units)
        m.submodules.queue = queue = RowQueue(rows)
        m.submodules.counts = counts = Memory(shape=COUNT_BITS, depth=units, init=[])
        m.submodules.order = order = Memory(shape=index_bits, depth=2 * units, init=[])
        sum_bits = COUNT_BITS + (-(-units // (2 * rows)) - 1).bit_length()
        m.submodules.tiles = tiles = Memory(shape=index_bits + sum_bits, depth=1 << tile_bits, init=[])
        # Read without a clock edge: whether the head fills up decides where it sinks in the same cycle.
        # A table this small is distributed memory or registers anyway.
        m.submodules.held = held = Memory(shape=index_bits, depth=1 << len(queue.row), init=[])
        count_write, order_write, tile_write, held_write = (
            memory.write_port() for memory in (counts, order, tiles, held)
        )
        count_read = counts.read_port(transparent_for=(count_write,))
        order_read, tile_read, held_read = order.read_port(), tiles.read_port(), held.read_port(domain="comb")

        # -- request ------------------------------------------------------------------------------
        n_last = Signal(index_bits)  # N - 1
        none, too_many = Signal(), Signal()
        policy = Signal(2)
        cap = Signal(range(units + 1))
        cap_last = Signal(index_bits)
        h_last = Signal(index_bits)  # h - 1
        over = Signal()
        m.d.comb += over.eq(self.n > units)
        accept = Signal()
        with m.If(accept):
            m.d.sync += [
                n_last.eq(Mux(over, units - 1, self.n - 1)),
                none.eq(self.n == 0),
                too_many.eq(over),
                policy.eq(self.policy),
                cap.eq(Mux(self.cap > units, units, self.cap)),
            ]
        pair, lpt = Signal(), Signal()
        m.d.comb += [pair.eq(policy == Policy.PAIR), lpt.eq(policy == Policy.LPT)]
        # h <= cap is N <= R * cap, and 2h <= cap is N <= R * (cap rounded down to even).
        limit = Signal(range(rows * units + 1))
        m.d.comb += limit.eq(Cat(cap[0] & ~(pair & (n_last >= rows)), cap[1:]) * rows)
        refused = Signal()
        m.d.comb += refused.eq((policy > Policy.LPT) | (~none & (too_many | (n_last >= limit))))
        multiplier, shift = reciprocal(rows, units)
        row_h_last = Signal(index_bits)
        m.d.comb += row_h_last.eq((n_last * multiplier) >> shift)

        # -- phases -------------------------------------------------------------------------------
        sums, place, gather, deal = (Signal(name=name) for name in ("sums", "place", "gather", "deal"))
        paired = Signal()  # handing out half tiles: rank by rank, unit by unit
        m.d.comb += paired.eq(deal & pair)
        items_last = Signal(index_bits)  # last of what is sorted or streamed: units, or half tiles
        digit = Signal.like(tables.digit)
        bank = Signal()  # half of the order memory written last

        k = Signal(max(index_bits, 6))
        v = Signal(index_bits)  # unit within its half tile or row
        second = Signal()
        draining, drain = Signal(), Signal(3)
        issue, row_end, issue_last, phase_end = Signal(), Signal(), Signal(), Signal()
        mate = Signal(tile_bits)  # rank of row k's second half
        has_mate, tile_end, k_last = Signal(), Signal(), Signal()
        m.d.comb += [
            issue.eq((place | gather | deal) & ~draining),
            mate.eq(2 * rows - 1 - k[:tile_bits]),
            has_mate.eq(mate <= items_last),
            tile_end.eq(v == h_last),
            row_end.eq(Mux(paired, tile_end & (second | ~has_mate), tile_end | k_last)),
            k_last.eq(k == items_last),
            issue_last.eq(Mux(paired, row_end & (k_last | (k == rows - 1)), k_last)),
            phase_end.eq(
                Mux(
                    sums,
                    k == SWEEP - 1,
                    draining & (drain == Mux(place, _SORT_DRAIN, Mux(gather, _GATHER_DRAIN, _DEAL_DRAIN)) - 1),
                )
            ),
        ]
        with m.If(issue):
            m.d.sync += [v.eq(Mux(tile_end, 0, v + 1)), draining.eq(issue_last)]
            with m.If(tile_end):
                m.d.sync += second.eq(has_mate & ~second)
            with m.If(~paired | row_end):
                m.d.sync += k.eq(k + 1)
        with m.If(sums):
            m.d.sync += k.eq(k + 1)
        m.d.sync += drain.eq(Mux(draining, drain + 1, 0))
        with m.If(phase_end):
            m.d.sync += [k.eq(0), v.eq(0), second.eq(0), draining.eq(0)]

        checking = Signal()
        tile_last = Signal(index_bits)  # last half tile gathered
        m.d.sync += [self.done.eq(0), self.error.eq(0)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += accept.eq(self.start)
                with m.If(self.start):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += checking.eq(1)
                m.d.sync += [
                    items_last.eq(n_last),
                    h_last.eq(Mux(pair, row_h_last >> 1, row_h_last)),
                    cap_last.eq(cap - 1),
                    digit.eq(0),
                ]
                with m.If(none | refused):
                    m.d.sync += [self.done.eq(1), self.error.eq(refused)]
                    m.next = "IDLE"
                with m.Elif(lpt):
                    m.next = "SUM"
                with m.Elif(pair):
                    m.next = "GATHER"
                with m.Else():
                    m.next = "DEAL"
            with m.State("GATHER"):
                m.d.comb += gather.eq(1)
                with m.If(phase_end):
                    m.d.sync += items_last.eq(tile_last)
                    m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += sums.eq(1)
                with m.If(phase_end):
                    m.next = "PLACE"
            with m.State("PLACE"):
                m.d.comb += place.eq(1)
                with m.If(phase_end):
                    m.d.sync += [bank.eq(~bank), digit.eq(digit + 1)]
                    with m.If(digit == DIGITS - 1):
                        m.next = "DEAL"
            with m.State("DEAL"):
                m.d.comb += deal.eq(1)
                with m.If(phase_end):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

        # -- stages 0 to 3: rank, index, unit, count -------------------------------------------------
        stored = Signal()  # take the items in the order sorted so far, not as they are stored
        m.d.comb += stored.eq((place & (digit != 0)) | (deal & (policy != Policy.NONE)))
        m.d.comb += order_read.addr.eq(Cat(Mux(paired & second, mate, k[:index_bits])[:index_bits], bank))
        k1, v1, v2, index2, unit2 = (
            Signal(index_bits, name=name, reset_less=True) for name in ("k1", "v1", "v2", "index2", "plain2")
        )
        index1 = Signal(index_bits)
        position2 = Signal(index_bits + 1)  # of a ragged half tile, possibly beyond the last unit
        tile_first, tile_sum = tile_read.data[:index_bits], tile_read.data[index_bits:]
        m.d.sync += [k1.eq(k), v1.eq(v), v2.eq(v1), index2.eq(index1)]
        m.d.comb += [
            index1.eq(Mux(stored, order_read.data, k1)),
            tile_read.addr.eq(index1),
            position2.eq(tile_first + v2),
            unit2.eq(Mux(paired, position2, index2)),
            count_read.addr.eq(Mux(self.busy, unit2, self.count_index)),
        ]
        unit3, unit4, unit5 = (Signal(index_bits, name=f"unit{s}", reset_less=True) for s in (3, 4, 5))
        inside3, inside4 = Signal(reset_less=True), Signal(reset_less=True)
        tile_sum3 = Signal(sum_bits, reset_less=True)
        count4 = Signal(COUNT_BITS, reset_less=True)
        m.d.sync += [
            unit3.eq(unit2),
            unit4.eq(unit3),
            unit5.eq(unit4),
            tile_sum3.eq(tile_sum),
            inside3.eq(~paired | (position2 <= n_last)),
            inside4.eq(inside3),
            count4.eq(Mux(inside3, count_read.data, 0)),
        ]
        valid, last = [issue], [row_end]
        for stage in range(1, 7):
            valid.append(Signal(name=f"valid{stage}"))
            last.append(Signal(name=f"last{stage}", reset_less=True))
            m.d.sync += [valid[stage].eq(valid[stage - 1]), last[stage].eq(last[stage - 1])]
        m.d.sync += valid[5].eq(valid[4] & (gather | deal))  # what is sorted has left the pipeline

        # -- sorting -------------------------------------------------------------------------------
        # Counts enter the tables as they are tallied, sums of half tiles as they are gathered (load, stage 6).
        settled = Signal(COUNT_BITS, reset_less=True)
        load = Signal(load_bits(units), reset_less=True)
        final, number = Signal(), Signal(sum_bits)
        m.d.comb += number.eq(
            Mux(place, Mux(pair, tile_sum3, count_read.data), Mux(gather, load[:sum_bits], settled)),
        )
        m.d.comb += [
            tables.flush.eq((self.begin & ~self.busy) | (checking & pair)),
            tables.sum.eq(sums),
            tables.address.eq(k),
            tables.fill.eq(Mux(gather, valid[6] & last[6], final)),
            tables.place.eq(place & valid[3]),
            tables.digit.eq(digit),
            # Inverted: ascending in the key is descending in the count.
            tables.key.eq(~sort_key(m, number)),
            order_write.en.eq(tables.placed),
            order_write.addr.eq(Cat(tables.position, ~bank)),
            order_write.data.eq(unit5),
        ]

        # -- stage 4: row and slot -------------------------------------------------------------------
        row4, slot4 = Signal(tile_bits), Signal(index_bits)  # NONE, PAIR; half tiles while gathering
        lpt4 = Signal()
        m.d.comb += [
            lpt4.eq(deal & lpt & valid[4]),
            queue.init.eq(checking),
            queue.step.eq(lpt4),
            queue.count.eq(count4),
            queue.full.eq(held_read.data == cap_last),
            held_read.addr.eq(queue.row),
            held_write.en.eq(sums | lpt4),
            held_write.addr.eq(Mux(sums, k, queue.row)),
            held_write.data.eq(Mux(sums, 0, held_read.data + 1)),
        ]
        with m.If(checking | phase_end):
            m.d.sync += [row4.eq(0), slot4.eq(0)]
        with m.Elif(valid[4]):
            m.d.sync += [slot4.eq(Mux(last[4], 0, slot4 + 1)), row4.eq(row4 + last[4])]

        # -- stages 5 and 6: assignment and loads ----------------------------------------------------
        width = load_bits(units)
        count5, head5 = Signal(COUNT_BITS, reset_less=True), Signal.like(queue.load, reset_less=True)
        row5, row6 = Signal(tile_bits, reset_less=True), Signal(tile_bits, reset_less=True)
        m.d.sync += [
            count5.eq(count4),
            head5.eq(queue.load),
            row5.eq(row4),
            row6.eq(row5),
            self.assign_we.eq(deal & valid[4] & inside4),
            self.assign_unit.eq(unit4),
            self.assign_row.eq(Mux(lpt, queue.row, row4)),
            self.assign_slot.eq(Mux(lpt, held_read.data, slot4)),
        ]
        # The head's load never falls, and never rises by 2**17 at once: each fall of its low bits is a carry.
        head_low, head_high = Signal.like(queue.load), Signal(width - len(queue.load))
        carried = Signal.like(head_high)
        fresh, first_unit = Signal(), Signal(index_bits, reset_less=True)
        base = Signal(width)
        m.d.comb += [
            carried.eq(head_high + (head5 < head_low)),
            base.eq(Mux(lpt, Cat(head5, carried), Mux(fresh, 0, load))),
        ]
        with m.If(checking | phase_end):
            m.d.sync += [fresh.eq(1), head_low.eq(0), head_high.eq(0)]
        with m.Elif(valid[5]):
            m.d.sync += [fresh.eq(last[5]), load.eq(base + count5)]
            with m.If(deal):
                m.d.sync += [head_low.eq(head5), head_high.eq(carried), self.sum_load.eq(self.sum_load + count5)]
            with m.If(fresh):
                m.d.sync += first_unit.eq(unit5)
        with m.If(deal & valid[6] & (load > self.max_load)):
            m.d.sync += self.max_load.eq(load)
        with m.If(checking):
            m.d.sync += [self.max_load.eq(0), self.sum_load.eq(0)]
        m.d.comb += [
            tile_write.en.eq(gather & valid[6] & last[6]),
            tile_write.addr.eq(row6),
            tile_write.data.eq(Cat(first_unit, load[:sum_bits])),
        ]
        with m.If(tile_write.en):
            m.d.sync += tile_last.eq(row6)

        # -- tally -------------------------------------------------------------------------------------
        tally, adding, finishing = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        tally_index, value = Signal(index_bits, reset_less=True), Signal(COUNT_BITS, reset_less=True)
        total, tallied = Signal(COUNT_BITS + 1), Signal(COUNT_BITS)
        m.d.sync += [
            tally.eq(self.count_we & ~self.busy),
            adding.eq(self.count_add),
            finishing.eq(self.count_final),
            tally_index.eq(self.count_index),
            value.eq(self.count_value),
        ]
        m.d.comb += [
            total.eq(Mux(adding, count_read.data, 0) + value),
            tallied.eq(total[:COUNT_BITS] | total[-1].replicate(COUNT_BITS)),
            count_write.en.eq(tally),
            count_write.addr.eq(tally_index),
            count_write.data.eq(tallied),
        ]
        m.d.sync += [final.eq(tally & finishing), settled.eq(tallied)]
        return m


def reciprocal(divisor: int, limit: int) -> tuple[int, int]:
    """A multiplier and a right shift that divide every integer in [0, limit) by `divisor`."""
    for shift in range(2 * limit.bit_length() + divisor.bit_length()):
        multiplier = -(-(1 << shift) // divisor)
        if all((x * multiplier) >> shift == x // divisor for x in range(limit)):
            return multiplier, shift
    raise ValueError(f"no reciprocal of {divisor} is exact below {limit}")
