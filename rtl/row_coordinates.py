"""Coordinates by which a row knows its mask words, and how wide they are.

Where a word lies, which channels it is of, where its partial sums are: each of these is as wide as the memory or the
tensor that it counts needs, and every unit of a row and of the loader asks here.
"""

from __future__ import annotations

from amaranth.lib import data

from arch.config import Config, log2_exact
from rtl.exploration import group_bits
from rtl.regenerate import C_BITS, K_BITS
from rtl.tap_table import TAP_BITS
from rtl.weight_buffer import lane_bits, place_bits

#: One bit more than a coordinate has, so that words beyond the last channel do not wrap to the first.
KEY_BITS = max(K_BITS, C_BITS) + 1
COUNT_BITS = 16
WORD_COUNT_BITS = 8
LOG2_BLOCKS_BITS = 4


def entry_depth(cfg: Config) -> int:
    """Entries of a bank.

    A record takes at least one mask beat (dense: the values of a word, in a beat of its own), and a lane group at
    least `lane_group` partial sums, so a working set that fits the other memories fits the list.
    """
    records = cfg.mask_beats if cfg.sparse else min(cfg.rounded_beats, 1 << place_bits(cfg))
    return max(records, cfg.psum_depth // cfg.lane_group)


def base_bits(cfg: Config) -> int:
    """Width of the place of a record in a bank: mask beats before it (dense: words)."""
    return log2_exact(cfg.mask_beats, "mask_beats") if cfg.sparse else place_bits(cfg)


def record_bits(cfg: Config) -> int:
    """Width of the room of a record: mask beats (dense: words, up to a whole beat)."""
    return WORD_COUNT_BITS if cfg.sparse else WORD_COUNT_BITS + 1


def slot_bits(cfg: Config) -> int:
    """Width of a unit's slot in its row: each takes at least one partial sum."""
    return log2_exact(cfg.psum_depth, "psum_depth")


def channel_bits(cfg: Config) -> int:
    """Width of a gather address."""
    return log2_exact(cfg.gather_depth, "gather_depth")


def kb_bits(cfg: Config) -> int:
    """Width of the row of a block."""
    return KEY_BITS - log2_exact(cfg.block_k, "block_k")


def cb_bits(cfg: Config) -> int:
    """Width of the column of a block."""
    return KEY_BITS - log2_exact(cfg.block_c, "block_c")


def word_bits(cfg: Config) -> int:
    """Width of the number of a mask word in its record."""
    room = log2_exact(cfg.mask_beats, "mask_beats") + lane_bits(cfg) if cfg.sparse else place_bits(cfg)
    return min(WORD_COUNT_BITS, room)


def walk_layout(cfg: Config) -> data.StructLayout:
    """What is known of a mask word besides its place."""
    return data.StructLayout(
        {
            "slot": slot_bits(cfg),
            "kb": kb_bits(cfg),
            "cb": cb_bits(cfg),
            "channel": channel_bits(cfg),  # gathered channel of the word's bit 0
            "tap": TAP_BITS,
            "group": group_bits(cfg),  # BW: lane group within the word
            "record_last": 1,  # FW, WU: last word of its record
            "final": 1,  # last word of the working set
            "null": 1,  # not a word: the row has no entry, and this is its end
        }
    )
