"""Bits of memory in a build, by buffer: both banks of everything that holds operands, weights or sums.

Left out is what is small or says where things are: row lists, tables of the balancer, counts beside mask words.
"""

from __future__ import annotations

from arch.config import Config

GATE_BANKS = 4


def buffer_bits(cfg: Config) -> dict[str, int]:
    """Bits by buffer, of the whole array."""
    pes, wide = cfg.rows * cfg.columns, 2 * cfg.operand_bits
    out = {
        "gathered operands": pes * 2 * cfg.gather_depth * cfg.operand_bits,
        "stationary operands": pes * 2 * cfg.psum_depth * wide,
        "partial sums": pes * 2 * cfg.psum_depth * cfg.acc_bits,
        "weights": cfg.rows * 2 * cfg.value_beats * cfg.beat_bits,
        "updated weights": cfg.rows * 2 * cfg.value_beats * cfg.beat_bits,
        "gradients": cfg.rows * cfg.gradients * cfg.acc_bits,
        "gates": cfg.columns * cfg.bus_elements * GATE_BANKS * cfg.gate_beats,
    }
    if cfg.sparse:
        out["masks"] = cfg.rows * 2 * cfg.mask_beats * cfg.beat_bits
        out["updated masks"] = cfg.rows * 2 * cfg.mask_beats * cfg.beat_bits
    return out
