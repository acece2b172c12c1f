"""A training recipe as data, its schedules as pure functions, and the loop that follows it.

The same recipe trains the golden machine (`run`), the float reference (`run_float`) and, with a
follower attached to the trainer, the RTL. Everything in it is a plain host register that may change
between steps (learning rate, share to keep) or is fixed before the first (period, decay, scale).

Sources: cosine learning rate, Loshchilov and Hutter (arXiv 1608.03983); cubic budget, Zhu and Gupta
(arXiv 1710.01878).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from arch.config import Config
from golden import quantile
from golden.capacity import Fill, fill
from golden.dataset import Dataset
from golden.float_reference import Budget, DropBack, FloatTrainer
from golden.layout import Tiling
from golden.trainer import StepResult, Trainer

FILL_EVERY = 50  # steps between two looks at how full the buffers are
DIP_STEPS = 50  # steps in which a dip goes down
UNEVEN = 1.5  # room for a falling budget relative to an even share
RAMP_STEPS = 100  # at first half the budget is asked for, so that theta finds its place without an overshoot
RAMP_RATE = 4  # meanwhile the estimator is faster by so many powers of two
FIRST_THETA = 2.0**-5  # a weight: above almost every first step, so that the tracked weights begin below the budget


@dataclass(frozen=True)
class DippingBudget(Budget):
    """A budget that dips: now and then the smallest updates lose their places to the largest gradients.

    Once every tracked weight has moved far, no single step of an untracked one exceeds theta: the choice
    of weights made early would stay. Giving up a part of the budget and asking for it again lets weights
    in by their gradients, and they have until the next dip to grow. The budget is never exceeded.
    (Dropping small weights and growing by gradient: RigL, Evci et al., arXiv 1911.11134.)

    Attributes:
        depth: part given up in the first dip; in later ones less, half a cosine over `until`.
        every: steps from dip to dip, the first at step `every`.
        until: no dips from this step on.
    """

    depth: float = 0.0
    every: int = 1
    until: int = 0

    def at(self, step: int) -> int:
        """The budget of a step: down in `DIP_STEPS` steps, and up again."""
        budget = super().at(step)
        if step < self.every or step >= self.until:
            return budget
        depth = self.depth * 0.5 * (1 + math.cos(math.pi * step / self.until))
        away = abs(step % self.every - DIP_STEPS) / DIP_STEPS  # from the bottom
        return max(1, round(budget * (1 - depth * max(0.0, 1 - away))))


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training samples.
        batch: samples of a minibatch; the last one of an epoch may be smaller.
        learning_rate: of the first step, for the mean over the minibatch.
        floor: learning rate of the last step relative to the first; half a cosine in between.
        budget: `dense`; or weights to track, as a number or a factor (`25x`); or `FIRST:LAST`, which
            falls from one to the other along a cubic.
        anneal: share of the training in which the budget falls.
        dip: how much of the budget is given up for a moment every `dip_every` steps, see `DippingBudget`;
            less and less, nothing after the share `dip_until` of the training. 0 for no dips.
        dip_every: steps from dip to dip.
        dip_until: share of the training with dips.
        period: T of rotating exploration.
        decay: lambda, the factor of the initial weights per step.
        rate: right shift of the quantile estimator; None for one that fits the budget (`rate_for`).
        input_scale: what the brightest pixel stands for, up to 2.
    """

    epochs: int = 15
    batch: int = 32
    learning_rate: float = 0.6
    floor: float = 0.0
    budget: str = "25x"
    anneal: float = 0.6
    dip: float = 0.0
    dip_every: int = 3000
    dip_until: float = 0.7
    period: int = 8
    decay: float = 0.999
    rate: int | None = None
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range, naming value and bound."""
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch", 1, math.inf),
            ("floor", 0, 1),
            ("anneal", 0, 1),
            ("dip", 0, 1),
            ("dip_every", 2 * DIP_STEPS, math.inf),
            ("dip_until", 0, 1),
            ("decay", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                upper = f" and at most {high}" if high < math.inf else ""
                raise ValueError(f"{name} must be at least {low}{upper}, not {value}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")
        if not 0 < self.input_scale <= 2:
            raise ValueError(f"input_scale must be above 0 and at most 2, not {self.input_scale}")
        if self.rate is not None and not 0 <= self.rate <= quantile.MAX_RATE:
            raise ValueError(f"rate must be between 0 and {quantile.MAX_RATE}, not {self.rate}")
        if self.period not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"period must be a power of two between 1 and 64, not {self.period}")

    @property
    def dense(self) -> bool:
        """Whether all weights are trained."""
        return self.budget == "dense"

    def steps(self, samples: int) -> int:
        """Steps of the whole training."""
        return self.epochs * -(-samples // self.batch)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step of so many."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        return self.learning_rate * (self.floor + (1 - self.floor) * cosine)

    def schedule(self, total: int, steps: int) -> Budget | None:
        """Budget by step of a network of `total` weights; None in dense mode."""
        if self.dense:
            return None
        first, last = budget_ends(self.budget, total)
        falls = round(self.anneal * steps) if first > last else 0
        if not self.dip:
            return Budget(last, first, falls)
        return DippingBudget(last, first, falls, self.dip, self.dip_every, round(self.dip_until * steps))


DENSE = Recipe(epochs=16, batch=32, learning_rate=0.25, budget="dense")
ANNEALED = Recipe(epochs=16, batch=32, learning_rate=0.5, budget="2x:25x", anneal=0.6, period=8, decay=0.999)
CONSTANT = Recipe(epochs=16, batch=32, learning_rate=0.6, budget="25x", dip=0.3, period=8, decay=0.999)
"""Recipes of the README's accuracy table (LeNet-300-100, MNIST)."""


