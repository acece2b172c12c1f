"""The whole accelerator in lock-step with the golden model: every cycle, every bit, many configurations.

Together the runs compare some 10 million cycles; each asserts its own share (`TOTAL` in all), so that no run shrinks
unseen.
"""

from __future__ import annotations

import numpy as np
import pytest

from arch.command import Policy
from arch.config import PRESETS
from scripts.lockstep import CapacityError
from tests.programs import PAPER, SMALL, TINY, Case, train

TOTAL = 10_000_000

#: Name to run and the cycles it must compare at least.
RUNS: dict[str, tuple[Case, int]] = {
    # Sizes that divide nothing, batches below, at and above the columns.
    "tiny": (Case(TINY, (40, 30, 10, 4), 12, 680), 1_650_000),
    "tiny, one sample": (Case(TINY, (33, 17, 5), 1, 250), 280_000),
    "tiny, batch of the columns": (Case(TINY, (33, 17, 5), 4, 240), 280_000),
    "tiny, plain DropBack": (Case(TINY, (23, 19, 7), 9, 120, decay=1.0, period=1), 280_000),
    "tiny, W0 gone at once": (Case(TINY, (60, 44, 10), 10, 200, budget=0.03, decay=0.0, period=64), 400_000),
    "tiny, paired": (Case(TINY, (50, 40, 6), 7, 180, policy=Policy.PAIR), 450_000),
    "tiny, as stored": (Case(TINY, (50, 40, 6), 7, 150, policy=Policy.NONE), 380_000),
    "tiny, dense mode": (Case(TINY, (33, 17, 5), 9, 120, budget=None), 300_000),
    "tiny, one layer": (Case(TINY, (7, 3), 5, 200), 90_000),
    "tiny, one weight": (Case(TINY, (1, 1, 2), 2, 100, budget=0.01), 55_000),
    "tiny, four layers": (Case(TINY, (30, 20, 20, 12, 3), 8, 120), 310_000),
    "tiny, all weights": (Case(TINY, (20, 12, 4), 8, 140, budget=1.0, theta=0), 180_000),
    "tiny, slow memory": (Case(TINY, (40, 30, 4), 12, 60, latency=90), 220_000),
    "tiny, fast memory": (Case(TINY, (40, 30, 4), 12, 60, latency=1), 175_000),
    "tiny, 8 bit": (Case(TINY.with_(operand_bits=8, bus_elements=4), (40, 30, 10, 4), 12, 300), 570_000),
    "tiny, 1x16 blocks": (Case(TINY.with_(block_k=1, lane_group=1), (40, 21, 5), 8, 130), 275_000),
    "tiny, 4x4 blocks": (Case(TINY.with_(block_k=4, lane_group=4, copies=True), (40, 30, 5), 8, 120), 275_000),
    "three rows, 8x8 blocks": (
        Case(TINY.with_(rows=3, block_k=8, lane_group=8, mask_bits=64, bus_elements=4, copies=True),
             (50, 40, 9), 6, 120), 400_000),
    "six rows, two columns": (
        Case(TINY.with_(rows=6, columns=2, bus_elements=8, block_k=2), (40, 30, 10), 7, 120), 320_000),
    "small": (Case(SMALL, (64, 100, 10), 32, 480, budget=0.08, decay=0.9, period=8), 2_300_000),
    "small, 8 bit": (Case(SMALL.with_(operand_bits=8), (64, 60, 10), 19, 240, decay=0.9), 630_000),
    "fpga": (Case(PRESETS["fpga"], (130, 50, 10), 8, 50, decay=0.3, density=0.3), 95_000),
    "paper": (Case(PAPER, (130, 90, 10), 40, 60, budget=0.05, period=8, decay=0.3, density=0.4), 190_000),
}  # fmt: skip


def test_runs_add_up() -> None:
    assert sum(least for _, least in RUNS.values()) >= TOTAL


@pytest.mark.parametrize("name", RUNS)
def test_every_cycle(name: str) -> None:
    case, least = RUNS[name]
    compared = train(case)
    assert compared.mismatches == 0, compared.first
    assert compared.records > compared.cycles
    assert compared.cycles >= least, f"only {compared.cycles} cycles"


def test_a_network_that_outgrows_its_buffers_is_no_mismatch() -> None:
    case = Case(TINY, (40, 30, 10), 8, 20, budget=0.9, density=0.1, theta=0)
    with pytest.raises(
        CapacityError, match=r"^(UPDATE|VALUE)_OVERFLOW at command \d+: the weights of step \d+ need more"
    ):
        train(case)


@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng([seed, 20])
    for _ in range(6):
        layers = rng.integers(2, 5)
        case = Case(
            TINY,
            tuple(int(n) for n in rng.integers(1, 50, layers)),
            int(rng.integers(1, 17)),
            12,
            budget=float(rng.uniform(0.01, 0.6)),
            period=int(2 ** rng.integers(0, 7)),
            decay=float(rng.choice([0.0, 0.5, 1.0])),
            policy=Policy(int(rng.integers(0, 3))),
            theta=float(rng.uniform(0, 31)),
        )
        compared = train(case, seed=seed)
        assert compared.mismatches == 0, (case, compared.first)
        assert compared.programs > 24


@pytest.mark.parametrize(
    "stalls", [(0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.7), (0.3, 0.3, 0.3), (0.9, 0.9, 0.9)]
)
def test_stalls_change_no_bit(stalls: tuple[float, float, float]) -> None:
    for seed in (1, 2):
        compared = train(Case(TINY, (40, 30, 10, 4), 12, 12, decay=0.3), seed=seed, stalls=stalls)
        assert compared.mismatches == 0, compared.first
        assert compared.beats > 0
