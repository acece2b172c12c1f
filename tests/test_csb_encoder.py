"""CSB encoder: the Verilated update buffer against the golden encoding of the same records."""

import pytest

from arch.config import PRESETS
from rtl.csb_encoder import CsbEncoder, record_info
from rtl.lane_tally import words_per_cycle
from scripts.simulate import run_bench
from tb.block_model import info_bits

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "copies": PRESETS["tiny"].with_(copies=True),
    "small": PRESETS["small"].with_(mask_beats=16, value_beats=32),
    "wide": PRESETS["tiny"].with_(columns=8, mask_beats=16),
    "two": PRESETS["tiny"].with_(mask_bits=64, block_k=8, lane_group=4, value_beats=128),
    "tiny8": PRESETS["tiny"].with_(operand_bits=8, mask_bits=64, block_k=4, mask_beats=16, value_beats=32),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_drain_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    parameters = {"config": cfg, "latency": CsbEncoder.latency(cfg)}
    results = run_bench(lambda: CsbEncoder(cfg), "csb_encoder", "tb.tb_csb_encoder", parameters=parameters)
    assert results.tests == 6


def test_configurations_cover_the_extremes() -> None:
    """A beat as narrow as a mask word has no lanes to choose from, one of a group no groups; others have several."""
    shapes = {(cfg.masks_per_beat, words_per_cycle(cfg)) for cfg in CONFIGS.values()}
    assert shapes == {(1, 1), (2, 2), (8, 4), (16, 4)}


def test_constants() -> None:
    assert {name: CsbEncoder.latency(cfg) for name, cfg in CONFIGS.items()} == dict.fromkeys(CONFIGS, 2) | {"copies": 3}
    for cfg in CONFIGS.values():
        assert tuple(record_info(cfg).members.values()) == info_bits(cfg)
