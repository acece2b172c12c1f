"""Bench of the CSB decoder: every visit of every word, in order, in its cycle.

The model is a list: a word with n visits takes n * U cycles, U its own, one without takes one, and a word that
was there in time begins in the cycle after its predecessor's last. A word without visits that may be passed over and
finds another one under way takes none.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from arch.config import Config

FLAGS = ("issue", "scan", "first", "last", "word_last")
INPUTS = ("visit", "none", "mask", "offset", "tags", "positions", "skip")
Word = dict[str, int]


def visited(word: Word) -> int:
    """Bits of a word that are visited."""
    return 0 if word["none"] else word["visit"]


def cycles_of(word: Word, address_mask: int) -> list[dict[str, int]]:
    """What the decoder shows in the cycles of a word."""
    visit = visited(word)
    bits = [b for b in range(visit.bit_length()) if visit >> b & 1]
    if not bits:
        return [dict(zip(FLAGS, (0, 1, 0, 0, 1), strict=True), tags_out=word["tags"])]
    cycles, positions = [], max(1, word["positions"])
    for bit in bits:
        below = (word["mask"] & ((1 << bit) - 1)).bit_count()
        for u in range(positions):
            cycles.append(
                {
                    "issue": 1,
                    "scan": 0,
                    "first": int(u == 0),
                    "last": int(u == positions - 1),
                    "word_last": int(bit == bits[-1] and u == positions - 1),
                    "tags_out": word["tags"],
                    "bit": bit,
                    "has_value": word["mask"] >> bit & 1,
                    "address": (word["offset"] + below) & address_mask,
                }
            )
    return cycles


async def play(dut: Any, cfg: Config, words: list[Word], gaps: np.ndarray) -> None:
    """Offer words, each after some idle cycles, and compare every cycle."""
    latency, address_latency = tb.parameters()["latency"], tb.parameters()["address_latency"]
    address_mask = cfg.rounded_beats * cfg.values_per_beat - 1
    expected: dict[int, dict[str, int]] = {}
    addresses: dict[int, int] = {}
    offered, idle, now, free = 0, int(gaps[0]) if words else 0, 0, 0
    while offered < len(words) or now < free + 10:
        valid = int(offered < len(words) and idle == 0)
        word = words[offered] if valid else dict.fromkeys(INPUTS, -1)
        dut.valid.value = valid
        for name, value in word.items():
            port = getattr(dut, name)
            port.value = value & ((1 << len(port)) - 1)
        await RisingEdge(dut.clk)
        seen = {name: int(getattr(dut, name).value) for name in FLAGS}
        wanted = expected.get(now, dict.fromkeys(FLAGS, 0))
        seen |= {name: int(getattr(dut, name).value) for name in ("bit", "has_value", "tags_out") if name in wanted}
        assert seen == {n: v for n, v in wanted.items() if n != "address"}, f"cycle {now}: {seen}, not {wanted}"
        if now in addresses:
            got = int(dut.address.value)
            assert got == addresses[now], f"cycle {now}: address {got}, not {addresses[now]}"
        if valid and int(dut.ready.value):
            passed = word["skip"] and not visited(word) and free > now + latency
            start = max(free, now + latency)
            for number, cycle in enumerate([] if passed else cycles_of(word, address_mask)):
                expected[start + number] = cycle
                if cycle.get("has_value"):
                    addresses[start + number + address_latency] = cycle["address"]
                free = start + number + 1
            offered += 1
            idle = int(gaps[offered]) if offered < len(words) else 0
        elif idle:
            idle -= 1
        now += 1


def random_words(
    cfg: Config,
    rng: np.random.Generator,
    count: int,
    density: float,
    extra: float,
    positions: list[int],
    skip: float = 0.5,
) -> list[Word]:
    """Words of which a share of the bits is stored, and visited either if stored or besides; a share may be skipped.

    Some have nothing to visit whatever their bits say.
    """
    words = []
    for _ in range(count):
        stored, others, lanes = (rng.random(cfg.mask_bits) < share for share in (density, extra, 0.7))
        visit = (stored | others) & (lanes | (rng.random() < 0.5))
        words.append(
            {
                "visit": to_int(visit),
                "mask": to_int(stored),
                "tags": int(rng.integers(0, 1 << 16)),
                "positions": int(rng.choice(positions)),
                "skip": int(rng.random() < skip),
                "none": int(not visit.any() or rng.random() < 0.1),
                "offset": int(rng.integers(0, cfg.rounded_beats * cfg.values_per_beat)),
            }
        )
    return words


def to_int(bits: np.ndarray) -> int:
    """Bits as a number, the first lowest."""
    return int("".join("1" if b else "0" for b in bits[::-1]), 2)


@cocotb.test()
async def random_streams(dut: Any) -> None:
    """All densities and numbers of positions, with and without gaps in the stream."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    for positions in ([1], [2], [3], [7], [0, 1, 2, 3], [1, 9]):
        for density, extra in ((0.02, 0), (0.1, 0), (0.02, 0.02), (0.5, 0.2)):
            skip = float(rng.choice([0, 0.5, 1]))
            words = random_words(cfg, rng, 60 // positions[-1], density, extra, positions, skip)
            gaps = rng.integers(0, 12, len(words)) * (rng.random(len(words)) < rng.choice([0, 0.3]))
            await play(dut, cfg, words, gaps)


@cocotb.test()
async def corner_words(dut: Any) -> None:
    """Empty, full and single-bit words in every order of two, one and two positions or both, the most, no gap."""
    cfg = tb.config()
    await tb.start(dut)
    full, top = (1 << cfg.mask_bits) - 1, 1 << cfg.mask_bits - 1
    corners = [(0, 0), (0, full), (full, full), (full, 0), (1, full), (top, full), (top, top), (top | 1, 1)]
    for positions in ([1], [2], [1, 2], [2, 1, 1], [cfg.psum_depth]):
        words = [
            {
                "visit": visit,
                "mask": mask,
                "offset": n,
                "tags": n & 0xFFFF,
                "positions": positions[n % len(positions)],
                "skip": n % 3 % 2,
                "none": int(visit == 0),
            }
            for n, (visit, mask) in enumerate(w for a in corners for b in corners for w in (a, b))
            if positions[0] < 3 or (visit.bit_count() == 1 and n < 20)
        ]
        await play(dut, cfg, words, np.zeros(len(words), int))
    common = {"mask": full, "offset": 0, "positions": 1, "skip": 1, "none": 0}
    every_bit = [{"visit": 1 << n, "tags": n, **common} for n in range(cfg.mask_bits)]
    await play(dut, cfg, every_bit, np.zeros(len(every_bit), int))


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """Whatever the decoder was doing, after reset it does nothing and then starts afresh."""
    cfg = tb.config()
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    for busy in range(1, 9):
        dut.positions.value, dut.none.value = 2, 0
        dut.valid.value, dut.visit.value, dut.mask.value = 1, (1 << cfg.mask_bits) - 1, 0
        for _ in range(busy):
            await RisingEdge(dut.clk)
        dut.valid.value = 0
        await tb.reset(dut, 1)
        await play(dut, cfg, random_words(cfg, rng, 5, 0.3, 0, [1 + busy % 3, 1]), np.arange(5) % 3)