def budget_ends(text: str, total: int) -> tuple[int, int]:
    """First and last number of tracked weights that a budget like `4x:25x`, `25x` or `10000` asks for.

    Raises:
        ValueError: not of that form, a number not between 1 and `total`, or a budget that grows.
    """
    first, colon, last = text.partition(":")
    ends = (_budget(first, total), _budget(last if colon else first, total))
    if ends[0] < ends[1]:
        raise ValueError(f"budget {text!r} grows from {ends[0]} to {ends[1]} weights, it must fall")
    return ends


def _budget(text: str, total: int) -> int:
    try:
        number = total / float(text[:-1]) if text.endswith("x") else int(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"budget {text!r} is neither a number of weights nor a factor like 25x") from None
    if not 1 <= number <= total:
        raise ValueError(f"budget {text!r} is {number:g} weights, it must be between 1 and {total}")
    return int(number)


def rate_for(budget: int) -> int:
    """Right shift of the quantile estimator for a budget, after the ramp.

    2 % too many weights raise theta by about 0.3 % a step. A faster estimator costs accuracy: theta moves after
    every working set, layers keep different shares of what they see, so a fast one gives each layer a threshold
    of its own (LeNet-300-100, 4 epochs: a shift of 7 loses 0.7 points against 11, which is as good as an exact top-k).
    """
    return max(0, round(math.log2(budget)) - 2)


def ramp(step: int) -> float:
    """Share of the budget asked for: from one half to one in `RAMP_STEPS` steps."""
    return 0.5 + 0.5 * min(1.0, step / RAMP_STEPS)


def mantissas(pixels: np.ndarray, operand_bits: int, scale: float = 1.0) -> np.ndarray:
    """Input mantissas of exponent -(A-2) of pixels 0..255, of which 256 stands for `scale`: int32."""
    top = (1 << operand_bits - 1) - 1
    exact = pixels.astype(np.float64) * (scale * 2.0 ** (operand_bits - 2 - 8))
    return np.minimum(np.rint(exact), top).astype(np.int32)


