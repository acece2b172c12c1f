"""Validator: the rules against themselves (both sides of every bound), the Verilated unit against the rules."""

import pytest

from arch.command import FIELDS, MAGIC
from arch.config import PRESETS, Config
from arch.status import Status
from golden.trainer import Trainer
from rtl.validator import MAX_SEGMENTS, MOST_KERNEL, PLAN_BEATS, Validator
from scripts.simulate import run_bench
from tb import command_rules
from tb.command_rules import bounds, good, verdict
from tests.test_convolution import CHAINS

TINY = PRESETS["tiny"]
CONV = TINY.with_(gather_depth=512, value_beats=256, gradients=1024)
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "16x4": TINY.with_(rows=16),
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=4, lane_group=4),
    "narrow": TINY.with_(block_k=16, lane_group=1, psum_depth=256),
    "two": TINY.with_(columns=2, mask_bits=64, block_k=1, lane_group=4, units=128),
    "dense": TINY.with_(sparse=False),
}
REACHED = {Status.MAGIC, Status.FIELD, Status.GATHER_OVERFLOW, Status.UNITS_OVERFLOW, Status.PSUM_OVERFLOW,
           Status.GATE_OVERFLOW}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_rules_see_their_bounds(name: str) -> None:
    cfg = CONFIGS[name]
    found = bounds(cfg)
    for bound in found:
        broken = good(cfg, bound.phase, **bound.outside)
        assert verdict(cfg, good(cfg, bound.phase, **bound.inside)) == Status.OK, bound
        assert verdict(cfg, broken) == bound.status, bound
        for exempt in bound.exempt:
            assert verdict(cfg, broken | exempt) == Status.OK, (bound, exempt)
    assert {bound.status for bound in found} == REACHED
    assert len({bound.rule for bound in found}) >= 35


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_rules(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Validator(cfg), "validator", "tb.tb_validator", parameters={"config": cfg}).tests == 3


@pytest.mark.parametrize("name", ("strided", "depthwise", "connected"))
@pytest.mark.parametrize("cfg", (CONV, PRESETS["small"].with_(value_beats=128)), ids=("tiny", "small"))
def test_golden_programs_obey_the_rules(cfg: Config, name: str) -> None:
    trainer = Trainer(cfg, CHAINS[name], cfg.columns + 1, budget=None, memory_beats=1 << 18, keep_image=False)
    idle = dict.fromkeys(FIELDS, 0) | {"magic": MAGIC}
    for following in (False, True):
        for program in trainer.programs(following):
            assert [verdict(cfg, idle | command) for command in program] == [Status.OK] * len(program)


def test_constants() -> None:
    rules = command_rules
    assert (PLAN_BEATS, MAX_SEGMENTS, MOST_KERNEL) == (rules.PLAN_BEATS, rules.MAX_SEGMENTS, rules.MOST_KERNEL)
    assert Validator.CYCLES == 6
