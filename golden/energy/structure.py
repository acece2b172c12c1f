"""Memories, buses and registers of a build, as far as events of energy touch them.

Shapes are those of the RTL: tests find every memory there and every register counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from arch.config import Config, log2_exact
from golden.writing import mask_group

PLAN_BEATS = 64
GATE_BANKS = 4


@dataclass(frozen=True)
class Shape:
    """A memory.

    Attributes:
        bits: of a word.
        depth: words.
        count: of them in the accelerator.
    """

    bits: int
    depth: int
    count: int = 1


def memories(cfg: Config) -> dict[str, Shape]:
    """Memories by name."""
    pes, rows = cfg.rows * cfg.columns, cfg.rows
    wide = cfg.bus_elements * cfg.operand_bits
    out = {
        "gather": Shape(wide, 2 * cfg.gather_depth // cfg.bus_elements, pes),
        "stationary": Shape(cfg.delta_bits, 2 * cfg.psum_depth, pes),
        "psum": Shape(cfg.acc_bits, cfg.psum_depth, 2 * pes),
        "alive": Shape(1, cfg.psum_depth, 2 * rows),
        "values": Shape(cfg.beat_bits // 2, 2 * cfg.value_beats, 2 * rows),
        "updated values": Shape(cfg.beat_bits, 2 * cfg.value_beats, rows),
        "gradients": Shape(cfg.acc_bits, cfg.gradients, rows),
        "gates": Shape(cfg.columns * cfg.bus_elements, cfg.gate_beats * GATE_BANKS),
        "headers": Shape(cfg.beat_bits, PLAN_BEATS),
    }
    if cfg.sparse:
        # Beside a word the values of the beat before it, beside a beat the place of its first value.
        offset = max(1, (cfg.beat_bits - cfg.mask_bits).bit_length())
        place = log2_exact(cfg.rounded_beats * cfg.values_per_beat, "values of a bank")
        annotated = cfg.masks_per_beat * (cfg.mask_bits + offset) + place
        out["masks"] = Shape(annotated, 2 * cfg.mask_beats, rows)
        group = mask_group(cfg)
        out["updated masks"] = Shape(group * cfg.mask_bits, 2 * cfg.mask_beats * cfg.masks_per_beat // group, rows)
    return out


def control_word(cfg: Config) -> int:
    """Bits that a row broadcasts to its PEs with every operation, the weight among them."""
    word = log2_exact(cfg.gather_depth // cfg.bus_elements, "gather words")
    psum = log2_exact(cfg.psum_depth, "psum_depth")
    return 26 + 2 * word + 5 * psum + log2_exact(cfg.bus_elements, "bus_elements") + cfg.operand_bits


def registers(cfg: Config) -> dict[str, int]:
    """Register bits that an event clocks.

    Those of the PE follow from its schedule. The others were counted in the RTL of preset `paper`, without the output
    registers of memories, and grow with the operands; how a controller's are split between `word` and `visit` is by
    the stages before and behind the decoder.
    """
    a, acc, rows = cfg.operand_bits, cfg.acc_bits, cfg.rows

    def scaled(bits: int) -> int:
        return bits * a // 16

    out = {
        "PE, MAC": 4 * a + 3 * acc,
        "PE, DOT": 4 * a,
        "control word": control_word(cfg),
        "requantiser": scaled(92),
        "regenerate": 132,
        "products": acc + 1 + 2 * max(8, cfg.lr_bits),  # of the multipliers of `update`, which regeneration uses, too
        "update": scaled(406),
        "encoder": 158 if cfg.sparse else 58,
        "tap": 33,
        "vector": scaled(150),
        "word": 634 if cfg.sparse else 190,
        "visit": 534 if cfg.sparse else 303,
    }
    row = sum(out[name] for name in ("word", "visit", "update", "encoder"))
    out["all"] = rows * row + rows * cfg.columns * out["PE, MAC"]
    return out
