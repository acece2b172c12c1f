"""Bench of weight regeneration, against `golden.regenerate`, with gaps: what is presented without enable must leave no
mark. What is hashed for `rtl.exploration` is in `tb.tb_exploration`.
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
        k[1], c[1], tap[1], k[2], c[2], tap[2] = 0, 0, 0, 8191, 8191, 63
        enable = rng.random(count) < rng.choice([0.3, 0.9, 1.0])
        enable[0] = False  # the scale stands a cycle before it is used
        enable[count - latency :] = False
        weights = regenerate.initial(k, c, tap, salt, scale, cfg.operand_bits)
        for now in range(count + 8):
            dut.hash_enable.value = int(now >= count)  # only a hash: the weight shown stays
            if now >= count:
                dut.enable.value = 0
                await RisingEdge(dut.clk)
                assert dut.w0.value.to_signed() == shown, f"scale {scale}, hash {now - count}"
                continue
            dut.enable.value = int(enable[now])
            dut.k.value, dut.c.value, dut.tap.value = int(k[now]), int(c[now]), int(tap[now])
            if now >= latency and enable[now - latency]:
                shown = int(weights[now - latency])
            await RisingEdge(dut.clk)
            assert dut.w0.value.to_signed() == shown, f"scale {scale}, cycle {now}"
            if int(dut.factor_enable.value):  # what multiplies stands beside
                assert scale, "nothing is multiplied by zero"
                dut.scaled.value = dut.factor.value.to_signed() * scale
