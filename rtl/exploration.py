"""Which weights a weight update looks at: rotating exploration, and the visiting rule of a mask word.

A mask word is explored in the step whose residue modulo T equals that of a hash of the word's block
coordinates, hence in exactly one of any T successive steps. The other rules are pure masks.

Source of the idea: this project (docs/architecture.md, section 4). The hash is made by `rtl.regenerate`, which has
nothing else to do in a weight update.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import Config, log2_exact

SALT = 0x5BD1E995
MAX_LOG2_PERIOD = 6
LOG2_PERIOD_BITS = 3
#: Low bits of the training step that matter.
STEP_BITS = MAX_LOG2_PERIOD


class Exploration(wiring.Component):
    """Whether a mask word is explored in this step, and in the next one.

    Latency: the outputs follow the inputs by `LATENCY` cycle with `enable` set; while it is low they stay. One word a
    cycle.

    Ports:
        enable: advance. hash: of the word's block (row and column, absolute) and position in the filter, salted with
        `SALT`: what `rtl.regenerate.Regenerate.hash` shows, its low bits.
        step: low bits of the training step. log2_period: log2 of T, 0 to 6; 7 acts as 6. Both constant.
        explored, explored_next: registered.
    """

    LATENCY = 1

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "hash": In(STEP_BITS),
                "step": In(STEP_BITS),
                "log2_period": In(LOG2_PERIOD_BITS),
                "explored": Out(1),
                "explored_next": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        care, next_step = Signal(STEP_BITS), Signal(STEP_BITS)
        m.d.comb += [
            care.eq(Cat(self.log2_period > bit for bit in range(STEP_BITS))),
            next_step.eq(self.step + 1),
        ]
        with m.If(self.enable):
            m.d.sync += [
                self.explored.eq(((self.hash ^ self.step) & care) == 0),
                self.explored_next.eq(((self.hash ^ next_step) & care) == 0),
            ]
        return m


class VisitRule(wiring.Component):
    """The visited bits of a mask word, combinational: `visit = rows & lanes & (everything | mask)`.

    Ports:
        mask: the stored bits, bit k_local*Bc + c_local. rows, lanes: which k_local and which c_local are wanted, a bit
        each, see `valid_rows` and `valid_lanes`: known before the mask is.
        everything: visit what is not stored, too.
        visit: the visited bits.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "mask": In(cfg.mask_bits),
                "rows": In(cfg.block_k),
                "lanes": In(cfg.block_c),
                "everything": In(1),
                "visit": Out(cfg.mask_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        positions = Cat(Mux(row, self.lanes, 0) for row in self.rows)
        m.d.comb += self.visit.eq(positions & (self.mask | self.everything.replicate(len(self.mask))))
        return m


def valid_rows(cfg: Config, valid_k: Value) -> Value:
    """Rows of a mask word, a bit each, of which the first `valid_k` (0 to Bk) are valid."""
    return Cat(valid_k > k for k in range(cfg.block_k))


def valid_lanes(cfg: Config, valid_c: Value, lanes_only: Value, group: Value, wide: Value) -> Value:
    """Lanes of a mask word, a bit each: the first `valid_c` (0 to Bc), or of these those of one lane group.

    Args:
        cfg: sizes.
        valid_c: valid channels.
        lanes_only: keep the lanes of `group` alone, `wide` of the pair that it belongs to.
        group: see there.
        wide: see there.
    """
    groups = [(group | wide) == (number | wide) for number in range(cfg.groups_per_word)]
    return Cat((valid_c > c) & (~lanes_only | groups[c // cfg.lane_group]) for c in range(cfg.block_c))


def group_bits(cfg: Config) -> int:
    """Width of the number of a lane group within its word."""
    return max(1, log2_exact(cfg.groups_per_word, "groups_per_word"))


def clip_valid(end: Value, block: Value, size: int) -> Value:
    """Valid channels of block number `block`, of `size` (a power of two) channels each: 0 to `size`."""
    low = log2_exact(size, "block size")
    left = end[low:]
    return Mux(block < left, size, Mux(block == left, end[:low], 0))
