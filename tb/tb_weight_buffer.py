"""Bench of the weight buffer: every output of every cycle against two arrays and two delays.

The model keeps what a bank holds, with what earlier working sets left in it, so that a write at a wrong place is
seen wherever it went. After reset a read is compared once it has passed the whole pipeline.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.config import Config
from tb.record_model import offset_bits

Cycle = dict[str, int]
INPUTS = ("bank", "load_start", "mask_we", "value_we", "load_exact", "load_data", "load_before", "load_offsets",
          "mask_en", "mask_read", "mask_beat", "mask_lane", "exact", "value_en", "value_address")  # fmt: skip
MaskRead = tuple[int, int, int]


class Model:
    """Two banks and the read pipelines; `step` advances a cycle."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.offset_bits = offset_bits(cfg)
        self.masks: list[list[list[MaskRead]]] = [
            [[(0, 0, 0)] * cfg.masks_per_beat for _ in range(cfg.mask_beats)] for _ in range(2)
        ]
        # Halves of values: the low ones of all beats of a bank, then the high ones.
        self.halves = [[0] * (2 * cfg.value_beats * cfg.values_per_beat) for _ in range(2)]
        self.reset()

    def reset(self) -> None:
        """Pointers to zero; what is under way is unknown."""
        self.mask_beats = self.value_beats = 0
        self.mask_1: MaskRead | None = None
        self.mask_2: MaskRead | None = None
        self.value_1: tuple[int, int] | None = None  # value, and which of its bits are known
        self.value_2 = (0, 0)

    def shows(self, exact: int) -> dict[str, int]:
        """Outputs of this cycle that are known, with `load_exact`; of the value, those bits that are."""
        full = {"mask_full": int(self.mask_beats == self.cfg.mask_beats), "value_full": int(self.value_full(exact))}
        masks = dict(zip(("mask", "offset", "base"), self.mask_2, strict=True)) if self.mask_2 is not None else {}
        return full | masks | {"value": self.value_2[0]}

    def value_full(self, exact: int) -> bool:
        """Whether the bank that is loaded has no room for another value beat."""
        return self.value_beats >= (1 if exact else 2) * self.cfg.value_beats

    def step(self, i: Cycle) -> None:
        """One cycle with the inputs `i`."""
        cfg, bank = self.cfg, i["bank"]
        if i["mask_en"]:
            self.mask_2 = self.mask_1
            self.mask_1 = self.masks[bank][i["mask_beat"]][i["mask_lane"]] if i["mask_read"] else None
        if self.value_1 is not None:
            self.value_2 = self.value_1
        place, top = i["value_address"], cfg.value_beats * cfg.values_per_beat
        low = self.halves[bank][place]
        exact = (self.halves[bank][place % top + top] << cfg.operand_bits | self.halves[bank][place % top], -1)
        self.value_1 = None if not i["value_en"] else exact if i["exact"] else (low, (1 << cfg.operand_bits) - 1)
        if i["mask_we"] and self.mask_beats < cfg.mask_beats:
            self.masks[1 - bank][self.mask_beats] = [
                (
                    i["load_data"] >> lane * cfg.mask_bits & (1 << cfg.mask_bits) - 1,
                    i["load_offsets"] >> lane * self.offset_bits & (1 << self.offset_bits) - 1,
                    (self.value_beats * cfg.values_per_beat + i["load_before"])
                    % (2 * cfg.value_beats * cfg.values_per_beat),
                )
                for lane in range(cfg.masks_per_beat)
            ]
            self.mask_beats += 1
        if i["value_we"] and not self.value_full(i["load_exact"]):
            beat, half = self.value_beats, (1 << cfg.operand_bits) - 1
            for lane in range(cfg.values_per_beat):
                value = i["load_data"] >> lane * cfg.delta_bits
                place = beat * cfg.values_per_beat + lane
                if i["load_exact"]:
                    self.halves[1 - bank][place] = value & half
                    self.halves[1 - bank][place + top] = value >> cfg.operand_bits & half
                else:
                    self.halves[1 - bank][place] = value >> (beat >= cfg.value_beats) * cfg.operand_bits & half
            self.value_beats += 1
        if i["load_start"]:
            self.mask_beats = self.value_beats = 0


