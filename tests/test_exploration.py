"""Exploration: hash and visiting rule, the Verilated units against the golden rule."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from arch.config import PRESETS, Config
from golden import regenerate
from rtl.exploration import (
    LOG2_PERIOD_BITS,
    MAX_LOG2_PERIOD,
    SALT,
    STEP_BITS,
    Exploration,
    VisitRule,
    clip_valid,
    group_bits,
    valid_lanes,
    valid_rows,
)
from rtl.regenerate import C_BITS, K_BITS, TAP_BITS, Regenerate
from rtl.row_coordinates import COUNT_BITS, cb_bits, kb_bits
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "eight": TINY.with_(mask_bits=64, block_k=8, lane_group=1),
    "two": TINY.with_(mask_bits=64, block_k=1, lane_group=4),
    "narrow": TINY.with_(block_k=16, lane_group=1),
}


class Explored(wiring.Component):
    """The rule and the hash, as the row controller joins them."""

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "kb": In(K_BITS),
                "cb": In(C_BITS),
                "tap": In(TAP_BITS),
                "step": In(STEP_BITS),
                "log2_period": In(LOG2_PERIOD_BITS),
                "explored": Out(1),
                "explored_next": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.regenerate = regenerate = Regenerate(TINY)
        m.submodules.exploration = exploration = Exploration()
        m.d.comb += [
            regenerate.hash_enable.eq(self.enable),
            regenerate.k.eq(self.kb),
            regenerate.c.eq(self.cb),
            regenerate.tap.eq(self.tap),
            regenerate.salt.eq(SALT),
            exploration.enable.eq(self.enable),
            exploration.hash.eq(regenerate.hash),
            exploration.step.eq(self.step),
            exploration.log2_period.eq(self.log2_period),
            self.explored.eq(exploration.explored),
            self.explored_next.eq(exploration.explored_next),
        ]
        return m


class Rule(wiring.Component):
    """The rule with the ends of the command, as the row controller uses it."""

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "mask": In(cfg.mask_bits),
                "kb": In(kb_bits(cfg)),
                "cb": In(cb_bits(cfg)),
                "k_end": In(COUNT_BITS),
                "c_end": In(COUNT_BITS),
                "everything": In(1),
                "lanes_only": In(1),
                "group": In(group_bits(cfg)),
                "wide": In(1),
                "visit": Out(cfg.mask_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.rule = rule = VisitRule(cfg)
        valid_c = clip_valid(self.c_end, self.cb, cfg.block_c)
        m.d.comb += [
            rule.mask.eq(self.mask),
            rule.rows.eq(valid_rows(cfg, clip_valid(self.k_end, self.kb, cfg.block_k))),
            rule.lanes.eq(valid_lanes(cfg, valid_c, self.lanes_only, self.group, self.wide)),
            rule.everything.eq(self.everything),
            self.visit.eq(rule.visit),
        ]
        return m


@pytest.mark.parametrize("seed", (1, 2))
def test_hash_equals_golden(seed: int) -> None:
    assert run_bench(Explored, "exploration", "tb.tb_exploration", seed=seed).tests == 3


@pytest.mark.parametrize("name", CONFIGS)
def test_rule_equals_definition(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Rule(cfg), "visit_rule", "tb.tb_visit_rule", parameters={"config": cfg}).tests == 2


def test_constants() -> None:
    assert regenerate.EXPLORE_SALT == SALT
    assert regenerate.PERIOD_LIMIT == 1 << MAX_LOG2_PERIOD == 1 << STEP_BITS
    assert MAX_LOG2_PERIOD < 1 << LOG2_PERIOD_BITS
    assert Exploration.LATENCY == 1


def test_group_width() -> None:
    assert [group_bits(cfg) for cfg in CONFIGS.values()] == [2, 3, 3, 4, 1]


def test_clip_needs_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="^block size must be a power of two, not 3$"):
        clip_valid(None, None, 3)
