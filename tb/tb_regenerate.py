"""Benches of weight regeneration and of rotating exploration, against `golden.regenerate`.

Both units are played with gaps: what is presented without enable must leave no mark.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

import tb
from golden import regenerate

CYCLES = 3000


@cocotb.test()
async def regenerated_weights(dut: Any) -> None:
    """Random positions with gaps under several salts and scales; latency and hold, every cycle."""
    cfg, latency = tb.config(), tb.parameters()["latency"]
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    shown = 0
    for scale in (65535, 1, 0, 2047, 2048, 30000, 0, 3, 12345):
        salt = int(rng.integers(0, 1 << 32))
        dut.salt.value, dut.scale_t.value = salt, scale
        count = CYCLES // 9
        k, c, tap = (rng.integers(0, 1 << bits, count) for bits in (13, 13, 6))
        k[0], c[0], tap[0], k[1], c[1], tap[1] = 0, 0, 0, 8191, 8191, 63
        enable = rng.random(count) < rng.choice([0.3, 0.9, 1.0])
        enable[count - latency :] = False
        weights = regenerate.initial(k, c, tap, salt, scale, cfg.operand_bits)
        for now in range(count):
            dut.enable.value = int(enable[now])
            dut.k.value, dut.c.value, dut.tap.value = int(k[now]), int(c[now]), int(tap[now])
            if now >= latency and enable[now - latency]:
                shown = int(weights[now - latency])
            await RisingEdge(dut.clk)
            assert dut.w0.value.to_signed() == shown, f"scale {scale}, cycle {now}"


@cocotb.test()
async def explored_words(dut: Any) -> None:
    """Random words under every period, with the pipeline held at random."""
    latency = tb.parameters()["latency"]
    rng = np.random.default_rng(tb.seed())
    await tb.start(dut)
    for log2_period in range(7):
        for step in (0, 63, 64, int(rng.integers(0, 1 << 20))):
            dut.step.value, dut.log2_period.value = step & 63, log2_period
            words: list[tuple[int, int, int]] = []
            for _ in range(CYCLES // 28):
                word = tuple(int(n) for n in rng.integers(0, [1 << 13, 1 << 13, 64]))
                enable = int(rng.random() < 0.7)
                dut.enable.value = enable
                dut.kb.value, dut.cb.value, dut.tap.value = word
                await RisingEdge(dut.clk)
                if len(words) >= latency:
                    for name, at in (("explored", step), ("explored_next", step + 1)):
                        wanted = bool(regenerate.explored(*words[-latency], at, 1 << log2_period))
                        assert int(getattr(dut, name).value) == wanted, f"{name} of {words[-latency]}, step {at}"
                if enable:
                    words.append(word)
