"""Drainers of new blocks: the Verilated units against golden regions and timing, cycle by cycle."""

import pytest

from arch.config import PRESETS, Config
from golden import writing
from rtl.block_drainer import BlockDrainer
from rtl.dense_drainer import DenseDrainer
from rtl.lane_tally import MOST_WORDS
from rtl.record_fetch import RecordFetch
from rtl.region_walk import RegionWalk, answer_latency
from scripts.simulate import Results, run_bench
from tb import block_model

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "one_mask": TINY.with_(rows=3, operand_bits=8, mask_bits=64, block_k=4, lane_group=8),
    "two_masks": TINY.with_(mask_bits=64, block_k=8, lane_group=4),
    "one_lane": TINY.with_(columns=8, block_k=1, lane_group=1),
    "chain": TINY.with_(rows=7, units=128, copies=True),
    "long_chain": TINY.with_(rows=64, units=256, copies=True),
}


def run(cfg: Config, design: type[BlockDrainer] | type[DenseDrainer], seed: int) -> Results:
    parameters = {"config": cfg}
    return run_bench(lambda: design(cfg), "block_drainer", "tb.tb_block_drainer", parameters=parameters, seed=seed)


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    assert run(CONFIGS[name], BlockDrainer, len(name)).tests == 8


@pytest.mark.parametrize("name", CONFIGS)
def test_dense_unit_equals_model(name: str) -> None:
    assert run(CONFIGS[name].with_(sparse=False), DenseDrainer, len(name)).tests == 8


@pytest.mark.parametrize("seed", (11, 12, 13))
def test_more_seeds(seed: int) -> None:
    cfg = CONFIGS["tiny"]
    parameters = {"config": cfg}
    results = run_bench(
        lambda: BlockDrainer(cfg),
        "block_drainer",
        "tb.tb_block_drainer",
        parameters=parameters,
        seed=seed,
        testcase="random_regions",
    )
    assert results.tests == 1


def test_constants() -> None:
    assert (RegionWalk.START, RegionWalk.HEADER) == (writing.BLOCK_START, writing.BLOCK_HEADER)
    for cfg in CONFIGS.values():
        assert answer_latency(cfg) + 1 == writing.BLOCK_PUSH + writing.hops(cfg)
        assert RecordFetch.depth(cfg) == block_model.records(cfg) >= RecordFetch.ready(cfg)
    assert MOST_WORDS == writing.TALLY_WORDS


def test_configurations_cover_the_extremes() -> None:
    shapes = [(cfg.masks_per_beat, cfg.groups_per_word) for cfg in CONFIGS.values()]
    assert {1, 2, 2 * MOST_WORDS, 4 * MOST_WORDS} == {masks for masks, _ in shapes}
    assert max(groups for _, groups in shapes) == 16
