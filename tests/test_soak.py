"""Long runs of the whole accelerator in lock-step: many random networks, arrays, schedules; LeNet at 16x16."""

from __future__ import annotations

import numpy as np
import pytest

from arch.command import Policy
from arch.config import Config
from tests.programs import PAPER, SMALL, TINY, Case, train

pytestmark = pytest.mark.soak

ARRAYS: dict[str, Config] = {
    "tiny": TINY,
    "8 bit": TINY.with_(operand_bits=8, bus_elements=4),
    "1x16 blocks": TINY.with_(block_k=1, lane_group=1),
    "4x4 blocks": TINY.with_(block_k=4, lane_group=4),
    "three rows": TINY.with_(rows=3, block_k=8, lane_group=8, mask_bits=64, bus_elements=4),
    "six rows, two columns": TINY.with_(rows=6, columns=2, bus_elements=8, block_k=2),
    "small": SMALL,
}


def random_case(cfg: Config, rng: np.random.Generator) -> Case:
    """Two to five layers of any size, any batch the array takes, any schedule; dense mode now and then."""
    sizes = tuple(int(n) for n in rng.integers(1, 60, rng.integers(2, 6)))
    most = cfg.columns * min(4, cfg.gather_depth // cfg.block_c)
    dense = rng.random() < 0.15
    return Case(
        cfg,
        sizes,
        int(rng.integers(1, most + 1)),
        int(rng.integers(10, 60)),
        budget=None if dense else float(rng.uniform(0.01, 0.7)),
        period=int(2 ** rng.integers(0, 7)),
        decay=float(rng.choice([0.0, 0.5, 0.9, 1.0])),
        policy=Policy(int(rng.integers(0, 3))),
        theta=None if dense else float(rng.uniform(0, 2 * cfg.operand_bits - 1)),
        latency=int(rng.integers(1, 60)),
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("array", ARRAYS)
def test_random_networks(array: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(array)])
    for _ in range(8):
        case = random_case(ARRAYS[array], rng)
        compared = train(case, seed=seed)
        assert compared.mismatches == 0, (case, compared.first)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("array", ARRAYS)
def test_random_stalls(array: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(array), 1])
    case = random_case(ARRAYS[array], rng)
    compared = train(case, seed=seed, stalls=tuple(rng.uniform(0, 0.9, 3).tolist()))
    assert compared.mismatches == 0, (case, compared.first)


@pytest.mark.parametrize("decay", (0.5, 1.0))
def test_lenet(decay: float) -> None:
    case = Case(PAPER, (784, 300, 100, 10), 64, 60, budget=0.04, period=8, decay=decay, density=0.15)
    compared = train(case)
    assert compared.mismatches == 0, compared.first
    assert compared.cycles > 1_000_000
