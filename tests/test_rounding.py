"""Rounding of values to weights: ties, both ends, and anything, against the golden model's requantisation."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from arch.config import PRESETS, Config
from rtl.rounding import held
from tb.record_model import held as golden_held

TINY = PRESETS["tiny"]
CONFIGS = {"sixteen": TINY, "eight": TINY.with_(operand_bits=8, bus_elements=4)}


def beats(cfg: Config) -> list[int]:
    """Beats of values around ties, around zero and both ends of the range, and random ones."""
    one, top = 1 << cfg.operand_bits, 1 << cfg.delta_bits - 1
    near = np.array([0, one // 2, one, 3 * one // 2, 2 * one, 5 * one // 2, top - one // 2, top - one, top - 1, -top])
    values = [v + d for v in (*near, *-near) for d in (-1, 0, 1) if -top <= v + d < top]
    values += np.random.default_rng(1).integers(-top, top, 400).tolist()
    values += [0] * (-len(values) % cfg.values_per_beat)
    lanes = np.array(values, dtype=object).reshape(-1, cfg.values_per_beat) % (2 * top)
    return [sum(int(v) << i * cfg.delta_bits for i, v in enumerate(beat)) for beat in lanes]


@pytest.mark.parametrize("name", CONFIGS)
def test_rounds_as_the_golden_model(name: str) -> None:
    cfg = CONFIGS[name]
    m, beat, exact, out = Module(), Signal(cfg.beat_bits), Signal(), Signal(cfg.beat_bits)
    m.d.comb += out.eq(held(cfg, beat, exact))
    cases = [(bits, is_exact) for bits in beats(cfg) for is_exact in (0, 1)]
    got = []

    async def bench(ctx) -> None:
        for bits, is_exact in cases:
            ctx.set(beat, bits)
            ctx.set(exact, is_exact)
            got.append(ctx.get(out))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == [golden_held(cfg, bits, bool(is_exact)) for bits, is_exact in cases]
    assert len(cases) > 2 * 400 // cfg.values_per_beat


def test_ties_go_to_even_and_the_largest_stays() -> None:
    one = 1 << TINY.operand_bits
    weights = {one // 2: 0, 3 * one // 2: 2, -one // 2: 0, (1 << 31) - 1: (1 << 15) - 1}
    for value, weight in weights.items():
        assert golden_held(TINY, value % (1 << 32), False) & one - 1 == weight
