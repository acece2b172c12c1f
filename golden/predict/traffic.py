"""Beats that a command reads from memory and writes to it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from arch.command import WORDS, Phase
from arch.config import Config
from golden.machine import Work
from golden.vector.traffic import vector_traffic
from golden.waits import is_vector


@dataclass(frozen=True)
class Traffic:
    """Beats by purpose.

    Attributes:
        commands, headers: the program itself, and the counts of regions.
        operands: gathered and stationary operands, gates.
        weights: masks and values read.
        vector: operands and records that vector commands read.
        results: activations and gradients written, those of vector commands too, and records.
        blocks: weights written, headers included.
    """

    commands: int = 0
    headers: int = 0
    operands: int = 0
    weights: int = 0
    vector: int = 0
    results: int = 0
    blocks: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        """Both together."""
        return Traffic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Traffic)))

    @property
    def read(self) -> int:
        """Beats read."""
        return self.commands + self.headers + self.operands + self.weights + self.vector

    @property
    def written(self) -> int:
        """Beats written."""
        return self.results + self.blocks


def traffic(cfg: Config, work: Work) -> Traffic:
    """What a command moves."""
    c, commands = work.command, -(-WORDS // cfg.words_per_beat)
    if is_vector(c):
        read, written = vector_traffic(cfg, c)
        return Traffic(2 * commands, vector=read - commands, results=written)  # the reader fetches it, and the stage
    phase = Phase(c["phase"])
    headers = c["segments"] * c["header_beats"] if c.get("plan") else 0
    operands = c["x_runs"] * c["x_run"] if c.get("load_x") else 0
    if c.get("load_aux") and phase != Phase.NOP:
        operands += c["aux_runs"] * c["aux_run"]
    results = blocks = 0
    if c.get("drain") and phase == Phase.WU:
        blocks = c["header_beats"] + len(work.drained) * c["mask_beats"] + sum(work.drained)
    elif c.get("drain"):
        results = c["positions"] * c["out_run"]
    return Traffic(commands, headers, operands, sum(work.totals), 0, results, blocks)
