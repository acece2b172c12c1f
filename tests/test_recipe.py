"""Recipes: schedules, refusals, and that the golden model learns what the float reference learns."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from arch.config import PRESETS
from golden import dataset, quantile
from golden.capacity import fill
from golden.float_reference import Budget
from golden.layout import Tiling
from golden.recipe import DIP_STEPS, FIRST_THETA, RAMP_RATE, Recipe, budget_ends, rate_for, weights_of
from golden.training import follow, make_trainer, mantissas, minibatches, roomy, run, run_float, tiling_for

SIZES = (64, 32, 10)
TOTAL = 64 * 32 + 32 + 32 * 10 + 10
TINY = PRESETS["tiny"]


def test_weights_of() -> None:
    assert weights_of(SIZES) == TOTAL
    assert weights_of((784, 300, 100, 10)) == 266610


def test_learning_rate() -> None:
    recipe = Recipe(learning_rate=0.8, floor=0.25)
    rates = [recipe.learning_rate_at(step, 100) for step in range(101)]
    assert rates[0] == 0.8
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(rates))
    assert rates[25] == pytest.approx(0.2 + 0.6 * (1 + math.sqrt(0.5)) / 2)


def test_steps() -> None:
    assert Recipe(epochs=3, batch=32).steps(64) == 6
    assert Recipe(epochs=3, batch=32).steps(65) == 9


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("25x", (10664, 10664)),
        ("1x:25x", (266610, 10664)),
        ("4x:10000", (66652, 10000)),
        ("7", (7, 7)),
        ("2.5x", (106644, 106644)),
    ],
)
def test_budget_ends(text: str, ends: tuple[int, int]) -> None:
    assert budget_ends(text, 266610) == ends


def test_schedule() -> None:
    """Four fifths of the way in half the training, along a cubic."""
    assert Recipe(budget="dense").schedule(1000, 50) is None
    assert Recipe(budget="10x").schedule(1000, 50) == Budget(100, 100, 0)
    falling = Recipe(budget="900:100", anneal=0.5).schedule(1000, 80)
    assert falling is not None
    assert [falling.at(step) for step in (0, 20, 40, 79)] == [900, 200, 100, 100]


def test_dipping_budget() -> None:
    """Down and up again in 2 * DIP_STEPS steps, less each time, never above the budget, nothing in the end."""
    recipe = Recipe(budget="10x", dip=0.4, dip_every=200, dip_until=0.5)
    dipping = recipe.schedule(10000, 2000)
    assert dipping is not None
    values = np.array([dipping.at(step) for step in range(2000)])
    assert values.max() == 1000 and (values[:201] == 1000).all() and (values[1000:] == 1000).all()
    bottoms = [200 * n + DIP_STEPS for n in range(1, 5)]
    for step in bottoms:
        share = 0.4 * (1 + math.cos(math.pi * step / 1000)) / 2
        assert values[step] == pytest.approx(1000 * (1 - share), abs=1)
        assert values[step - DIP_STEPS // 2] == pytest.approx(1000 - (1000 - values[step]) / 2, rel=0.01)
    assert (np.diff(values[bottoms]) > 0).all()
    falling = Recipe(budget="2x:10x", anneal=0.5, dip=0.4, dip_every=200).schedule(10000, 2000)
    plain = Recipe(budget="2x:10x", anneal=0.5).schedule(10000, 2000)
    assert falling is not None and plain is not None
    assert falling.at(300) == plain.at(300) and falling.at(250) < plain.at(250)


def test_rate() -> None:
    """A threshold that moves by about a sixth of the relative error of the count."""
    for budget in (100, 751, 10664, 66652):
        too_many = budget // 50
        seen = 4 * budget
        keep = quantile.keep_share(0.25)
        moved = quantile.observe(10 << 20, budget + too_many, seen, keep, rate_for(budget), 32) - (10 << 20)
        assert 0.0015 < 2 ** (moved / 2**20) - 1 < 0.007


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("scale", [0.25, 1.0, 1.75])
def test_mantissas(bits: int, scale: float) -> None:
    pixels = np.arange(256, dtype=np.uint8)
    m = mantissas(pixels, bits, scale)
    assert m.dtype == np.int32
    unit = 2.0 ** -(bits - 2)
    assert np.abs(m * unit - pixels / 256 * scale).max() <= unit / 2
    assert mantissas(np.array([255], np.uint8), bits, 2.0)[0] <= (1 << bits - 1) - 1


def test_minibatches() -> None:
    parts = minibatches(10, 4, 1, 0)
    assert [len(p) for p in parts] == [4, 4, 2]
    assert sorted(np.concatenate(parts).tolist()) == list(range(10))
    same, other_epoch, other_seed = (
        np.concatenate(minibatches(10, 4, *of)).tolist() for of in ((1, 0), (1, 1), (2, 0))
    )
    assert np.concatenate(parts).tolist() == same
    assert same not in (other_epoch, other_seed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(epochs=0), "epochs must be at least 1, not 0"),
        (lambda: Recipe(batch=0), "batch must be at least 1, not 0"),
        (lambda: Recipe(learning_rate=0.0), "learning_rate must be above 0, not 0.0"),
        (lambda: Recipe(floor=1.5), "floor must be at least 0 and at most 1, not 1.5"),
        (lambda: Recipe(anneal=-0.1), "anneal must be at least 0 and at most 1, not -0.1"),
        (lambda: Recipe(dip=1.1), "dip must be at least 0 and at most 1, not 1.1"),
        (lambda: Recipe(dip_every=99), "dip_every must be at least 100, not 99"),
        (lambda: Recipe(dip_until=-1), "dip_until must be at least 0 and at most 1, not -1"),
        (lambda: Recipe(decay=1.01), "decay must be at least 0 and at most 1, not 1.01"),
        (lambda: Recipe(rate=64), "rate must be between 0 and 63, not 64"),
        (lambda: Recipe(period=12), "period must be a power of two between 1 and 64, not 12"),
        (lambda: Recipe(input_scale=2.1), "input_scale must be above 0 and at most 2, not 2.1"),
        (lambda: budget_ends("many", 100), "budget 'many' is neither a number of weights nor a factor like 25x"),
        (lambda: budget_ends("0x", 100), "budget '0x' is neither a number of weights nor a factor like 25x"),
        (lambda: budget_ends("0.5x", 100), "budget '0.5x' is 200 weights, it must be between 1 and 100"),
        (lambda: budget_ends("101", 100), "budget '101' is 101 weights, it must be between 1 and 100"),
        (lambda: budget_ends("10x:5x", 100), "budget '10x:5x' grows from 10 to 20 weights, it must fall"),
        (
            lambda: run(dataset.load("digits"), (63, 10), Recipe(), TINY),
            "the first layer size must be 64 for data set 'digits', not 63",
        ),
        (
            lambda: run_float(dataset.load("digits"), (64, 11), Recipe()),
            "the last layer size must be 10 for data set 'digits', not 11",
        ),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        make()
    assert str(raised.value) == message


def test_trainer_follows_the_recipe() -> None:
    """Registers before every step: learning rate, share to keep, period, factor, first threshold."""
    data = dataset.load("digits")
    recipe = Recipe(epochs=1, batch=256, learning_rate=0.5, budget="2x:10x", anneal=0.5, period=4, decay=0.75)
    trainer = make_trainer(PRESETS["paper"], SIZES, recipe, 1, tiling=tiling_for(recipe, SIZES))
    unit = 2.0 ** (trainer.settings.weight_exponent - 16)
    theta = quantile.theta_from_log2(trainer.machine.log2_theta, 32)
    assert theta * unit == pytest.approx(FIRST_THETA, rel=0.01)
    assert trainer.settings.period_log2 == 2 and trainer.settings.factor == 3 << 14
    rate = rate_for(TOTAL // 10)
    assert trainer.settings.rate == rate
    budgets, rates = [], []
    for epoch, result in follow(trainer, data, recipe, 1):
        assert epoch == 0 and trainer.settings.rate == rate - RAMP_RATE
        budgets.append(trainer.budget)
        s = trainer.settings
        rates.append(s.learning * 2.0**s.learning_exponent * recipe.batch)
        assert result.samples == min(256, len(data.train_y) - 256 * (len(rates) - 1))
    schedule = recipe.schedule(TOTAL, 6)
    assert schedule is not None
    assert budgets == [int(schedule.at(step) * (0.5 + step / 200)) for step in range(6)]
    assert schedule.at(0) == TOTAL // 2 and schedule.at(3) == TOTAL // 10
    assert rates == pytest.approx([recipe.learning_rate_at(step, 6) for step in range(6)], rel=2**-8)


def test_tiling() -> None:
    assert tiling_for(Recipe(budget="dense"), SIZES) == Tiling()
    assert tiling_for(Recipe(budget="240"), SIZES).density == 240 / TOTAL
    assert tiling_for(Recipe(budget="482:241"), SIZES).density == pytest.approx(1.5 * 482 / TOTAL)
    assert tiling_for(Recipe(budget="1x:10x"), SIZES).density == 1


def test_fill() -> None:
    """Against the definition: every row's records, a fresh beat each."""
    data = dataset.load("digits")
    recipe = Recipe(epochs=1, batch=16, budget="4x", period=2, decay=0.5)
    trainer = make_trainer(TINY, SIZES, recipe, 1, tiling=Tiling(density=0.5))
    *_, (_, result) = follow(trainer, data, recipe, 1)
    works = [w for w in result.forward + result.backward if w.walk is not None]
    values = masks = updates = store = 0.0
    for w in works:
        g = w.regions[0].geometry
        row, whole = w.slots[0], w.command["phase"] == 1  # BW: every row holds everything
        for r in range(TINY.rows):
            mine = [i for i in range(g.records) if whole or row[i] == r]
            if w.command.get("load_w"):
                counts = [x.dense()[2 * i : 2 * i + 2].astype(bool).sum() for x in w.regions for i in mine]
                values = max(values, sum(-(-n // TINY.values_per_beat) for n in counts) / TINY.value_beats)
                masks = max(masks, len(counts) * g.mask_beats / TINY.mask_beats)
            if w.command["phase"] == 2:
                updates = max(updates, sum(w.drained[i] for i in mine) / TINY.value_beats)
    for layer in trainer.network.layers:
        for row_of in layer.stores[trainer.generation]:
            for s in row_of:
                store = max(store, len(s.region.encode()) / s.limit)
    found = fill(TINY, works, trainer.memory)
    assert (found.values, found.masks, found.updates, found.store) == (values, masks, updates, store)
    assert found.worst == max(values, masks, updates, store) > 0.1


def test_roomy_buffers_change_no_dense_number() -> None:
    data = dataset.load("digits")
    recipe = Recipe(epochs=1, batch=64, learning_rate=0.4, budget="dense")
    small = PRESETS["small"]
    one, other = (run(data, SIZES, recipe, cfg, 3) for cfg in (small, roomy(small)))
    assert (one.loss, one.error) == (other.loss, other.error)
    few, many = (
        make_trainer(cfg, SIZES, recipe, 3).network.backward(0) for cfg in (roomy(small), small.with_(value_beats=16))
    )
    assert len(few) < len(many)


# Bounds: the worst of eight seeds leaves a third of each.
@pytest.mark.parametrize(("budget", "bound", "apart"), [("dense", 5.0, 1.2), ("8x", 10.0, 4.5), ("2x:8x", 6.5, 3.0)])
def test_golden_learns_like_the_float_reference(budget: str, bound: float, apart: float) -> None:
    data = dataset.load("digits")
    recipe = Recipe(epochs=12, batch=32, learning_rate=0.4, budget=budget, period=4, decay=0.99)
    golden = run(data, SIZES, recipe, PRESETS["small"].with_(columns=32, bus_elements=2), 1)
    reference = run_float(data, SIZES, recipe, 1)
    assert len(golden.error) == 12 and len(golden.loss) == recipe.steps(len(data.train_y))
    assert golden.error[-1] < bound and reference.error[-1] < bound
    assert abs(golden.error[-1] - reference.error[-1]) < apart
    assert np.mean(golden.loss[-45:]) == pytest.approx(np.mean(reference.loss[-45:]), rel=0.35)
    if budget == "dense":
        assert golden.peak == reference.peak == TOTAL and golden.theta == []
    else:
        for history in (golden, reference):
            gained = np.subtract(history.adopted, history.evicted)
            assert (np.diff(history.tracked) == gained[1:]).all() and min(history.evicted) >= 0
        first, last = budget_ends(budget, TOTAL)
        assert max(golden.tracked) < 1.25 * first
        assert np.mean(golden.tracked[-45:]) == pytest.approx(last, rel=0.03)
