"""The learning rule in floating point: dense SGD and DropBack on one vector of weights, whatever network it is.

It says what the training should reach, not what the hardware computes: the integer golden model is
compared with it in error rates, never number by number. A network adds how loss and gradient follow
from the weights: `golden.float_reference` for perceptrons, `golden.float_graph` for graphs.

Sources: DropBack, Golub et al. (arXiv 1806.06949); decaying initial weights and the streaming
quantile estimate, Yang et al., Procrustes (MICRO 2020); the estimate itself, Yazidi and Hammer,
DUMIQE (2017). The cubic budget schedule is that of Zhu and Gupta (2017). Averaging in the log
domain and rotating exploration are this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from golden import regenerate

Array = NDArray[np.floating]
Schedule = Callable[[int], float]
THRESHOLDS = ("exact", "averaged", "sequential")


@dataclass(frozen=True)
class Budget:
    """How many weights may be tracked at a step.

    Attributes:
        tracked: the number wanted in the end.
        start: the number at step 0, for an annealed budget.
        anneal_steps: steps from `start` down to `tracked`, along a cubic; 0 keeps `tracked` always.
    """

    tracked: int
    start: int = 0
    anneal_steps: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
        if self.tracked < 1:
            raise ValueError(f"tracked must be at least 1, not {self.tracked}")
        if self.anneal_steps < 0:
            raise ValueError(f"anneal_steps must be at least 0, not {self.anneal_steps}")
        if self.anneal_steps and self.start < self.tracked:
            raise ValueError(f"start must be at least tracked = {self.tracked}, not {self.start}")

    def at(self, step: int) -> int:
        """The budget of a step."""
        if step >= self.anneal_steps:
            return self.tracked
        return self.tracked + round((self.start - self.tracked) * (1 - step / self.anneal_steps) ** 3)


@dataclass(frozen=True)
class DropBack:
    """The method's parameters.

    Attributes:
        budget: tracked weights, over all layers and biases.
        threshold: `exact` keeps the largest; `averaged` estimates the quantile from the counts of
            chunks; `sequential` is the papers' loop over single weights (slow: small nets only).
        decay: lambda, the factor of the initial weights per step; 1 is plain DropBack.
        period: T of rotating exploration, a power of two up to 64; 1 explores everything always.
        block: output and input channels of a mask word, the grain of exploration.
        rho: gain of the quantile estimate.
        theta: where the estimate starts.
        chunk: positions compared with the same threshold (`averaged`).
    """

    budget: Budget
    threshold: str = "exact"
    decay: float = 1.0
    period: int = 1
    block: tuple[int, int] = (2, 32)
    rho: float = 1e-3
    theta: float = 1e-3
    chunk: int = 4096

    def __post_init__(self) -> None:
        """Refuse parameters out of range, naming them."""
        if self.threshold not in THRESHOLDS:
            raise ValueError(f"threshold must be one of {', '.join(THRESHOLDS)}, not {self.threshold!r}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, not {self.decay}")
        for name, value in (("rho", self.rho), ("theta", self.theta), ("chunk", self.chunk)):
            if value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.period not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"period must be a power of two between 1 and 64, not {self.period}")


@dataclass(frozen=True)
class StepReport:
    """What a step did: mean loss before it, and the counts and threshold of DropBack (else 0)."""

    loss: float
    tracked: int = 0
    adopted: int = 0
    evicted: int = 0
    theta: float = 0.0


def cosine(lr: float, steps: int, floor: float = 0.0) -> Schedule:
    """Learning rate falling from `lr` at step 0 to `floor * lr` at step `steps` along half a cosine."""

    def at(step: int) -> float:
        return lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))

    return at


class Place(NamedTuple):
    """Where the weights of a layer are: output channel, input channel, tap. They broadcast to the layer's matrix."""

    k: NDArray[np.integer]
    c: NDArray[np.integer]
    tap: NDArray[np.integer] | int = 0


def largest(magnitude: Array, count: int) -> NDArray[np.bool_]:
    """Which `count` entries of a vector are the largest; zeros never, of equals the first ones.

    The k-th largest of n values is entry n - k of the partition around n - k. (Entry -k of the
    partition around k, as in DropBack's released code, is some other value.)
    """
    n = magnitude.size
    if count >= n:
        return np.asarray(magnitude > 0)
    theta = np.partition(magnitude, n - count)[n - count]
    keep = magnitude > theta
    keep[np.flatnonzero(magnitude == theta)[: count - np.count_nonzero(keep)]] = True
    return np.asarray(keep & (magnitude > 0))


