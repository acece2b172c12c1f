"""Load balancer: tallies the counts of each unit, then hands the units out to the rows.

Counts lie in a memory, in index order; sorting links their indices (`BucketSort`), while the counts, or the
sums of half tiles (PAIR), are made. What is handed out runs down one pipeline, one unit a cycle, whatever the
policy; half tiles are summed in the same pipeline, as if each were a row:

    0 which -> 1 index (sort) -> 2 unit (half-tile memory) -> 3 count (count memory)
      -> 4 row and slot -> 5 assignment, load (load memory) -> 6 largest load, or key of the half tile

LPT needs the least loaded row every cycle: the head of `RowQueue`.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from arch.command import Policy
from arch.config import Config, log2_exact
from rtl.bucket_sort import BucketSort, sort_key
from rtl.row_queue import COUNT_BITS, RowQueue

FIELD_BITS = 16  # of `units` and `cap` in a command
_DEAL_DRAIN = 6  # cycles from the issue of the last unit until its load is known
_GATHER_DRAIN = _DEAL_DRAIN + BucketSort.LATENCY - 1  # ... until the sum of the last half tile is in its list


def load_bits(units: int) -> int:
    """Width of a row's load: the sum of `units` counts fits, whatever they are."""
    return COUNT_BITS + log2_exact(units, "units")


