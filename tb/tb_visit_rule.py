"""Bench of the visiting rule and of `clip_valid`, as the row controller joins them: bit by bit, combinational."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Timer

import tb
from arch.config import Config

Inputs = dict[str, int]


def visited(cfg: Config, i: Inputs) -> int:
    """The visited bits, from docs/architecture.md, section 4."""
    result = 0
    for bit in range(cfg.mask_bits):
        k, c = divmod(bit, cfg.block_c)
        valid = i["kb"] * cfg.block_k + k < i["k_end"] and i["cb"] * cfg.block_c + c < i["c_end"]
        lane = not i["lanes_only"] or c // cfg.lane_group >> i["wide"] == i["group"] >> i["wide"]
        if valid and lane and (i["everything"] or i["mask"] >> bit & 1):
            result |= 1 << bit
    return result


async def check(dut: Any, cfg: Config, inputs: Inputs) -> int:
    """Compare one set of inputs; the visited bits."""
    for name, value in inputs.items():
        getattr(dut, name).value = value
    await Timer(1, "ns")
    got, want = int(dut.visit.value), visited(cfg, inputs)
    assert got == want, f"{inputs}: {got:#x}, not {want:#x}"
    return want


def random_inputs(cfg: Config, rng: np.random.Generator, **given: int) -> Inputs:
    """Random inputs; ends in the block that is looked at, before it, or anywhere."""
    mask = int.from_bytes(rng.bytes(8), "little") & (1 << cfg.mask_bits) - 1
    if rng.random() < 0.5:
        mask &= int.from_bytes(rng.bytes(8), "little")
    kb, cb = int(rng.integers(0, 8192 // cfg.block_k)), int(rng.integers(0, 8192 // cfg.block_c))
    k_end, c_end = kb * cfg.block_k, cb * cfg.block_c
    k_end += int(rng.choice([rng.integers(0, cfg.block_k + 1), rng.integers(-min(k_end, 9), 99), cfg.block_k]))
    c_end += int(rng.choice([rng.integers(0, cfg.block_c + 1), rng.integers(-min(c_end, 9), 99), cfg.block_c]))
    return {
        "mask": mask,
        "kb": kb,
        "cb": cb,
        "k_end": k_end,
        "c_end": c_end,
        "everything": int(rng.integers(0, 2)),
        "lanes_only": int(rng.integers(0, 2)),
        "group": int(rng.integers(0, cfg.groups_per_word)),
        "wide": int(rng.integers(0, 2)),
    } | given


@cocotb.test()
async def random_words(dut: Any) -> None:
    """Anything."""
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    assert sum([await check(dut, cfg, random_inputs(cfg, rng)) != 0 for _ in range(3000)]) > 300


@cocotb.test()
async def every_edge_and_group(dut: Any) -> None:
    """Every number of valid channels in both directions, every lane group, full and empty masks."""
    cfg, rng = tb.config(), np.random.default_rng(tb.seed())
    full = (1 << cfg.mask_bits) - 1
    for k in range(cfg.block_k + 1):
        for c in range(cfg.block_c + 1):
            group = int(rng.integers(0, cfg.groups_per_word))
            given = {"kb": 3, "cb": 2, "k_end": 3 * cfg.block_k + k, "c_end": 2 * cfg.block_c + c, "group": group}
            seen = await check(dut, cfg, random_inputs(cfg, rng, mask=full, lanes_only=0, everything=0, **given))
            assert seen.bit_count() == k * c
            assert seen == await check(dut, cfg, random_inputs(cfg, rng, mask=0, lanes_only=0, everything=1, **given))
            assert not await check(dut, cfg, random_inputs(cfg, rng, mask=0, everything=0, **given))
            await check(dut, cfg, random_inputs(cfg, rng, lanes_only=1, everything=1, **given))
    whole = {"kb": 0, "cb": 0, "k_end": 65535, "c_end": 65535, "lanes_only": 1, "everything": 1}
    for wide in range(min(2, cfg.groups_per_word)):
        numbers = range(0, cfg.groups_per_word, 1 << wide)
        units = [await check(dut, cfg, random_inputs(cfg, rng, **whole, group=n, wide=wide)) for n in numbers]
        assert sum(units) == full and all(u.bit_count() == cfg.block_k * cfg.lane_group << wide for u in units)
