"""Validator: whether a command makes sense, before anything acts on it.

Every size that a later unit relies on is checked here against the others and against the build, so that
those units need no checks of their own and a malformed command ends in a status, never in a hang. The
products that need a real multiplier take turns on one; nothing waits for the verdict but the plan.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.command import MAGIC, MOST_KERNEL, Phase
from arch.config import MAX_SEGMENTS, PLAN_BEATS, Config, log2_exact
from arch.status import Status
from arch.vector import MAGIC as VECTOR
from rtl.command import COMMAND
from rtl.reader import SEGMENT_BITS

MOST_LOG2_BLOCKS = 8
"""A record has fewer than 2^8 words."""

assert MAX_SEGMENTS == 1 << SEGMENT_BITS, "the reader numbers the regions of a plan"


class Validator(wiring.Component):
    """Checks of a command; the first that fails, in the order of the list, is the verdict.

    Latency: `verdict` is valid in the cycle with step = CYCLES - 1, `plan_ok` from the cycle with step = 1 on.

    - MAGIC: magic is neither `arch.command.MAGIC` nor that of a vector command, which the vector stage checks. (Without
      maps the command processor clears the magic of every vector command, and of commands that need maps.)
    - FIELD, all but a NOP that loads nothing: positions = 0 or > 2^log2_positions; load_x with x_run = 0, x_runs = 0,
      x_cols = 0, or x_runs > 1 and gather_stride no multiple of E; load_aux with aux_cols = 0 (not NOP); words = 0;
      mask_beats * masks_per_beat < words (dense builds: mask_beats or scale not 0); kernel_rows or kernel_cols = 0 or >
      7; images = 0; log2_blocks > 8; words > taps << log2_blocks, taps = kernel_rows * kernel_cols; bias with bias_tap
      >= taps; depthwise in BW; sum_add or sum_store in another phase than WU; sum_store with drain; WU with records !=
      block_rows or blocks * Bc > gather_depth, blocks = 2^log2_blocks (words where there is one tap); segment +
      load_segments > segments; FW or BW with drain and out_run = 0, out_cols = 0 or out_run * E < out_channels + ones;
      c0 no multiple of Bc; k0 no multiple of Bk; log2_lanes not log2 of Bk (BW: of LG).
    - FIELD, likewise, and every plan: segments = 0 or > 32; segments * header_beats > 64; records = 0;
      record0 + records > block_rows.
    - FIELD, every plan: header_beats * words_per_beat < 1 + block_rows + groups; units > records (BW: > segments *
      groups).
    - GATHER_OVERFLOW, with load_x: (x_runs - 1) * gather_stride + x_run * E > gather_depth.
    - UNITS_OVERFLOW, likewise, and every plan: units > cfg.units, or units > rows * cap.
    - PSUM_OVERFLOW, all but a NOP that loads nothing: cap << log2_lanes << log2_positions > psum_depth (WU: times
      stationary_pack).
    - GATE_OVERFLOW, FW or BW with load_aux: aux_runs * aux_run > gate_beats.

    Not checked: whether weights that a command does not load itself were loaded for its phase; whether a gate that is
    loaded has the shape of what it gates (aux_run = out_run); whether the boxes of the taps (row*_, col*_ and the steps
    of images, rows and columns) stay within the tile and what is loaded of the gathered operand. Addresses wrap in
    their memories: such a command reads and adds up operands of no meaning, but ends.

    Args:
        cfg: sizes.

    Ports:
        command: stable from the cycle with step = 0 on. step: 0, 1, ... CYCLES - 1 in successive cycles.
        plan_ok: the magic number is right and the headers pass their FIELD checks (all but the one on units).
        verdict: a `Status`, OK if all is well.
    """

    CYCLES = 6

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "command": In(COMMAND),
                "step": In(range(self.CYCLES)),
                "plan_ok": Out(1),
                "verdict": Out(4),
            }
        )

    def elaborate(self, platform: object) -> Module:
        cfg, command = self._cfg, self.command
        m = Module()
        element = log2_exact(cfg.bus_elements, "bus_elements")
        works, multiplies, back, update = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            works.eq((command.phase != Phase.NOP) | command.load_x | command.load_w),
            multiplies.eq((command.phase == Phase.FW) | (command.phase == Phase.BW)),
            back.eq(command.phase == Phase.BW),
            update.eq(command.phase == Phase.WU),
        ]

        # Products: operands in step i, product from i + 2 on, compared at its end.
        # The taps are few enough for a product of their own.
        taps = Signal(2 * len(command.kernel_rows))
        m.d.sync += taps.eq(command.kernel_rows * command.kernel_cols)
        a, b, product = Signal(16), Signal(16), Signal(32)
        gather_full, gate_full, uncounted = Signal(), Signal(), Signal()
        m.d.sync += product.eq(a * b)
        with m.Switch(self.step):
            with m.Case(0):
                m.d.sync += [a.eq(command.x_runs - 1), b.eq(command.gather_stride)]
            with m.Case(1):
                m.d.sync += [a.eq(command.aux_runs), b.eq(command.aux_run)]
            with m.Case(2):
                m.d.sync += [
                    a.eq(command.segments),
                    b.eq(command.groups),
                    gather_full.eq(product + (command.x_run << element) > cfg.gather_depth),
                ]
            with m.Case(3):
                m.d.sync += gate_full.eq(product > cfg.gate_beats)
            with m.Case(4):
                m.d.sync += uncounted.eq(command.units > Mux(back, product >> command.wide, command.records))

        # Everything else is compared every cycle, and right from step 1 on, what depends on the taps from step 2 on.
        header_room = Signal(18)
        magic, headers_fit, range_bad = Signal(), Signal(), Signal()
        # segments * header_beats > PLAN_BEATS as a table of quotients: a product would wait for its multiplier.
        quotients = [MAX_SEGMENTS, *(min(PLAN_BEATS // beats, MAX_SEGMENTS) for beats in range(1, PLAN_BEATS + 1))]
        most_segments = Array(quotients)[command.header_beats[: PLAN_BEATS.bit_length()]]
        m.d.comb += [
            magic.eq((command.magic == MAGIC) | (command.magic == VECTOR)),
            range_bad.eq(
                (command.segments == 0)
                | (command.segments > MAX_SEGMENTS)
                | (command.header_beats > PLAN_BEATS)
                | (command.segments[:6] > most_segments)
                | (command.records == 0)
                | ~_holds(command.block_rows, command.record0, command.records)
            ),
            header_room.eq(command.header_beats << log2_exact(cfg.words_per_beat, "words_per_beat")),
            headers_fit.eq(~range_bad & _holds(header_room, command.block_rows, command.groups, 1)),
        ]
        lanes = Mux(back, log2_exact(cfg.lane_group, "lane_group") + command.wide, log2_exact(cfg.block_k, "block_k"))
        pairs_bad = ~back | command.groups[0] if cfg.groups_per_word > 1 else Const(1)
        blocks = Mux(taps == 1, command.words, 1 << command.log2_blocks)
        contradictions = [
            *((side == 0) | (side > MOST_KERNEL) for side in (command.kernel_rows, command.kernel_cols)),
            command.images == 0,
            command.log2_blocks > MOST_LOG2_BLOCKS,
            command.words > (taps << command.log2_blocks),
            command.bias & (command.bias_tap >= taps),
            command.depthwise & back,
            (command.sum_add | command.sum_store) & ~update,
            command.sum_store & command.drain,
            command.load_aux & (command.phase != Phase.NOP) & (command.aux_cols == 0),
            command.positions == 0,
            command.positions > (1 << command.log2_positions),
            command.load_x & ((command.x_run == 0) | (command.x_runs == 0) | (command.x_cols == 0)),
            command.load_x & (command.x_runs > 1) & command.gather_stride[:element].any(),
            command.words == 0,
            range_bad,
            update & ((command.records != command.block_rows) | (blocks > cfg.gather_depth // cfg.block_c)),
            command.segment + command.load_segments > command.segments,
            command.drain & multiplies & ((command.out_run == 0) | (command.out_cols == 0)),
            command.drain & multiplies & ((command.out_run << element) < command.out_channels + command.ones),
            command.c0[: log2_exact(cfg.block_c, "block_c")].any(),
            command.k0[: log2_exact(cfg.block_k, "block_k")].any(),
            command.log2_lanes != lanes,
            command.wide & pairs_bad,
        ]
        if cfg.sparse:  # the dense build stores no masks and regenerates no weights
            shift = log2_exact(cfg.masks_per_beat, "masks_per_beat")
            contradictions.append((command.mask_beats << shift) < command.words)
        else:
            contradictions.append(command.mask_beats.any() | command.scale.any())

        # cap << shift > depth, turned around: everything but cap is a power of two.
        shift, room = Signal(5), Signal(range(2 * cfg.psum_depth + 1))
        m.d.comb += [
            shift.eq(command.log2_lanes + command.log2_positions),
            room.eq(Mux(update, cfg.psum_depth * cfg.stationary_pack, cfg.psum_depth) >> shift),
        ]
        field, units_full, sums_full = Signal(), Signal(), Signal()
        m.d.sync += [
            self.plan_ok.eq(magic & headers_fit),
            field.eq((works & reduce(or_, contradictions)) | (command.plan & ~headers_fit)),
            units_full.eq(
                (works | command.plan) & ((command.units > cfg.units) | (command.units > cfg.rows * command.cap))
            ),
            sums_full.eq(works & (command.cap > room)),
        ]

        with m.If(~magic):
            m.d.comb += self.verdict.eq(Status.MAGIC)
        with m.Elif(field | (command.plan & uncounted)):
            m.d.comb += self.verdict.eq(Status.FIELD)
        with m.Elif(works & command.load_x & gather_full):
            m.d.comb += self.verdict.eq(Status.GATHER_OVERFLOW)
        with m.Elif(units_full):
            m.d.comb += self.verdict.eq(Status.UNITS_OVERFLOW)
        with m.Elif(sums_full):
            m.d.comb += self.verdict.eq(Status.PSUM_OVERFLOW)
        with m.Elif(multiplies & command.load_aux & gate_full):
            m.d.comb += self.verdict.eq(Status.GATE_OVERFLOW)
        return m


def _holds(room: Value, one: Value, other: Value, more: int = 0) -> Value:
    """Whether room >= one + other + more (0 or 1), with a single carry: three terms become two without one."""
    bits = max(len(room), len(one), len(other)) + 2
    terms = [Cat(room, Const(0, bits - len(room)))]
    terms += [~Cat(term, Const(0, bits - len(term))) for term in (one, other)]
    a, b, c = terms
    carries = Cat(Const(1, 1), ((a & b) | (a & c) | (b & c))[: bits - 1])
    # room - one - other - more, and that is not below zero.
    return ~((a ^ b ^ c) + carries + (1 - more))[bits - 1]
