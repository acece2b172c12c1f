"""CSB encoder: the Verilated update buffer against the golden encoding of the same records."""

import pytest

from arch.config import PRESETS
from rtl.csb_encoder import CsbEncoder, record_info
from scripts.simulate import run_bench
from tb.block_model import info_bits

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "small": PRESETS["small"].with_(mask_beats=16, value_beats=32),
    "tiny8": PRESETS["tiny"].with_(operand_bits=8, mask_bits=64, block_k=4, mask_beats=16, value_beats=32),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_drain_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: CsbEncoder(cfg), "csb_encoder", "tb.tb_csb_encoder", parameters={"config": cfg})
    assert results.tests == 6


def test_one_mask_word_a_beat_is_covered() -> None:
    """A beat as narrow as a mask word has no lanes to choose from: the corner case of the writes."""
    assert CONFIGS["tiny8"].masks_per_beat == 1
    assert CONFIGS["tiny"].masks_per_beat > 1


def test_constants() -> None:
    assert CsbEncoder.LATENCY == 2
    for cfg in CONFIGS.values():
        assert tuple(record_info(cfg).members.values()) == info_bits(cfg)