def minibatches(samples: int, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Indices of the minibatches of an epoch: a permutation, drawn from seed and epoch, in pieces."""
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    return [order[start : start + batch] for start in range(0, samples, batch)]


@dataclass
class History:
    """What a training did.

    Attributes:
        loss: mean loss of every step, before it.
        error: test error after every epoch, in percent.
        tracked: tracked weights after every step (all weights in dense mode).
        theta: threshold after every step, as a weight; empty in dense mode.
        adopted, evicted: weights that came and went in every step.
        fill: fullest buffers, looked at every `FILL_EVERY` steps.
    """

    loss: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    tracked: list[int] = field(default_factory=list)
    theta: list[float] = field(default_factory=list)
    adopted: list[int] = field(default_factory=list)
    evicted: list[int] = field(default_factory=list)
    fill: Fill = field(default_factory=Fill)

    @property
    def peak(self) -> int:
        """Most weights ever tracked."""
        return max(self.tracked)

    @property
    def mean(self) -> float:
        """Mean of the tracked weights over all steps."""
        return float(np.mean(self.tracked))


Progress = Callable[[int, int, History], None]
"""Called after every step with the steps done, the steps in all, and the history so far."""


def make_trainer(cfg: Config, sizes: tuple[int, ...], recipe: Recipe, seed: int, **options: object) -> Trainer:
    """A golden trainer at the first step of a recipe.

    Args:
        cfg: configuration.
        sizes: layer sizes.
        recipe: how to train.
        seed: of the regenerated weights.
        options: further arguments of `Trainer` (`keep_image`, `tiling`).
    """
    total = weights_of(sizes)
    first, last = (None, 1) if recipe.dense else budget_ends(recipe.budget, total)
    rate = rate_for(last) if recipe.rate is None else recipe.rate
    trainer = Trainer(
        cfg,
        sizes,
        recipe.batch,
        budget=first,
        period=recipe.period,
        decay=recipe.decay,
        rate=rate,
        seed=seed,
        learning_rate=recipe.learning_rate,
        **options,  # type: ignore[arg-type]
    )
    if first is not None:
        unit = 2.0 ** (trainer.settings.weight_exponent - cfg.operand_bits)
        trainer.machine.log2_theta = quantile.log2_from_theta(FIRST_THETA / unit, cfg.delta_bits)
    return trainer


def follow(trainer: Trainer, data: Dataset, recipe: Recipe, seed: int) -> Iterator[tuple[int, StepResult]]:
    """Train step by step; yields the epoch and what each step did, with the machine still in that step's end.

    Args:
        trainer: of `make_trainer`.
        data: training samples are taken from it.
        recipe: sets learning rate and budget of every step.
        seed: of the order of the samples.
    """
    samples = len(data.train_y)
    steps = recipe.steps(samples)
    budgets = recipe.schedule(trainer.network.total, steps)
    x = mantissas(data.train_x, trainer.cfg.operand_bits, recipe.input_scale)
    plan = ((e, part) for e in range(recipe.epochs) for part in minibatches(samples, recipe.batch, seed, e))
    upcoming = next(plan, None)
    step, rate = 0, trainer.settings.rate
    while upcoming is not None:
        epoch, part = upcoming
        upcoming = next(plan, None)
        trainer.set_learning_rate(recipe.learning_rate_at(step, steps))
        trainer.settings.rate = rate if step >= RAMP_STEPS else max(0, rate - RAMP_RATE)
        if budgets is not None:
            trainer.set_budget(max(1, int(budgets.at(step) * ramp(step))))
        ahead = x[upcoming[1]] if upcoming is not None and upcoming[0] == epoch else None
        yield epoch, trainer.step(x[part], data.train_y[part], ahead)
        step += 1


def roomy(cfg: Config) -> Config:
    """The configuration with large buffers: fewer working sets, so a faster golden model.

    Sums are exact, so dense training gives the same numbers whatever the buffers hold. (With a budget it
    does not quite: the threshold moves after every working set.)
    """
    return cfg.with_(value_beats=4096, mask_beats=4096, psum_depth=4096, units=4096, gather_depth=1 << 15)


def run(
    data: Dataset,
    sizes: tuple[int, ...],
    recipe: Recipe,
    cfg: Config,
    seed: int = 1,
    progress: Progress | None = None,
    tiling: Tiling | None = None,
) -> History:
    """Train the golden model on a data set.

    Args:
        data: training and test samples.
        sizes: layer sizes; the first is the number of pixels, the last the number of classes.
        recipe: how to train.
        cfg: configuration.
        seed: of the weights and of the order of the samples.
        progress: called after every step.
        tiling: what to compile for; None for the recipe's densest step (`tiling_for`).

    Raises:
        ValueError: sizes that do not fit the data, or a recipe that does not fit the network.
    """
    check_sizes(data, sizes)
    trainer = make_trainer(cfg, sizes, recipe, seed, tiling=tiling or tiling_for(recipe, sizes))
    history, steps = History(), recipe.steps(len(data.train_y))
    test = mantissas(data.test_x, cfg.operand_bits, recipe.input_scale)
    unit = 2.0 ** (trainer.settings.weight_exponent - cfg.operand_bits)
    for epoch, result in follow(trainer, data, recipe, seed):
        history.loss.append(result.loss)
        history.tracked.append(result.tracked)
        history.adopted.append(sum(w.adopted for w in result.backward))
        history.evicted.append(sum(w.evicted for w in result.backward))
        if not recipe.dense:
            history.theta.append(quantile.theta_from_log2(trainer.machine.log2_theta, cfg.delta_bits) * unit)
        done = len(history.loss)
        if done % FILL_EVERY == 0 or done == steps:
            history.fill |= fill(cfg, result.forward + result.backward, trainer.memory)
        if done * recipe.epochs == (epoch + 1) * steps:
            wrong = trainer.predict(test) != data.test_y
            history.error.append(100 * float(wrong.mean()))
        if progress is not None:
            progress(done, steps, history)
    return history


def tiling_for(recipe: Recipe, sizes: tuple[int, ...]) -> Tiling:
    """Tiling with room for the recipe's largest budget.

    Layers keep different shares, and a large budget leaves fewer fractions of beats to hide that in: a falling
    one gets `UNEVEN` times the room (LeNet-300-100 from 4x down fills 123 % of a weight buffer without).
    """
    if recipe.dense:
        return Tiling()
    total = weights_of(sizes)
    first, last = budget_ends(recipe.budget, total)
    return Tiling(density=min(1.0, first / total * (UNEVEN if first > last else 1.0)))


def run_float(
    data: Dataset,
    sizes: tuple[int, ...],
    recipe: Recipe,
    seed: int = 1,
    progress: Progress | None = None,
    threshold: str = "exact",
) -> History:
    """The same training in floating point: dense SGD, or DropBack with an exact top-k.

    Arguments as `run`; `threshold` as `golden.float_reference.DropBack`.
    """
    check_sizes(data, sizes)
    samples = len(data.train_y)
    steps = recipe.steps(samples)
    total = weights_of(sizes)
    budget = recipe.schedule(total, steps)
    method = None
    if budget is not None:
        method = DropBack(budget, threshold, decay=recipe.decay, period=recipe.period)
    trainer = FloatTrainer(sizes, method, lr=lambda step: recipe.learning_rate_at(step, steps), seed=seed)
    x, test = (part.astype(np.float32) * np.float32(recipe.input_scale / 256) for part in (data.train_x, data.test_x))
    history = History()
    for epoch in range(recipe.epochs):
        for part in minibatches(samples, recipe.batch, seed, epoch):
            report = trainer.step(x[part], data.train_y[part])
            history.loss.append(report.loss)
            history.tracked.append(total if recipe.dense else report.tracked)
            history.adopted.append(report.adopted)
            history.evicted.append(report.evicted)
            if not recipe.dense:
                history.theta.append(report.theta)
            if progress is not None:
                progress(len(history.loss), steps, history)
        history.error.append(100 * trainer.error(test, data.test_y))
    return history


def weights_of(sizes: tuple[int, ...]) -> int:
    """Weights of a network, biases included."""
    return sum(n * (m + 1) for m, n in pairwise(sizes))


def check_sizes(data: Dataset, sizes: tuple[int, ...]) -> None:
    """Refuse layer sizes that do not fit the data.

    Raises:
        ValueError: names the size and what it must be.
    """
    for name, size, wanted in (("first", sizes[0], data.features), ("last", sizes[-1], data.classes)):
        if size != wanted:
            raise ValueError(f"the {name} layer size must be {wanted} for data set {data.name!r}, not {size}")
