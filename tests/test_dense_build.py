"""The build without sparse hardware: in lock-step with the golden model, weights as in dense mode of the other one."""

from __future__ import annotations

import re

import numpy as np
import pytest

from arch.command import Phase, Policy
from arch.config import Config
from golden.csb import Geometry, Region, decode
from golden.layout import Tiling
from golden.machine import Machine, Settings
from golden.memory import Memory
from golden.program import Network
from golden.trainer import Trainer
from rtl.top import verilog
from tests.programs import PAPER, SMALL, TINY, Case, make, minibatch, train

TINY, SMALL, PAPER = (cfg.with_(sparse=False) for cfg in (TINY, SMALL, PAPER))
NONE = {"budget": None, "policy": Policy.NONE}

#: Name to run and the cycles it must compare at least.
RUNS: dict[str, tuple[Case, int]] = {
    "tiny": (Case(TINY, (40, 30, 10, 4), 12, 60, **NONE), 150_000),
    "tiny, one sample": (Case(TINY, (33, 17, 5), 1, 60, **NONE), 40_000),
    "tiny, one weight": (Case(TINY, (1, 1, 2), 2, 40, **NONE), 10_000),
    "tiny, 8 bit": (Case(TINY.with_(operand_bits=8, bus_elements=4), (40, 30, 4), 12, 40, **NONE), 80_000),
    "tiny, 1x16 blocks": (Case(TINY.with_(block_k=1, lane_group=1), (40, 21, 5), 8, 40, **NONE), 70_000),
    "three rows, 8x8 blocks": (
        Case(TINY.with_(rows=3, block_k=8, lane_group=8, mask_bits=64, bus_elements=4, value_beats=128, copies=True),
             (50, 40, 9), 6, 40, **NONE), 100_000),
    "two words a beat": (Case(TINY.with_(columns=16, bus_elements=4), (40, 30, 4), 20, 30, **NONE), 30_000),
    "small": (Case(SMALL, (64, 50, 10), 19, 30, **NONE), 80_000),
    "paper": (Case(PAPER, (130, 40, 10), 20, 12, **NONE), 30_000),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_every_cycle(name: str) -> None:
    case, least = RUNS[name]
    compared = train(case)
    assert compared.mismatches == 0, compared.first
    assert compared.records > compared.cycles
    assert compared.cycles >= least, f"only {compared.cycles} cycles"


def test_stalling_memory() -> None:
    compared = train(Case(TINY, (33, 17, 5), 9, 12, **NONE), stalls=(0.3, 0.3, 0.3))
    assert compared.mismatches == 0, compared.first


def test_same_weights_as_dense_mode_of_the_sparse_build() -> None:
    weights = []
    for sparse in (False, True):
        case = Case(TINY.with_(sparse=sparse), (20, 13, 5), 7, 5, **NONE)
        trainer, _ = make(case, trace=False)
        rng = np.random.default_rng(3)
        for _ in range(case.steps):
            trainer.step(*minibatch(case, rng))
        stores = [s for layer in trainer.network.layers for row in layer.stores[trainer.generation] for s in row]
        weights.append([s.region.dense() for s in stores])
    for dense, sparse in zip(*weights, strict=True):
        assert np.array_equal(dense, sparse)
        assert dense.any()


WORDS = (
    "decoder",
    "regenerate",
    "exploration",
    "rule",
    "quantile",
    "decay",
    "tally",
    "balancer",
    "sort",
    "theta",
    "infos",
)


@pytest.mark.parametrize("word", WORDS)
def test_sparse_hardware_is_absent(word: str) -> None:
    text = verilog(TINY)
    assert not re.search(rf"\b(\w+\.)*{word}\b", text)


def test_sparse_hardware_is_in_the_sparse_build() -> None:
    """The words that are looked for above are those that the other build has."""
    text = verilog(TINY.with_(sparse=True))
    for word in WORDS:
        assert re.search(rf"\b(\w+\.)*{word}\b", text), word


@pytest.mark.parametrize("cfg", (TINY, SMALL, PAPER.with_(mask_bits=16), TINY.with_(operand_bits=8, bus_elements=4)))
@pytest.mark.parametrize("short", ((0, 0), (1, 3)))
def test_region_in_memory_and_back(cfg: Config, short: tuple[int, int]) -> None:
    """Every position of every word at word * mask_bits + bit, zeros beyond the edges."""
    rng, words = np.random.default_rng(1), 3
    g = Geometry(cfg, 0, 3 * cfg.block_k - short[0], 0, words * cfg.block_c - short[1], words)
    top = 1 << cfg.delta_bits - 1
    matrix = rng.integers(-top, top, (g.k_end, g.c_end))
    region = Region.from_dense(g, matrix)
    image = region.encode()
    assert np.array_equal(decode(image, g).dense(), matrix)
    beats = -(-words * cfg.mask_bits // cfg.values_per_beat)
    assert len(image) == g.header_beats + 3 * beats
    values = image[g.header_beats :].reshape(-1).copy().view("<i4" if cfg.delta_bits == 32 else "<i2").reshape(3, -1)
    for k, c in ((0, 0), (g.k_end - 1, g.c_end - 1), (cfg.block_k, cfg.block_c + 1)):
        word, bit = c // cfg.block_c, k % cfg.block_k * cfg.block_c + c % cfg.block_c
        assert values[k // cfg.block_k, word * cfg.mask_bits + bit] == matrix[k, c]
    assert np.count_nonzero(values) == np.count_nonzero(matrix)


def test_damaged_regions() -> None:
    g = Geometry(TINY, 0, 3, 0, 7, 1)
    image = Region(g).encode()
    wrong = image.copy()
    wrong[0, 0] ^= 1
    with pytest.raises(ValueError, match=r"^header word 0 is 0x9, a dense region of this shape has 0x8$"):
        decode(wrong, g)
    wrong = image.copy()
    wrong[-1, -4] = 5
    with pytest.raises(ValueError, match=r"^position 31 is no weight, but holds 5$"):
        decode(wrong, g)
    with pytest.raises(ValueError, match=r"^a dense build stores all 21 weights of a region, not 2$"):
        Region(g, np.array([0, 1]), np.array([1, 1]))


def test_sparse_settings_are_refused() -> None:
    memory = Memory(TINY, 1 << 12)
    with pytest.raises(ValueError, match=r"^a dense build cannot train a sparse network: dense must be set$"):
        Trainer(TINY, (5, 3), 2, budget=4)
    for options, message in (
        ({"policy": Policy.LPT}, "a dense build balances no load: policy must be NONE, not LPT"),
        ({"policy": Policy.NONE, "density": 0.5}, "a dense build stores every weight: density must be 1, not 0.5"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            Network(TINY, (5, 3), 2, memory, tiling=Tiling(**options), dense=True)
    with pytest.raises(ValueError, match=r"^a dense build trains in dense mode only: Settings.dense must be set$"):
        Machine(TINY, memory, Settings()).execute([])
    machine = Machine(TINY, memory, Settings(dense=True))
    for name, what in (("scale", "regenerates no weights"), ("policy", "balances no load")):
        with pytest.raises(ValueError, match=rf"^command 0 has {name} = 1, but a dense build {what}$"):
            machine.execute([{"phase": int(Phase.NOP), name: 1}])
    with pytest.raises(ValueError, match=r"holds 16 values, a dense build needs room for two words of 16$"):
        TINY.with_(value_beats=4)
