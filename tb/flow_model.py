"""Model of the drain of partial sums: what each element becomes, and when it passes each place.

Contents and addresses come from the golden model; the cycles of a run without pauses do too (the bench compares
them), those with pauses follow from one rule: only the first element of a beat waits for room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arch.command import Phase
from arch.config import Config
from golden.requantise import requantise
from golden.writing import FLOW_PUSH, flow_writes, hops
from tb.command_rules import Command, good
from tb.script import Script

SIDE = 2  # element's turn -> address of its sum at the rows
SIDE_DATA = SIDE + 3  # the row has a register in front of its memories, and there is one behind it
GATE = 4  # its word is there a cycle before the sum: a register picks the bits
SHIFT_NEEDED = 8
DONE = 1  # last push -> done


@dataclass
class FlowJob:
    """One working set to drain.

    Attributes:
        command: what the drain stage is told.
        shift, ones: of the requantiser, as signed numbers.
        table: row and slot of every unit.
        sums: (positions, out_channels, columns), signed.
        positive: (positions, channels of all beats, columns): where the gate tensor is positive.
    """

    command: Command
    shift: int
    ones: int
    table: list[tuple[int, int]]
    sums: np.ndarray
    positive: np.ndarray


def random_table(cfg: Config, rng: np.random.Generator, slots: int) -> list[tuple[int, int]]:
    """Places of all units; the first rows * slots units share none, and a slot is less than the number of units."""
    places = rng.permutation(cfg.rows * min(slots, cfg.units))[: cfg.units]
    places = np.resize(places, cfg.units)
    return [(int(p) % cfg.rows, int(p) // cfg.rows) for p in places]


def random_sums(cfg: Config, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Signed numbers of every size, both ends of the range and zeros among them."""
    low, high = -(1 << cfg.acc_bits - 1), (1 << cfg.acc_bits - 1) - 1
    sums = rng.integers(low, high + 1, shape) >> rng.integers(0, cfg.acc_bits, shape)
    special = rng.random(shape) < 0.15
    return np.where(special, rng.choice([low, high, 0, -1, 1, low + 1], shape), sums)


