"""Bits to and from external memory in a step, and what they would be if initial weights were stored there.

A machine that does not regenerate needs the initial value of every weight that is not tracked. Taken to be stored:
one mantissa of A bits a weight, read beside the masks and values whenever a command loads the region for FW or BW
while initial weights are not zero; the fading by lambda^t is applied on the chip, and nothing is written back.
Everything else stays as it is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arch.command import Phase
from arch.config import Config
from golden import regenerate
from golden.machine import Work
from golden.predict.traffic import traffic
from golden.waits import is_vector


@dataclass(frozen=True)
class Bits:
    """External traffic of a step, bits (means of steps may be broken numbers).

    Attributes:
        weights: masks, values, headers and new blocks.
        activations: activations, gradients, gates; of vector commands too, records among them.
        commands: the program.
        initial: initial weights that are regenerated, if they were read instead; not part of `total`.
    """

    weights: float
    activations: float
    commands: float
    initial: float

    @property
    def total(self) -> float:
        """As counted."""
        return self.weights + self.activations + self.commands

    @property
    def stored(self) -> float:
        """With initial weights in memory."""
        return self.total + self.initial


def of_programs(cfg: Config, programs: Sequence[list[Work]], decay: int) -> Bits:
    """Traffic of a step of so many programs; `decay`: lambda^t (register DECAY)."""
    weights = activations = commands = initial = 0
    for work in (work for works in programs for work in works):
        moved = traffic(cfg, work)
        weights += moved.headers + moved.weights + moved.blocks
        activations += moved.operands + moved.vector + moved.results
        commands += moved.commands
        initial += _initial(cfg, work, decay)
    return Bits(*(beats * cfg.beat_bits for beats in (weights, activations, commands, initial)))


def _initial(cfg: Config, work: Work, decay: int) -> int:
    """Beats of the initial weights of the regions that a command loads for FW or BW."""
    c = work.command
    if is_vector(c) or not c.get("load_w") or c["phase"] not in (Phase.FW, Phase.BW):
        return 0
    if not regenerate.decayed(c.get("scale", 0), decay):
        return 0
    bits = (int(region.geometry.valid.sum()) * cfg.operand_bits for region in work.regions)
    return sum(-(-each // cfg.beat_bits) for each in bits)


def mean(steps: Sequence[Bits]) -> Bits:
    """Of several steps."""
    n = len(steps)
    return Bits(
        sum(s.weights for s in steps) / n,
        sum(s.activations for s in steps) / n,
        sum(s.commands for s in steps) / n,
        sum(s.initial for s in steps) / n,
    )