class Bench:
    """Drives cycles and compares; the model lives as long as the simulation's memories."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.cfg, self.rng = dut, tb.config(), np.random.default_rng(tb.seed())
        self.model = Model(self.cfg)
        self.now = self.exact = 0  # `exact`: what is loaded is

    async def cycle(self, **given: int) -> None:
        """One cycle; inputs not given are zero, addresses and data random."""
        cfg, rng, dut = self.cfg, self.rng, self.dut
        inputs = dict.fromkeys(INPUTS, 0) | {
            "load_data": self.bits(cfg.beat_bits),
            "load_before": self.bits(len(dut.load_before)),
            "load_offsets": self.bits(len(dut.load_offsets)),
            "mask_beat": int(rng.integers(0, cfg.mask_beats)),
            "mask_lane": int(rng.integers(0, cfg.masks_per_beat)),
            "value_address": int(rng.integers(0, 2 * cfg.value_beats * cfg.values_per_beat)),
            "exact": int(rng.integers(2)),
            "load_exact": self.exact,
        }
        inputs |= given
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await RisingEdge(dut.clk)
        for name, value in self.model.shows(inputs["load_exact"]).items():
            got = int(getattr(dut, name).value) & (self.model.value_2[1] if name == "value" else -1)
            assert got == value, f"{name} in cycle {self.now}: {got:#x}, not {value:#x}"
        self.model.step(inputs)
        self.now += 1

    def bits(self, width: int) -> int:
        """A random word."""
        return int.from_bytes(self.rng.bytes(-(-width // 8)), "little") & (1 << width) - 1

    async def fill(self, bank: int, masks: int, values: int, exact: int = 0) -> None:
        """Load the bank that is not `bank`: so many beats of each kind, in random order."""
        self.exact = exact
        await self.cycle(bank=bank, load_start=1)
        while masks or values:
            is_mask = masks > 0 and (values == 0 or self.rng.random() < 0.5)
            await self.cycle(bank=bank, mask_we=int(is_mask), value_we=int(not is_mask))
            masks, values = masks - is_mask, values - (not is_mask)

    async def read_all(self, bank: int) -> None:
        """Every mask word and every value, in random order, the pipeline never idle."""
        cfg = self.cfg
        words = self.rng.permutation(cfg.mask_beats * cfg.masks_per_beat).tolist()
        places = self.rng.permutation(2 * cfg.value_beats * cfg.values_per_beat).tolist()
        for n in range(max(len(words), len(places)) + 3):
            beat, lane = divmod(words[n % len(words)], cfg.masks_per_beat)
            for exact in range(2):
                given = {"mask_beat": beat, "mask_lane": lane, "value_address": places[n % len(places)]}
                await self.cycle(bank=bank, mask_en=1, mask_read=1, value_en=1, exact=exact, **given)


async def start(dut: Any) -> Bench:
    """A bench in reset state; the memories are zero again, whatever ran before."""
    bench = Bench(dut)
    for name in INPUTS:
        getattr(dut, name).value = 0
    await tb.start(dut)
    for bank in (0, 1):
        await bench.cycle(bank=bank, load_start=1)
        for _ in range(max(bench.cfg.mask_beats, bench.cfg.rounded_beats)):
            await bench.cycle(bank=bank, mask_we=1, value_we=1)
        bench.model.reset()
        await tb.reset(dut, 1)
    return bench


@cocotb.test()
async def every_place(dut: Any) -> None:
    """Both banks to the last beat; every word and value is read from its place; a surplus beat goes nowhere."""
    bench = await start(dut)
    cfg = bench.cfg
    for n in range(4):
        bank, exact = n % 2, n // 2
        await bench.fill(bank, cfg.mask_beats, cfg.value_beats if exact else cfg.rounded_beats, exact)
        assert bench.model.shows(exact)["mask_full"] and bench.model.shows(exact)["value_full"]
        await bench.cycle(bank=bank, mask_we=1, value_we=1)
        await bench.read_all(1 - bank)
        await bench.read_all(bank)


@cocotb.test()
async def random_traffic(dut: Any) -> None:
    """Reads and writes of both kinds at once, pauses, bank flips, load_start beside writes, both banks overflowing."""
    bench = await start(dut)
    rng, bank, share = bench.rng, 0, 0.5
    flips = {"mask_full": 0, "value_full": 0}
    for n in range(4000):
        if n % 40 == 0:
            share = float(rng.choice([0.1, 0.5, 1.0]))
        if rng.random() < 0.01:
            bank, bench.exact = 1 - bank, int(rng.integers(2))
        chance = rng.random(6)
        strobes = {
            "mask_we": int(chance[0] < share),
            "value_we": int(chance[1] < share),
            "mask_en": int(chance[2] < share),
            "mask_read": int(chance[5] < 0.7),
            "value_en": int(chance[3] < share),
            "load_start": int(chance[4] < 0.01),
        }
        await bench.cycle(bank=bank, **strobes)
        flips = {name: flips[name] + bench.model.shows(bench.exact)[name] for name in flips}
    assert min(flips.values()) > 10


@cocotb.test()
async def outputs_hold(dut: Any) -> None:
    """The mask pipeline stands while mask_en is low; a value stays until the next value_en."""
    bench = await start(dut)
    await bench.fill(0, 8, 8)
    for pause in range(6):
        for _ in range(5):
            given = {"mask_read": 1, "mask_beat": int(bench.rng.integers(0, 4))}
            await bench.cycle(bank=1, mask_en=1, value_en=1, **given)
            for _ in range(pause):
                await bench.cycle(bank=1)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset empties the bank that is written and clears the outputs; what the banks hold stays."""
    bench = await start(dut)
    for n in range(8):
        await bench.fill(n % 2, 3 + n, 5, n // 2 % 2)
        for _ in range(n % 4):
            await bench.cycle(bank=1 - n % 2, mask_en=1, mask_read=1, value_en=1)
        dut.mask_we.value = dut.value_we.value = 0
        await tb.reset(dut, 1)
        bench.model.reset()
        await bench.cycle(bank=n % 2, mask_we=1, value_we=1)
        await bench.read_all(1 - n % 2)
