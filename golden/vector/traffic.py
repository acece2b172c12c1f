"""Beats that a vector command reads and writes, the command itself among them."""

from __future__ import annotations

from arch.config import Config
from arch.vector import FIELDS, Op, record_beats
from golden.vector.law import passed


def vector_traffic(cfg: Config, command: dict[str, int]) -> tuple[int, int]:
    """(beats read, beats written) of a command that is done.

    Args:
        cfg: configuration.
        command: fields of `arch.vector`; those left out are zero.
    """
    c = dict.fromkeys(FIELDS, 0) | command
    op, beats = c["op"], -(-c["channels"] // cfg.bus_elements)
    fetched = -(-64 // cfg.words_per_beat)
    if op == Op.SOFTMAX:
        samples = (c["batches"] - 1) * cfg.columns + c["valid"]
        return fetched + c["batches"] * (1 + beats) + 2 * samples * beats, c["batches"] * beats
    records = c["channels"] * record_beats(cfg.beat_bits)
    if op == Op.COEFFICIENTS:
        return fetched + records, records
    reads = fetched + passed(c, beats)
    if op == Op.REDUCE:
        return reads + records, records
    positions = {
        Op.AFFINE: c["positions"],
        Op.POOL: c["out_height"] * c["out_width"],
        Op.UNPOOL: c["in_height"] * c["in_width"],
    }[Op(op)]
    return reads + (records if c["records"] else 0), c["batches"] * positions * beats
