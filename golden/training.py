"""The loop that follows a recipe: on the golden machine, on the RTL beside it, or in floating point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from arch.config import Config
from golden import quantile
from golden.capacity import Fill, fill
from golden.dataset import Dataset
from golden.float_graph import FloatGraphTrainer
from golden.float_reference import FloatTrainer
from golden.float_rule import DropBack
from golden.graph_trainer import GraphTrainer
from golden.layout import Tiling
from golden.networks.graph import Graph
from golden.recipe import (
    FIRST_THETA,
    RAMP_RATE,
    RAMP_STEPS,
    Net,
    Recipe,
    budget_ends,
    check_sizes,
    ramp,
    rate_for,
    weights_of,
    whole_minibatches,
)
from golden.trainer import StepResult, Trainer

FILL_EVERY = 50  # steps between two looks at how full the buffers are
GRAPH_ROOM = 3.0  # room for uneven layers of a graph, relative to an even share
UNEVEN = 1.5  # room for a falling budget relative to an even share


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


def make_trainer(cfg: Config, net: Net, recipe: Recipe, seed: int, **options: object) -> Trainer:
    """A golden trainer at the first step of a recipe.

    Args:
        cfg: configuration.
        net: sizes of fully connected layers, or a graph.
        recipe: how to train.
        seed: of the regenerated weights.
        options: further arguments of `Trainer` (`keep_image`, `tiling`).
    """
    total = weights_of(net)
    first, last = (None, 1) if recipe.dense else budget_ends(recipe.budget, total)
    rate = rate_for(last) if recipe.rate is None else recipe.rate
    trainer = (GraphTrainer if isinstance(net, Graph) else Trainer)(
        cfg,
        net,  # type: ignore[arg-type]
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
    return cfg.with_(
        value_beats=4096, mask_beats=4096, psum_depth=4096, units=4096, gather_depth=1 << 15, gradients=1 << 14
    )


def run(
    data: Dataset,
    net: Net,
    recipe: Recipe,
    cfg: Config,
    seed: int = 1,
    progress: Progress | None = None,
    tiling: Tiling | None = None,
) -> History:
    """Train the golden model on a data set.

    Args:
        data: training and test samples.
        net: sizes of fully connected layers, the first the number of pixels and the last that of classes; or a graph.
        recipe: how to train.
        cfg: configuration.
        seed: of the weights and of the order of the samples.
        progress: called after every step.
        tiling: what to compile for; None for the recipe's densest step (`tiling_for`).

    Raises:
        ValueError: sizes that do not fit the data, or a recipe that does not fit the network.
    """
    check_sizes(data, net)
    data = whole_minibatches(data, net, recipe.batch)
    trainer = make_trainer(cfg, net, recipe, seed, tiling=tiling or tiling_for(recipe, net))
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


def tiling_for(recipe: Recipe, net: Net) -> Tiling:
    """Tiling with room for the recipe's largest budget.

    Layers keep different shares, and a large budget leaves fewer fractions of beats to hide that in: a falling
    one gets `UNEVEN` times the room (LeNet-300-100 from 4x down fills 123 % of a weight buffer without).
    """
    if recipe.dense:
        return Tiling()
    total = weights_of(net)
    first, last = budget_ends(recipe.budget, total)
    density = min(1.0, first / total * (UNEVEN if first > last else 1.0))
    if isinstance(net, Graph):  # small first layers keep nearly everything
        return Tiling(density=min(1.0, GRAPH_ROOM * density), explored=1 / recipe.period)
    return Tiling(density=density)


def run_float(
    data: Dataset,
    net: Net,
    recipe: Recipe,
    seed: int = 1,
    progress: Progress | None = None,
    threshold: str = "exact",
) -> History:
    """The same training in floating point: dense SGD, or DropBack with an exact top-k.

    Arguments and errors as `run`; `threshold` as `golden.float_rule.DropBack`.
    """
    check_sizes(data, net)
    data = whole_minibatches(data, net, recipe.batch)
    samples = len(data.train_y)
    steps = recipe.steps(samples)
    total = weights_of(net)
    budget = recipe.schedule(total, steps)
    method = None
    if budget is not None:
        method = DropBack(budget, threshold, decay=recipe.decay, period=recipe.period)

    def rate(step: int) -> float:
        return recipe.learning_rate_at(step, steps)

    trainer = (
        FloatGraphTrainer(net, method, lr=rate, seed=seed)
        if isinstance(net, Graph)
        else FloatTrainer(net, method, lr=rate, seed=seed)
    )
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
