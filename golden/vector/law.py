"""When a vector command is done: a closed formula of its counts, exact for a memory that never stalls.

Every beat read costs E/V cycles in the lanes; what is done one after the other is added up; the constants
are depths of pipelines.
"""

from __future__ import annotations

from arch.config import Config
from arch.status import Status
from arch.vector import Clip, Op, record_beats
from golden.vector.pool import Windows
from golden.vector.stage import check

SETUP = 7  # exponents, checks
GROUP = 2  # a group begins, and ends
LOAD = 1  # behind the last beat of the records
STORE = 4
UNIT_SPACING = 11  # least cycles an instruction
UNIT = 2
INSTRUCTIONS = {"constant": 10, "forward": 44, "backward": 33, "inference": 29}
WALK = 1  # start of a pass to its first request
WINDOW_WALK = 7
FLUSH = 2  # behind the lanes
LANES = 11  # last element to written beat
REDUCTION = 5  # last element to last sum, less the levels of the tree
SOFTMAX_FLUSH = 12
DIVISION = 29


def passed(command: dict[str, int], beats: int) -> int:
    """Beats read in a pass over `beats` beats of every position."""
    c, op = command, command["op"]
    gate = int(c["gate"] != Clip.NONE)
    if op == Op.AFFINE:
        return c["batches"] * c["positions"] * beats * (1 + gate + c["has_b"])
    if op == Op.REDUCE:
        return c["batches"] * c["positions"] * beats * (1 + gate + c["backward"])
    windows = Windows.of(c)
    if op == Op.POOL:
        return c["batches"] * beats * windows.members()
    positions = windows.in_height * windows.in_width
    if c["average"]:
        reads = windows.members() + positions - windows.covered()
    else:
        reads = positions + sum(len(inside) * (len(inside) + 1) for _, _, inside in windows.outputs())
    return c["batches"] * beats * reads


def cycles(cfg: Config, elements: int, group: int, command: dict[str, int], latency: int) -> int:
    """Cycles from `start` to `done`.

    Args:
        cfg: configuration.
        elements: V.
        group: channels of a group.
        command: fields of the command.
        latency: of the memory.
    """
    c, op = command, command["op"]
    if check(cfg, c) != Status.OK:
        return SETUP
    if op == Op.SOFTMAX:
        return SETUP + _softmax(cfg, c, latency)
    all_beats = -(-c["channels"] // cfg.bus_elements)
    levels = cfg.columns.bit_length() - 1
    chunks = cfg.bus_elements // elements
    walk = WINDOW_WALK if op in (Op.POOL, Op.UNPOOL) else WALK

    def one_pass(beats: int) -> int:
        return walk + latency + passed(c, beats) * chunks + max(LANES, REDUCTION + levels) + FLUSH

    def unit(program: str, channels: int) -> int:
        return INSTRUCTIONS[program] * max(channels, UNIT_SPACING) + UNIT_SPACING + UNIT

    grouped = op in (Op.REDUCE, Op.COEFFICIENTS) or (op == Op.AFFINE and c["records"])
    if not grouped:
        return SETUP + GROUP + unit("constant", 1) + one_pass(all_beats)
    total = SETUP
    for first in range(0, c["channels"], group):
        channels = min(group, c["channels"] - first)
        records = channels * record_beats(cfg.beat_bits)
        total += GROUP + records + latency + LOAD
        if op != Op.COEFFICIENTS:
            total += one_pass(-(-channels // cfg.bus_elements))
        if op != Op.AFFINE:
            program = "inference" if op == Op.COEFFICIENTS else "backward" if c["backward"] else "forward"
            total += unit(program, channels) + records + STORE
    return total


def _softmax(cfg: Config, c: dict[str, int], latency: int) -> int:
    """Labels; twice the logits of every sample and a division; once all of them."""
    elements = -(-c["channels"] // cfg.bus_elements) * cfg.bus_elements
    reading = latency + elements + 1 + SOFTMAX_FLUSH
    sample = 1 + 2 * reading + DIVISION + 1
    writing = 1 + latency + elements * cfg.columns + 1 + SOFTMAX_FLUSH + 1
    samples = (c["batches"] - 1) * cfg.columns + c["valid"]
    last_beat = 2  # behind the last sub-batch: into memory
    return c["batches"] * (1 + latency + writing) + samples * sample + last_beat
