"""Rounding of stored values to weights, on their way into the rows.

FW and BW multiply by A bits of a value, only WU needs all 2A. A beat is rounded once, where it is loaded, not wherever
a row reads it: rows need no adder for it and hold twice as many values
(docs/decisions/0027-values-rounded-when-loaded.md).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Mux, Value

from arch.config import Config


def rounded(cfg: Config, beat: Value) -> Value:
    """A beat of accumulated updates, each rounded half to even to `operand_bits` and saturated.

    Combinational. Every rounded value stands in both halves of its lane, so that either can be written.

    Args:
        cfg: widths.
        beat: `values_per_beat` values, signed 2A, lowest first.
    """
    bits, top = cfg.operand_bits, (1 << cfg.operand_bits - 1) - 1
    lanes = []
    for lane in range(cfg.values_per_beat):
        value = beat.word_select(lane, cfg.delta_bits)
        whole, fraction = value[bits:], value[:bits]
        up = fraction[-1] & (fraction[:-1].any() | whole[0])
        lanes.append((whole + (up & (whole != top)))[:bits].replicate(2))
    return Cat(lanes)


def held(cfg: Config, beat: Value, exact: Value) -> Value:
    """What rows hold of a value beat: itself if `exact` (WU), otherwise its `rounded` values (FW, BW)."""
    return Mux(exact, beat, rounded(cfg, beat))
