"""Row walker: the Verilated unit against the order of words, cycle by cycle."""

import pytest
from amaranth.lib.data import StructLayout

from arch.config import PRESETS
from rtl.row_coordinates import cb_bits, channel_bits, entry_depth, kb_bits, slot_bits, walk_layout, word_bits
from rtl.row_walker import RowWalker
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "small": PRESETS["small"],
    "eight": TINY.with_(operand_bits=8, bus_elements=4, mask_bits=64, block_k=8, lane_group=1),
    "two": TINY.with_(columns=2, mask_bits=64, block_k=1, lane_group=4, gather_depth=512, psum_depth=256),
    "narrow": TINY.with_(operand_bits=8, bus_elements=4, block_k=16, lane_group=1, gather_depth=512, psum_depth=256),
}


def places(layout: StructLayout) -> dict[str, tuple[int, int]]:
    """Low bit and width of every field."""
    return {name: (field.offset, field.width) for name, field in layout}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_model(name: str) -> None:
    cfg = CONFIGS[name]
    given = {"config": cfg, "layout": places(walk_layout(cfg))}
    assert run_bench(lambda: RowWalker(cfg), "row_walker", "tb.tb_row_walker", parameters=given).tests == 5


def test_widths() -> None:
    assert (slot_bits(TINY), channel_bits(TINY), kb_bits(TINY), cb_bits(TINY), word_bits(TINY)) == (6, 7, 13, 11, 8)
    assert kb_bits(CONFIGS["two"]) == 14 and cb_bits(CONFIGS["narrow"]) == 14
    assert word_bits(CONFIGS["two"]) == 6  # 32 beats of one word, whose lane has a bit all the same
    assert word_bits(PRESETS["paper"]) == 8  # a record has no more than 255 words


def test_list_holds_what_the_other_memories_hold() -> None:
    assert entry_depth(TINY) == 32  # mask beats
    assert entry_depth(TINY.with_(lane_group=1)) == 64  # partial sums
    assert entry_depth(TINY.with_(sparse=False, value_beats=256)) == 128  # words of 16 values
    assert entry_depth(PRESETS["paper"].with_(sparse=False)) == 64  # words of two beats
    assert entry_depth(PRESETS["paper"].with_(sparse=False, mask_bits=16)) == 128  # records of a beat


def test_latency_constant() -> None:
    assert RowWalker.LATENCY == 2
