"""Steps of a fully connected network trained on the golden machine: dense, at the start, and in steady state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from arch.config import Config
from golden import training
from golden.dataset import Dataset
from golden.energy import offchip, roofline, step
from golden.energy.offchip import Bits
from golden.energy.roofline import Point
from golden.energy.step import Step
from golden.machine import Work
from golden.recipe import Recipe
from golden.trainer import Trainer


@dataclass(frozen=True)
class Measured:
    """Steps of one kind.

    Attributes:
        step: events, mean of the steps.
        bits: external traffic, likewise.
        points: roofline of the last of them.
        tracked: weights tracked after it, of `total`.
        steps: how many.
    """

    step: Step
    bits: Bits
    points: list[Point]
    tracked: int
    total: int
    steps: int


def owners(trainer: Trainer) -> dict[int, str]:
    """Layers by the addresses of their regions."""
    return {
        store.address: f"fc{layer.index + 1}"
        for layer in trainer.network.layers
        for side in layer.stores
        for row in side
        for store in row
    }


def _measure(trainer: Trainer, steps: list[tuple[list[list[Work]], int]], tracked: int, latency: int) -> Measured:
    cfg = trainer.cfg
    return Measured(
        step.mean([step.of_programs(cfg, programs, latency, decay) for programs, decay in steps]),
        offchip.mean([offchip.of_programs(cfg, programs, decay) for programs, decay in steps]),
        roofline.points(cfg, steps[-1][0], owners(trainer), latency),
        tracked,
        trainer.network.total,
        len(steps),
    )


def _follow(trainer: Trainer, data: Dataset, recipe: Recipe) -> Iterator[tuple[list[list[Work]], int, int, bool]]:
    """Programs of every step, lambda^t in it, tracked weights, and whether the one before loaded ahead for it."""
    decay, fetched = trainer.machine.decay, False
    for _, result in training.follow(trainer, data, recipe, 1):
        yield [result.forward, result.backward], decay, result.tracked, fetched
        decay, fetched = trainer.machine.decay, trainer.fetched is not None


def dense(cfg: Config, sizes: tuple[int, ...], batch: int, data: Dataset, latency: int) -> Measured:
    """The second step of the dense build (all its steps but the first are alike)."""
    plan, build = Recipe(epochs=1, batch=batch, budget="dense"), cfg.with_(sparse=False)
    trainer = training.make_trainer(build, sizes, plan, 1)
    for programs, decay, _, fetched in _follow(trainer, data, plan):
        if fetched:
            return _measure(trainer, [(programs, decay)], trainer.network.total, latency)
    raise ValueError(f"{len(data.train_y)} samples are no two minibatches of {batch}")


def sparse(
    cfg: Config,
    sizes: tuple[int, ...],
    plan: Recipe,
    data: Dataset,
    latency: int,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Measured, Measured]:
    """(second step, mean of the last T that load ahead) of a training.

    Raises:
        ValueError: a decay below 1, and initial weights that have not vanished in the end; says after how many steps.
    """
    trainer = training.make_trainer(cfg, sizes, plan, 1, tiling=training.tiling_for(plan, sizes))
    last: deque[tuple[list[list[Work]], int]] = deque(maxlen=plan.period)
    first: Measured | None = None
    tracked = 0
    for programs, decay, now, fetched in _follow(trainer, data, plan):
        if fetched:
            first = first or _measure(trainer, [(programs, decay)], now, latency)
            last.append((programs, decay))
            tracked = now
        progress()
    if first is None:
        raise ValueError(f"{len(data.train_y)} samples are no two minibatches of {plan.batch}")
    if plan.decay < 1 and trainer.dense_visits:
        steps = plan.steps(len(data.train_y))
        raise ValueError(f"the initial weights have not vanished after {steps} steps: train longer (--epochs)")
    return first, _measure(trainer, list(last), tracked, latency)


def plain(plan: Recipe) -> Recipe:
    """The same training with initial weights that never fade: DropBack as first published."""
    return replace(plan, decay=1.0, epochs=1)
