"""Bench of the assignment table: one writer, two independent readers, against a dictionary."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare

BANKS = 4
READERS = ("load", "drain")


@cocotb.test()
async def random_traffic(dut: Any) -> None:
    """Both readers every cycle, often at the place just written; reset in between keeps the contents."""
    await tb.start(dut)
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    pins = Pins(dut, [f"{reader}_{field}" for reader in READERS for field in ("row", "slot")])
    memory: dict[tuple[int, int], tuple[int, int]] = {}
    want: dict[str, int | None] = {}
    places = [(bank, unit) for bank in range(BANKS) for unit in range(cfg.units)]
    order = [places[i] for i in rng.permutation(len(places))]
    before = order[0]
    for t in range(len(places) + 3000):
        write = t < len(places) or rng.random() < 0.5
        place = order[t] if t < len(places) else places[int(rng.integers(len(places)))]
        row, slot = int(rng.integers(cfg.rows)), int(rng.integers(cfg.units))
        reads = {
            reader: (place, before, order[int(rng.integers(min(t + 1, len(order))))])[int(rng.integers(3))]
            for reader in READERS
        }
        reset = t % 97 == 96
        got = await pins.cycle(
            we=int(write), bank=place[0], unit=place[1], row=row, slot=slot, rst=int(reset),
            **{f"{reader}_bank": bank for reader, (bank, _) in reads.items()},
            **{f"{reader}_unit": unit for reader, (_, unit) in reads.items()},
        )  # fmt: skip
        compare(t, got, want)
        want = {}
        for reader, read in reads.items():
            known = None if reset else memory.get(read)  # not yet what is written in this very cycle
            want |= {f"{reader}_row": known and known[0], f"{reader}_slot": known and known[1]}
        if write:
            memory[place] = (row, slot)
            before = place
    assert len(memory) == len(places)
