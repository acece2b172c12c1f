"""Record parser: the model against the golden encoding, the Verilated unit against the model."""

import numpy as np
import pytest

from arch.config import PRESETS
from rtl.record_parser import RecordParser
from scripts.simulate import run_bench
from tb.record_model import offset_bits, parse, random_region, record_stream

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=4),
    "two": TINY.with_(columns=2, mask_bits=64, mask_beats=4, value_beats=4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    results = run_bench(lambda: RecordParser(cfg), "record_parser", "tb.tb_record_parser", parameters={"config": cfg})
    assert results.tests == 6


@pytest.mark.parametrize("name", CONFIGS)
def test_model_counts_what_golden_stores(name: str) -> None:
    cfg, rng = CONFIGS[name], np.random.default_rng(5)
    region = random_region(cfg, rng, 5, cfg.masks_per_beat + 2, 0.2)
    g = region.geometry
    seen = parse(cfg, record_stream(region), g.mask_beats, g.records)
    assert seen[-1].regions == 1 and not any(s.error for s in seen) and all(s.passed for s in seen)
    for record, beats in enumerate(region.value_beats()):
        kinds = [s.is_value for s in seen if s.record == record]
        assert kinds == [False] * g.mask_beats + [True] * int(beats)
    width, room = offset_bits(cfg), cfg.rounded_beats * cfg.values_per_beat
    words = region.per_word().reshape(g.records, g.words)
    before = np.cumsum(words, axis=1) - words
    for record in range(g.records):
        masks = [s for s in seen if s.record == record and not s.is_value]
        got = [s.before + (s.offsets >> i * width & (1 << width) - 1) for s in masks for i in range(cfg.masks_per_beat)]
        assert [n % room for n in got[: g.words]] == (before[record] % room).tolist()


def test_configurations_cover_one_and_many_masks_a_beat() -> None:
    assert {cfg.masks_per_beat for cfg in CONFIGS.values()} == {8, 2, 1}
    assert RecordParser.LATENCY == 2
