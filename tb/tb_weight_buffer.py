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

Cycle = dict[str, int]
INPUTS = ("bank", "load_start", "mask_we", "value_we", "load_data", "load_offsets", "mask_en", "mask_beat",
          "mask_lane", "value_en", "value_address")  # fmt: skip
MaskRead = tuple[int, int, int]


class Model:
    """Two banks and the read pipelines; `step` advances a cycle."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.value_bits = (cfg.value_beats * cfg.values_per_beat).bit_length() - 1
        self.masks: list[list[list[MaskRead]]] = [
            [[(0, 0, 0)] * cfg.masks_per_beat for _ in range(cfg.mask_beats)] for _ in range(2)
        ]
        self.values = [[0] * (cfg.value_beats * cfg.values_per_beat) for _ in range(2)]
        self.reset()

    def reset(self) -> None:
        """Pointers to zero; what is under way is unknown."""
        self.mask_beats = self.value_beats = 0
        self.mask_1: MaskRead | None = None
        self.mask_2: MaskRead | None = (0, 0, 0)
        self.value_1: int | None = None
        self.value_2: int | None = 0

    def shows(self) -> dict[str, int]:
        """Outputs of this cycle that are known."""
        cfg = self.cfg
        full = {
            "mask_full": int(self.mask_beats == cfg.mask_beats),
            "value_full": int(self.value_beats == cfg.value_beats),
        }
        masks = dict(zip(("mask", "offset", "base"), self.mask_2, strict=True)) if self.mask_2 is not None else {}
        return full | masks | ({"value": self.value_2} if self.value_2 is not None else {})

    def step(self, i: Cycle) -> None:
        """One cycle with the inputs `i`."""
        cfg, bank = self.cfg, i["bank"]
        if i["mask_en"]:
            self.mask_2, self.mask_1 = self.mask_1, self.masks[bank][i["mask_beat"]][i["mask_lane"]]
        if self.value_1 is not None:
            self.value_2 = self.value_1
        self.value_1 = self.values[bank][i["value_address"]] if i["value_en"] else None
        if i["mask_we"] and self.mask_beats < cfg.mask_beats:
            self.masks[1 - bank][self.mask_beats] = [
                (
                    i["load_data"] >> lane * cfg.mask_bits & (1 << cfg.mask_bits) - 1,
                    i["load_offsets"] >> lane * (self.value_bits + 1) & (1 << self.value_bits) - 1,
                    self.value_beats % cfg.value_beats,
                )
                for lane in range(cfg.masks_per_beat)
            ]
            self.mask_beats += 1
        if i["value_we"] and self.value_beats < cfg.value_beats:
            for lane in range(cfg.values_per_beat):
                value = i["load_data"] >> lane * cfg.delta_bits & (1 << cfg.delta_bits) - 1
                self.values[1 - bank][self.value_beats * cfg.values_per_beat + lane] = value
            self.value_beats += 1
        if i["load_start"]:
            self.mask_beats = self.value_beats = 0


class Bench:
    """Drives cycles and compares; the model lives as long as the simulation's memories."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.cfg, self.rng = dut, tb.config(), np.random.default_rng(tb.seed())
        self.model = Model(self.cfg)
        self.now = 0

    async def cycle(self, **given: int) -> None:
        """One cycle; inputs not given are zero, addresses and data random."""
        cfg, rng, dut = self.cfg, self.rng, self.dut
        inputs = dict.fromkeys(INPUTS, 0) | {
            "load_data": self.bits(cfg.beat_bits),
            "load_offsets": self.bits(len(dut.load_offsets)),
            "mask_beat": int(rng.integers(0, cfg.mask_beats)),
            "mask_lane": int(rng.integers(0, cfg.masks_per_beat)),
            "value_address": int(rng.integers(0, cfg.value_beats * cfg.values_per_beat)),
        }
        inputs |= given
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await RisingEdge(dut.clk)
        for name, value in self.model.shows().items():
            got = int(getattr(dut, name).value)
            assert got == value, f"{name} in cycle {self.now}: {got:#x}, not {value:#x}"
        self.model.step(inputs)
        self.now += 1

    def bits(self, width: int) -> int:
        """A random word."""
        return int.from_bytes(self.rng.bytes(-(-width // 8)), "little") & (1 << width) - 1

    async def fill(self, bank: int, masks: int, values: int) -> None:
        """Load the bank that is not `bank`: so many beats of each kind, in random order."""
        await self.cycle(bank=bank, load_start=1)
        while masks or values:
            is_mask = masks > 0 and (values == 0 or self.rng.random() < 0.5)
            await self.cycle(bank=bank, mask_we=int(is_mask), value_we=int(not is_mask))
            masks, values = masks - is_mask, values - (not is_mask)

    async def read_all(self, bank: int) -> None:
        """Every mask word and every value, in random order, the pipeline never idle."""
        cfg = self.cfg
        words = self.rng.permutation(cfg.mask_beats * cfg.masks_per_beat).tolist()
        places = self.rng.permutation(cfg.value_beats * cfg.values_per_beat).tolist()
        for n in range(max(len(words), len(places)) + 3):
            beat, lane = divmod(words[n % len(words)], cfg.masks_per_beat)
            given = {"mask_beat": beat, "mask_lane": lane, "value_address": places[n % len(places)]}
            await self.cycle(bank=bank, mask_en=1, value_en=1, **given)


async def start(dut: Any) -> Bench:
    """A bench in reset state; the memories are zero again, whatever ran before."""
    bench = Bench(dut)
    for name in INPUTS:
        getattr(dut, name).value = 0
    await tb.start(dut)
    for bank in (0, 1):
        await bench.cycle(bank=bank, load_start=1)
        for _ in range(max(bench.cfg.mask_beats, bench.cfg.value_beats)):
            await bench.cycle(bank=bank, mask_we=1, value_we=1)
        bench.model.reset()
        await tb.reset(dut, 1)
    return bench


@cocotb.test()
async def every_place(dut: Any) -> None:
    """Both banks to the last beat; every word and value is read from its place; a surplus beat goes nowhere."""
    bench = await start(dut)
    cfg = bench.cfg
    for bank in (0, 1):
        await bench.fill(bank, cfg.mask_beats, cfg.value_beats)
        assert bench.model.shows()["mask_full"] and bench.model.shows()["value_full"]
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
            bank = 1 - bank
        chance = rng.random(5)
        strobes = {
            "mask_we": int(chance[0] < share),
            "value_we": int(chance[1] < share),
            "mask_en": int(chance[2] < share),
            "value_en": int(chance[3] < share),
            "load_start": int(chance[4] < 0.01),
        }
        await bench.cycle(bank=bank, **strobes)
        flips = {name: flips[name] + bench.model.shows()[name] for name in flips}
    assert min(flips.values()) > 10


@cocotb.test()
async def outputs_hold(dut: Any) -> None:
    """The mask pipeline stands while mask_en is low; a value stays until the next value_en."""
    bench = await start(dut)
    await bench.fill(0, 8, 8)
    for pause in range(6):
        for _ in range(5):
            await bench.cycle(bank=1, mask_en=1, value_en=1, mask_beat=int(bench.rng.integers(0, 4)))
            for _ in range(pause):
                await bench.cycle(bank=1)


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Reset empties the bank that is written and clears the outputs; what the banks hold stays."""
    bench = await start(dut)
    for n in range(8):
        await bench.fill(n % 2, 3 + n, 5)
        for _ in range(n % 4):
            await bench.cycle(bank=1 - n % 2, mask_en=1, value_en=1)
        dut.mask_we.value = dut.value_we.value = 0
        await tb.reset(dut, 1)
        bench.model.reset()
        await bench.cycle(bank=n % 2, mask_we=1, value_we=1)
        await bench.read_all(1 - n % 2)
