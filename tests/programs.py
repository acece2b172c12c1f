"""Training runs of RTL and golden model side by side, for the tests of the whole accelerator."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from arch.command import Policy
from arch.config import PRESETS, Config
from golden import quantile
from golden.graph_trainer import GraphTrainer
from golden.layout import Tiling, shapes_of
from golden.machine import Work
from golden.networks.graph import Graph
from golden.recipe import weights_of
from golden.shape import LayerShape
from golden.trainer import Trainer
from rtl.top import verilog
from scripts.harness import Harness
from scripts.lockstep import Comparison, Lockstep

LATENCY = 16


@dataclass(frozen=True)
class Case:
    """One training run.

    Attributes:
        config: configuration, without trace.
        sizes: layer sizes, shapes of layers, or a graph.
        batch: samples of a minibatch.
        steps: training steps.
        budget: weights to track, as a share of all; None for dense mode.
        period: T.
        decay: lambda.
        policy: load balancing.
        density: what the compiler provides for.
        theta: log2 of the first threshold, in units of the accumulated update.
        explored: share of words explored, likewise.
        latency: of the memory.
        options: further arguments of `Trainer`.
    """

    config: Config
    sizes: tuple[int, ...] | tuple[LayerShape, ...] | Graph
    batch: int
    steps: int
    budget: float | None = 0.1
    period: int = 4
    decay: float = 0.7
    policy: Policy = Policy.LPT
    density: float = 1.0
    explored: float = 1.0
    theta: float | None = None
    latency: int = LATENCY
    options: dict[str, Any] = field(default_factory=dict)


@cache
def text(cfg: Config) -> str:
    """Verilog of a configuration."""
    return verilog(cfg)


def make_trainer(case: Case) -> Trainer:
    """Trainer of a case, at its first step."""
    cfg = case.config
    if isinstance(case.sizes, Graph):
        total = weights_of(case.sizes)
    else:
        total = sum(shape.weights for shape in shapes_of(case.sizes))
    budget = None if case.budget is None else max(1, round(case.budget * total))
    trainer = (GraphTrainer if isinstance(case.sizes, Graph) else Trainer)(
        cfg,
        case.sizes,  # type: ignore[arg-type]
        case.batch,
        budget=budget,
        period=case.period,
        decay=case.decay,
        keep_image=True,
        tiling=Tiling(density=case.density, policy=case.policy, explored=case.explored),
        memory_beats=1 << 17,
        **case.options,
    )
    if budget is not None:
        theta = cfg.operand_bits if case.theta is None else case.theta
        trainer.machine.log2_theta = quantile.log2_from_theta(2.0**theta, cfg.delta_bits)
    return trainer


def make(case: Case, *, trace: bool = True) -> tuple[Trainer, Harness]:
    """Trainer and harness of a case, at their first step."""
    trainer, traced = make_trainer(case), case.config.with_(trace=trace)
    return trainer, Harness(text(traced), traced, case.latency, beats=1)


def minibatch(case: Case, rng: np.random.Generator, samples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs (a third of them zero, like pixels) and labels."""
    n = case.batch if samples is None else samples
    if isinstance(case.sizes, Graph):
        shape, classes = case.sizes.input, case.sizes.shape(case.sizes.output.name).channels
        features = shape.channels * shape.height * shape.width
    else:
        first, last = (shapes_of(case.sizes)[i] for i in (0, -1))
        features, classes = first.inputs * first.height * first.width, last.outputs
    x = rng.integers(0, 1 << case.config.operand_bits - 2, (n, features))
    return np.where(rng.random(x.shape) < 1 / 3, 0, x).astype(np.int32), rng.integers(0, classes, n)


def train(case: Case, *, seed: int = 1, stalls: tuple[float, float, float] | None = None) -> Comparison:
    """Run a case in lock-step; a test set is classified half way. Returns what was compared."""
    rng = np.random.default_rng(seed)
    trainer, harness = make(case)
    lockstep = Lockstep(trainer, harness, timed=stalls is None)
    if stalls:
        harness.set_stalls(seed, *stalls)
    x, y = minibatch(case, rng)
    for step in range(case.steps):
        following = minibatch(case, rng)
        if step == case.steps // 2:
            trainer.step(x, y)
            trainer.predict(minibatch(case, rng, case.batch + 1)[0])
        else:
            trainer.step(x, y, following[0])
        x, y = following
    return lockstep.compared


def last_step(case: Case, *, seed: int) -> tuple[Trainer, list[list[Work]], int]:
    """Train on the golden model alone: trainer, programs of the last step, and lambda^t in it."""
    rng, trainer = np.random.default_rng(seed), make_trainer(case)
    x, y = minibatch(case, rng)
    for _ in range(case.steps):
        following = minibatch(case, rng)
        decay = trainer.machine.decay
        result = trainer.step(x, y, following[0])
        x, y = following
    return trainer, [result.forward, result.backward], decay


TINY, SMALL, PAPER = PRESETS["tiny"], PRESETS["small"], PRESETS["paper"]
