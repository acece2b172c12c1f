"""CSB decoder: the Verilated unit against a list of visits, cycle by cycle."""

import pytest

from arch.config import PRESETS
from rtl.csb_decoder import CsbDecoder
from scripts.simulate import run_bench

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "small": PRESETS["small"],
    "half": PRESETS["small"].with_(mask_bits=32),
    "one_lane": PRESETS["tiny"].with_(block_k=16, lane_group=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_decoder_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    parameters = {"config": cfg, "latency": CsbDecoder.LATENCY, "address_latency": CsbDecoder.ADDRESS_LATENCY}
    assert run_bench(CsbDecoder(cfg, 16), "csb_decoder", "tb.tb_csb_decoder", parameters=parameters).tests == 3


def test_latencies() -> None:
    assert (CsbDecoder.LATENCY, CsbDecoder.ADDRESS_LATENCY) == (2, 3)


def test_tags_are_checked() -> None:
    with pytest.raises(ValueError, match="^tag_bits must be at least 1, not 0$"):
        CsbDecoder(PRESETS["tiny"], 0)
