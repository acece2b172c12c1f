"""Weight update: the golden rule against exact fractions, the Verilated unit against the golden rule."""

from fractions import Fraction

import numpy as np
import pytest

from arch.config import PRESETS
from golden.weight_update import update
from rtl.weight_update import VisitDelay, WeightUpdate
from scripts.simulate import run_bench

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "small": PRESETS["small"].with_(lr_bits=16),
    "tiny8": PRESETS["tiny"].with_(operand_bits=8, lr_bits=5),
}
DOT_LATENCY = {"tiny": 6, "small": 7, "tiny8": 3}
LEADS = {"tiny": (7, 2), "small": (0, 0), "tiny8": (1, 5)}  # of visit and delta


def reference(delta: int, g: int, lr: int, shift: int, theta: int, bits: int, dense: bool) -> tuple[int, bool, bool]:
    """The rule in exact fractions; `round` of a Fraction rounds half to even."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    exact = round(Fraction(g * lr) / Fraction(2) ** shift)
    step = min(max(exact, low), high)
    candidate = min(max(delta - step, low), high)
    kept = dense or abs(candidate) > theta
    return (candidate if kept else 0), kept, step != exact or candidate != delta - step


@pytest.mark.parametrize("bits", (16, 32))
def test_golden_is_the_rule(bits: int) -> None:
    rng = np.random.default_rng(bits)
    acc = bits + 16
    for trial in range(40):
        n = 50
        delta = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), n) >> rng.integers(0, bits, n)
        g = rng.integers(-(1 << (acc - 1)), 1 << (acc - 1), n) >> rng.integers(0, acc, n)
        delta[:2], g[:4] = (1 << (bits - 1)) - 1, [(1 << (acc - 1)) - 1, -(1 << (acc - 1)), 0, 1]
        lr, shift = int(rng.integers(1 << (4 + 12 * (trial % 2)))), int(rng.integers(-31, 64))
        theta, dense = int(rng.integers(1 << bits) >> rng.integers(bits)), trial % 5 == 0
        want = [reference(int(d), int(x), lr, shift, theta, bits, dense) for d, x in zip(delta, g, strict=True)]
        got = update(delta, g, lr, shift, theta, bits, dense)
        assert list(zip(*(a.tolist() for a in got), strict=True)) == want


def test_golden_is_elementwise_and_handles_nothing() -> None:
    delta = np.arange(-6, 6).reshape(3, 4)
    new, kept, saturated = update(delta, np.zeros((3, 4), np.int64), 1, 0, 2, 32, False)
    assert new.tolist() == np.where(np.abs(delta) > 2, delta, 0).tolist() and not saturated.any()
    assert kept.tolist() == (np.abs(delta) > 2).tolist()
    assert all(a.shape == (0,) for a in update([], [], 1, 0, 2, 32, False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr_mantissa": -1}, "lr_mantissa must be between 0 and 65535, not -1"),
        ({"lr_mantissa": 65536}, "lr_mantissa must be between 0 and 65535, not 65536"),
        ({"theta": 65536}, "theta must be between 0 and 65535, not 65536"),
        ({"shift": 64}, "shift must be between -31 and 63, not 64"),
    ],
)
def test_golden_refuses(change: dict, message: str) -> None:
    arguments = {"lr_mantissa": 1, "shift": 0, "theta": 0, "delta_bits": 16, "dense": False} | change
    with pytest.raises(ValueError, match=message):
        update([1], [1], **arguments)


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_golden(name: str) -> None:
    cfg, dot_latency, (visit_lead, delta_lead) = CONFIGS[name], DOT_LATENCY[name], LEADS[name]
    results = run_bench(
        lambda: WeightUpdate(cfg, dot_latency, visit_lead, delta_lead),
        "weight_update",
        "tb.tb_weight_update",
        parameters={
            "config": cfg,
            "dot_latency": dot_latency,
            "visit_lead": visit_lead,
            "delta_lead": delta_lead,
        },
    )
    assert results.tests == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightUpdate(PRESETS["tiny"], 2), "dot_latency must be between 3 and 59, not 2"),
        (lambda: WeightUpdate(PRESETS["tiny"], 60), "dot_latency must be between 3 and 59, not 60"),
        (lambda: WeightUpdate(PRESETS["tiny"], 3, -1, 0), "visit_lead must be between 0 and 16, not -1"),
        (lambda: WeightUpdate(PRESETS["tiny"], 3, 0, 17), "delta_lead must be between 0 and 16, not 17"),
        (lambda: VisitDelay(0, 3), "width must be at least 1, not 0"),
        (lambda: VisitDelay(1, 2), "delay must be between 3 and 96, not 2"),
        (lambda: VisitDelay(1, 97), "delay must be between 3 and 96, not 97"),
    ],
)
def test_bad_parameters(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_latency_constant() -> None:
    assert WeightUpdate.LATENCY == 6