def room_for(cfg: Config, phase: Phase, log2_positions: int, wide: int = 0) -> int:
    """Channels that the rows hold."""
    lanes = cfg.lane_group << wide if phase == Phase.BW else cfg.block_k
    return min(cfg.units, cfg.rows * (cfg.psum_depth // lanes >> log2_positions)) * lanes


def random_job(
    cfg: Config, rng: np.random.Generator, phase: Phase, *, shift: int | None = None, sums: str = "any", **changes: int
) -> FlowJob:
    """Any size up to some beats; `changes` are fields of the command."""
    log2_positions = changes.get("log2_positions", int(rng.integers(0, 3)))
    wide = changes.get("wide", int(phase == Phase.BW and cfg.groups_per_word > 1 and rng.random() < 0.5))
    if "wide" not in changes and room_for(cfg, phase, log2_positions, wide) < max(1, changes.get("out_channels", 0)):
        wide = 0
    most = room_for(cfg, phase, log2_positions, wide)
    ones = int(rng.random() < 0.5)
    channels = changes.get("out_channels", int(rng.integers(1, min(most, 4 * cfg.bus_elements) + 1)))
    assert channels <= most
    run = -(-(channels + changes.get("ones", ones)) // cfg.bus_elements) + int(rng.random() < 0.2)
    fields = dict(
        positions=int(rng.integers(1, (1 << log2_positions) + 1)),
        log2_positions=log2_positions,
        out_channels=channels,
        out_run=max(run, 1),
        out_addr=int(rng.integers(1 << 32)),
        out_stride=int(rng.integers(1 << 32)),
        out_pitch=int(rng.integers(1 << 32)),
        out_cols=int(rng.integers(1, (1 << log2_positions) + 2)),
        relu=int(rng.random() < 0.5),
        gate=int(rng.random() < 0.7),
        gradient=int(rng.random() < 0.3),
        ones=ones,
        wide=wide,
    )
    c = good(cfg, phase, **(fields | changes))
    lanes = 1 << c["log2_lanes"]
    if shift is None:
        shift = int(rng.integers(-31, 64)) if rng.random() < 0.3 else int(rng.integers(0, cfg.acc_bits))
    shape = (c["positions"], channels, cfg.columns)
    every = random_sums(cfg, rng, shape) if sums == "any" else np.full(shape, int(sums))
    return FlowJob(
        command=c,
        shift=shift,
        ones=int(rng.integers(-(1 << cfg.operand_bits - 1), 1 << cfg.operand_bits - 1)),
        table=random_table(cfg, rng, cfg.psum_depth // lanes >> log2_positions),
        sums=every,
        positive=rng.random((c["positions"], c["out_run"] * cfg.bus_elements, cfg.columns)) < 0.5,
    )


def packed(elements: np.ndarray, bits: int) -> int:
    """Numbers one above the other, the first one lowest."""
    return sum((int(x) & (1 << bits) - 1) << i * bits for i, x in enumerate(elements.ravel()))


class FlowModel(Script):
    """One run, stepped cycle by cycle; `step` before the cycle's inputs are driven.

    Attributes:
        done_from: cycle from which the drainer is done; None until the last element had its turn.
        magnitude: OR of the magnitudes of all elements.
    """

    def __init__(self, cfg: Config, job: FlowJob) -> None:
        super().__init__()
        self.cfg, self.job, c = cfg, job, job.command
        backward = c["phase"] == Phase.BW
        self.gated = bool(c["gate"])
        channels, self.data = c["out_run"] * cfg.bus_elements, c["out_channels"]
        x = np.zeros((c["positions"], channels, cfg.columns), np.int64)
        x[:, : self.data] = job.sums
        if c["relu"] and not backward:
            x = np.maximum(x, 0)
        if self.gated:
            x = np.where(job.positive, x, 0)
        values, saturated = requantise(x, job.shift, cfg.operand_bits)
        if c["ones"] and not backward:
            values[:, self.data] = job.ones
        self.magnitude = int(np.bitwise_or.reduce(np.abs(x), axis=None))
        self.saturated = saturated.sum(2).ravel().tolist()
        # Beats: (beat, element, column) -> column above element.
        shape = (-1, cfg.bus_elements, cfg.columns)
        self.beats = [packed(beat.T, cfg.operand_bits) for beat in values.reshape(shape)]
        self.gates = [packed(beat.T, 1) for beat in job.positive.reshape(shape)]
        self.addresses = [int(a) & (1 << 32) - 1 for a in flow_writes(cfg, c).address]
        self.element, self.hops = 0, hops(cfg)
        self.done_from: int | None = None

    def step(self, t: int, room: bool) -> None:
        """Cycle t: an element has its turn, unless it is the first of a beat for which there is no room."""
        cfg, c = self.cfg, self.job.command
        beat, e = divmod(self.element, cfg.bus_elements)
        if t == 0 or beat == len(self.beats) or not (room or e):
            return
        if e == 0:
            self.want[t]["reserve"] = 1
        position, channel = divmod(self.element, c["out_run"] * cfg.bus_elements)
        if channel < self.data:
            unit, lane = divmod(channel, 1 << c["log2_lanes"])
            row, slot = self.job.table[unit]
            address = (slot << c["log2_lanes"] | lane) << c["log2_positions"] | position
            self.want[t]["assign_unit"] = unit
            self.want[t + SIDE] |= {"side_addr": address, "side_clear": 1 << row}
            self.give[t + SIDE_DATA + self.hops]["side_q"] = packed(self.job.sums[position, channel], cfg.acc_bits)
        if self.gated:
            self.want[t + GATE + self.hops]["gate_addr"] = beat
            self.give[t + GATE + self.hops + 1]["gate_q"] = self.gates[beat]
        push = t + FLOW_PUSH + self.hops
        self.want[push]["saturated"] = self.saturated[self.element]
        self.element += 1
        if e == cfg.bus_elements - 1:
            self.want[push] |= {"push": 1, "push_addr": self.addresses[beat], "push_data": self.beats[beat]}
            if beat + 1 == len(self.beats):
                self.done_from = push + DONE
