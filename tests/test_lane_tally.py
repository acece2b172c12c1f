"""Lane tally: the Verilated counters against plain ones, as tight as the documented spacing allows."""

import pytest

from arch.config import PRESETS
from rtl.lane_tally import LaneTally
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "half": PRESETS["small"].with_(mask_bits=32, lane_group=2),
    "one_lane": TINY.with_(block_k=1, lane_group=1),
    "one_group": TINY.with_(operand_bits=8, bus_elements=2, mask_bits=64, block_k=4, lane_group=16),
    "two_masks": TINY.with_(mask_bits=64, block_k=8, lane_group=4),
    "two_words": TINY.with_(gather_depth=32, block_k=1, lane_group=4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_counts(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: LaneTally(cfg), "lane_tally", "tb.tb_lane_tally", parameters={"config": cfg}).tests == 5


def test_configurations_cover_the_extremes() -> None:
    shapes = {(cfg.masks_per_beat, cfg.groups_per_word) for cfg in CONFIGS.values()}
    assert {1} == {per for per, groups in shapes if groups == 1} and (8, 16) in shapes
    assert {1, 2, 8, 16} == {per for per, _ in shapes}
    assert LaneTally.READ_LATENCY == 1
