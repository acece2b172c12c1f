"""Vector commands: what stands between the convolutions, 64 words of 32 bits each.

Batch normalisation, ReLU, pooling, residual addition, the loss: one command reads one to three
tensors, or walks windows of one, and writes a tensor or the records of its channels. Every field is
listed once, in `FIELDS`. See `docs/vector.md`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from arch import command
from arch.command import Field, pack_fields, unpack_fields

WORDS = command.WORDS
MAGIC = 0x5CB2


class Op(IntEnum):
    """What a vector command computes."""

    AFFINE = 0  # out = A·a + B·b + C, gated, clipped
    REDUCE = 1  # sums of a channel -> its record
    COEFFICIENTS = 2  # coefficients from the running statistics -> record
    POOL = 3  # max or average over windows
    UNPOOL = 4  # its gradient
    SOFTMAX = 5  # cross-entropy: logits and labels -> gradient, loss, right answers


class Clip(IntEnum):
    """Activation function of a result; of a gate: the one whose output the gate tensor is."""

    NONE = 0
    RELU = 1
    RELU6 = 2


FIELDS: dict[str, Field] = {
    "op": Field(0, 0, 4),
    "has_b": Field(0, 4, 1),  # AFFINE: a second operand
    "records": Field(0, 5, 1),  # AFFINE: coefficients from the channels' records, else the constants
    "backward": Field(0, 6, 1),  # REDUCE, AFFINE with records: gradients; all: range of the output's exponent
    "gate": Field(0, 7, 2),  # a `Clip`
    "gate_result": Field(0, 9, 1),  # AFFINE: the gate acts on the result, else on operand a
    "clip": Field(0, 10, 2),  # AFFINE, POOL: a `Clip` of the result
    "average": Field(0, 12, 1),  # POOL, UNPOOL: average, else max
    "ones": Field(0, 13, 1),  # AFFINE, POOL: the last channel of the result is the constant one (bias of what follows)
    "magic": Field(0, 16, 16),
    "a_addr": Field(1, 0, 32),  # UNPOOL: input of the pool. SOFTMAX: logits
    "b_addr": Field(2, 0, 32),  # UNPOOL: gradient of its output. SOFTMAX: labels
    "gate_addr": Field(3, 0, 32),
    "out_addr": Field(4, 0, 32),
    "a_batch": Field(5, 0, 32),  # beats from sub-batch to sub-batch
    "b_batch": Field(6, 0, 32),
    "gate_batch": Field(7, 0, 32),
    "out_batch": Field(8, 0, 32),
    "a_stride": Field(9, 0, 16),  # beats from position to position
    "b_stride": Field(9, 16, 16),
    "gate_stride": Field(10, 0, 16),
    "out_stride": Field(10, 16, 16),
    "a_tensor": Field(11, 0, 8),
    "b_tensor": Field(11, 8, 8),
    "gate_tensor": Field(11, 16, 8),
    "out_tensor": Field(11, 24, 8),
    "batches": Field(12, 0, 16),  # sub-batches
    "valid": Field(12, 16, 8),  # samples of the last one
    "positions": Field(13, 0, 16),  # of a sub-batch
    "channels": Field(13, 16, 16),
    "in_height": Field(14, 0, 8),  # POOL, UNPOOL: of the pool's input
    "in_width": Field(14, 8, 8),
    "out_height": Field(14, 16, 8),  # of its output
    "out_width": Field(14, 24, 8),
    "window_height": Field(15, 0, 4),
    "window_width": Field(15, 4, 4),
    "step": Field(15, 8, 2),
    "padding": Field(15, 10, 1),
    "record_addr": Field(16, 0, 32),
    "a_factor": Field(17, 0, 32),  # constants A, B, C: words of numbers, see WORD_MANTISSA
    "b_factor": Field(18, 0, 32),
    "c_term": Field(19, 0, 32),
    "inverse_count": Field(20, 0, 32),  # 1 / terms of a channel
    "unbias": Field(21, 0, 32),  # terms / (terms - 1)
    "epsilon": Field(22, 0, 32),
    "momentum": Field(23, 0, 32),  # of the running statistics
}

RECORD_WORDS = 16
"""Words of the record of a channel; it begins with a beat and takes whole beats."""

WORD_MANTISSA = 24
"""A word is a number m * 2**e: signed mantissa in bits 23:0, signed exponent in bits 31:24."""


class Word(IntEnum):
    """Words of a record. The first six are numbers; the others are 16- and 32-bit integers, see docs/vector.md."""

    GAMMA = 0
    BETA = 1
    RUNNING_MEAN = 2
    RUNNING_VARIANCE = 3
    MEAN = 4
    RSQRT = 5
    FORWARD_AB = 6  # a in bits 15:0, b in bits 31:16
    FORWARD_C = 7
    FORWARD_Q = 8  # exponent of the sum, bits 15:0
    BACKWARD_AB = 9
    BACKWARD_C = 10
    BACKWARD_Q = 11


FACTOR_BITS = 16  # a and b
TERM_BITS = 32  # c
SUM_BITS = 42  # a·x + b·y + c, and up to 256 products
PLAIN_BITS = 36  # sum of 2**20 operands
SQUARE_BITS = 52  # sum of 2**20 products
MAX_TERMS_LOG2 = 20


def pack(**values: int) -> np.ndarray:
    """Pack fields into the 64 little-endian words of a vector command; absent fields are zero.

    Returns:
        uint32 array of shape (64,).

    Raises:
        ValueError: an unknown field, or a value that does not fit; both are named.
    """
    return pack_fields(FIELDS, "vector command", {"magic": MAGIC, **values})


def unpack(words: np.ndarray) -> dict[str, int]:
    """The fields of a packed vector command."""
    return unpack_fields(FIELDS, words)


def record_beats(beat_bits: int) -> int:
    """Beats of the record of a channel."""
    return -(-32 * RECORD_WORDS // beat_bits)