class Balancer(wiring.Component):
    """Counts of up to `cfg.units` units; a row and a slot in it for each, by one of three policies.

    Policies (`arch.command.Policy`): NONE: unit u goes to row u // h, h = ceil(N/R). PAIR: half tiles of
    h = ceil(N/2R) units, the i-th densest in slots 0 to h-1 of row i, the i-th sparsest of the 2R from
    slot h on. LPT: by descending count, each to the least loaded row that holds fewer than `cap`. Order of
    density is that of `golden.balancer.sort_key`; loads are exact.

    Latency, from the cycle in which `start` is high to that in which `done` is (h and M = ceil(N/h) as in
    PAIR), whatever the counts; throughput one unit a cycle in each phase:

        NONE, LPT  N + 8              PAIR  N + Mh + 16

    2 cycles if N = 0 or in case of an error.

    Args:
        cfg: rows and units.

    Ports:
        begin: new counts follow, from the next cycle on. Not while busy, nor within 3 cycles after a final count.
        count_we, count_add, count_index, count_value: set a count, or add to it (saturating at 65535). One
            a cycle, to any index; ignored while busy.
        count_final: with count_we: this is the unit's count. Between begin and start exactly once for each
            of the units 0 to n-1, in this order, the last one 4 cycles before start or earlier.
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

        m.submodules.sort = sort = BucketSort(units, "distributed" if self._cfg.copies else None)
        m.submodules.queue = queue = RowQueue(rows)
        m.submodules.counts = counts = Memory(shape=COUNT_BITS, depth=units, init=[])
        m.submodules.tiles = tiles = Memory(shape=index_bits, depth=1 << tile_bits, init=[])  # first unit of each
        m.submodules.loads = loads = Memory(shape=load_bits(units), depth=1 << tile_bits, init=[])
        # Read without a clock edge, as the head may be the row of the cycle before. A table this small is distributed
        # memory or registers anyway.
        m.submodules.held = held = Memory(shape=index_bits, depth=1 << len(queue.row), init=[])
        count_write, tile_write, load_write, held_write = (
            memory.write_port() for memory in (counts, tiles, loads, held)
        )
        count_read = counts.read_port(transparent_for=(count_write,))
        load_read = loads.read_port(transparent_for=(load_write,))
        tile_read, held_read = tiles.read_port(), held.read_port(domain="comb")

        # -- request ------------------------------------------------------------------------------
        n_last = Signal(index_bits)  # N - 1
        none, too_many = Signal(), Signal()
        policy = Signal(2)
        cap = Signal(range(units + 1))
        h_last = Signal(index_bits)  # h - 1
        beyond = Signal()
        m.d.comb += beyond.eq(self.n > units)
        accept = Signal()
        with m.If(accept):
            m.d.sync += [
                n_last.eq(Mux(beyond, units - 1, self.n - 1)),
                none.eq(self.n == 0),
                too_many.eq(beyond),
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
        row_h_last, h_last_now = Signal(index_bits), Signal(index_bits)
        m.d.comb += [
            row_h_last.eq((n_last * multiplier) >> shift),
            h_last_now.eq(Mux(pair, row_h_last >> 1, row_h_last)),
        ]

        # -- phases -------------------------------------------------------------------------------
        gather, deal = Signal(), Signal()
        paired = Signal()  # handing out half tiles: rank by rank, unit by unit
        m.d.comb += paired.eq(deal & pair)
        k = Signal(index_bits)  # unit, or rank of a half tile
        k_last = Signal(index_bits)
        v = Signal(index_bits)  # unit within its half tile or row
        issue, over, row_end = Signal(), Signal(), Signal()
        tile_begin, tile_end = Signal(), Signal()  # v is 0, or the last; registers, for the sort hangs on them
        draining, drain, phase_end = Signal(), Signal(3), Signal()
        m.d.comb += [
            issue.eq((gather | deal) & ~draining),
            over.eq((k == k_last) & (tile_end | ~paired)),
            row_end.eq(tile_end | over),
            phase_end.eq(draining & (drain == Mux(gather, _GATHER_DRAIN, _DEAL_DRAIN) - 1)),
        ]
        with m.If(issue):
            m.d.sync += [
                v.eq(Mux(tile_end, 0, v + 1)),
                tile_begin.eq(tile_end),
                tile_end.eq(Mux(tile_end, 0, v + 1) == h_last),
                draining.eq(over),
            ]
            with m.If(tile_end | ~paired):
                m.d.sync += k.eq(k + 1)
        m.d.sync += drain.eq(Mux(draining, drain + 1, 0))
        with m.If(phase_end):
            m.d.sync += [k.eq(0), v.eq(0), tile_begin.eq(1), tile_end.eq(h_last == 0), draining.eq(0)]

        checking = Signal()
        rank4 = Signal(tile_bits)  # half tiles, or rows, that have passed stage 4
        m.d.sync += [self.done.eq(0), self.error.eq(0)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += accept.eq(self.start)
                with m.If(self.start):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += checking.eq(1)
                m.d.sync += [k_last.eq(n_last), h_last.eq(h_last_now), tile_begin.eq(1), tile_end.eq(h_last_now == 0)]
                with m.If(none | refused):
                    m.d.sync += [self.done.eq(1), self.error.eq(refused)]
                    m.next = "IDLE"
                with m.Elif(pair):
                    m.next = "GATHER"
                with m.Else():
                    m.next = "DEAL"
            with m.State("GATHER"):
                m.d.comb += gather.eq(1)
                with m.If(phase_end):
                    m.d.sync += k_last.eq((rank4 - 1)[:tile_bits])
                    m.next = "DEAL"
            with m.State("DEAL"):
                m.d.comb += deal.eq(1)
                with m.If(phase_end):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

        # -- stages 0 to 3: index, unit, count -------------------------------------------------------
        k1, v1, v2, index2 = (Signal(index_bits, name=name, reset_less=True) for name in ("k1", "v1", "v2", "index2"))
        index1, unit2 = Signal(index_bits), Signal(index_bits)
        position2 = Signal(index_bits + 1)  # of a ragged half tile, possibly beyond the last unit
        m.d.sync += [k1.eq(k), v1.eq(v), v2.eq(v1), index2.eq(index1)]
        m.d.comb += [
            sort.next.eq(issue & deal & (lpt | (pair & tile_begin))),
            index1.eq(Mux(deal & (policy != Policy.NONE), sort.item, k1)),
            tile_read.addr.eq(sort.item),
            position2.eq(tile_read.data + v2),
            unit2.eq(Mux(paired, position2, index2)),
            count_read.addr.eq(Mux(self.busy, unit2, self.count_index)),
        ]
        unit3, unit4 = Signal(index_bits, reset_less=True), Signal(index_bits, reset_less=True)
        inside3, inside4 = Signal(reset_less=True), Signal(reset_less=True)
        count4 = Signal(COUNT_BITS, reset_less=True)
        m.d.sync += [
            unit3.eq(unit2),
            unit4.eq(unit3),
            inside3.eq(~paired | (position2 <= n_last)),
            inside4.eq(inside3),
            count4.eq(Mux(inside3, count_read.data, 0)),
        ]
        valid, last = [issue], [row_end]
        for stage in range(1, 7):
            valid.append(Signal(name=f"valid{stage}"))
            last.append(Signal(name=f"last{stage}", reset_less=True))
            m.d.sync += [valid[stage].eq(valid[stage - 1]), last[stage].eq(last[stage - 1])]

        # -- stage 4: row and slot -------------------------------------------------------------------
        place4 = Signal(index_bits)  # within the half tile, or row
        row4, slot4 = Signal(tile_bits), Signal(index_bits)
        second4 = Signal()  # half of its row
        opened = Signal(1 << tile_bits)  # rows, or half tiles, that have a load; the others start from nothing
        opened4 = Signal()
        # LPT: whether the head fills up decides where it sinks in the same cycle, so of every row it is known before.
        head_held, fills = Signal(index_bits), Signal(rows)  # slots that the head has given, rows that have one left
        m.d.comb += [
            second4.eq(paired & (rank4 >= rows)),
            row4.eq(Mux(lpt, queue.row, Mux(second4, 2 * rows - 1 - rank4, rank4))),
            opened4.eq(opened.bit_select(row4, 1)),
            head_held.eq(Mux(opened.bit_select(queue.row, 1), held_read.data, 0)),
            slot4.eq(Mux(lpt, head_held, place4 + Mux(second4, h_last + 1, 0))),
            queue.init.eq(checking),
            queue.step.eq(lpt & valid[4]),
            queue.count.eq(count4),
            queue.full.eq(fills.bit_select(queue.row, 1)),
            held_read.addr.eq(queue.row),
            held_write.en.eq(queue.step),
            held_write.addr.eq(queue.row),
            held_write.data.eq(head_held + 1),
            tile_write.en.eq(gather & valid[4] & (place4 == 0)),
            tile_write.addr.eq(rank4),
            tile_write.data.eq(unit4),
        ]
        with m.If(checking | phase_end):
            m.d.sync += [rank4.eq(0), place4.eq(0), opened.eq(0)]
        with m.Elif(valid[4]):
            m.d.sync += [
                rank4.eq(rank4 + last[4]),
                place4.eq(Mux(last[4], 0, place4 + 1)),
                opened.bit_select(row4, 1).eq(1),
            ]
        with m.If(checking):
            m.d.sync += fills.eq((cap == 1).replicate(rows))
        with m.Elif(queue.step):
            m.d.sync += fills.bit_select(queue.row, 1).eq(head_held + 2 == cap)

        # -- stages 5 and 6: assignment and loads ----------------------------------------------------
        row5, opened5 = Signal(tile_bits, reset_less=True), Signal(reset_less=True)
        count5 = Signal(COUNT_BITS, reset_less=True)
        load5, load6 = Signal(load_bits(units)), Signal(load_bits(units), reset_less=True)
        m.d.sync += [
            self.assign_we.eq(deal & valid[4] & inside4),
            self.assign_unit.eq(unit4),
            self.assign_row.eq(row4),
            self.assign_slot.eq(slot4),
            row5.eq(row4),
            opened5.eq(opened4),
            count5.eq(count4),
            load6.eq(load5),
        ]
        m.d.comb += [
            load_read.addr.eq(row4),
            load5.eq(Mux(opened5, load_read.data, 0) + count5),
            load_write.en.eq(valid[5]),
            load_write.addr.eq(row5),
            load_write.data.eq(load5),
        ]
        with m.If(checking):
            m.d.sync += [self.max_load.eq(0), self.sum_load.eq(0)]
        with m.If(deal & valid[5]):
            m.d.sync += self.sum_load.eq(self.sum_load + count5)
        with m.If(deal & valid[6] & (load6 > self.max_load)):
            m.d.sync += self.max_load.eq(load6)

        # -- tally -------------------------------------------------------------------------------------
        # The count so far is read; it waits in a register; the sum is stored. A count may follow another of the same
        # unit at once: then the sum just made is what there was so far.
        stages = []
        now = {
            "tally": self.count_we & ~self.busy,
            "adding": self.count_add,
            "finishing": self.count_final,
            "tally_index": self.count_index,
            "value": self.count_value,
        }
        for stage in (1, 2):
            after = {
                name: Signal.like(source, name=f"{name}{stage}", reset_less=name != "tally")
                for name, source in now.items()
            }
            m.d.sync += [register.eq(now[name]) for name, register in after.items()]
            stages.append(after)
            now = after
        follows1 = Signal()
        so_far2 = Signal(COUNT_BITS, reset_less=True)
        total, tallied = Signal(COUNT_BITS + 1), Signal(COUNT_BITS)
        m.d.sync += [
            follows1.eq(stages[0]["tally"] & (self.count_index == stages[0]["tally_index"])),
            so_far2.eq(Mux(stages[0]["adding"], Mux(follows1, tallied, count_read.data), 0)),
        ]
        m.d.comb += [
            total.eq(so_far2 + stages[1]["value"]),
            tallied.eq(total[:COUNT_BITS] | total[-1].replicate(COUNT_BITS)),
            count_write.en.eq(stages[1]["tally"]),
            count_write.addr.eq(stages[1]["tally_index"]),
            count_write.data.eq(tallied),
        ]

        # -- sorting: counts as they are tallied, sums of half tiles as they are gathered ---------------
        final, settled = Signal(), Signal(COUNT_BITS, reset_less=True)
        m.d.sync += [final.eq(now["tally"] & now["finishing"]), settled.eq(tallied)]
        m.d.comb += [
            sort.flush.eq((self.begin & ~self.busy) | (checking & pair)),
            sort.fill.eq(Mux(gather, valid[6] & last[6], final)),
            sort.key.eq(sort_key(m, Mux(gather, load6, settled))),
        ]
        return m


def reciprocal(divisor: int, limit: int) -> tuple[int, int]:
    """A multiplier and a right shift that divide every integer in [0, limit) by `divisor`."""
    for shift in range(2 * limit.bit_length() + divisor.bit_length()):
        multiplier = -(-(1 << shift) // divisor)
        if all((x * multiplier) >> shift == x // divisor for x in range(limit)):
            return multiplier, shift
    raise ValueError(f"no reciprocal of {divisor} is exact below {limit}")