class Learner:
    """A network whose weights are one vector, trained by plain SGD or DropBack; `backward` is a subclass's.

    Attributes:
        initial: initial weights, [weights].
        vector: weights, likewise.
        delta: accumulated updates of the tracked weights, zero elsewhere; only of DropBack.
        gradient: that of the last step.
        weights: views of `vector`, a matrix [outputs, inputs] a layer.
        step_number: steps done.
    """

    def __init__(
        self,
        start: Sequence[Array],
        places: Sequence[Place],
        method: DropBack | None,
        lr: float | Schedule,
        dtype: type[np.floating],
    ) -> None:
        """Start at the initial weights.

        Args:
            start: initial weights, a matrix a layer.
            places: where they are, which decides when each is explored.
            method: None trains all weights (dense SGD).
            lr: learning rate, or its schedule over the steps.
            dtype: float32 or float64.

        Raises:
            ValueError: more tracked weights than there are, or another dtype.
        """
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, not {np.dtype(dtype)}")
        shapes = [w.shape for w in start]
        self.initial = np.concatenate([w.ravel() for w in start]).astype(dtype)
        if method and method.budget.tracked > self.initial.size:
            raise ValueError(f"tracked must be at most {self.initial.size}, not {method.budget.tracked}")
        self.method = method
        self.step_number = 0
        self.delta = np.zeros_like(self.initial)
        self.vector = self.initial.copy()
        self.gradient = np.zeros_like(self.initial)
        self.weights = _views(self.vector, shapes)
        self._gradients = _views(self.gradient, shapes)
        self._lr = lr
        self._scale = 1.0
        if method:
            self._theta = method.theta
            self._turns = _turns(method, places, shapes)

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return self._lr(self.step_number) if callable(self._lr) else self._lr

    def backward(self, x: Array, y: NDArray[np.integer]) -> float:
        """Fill `gradient` with that of the mean loss over the samples; returns the mean loss."""
        raise NotImplementedError

    def step(self, x: Array, y: NDArray[np.integer]) -> StepReport:
        """One step on a minibatch: `x` [samples, inputs], `y` class numbers [samples]."""
        loss = self.backward(x, y)
        lr = self.vector.dtype.type(self.learning_rate)
        if self.method is None:
            self.vector -= lr * self.gradient
            report = StepReport(loss)
        else:
            report = self._drop_back(self.method, lr, loss)
        self.step_number += 1
        return report

    def _drop_back(self, method: DropBack, lr: np.floating, loss: float) -> StepReport:
        seen = np.flatnonzero((self.delta != 0) | (self._turns == self.step_number % method.period))
        old = self.delta[seen]
        candidate = old - lr * self.gradient[seen]
        budget = method.budget.at(self.step_number)
        magnitude = np.abs(candidate)
        if method.threshold == "exact":
            keep = largest(magnitude, budget)
            self._theta = float(magnitude[keep].min()) if keep.any() else 0.0
        else:
            # what the stream contains once the budget is met: tracked, and 1/T of the rest
            stream = budget + (self.vector.size - budget) / method.period
            estimate = _sequential if method.threshold == "sequential" else _averaged
            keep, self._theta = estimate(magnitude, self._theta, budget / stream, method)
        self.delta[seen] = np.where(keep, candidate, 0)
        self._scale *= method.decay
        np.multiply(self.initial, self.vector.dtype.type(self._scale), out=self.vector)
        self.vector += self.delta
        before, after = old != 0, self.delta[seen] != 0
        tracked, adopted, evicted = (int(part.sum()) for part in (after, after & ~before, before & ~after))
        return StepReport(loss, tracked, adopted, evicted, self._theta)


def _turns(method: DropBack, places: Sequence[Place], shapes: list[tuple[int, ...]]) -> NDArray[np.uint8]:
    """The step of a period that explores each weight, [weights]."""
    rows, columns = method.block
    parts = []
    for (k, c, tap), shape in zip(places, shapes, strict=True):
        turn = regenerate.explore_word(k // rows, c // columns, tap) & np.uint32(method.period - 1)
        parts.append(np.broadcast_to(turn.astype(np.uint8), shape).ravel())
    return np.concatenate(parts)


def _sequential(magnitude: Array, theta: float, share: float, method: DropBack) -> tuple[NDArray[np.bool_], float]:
    """The papers' recurrence, from the last weight to the first; `share` is 1 - q."""
    up, down = 1 + method.rho * (1 - share), 1 - method.rho * share
    keep = np.zeros(magnitude.size, dtype=bool)
    for i in range(magnitude.size - 1, -1, -1):
        keep[i] = theta < magnitude[i]
        theta *= up if keep[i] else down
    return keep, theta


def _averaged(magnitude: Array, theta: float, share: float, method: DropBack) -> tuple[NDArray[np.bool_], float]:
    """One move of `ln theta` a chunk, from its counts: the product of the recurrence's factors."""
    keep = np.zeros(magnitude.size, dtype=bool)
    for start in range(0, magnitude.size, method.chunk):
        part = slice(start, start + method.chunk)
        keep[part] = magnitude[part] > theta
        theta *= math.exp(method.rho * (int(keep[part].sum()) - share * len(magnitude[part])))
    return keep, theta


def _views(vector: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)]
