"""Commands: one working set of one phase of one layer, 64 words of 32 bits.

A *tile* is what a working set computes of a map: positions of some images, rows and columns. The command processor
moves a command through five stages, one slot each: fetch, plan, load, compute, drain. Every field is listed once, in
`FIELDS`; the RTL slices the same table that the golden model packs from. A field that does not fit its bits is
refused here, before it reaches a memory image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

WORDS = 64
MAGIC = 0x5CB1
MOST_KERNEL = 7
"""Rows, and columns, of a filter."""


class Phase(IntEnum):
    """What a working set computes."""

    FW = 0  # gather-MAC, rows own output-channel units
    BW = 1  # gather-MAC on the transposed blocks, rows own lane groups
    WU = 2  # gather-dot, rows own output-channel units, writes the new blocks
    NOP = 3  # computes nothing


class Policy(IntEnum):
    """How units are shared out among the rows."""

    NONE = 0
    PAIR = 1
    LPT = 2


@dataclass(frozen=True)
class Field:
    """Place of one field: `bits` wide, lowest bit `low`, in word `word`."""

    word: int
    low: int
    bits: int


FIELDS: dict[str, Field] = {
    "phase": Field(0, 0, 2),
    "plan": Field(0, 2, 1),  # read headers and share units out, before the load stage
    "load_x": Field(0, 3, 1),  # gathered operand; flips the gather bank
    "load_aux": Field(0, 4, 1),  # WU: stationary operand; FW, BW: ReLU gate
    "load_w": Field(0, 5, 1),  # weights; flips the bank of the weight buffers
    "drain": Field(0, 6, 1),  # FW, BW: write the partial sums; WU: write the new blocks
    "wait": Field(0, 7, 1),  # load only after every earlier working set has drained
    "relu": Field(0, 8, 1),  # FW drain: clip at zero
    "ones": Field(0, 9, 1),  # FW drain: append the constant-one channel (bias)
    "gate": Field(0, 10, 1),  # FW, BW drain: zero where the gate tensor is not positive
    "commit": Field(0, 11, 1),  # after its drain: new exponents, decay, step
    "policy": Field(0, 12, 2),
    "ahead": Field(0, 14, 1),  # plan and load only: what lies there then is for the next command
    "depthwise": Field(0, 15, 1),  # FW, WU: output channel k reads gathered channel k, not c
    "magic": Field(0, 16, 16),
    "x_addr": Field(1, 0, 32),
    "x_run": Field(2, 0, 16),  # beats of a run
    "x_runs": Field(2, 16, 16),  # runs, all rows of them together
    "x_stride": Field(3, 0, 32),  # beats from run to run within a row
    "aux_addr": Field(4, 0, 32),
    "aux_run": Field(5, 0, 16),
    "aux_runs": Field(5, 16, 16),
    "aux_stride": Field(6, 0, 32),
    "w_addr": Field(7, 0, 32),  # first region planned
    "w_stride": Field(8, 0, 32),  # beats from region to region
    "segments": Field(9, 0, 8),  # regions planned
    "header_beats": Field(9, 8, 8),
    "block_rows": Field(9, 16, 16),  # records of a region
    "words": Field(10, 0, 8),  # mask words of a record
    "mask_beats": Field(10, 8, 8),  # mask beats of a record
    "groups": Field(10, 16, 16),  # lane groups of a region
    "c0": Field(11, 0, 16),  # first input channel of segment 0, a multiple of block_c
    "c_step": Field(11, 16, 16),  # input channels of a segment
    "k0": Field(12, 0, 16),  # first output channel, a multiple of block_k
    "segment": Field(12, 16, 8),  # first segment loaded
    "load_segments": Field(12, 24, 8),  # segments loaded
    "k_end": Field(13, 0, 16),  # one past the last valid output channel
    "c_end": Field(13, 16, 16),  # one past the last valid input channel
    "log2_positions": Field(14, 0, 4),  # psum stride of a lane, >= log2 of the positions of the tile
    "log2_lanes": Field(14, 4, 4),  # lanes of a unit: log2 block_k, in BW log2 lane_group + wide
    "log2_cycles": Field(14, 8, 4),  # WU: weight of a visit in `cycles_next`
    "gather_stride": Field(14, 16, 16),  # operands from run to run in the gather bank
    "units": Field(15, 0, 16),  # units shared out
    "cap": Field(15, 16, 16),  # most units of a row
    "out_addr": Field(16, 0, 32),
    "out_run": Field(17, 0, 16),  # beats of one position of the tile
    "out_channels": Field(17, 16, 16),  # channels drained (or loaded as stationary operand)
    "out_stride": Field(18, 0, 32),  # beats from position to position within a row
    "limit": Field(19, 0, 32),  # WU: beats of the output region, header included
    "x_tensor": Field(20, 0, 8),
    "aux_tensor": Field(20, 8, 8),
    "out_tensor": Field(20, 16, 8),
    "salt": Field(21, 0, 32),  # of the layer's weight regeneration
    "scale": Field(22, 0, 16),  # initialiser scale, before decay
    "record0": Field(23, 0, 16),  # first record loaded of every segment (WU: 0)
    "records": Field(23, 16, 16),  # records loaded of every segment (WU: block_rows)
    "positions": Field(24, 0, 16),  # positions of the tile: partial sums drained, or stationary operands, of a channel
    "out_cols": Field(24, 16, 16),  # positions of a row of the tile
    "out_pitch": Field(25, 0, 32),  # beats from row to row
    "x_cols": Field(26, 0, 16),  # runs of a row
    "aux_cols": Field(26, 16, 16),
    "x_pitch": Field(27, 0, 32),  # beats from row to row
    "aux_pitch": Field(28, 0, 32),
    "kernel_rows": Field(29, 0, 4),  # R; a mask word is (tap, block): number = tap << log2_blocks | block
    "kernel_cols": Field(29, 4, 4),  # S
    "log2_blocks": Field(29, 8, 4),
    "bias": Field(29, 12, 1),  # the last input channel is the bias: it exists in tap bias_tap only
    "gradient": Field(29, 13, 1),  # FW drain: what is written is a gradient, with a gradient's range of exponents
    "sum_add": Field(29, 14, 1),  # WU: add the gradients stored by the command before
    "sum_store": Field(29, 15, 1),  # WU: store the gradients, update nothing
    "bias_tap": Field(29, 16, 6),
    "keep": Field(29, 22, 1),  # plan: add up the headers, leave the units where they are
    "wide": Field(29, 23, 1),  # BW: a unit is two lane groups side by side
    "images": Field(30, 0, 16),  # a visit is a box of images x rows x columns; rows and columns depend on its tap
    "gather_image": Field(30, 16, 16),  # operands from image to image in the gather bank
    "gather_row": Field(31, 0, 16),
    "gather_col": Field(31, 16, 16),
    "psum_image": Field(32, 0, 16),  # positions of the tile from image to image (WU: of the stationary operand)
    "psum_row": Field(32, 16, 16),
    "psum_col": Field(33, 0, 16),
    **{
        f"{axis}{tap}_{name}": Field(word + 2 * tap + n // 2, 16 * (n % 2), 16)
        for axis, word in (("row", 34), ("col", 48))
        for tap in range(MOST_KERNEL)
        for n, name in enumerate(("gather", "psum", "count"))  # first operand, first position, how many
    },
}

CONNECTED: dict[str, int] = {
    **dict.fromkeys(("depthwise", "bias", "bias_tap", "gradient", "sum_add", "sum_store"), 0),
    **dict.fromkeys(("kernel_rows", "kernel_cols"), 1),
    "log2_blocks": 8,
}
"""Fields that have one value in all commands of fully connected layers (of a NOP any). A build without maps refuses
others."""

UNMAPPED: dict[str, int] = {
    **dict.fromkeys(("x_pitch", "aux_pitch", "out_pitch", "gather_row", "gather_col"), 0),
    **dict.fromkeys(("psum_image", "psum_row", "psum_col"), 1),
    **{
        f"{axis}{tap}_{name}": int(tap == 0 and name == "count")
        for axis in ("row", "col")
        for tap in range(MOST_KERNEL)
        for name in ("gather", "psum", "count")
    },
}
"""Fields that say where the positions of a map lie. A build without maps does not read them: it takes these values,
those of one tap and one position, and a tile is one row of images."""


def pack(**values: int) -> np.ndarray:
    """Pack fields into the 64 little-endian words of a command; absent fields are zero.

    Returns:
        uint32 array of shape (64,).

    Raises:
        ValueError: an unknown field, or a value that does not fit; both are named.
    """
    return pack_fields(FIELDS, "command", {"magic": MAGIC, **values})


def unpack(words: np.ndarray) -> dict[str, int]:
    """The fields of a packed command."""
    return unpack_fields(FIELDS, words)


def pack_fields(fields: dict[str, Field], what: str, values: dict[str, int]) -> np.ndarray:
    """Pack values into the words of a table of fields; refuses as `pack`, naming `what`."""
    words = np.zeros(WORDS, dtype=np.uint32)
    for name, value in values.items():
        field = fields.get(name)
        if field is None:
            raise ValueError(f"a {what} has no field {name!r}")
        if not 0 <= int(value) < 1 << field.bits:
            raise ValueError(
                f"{what} field {name} = {value} does not fit {field.bits} bits (0 to {(1 << field.bits) - 1})"
            )
        words[field.word] |= np.uint32(int(value) << field.low)
    return words


def unpack_fields(fields: dict[str, Field], words: np.ndarray) -> dict[str, int]:
    """The opposite of `pack_fields`."""
    return {name: (int(words[f.word]) >> f.low) & ((1 << f.bits) - 1) for name, f in fields.items()}
