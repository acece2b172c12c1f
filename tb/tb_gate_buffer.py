"""Bench of the gate buffer: writes and reads at random, in any bank, against a dictionary."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

import tb
from tb.pins import Pins, compare, random_bits

BANKS = 4


@cocotb.test()
async def random_traffic(dut: Any) -> None:
    """A read a cycle, mostly where something was just written; reset in between keeps the contents."""
    await tb.start(dut)
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    pins, memory = Pins(dut, ("read_data",)), {}
    want = None
    places = [(bank, addr) for bank in range(BANKS) for addr in range(cfg.gate_beats)]
    order = [places[i] for i in rng.permutation(len(places))]
    recent = [order[0]]
    for t in range(len(places) + 3000):
        write = t < len(places) or rng.random() < 0.5
        place = order[t] if t < len(places) else places[int(rng.integers(len(places)))]
        near = rng.random() < 0.5  # the cycle after its write, the cycle of its write, or a while ago
        read = recent[int(rng.integers(len(recent)))] if near else order[int(rng.integers(min(t + 1, len(order))))]
        if rng.random() < 0.2:
            read = place
        data = random_bits(rng, cfg.columns * cfg.bus_elements)
        got = await pins.cycle(
            we=int(write), bank=place[0], addr=place[1], data=data, read_bank=read[0], read_addr=read[1],
            rst=int(t % 97 == 96),
        )  # fmt: skip
        compare(t, got, {"read_data": want})
        want = memory.get(read)  # not yet what is written in this very cycle
        if t % 97 == 96:
            want = None
        if write:
            memory[place] = data
            recent = [*recent[-3:], place]
    assert len(memory) == len(places)
