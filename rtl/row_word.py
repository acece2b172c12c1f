"""What travels with a mask word through a row, from the walker to the operation."""

from __future__ import annotations

from amaranth.hdl import Cat
from amaranth.lib import data

from arch.config import Config
from rtl.row_coordinates import cb_bits, channel_bits, kb_bits, slot_bits
from rtl.tap_table import TAP_BITS
from rtl.weight_update import word_count_bits


def word_layout(cfg: Config) -> data.StructLayout:
    """What is known of a mask word behind the visiting rule: a part of `walk_layout`, and in WU see `word_end`."""
    return data.StructLayout(
        {
            "slot": slot_bits(cfg),
            "kb": kb_bits(cfg) - 1,  # no word beyond the last channel has visits
            "cb": cb_bits(cfg) - 1,
            "channel": channel_bits(cfg),
            "tap": TAP_BITS,
            "final": 1,
            "null": 1,
        }
    )


def end_layout(cfg: Config) -> data.StructLayout:
    """What a weight update must know of a mask word at its end."""
    return data.StructLayout(
        {
            "void": 1,  # its tap has no positions
            "record_last": 1,
            "next_explored": 1,
            "next_count": word_count_bits(cfg),
        }
    )


def word_end(cfg: Config, word: data.View) -> data.View:
    """The end of a word of WU. It takes the place of the block, which nobody asks for: no weight is regenerated."""
    layout = end_layout(cfg)
    return data.View(layout, Cat(word.kb, word.cb)[: layout.size])
