"""A training recipe as data, and its schedules as pure functions.

The same recipe trains the golden machine, the float reference and, with a follower attached to the
trainer, the RTL (`golden.training`). Everything in it is a plain host register that may change
between steps (learning rate, share to keep) or is fixed before the first (period, decay, scale).

Sources: cosine learning rate, Loshchilov and Hutter (arXiv 1608.03983); cubic budget, Zhu and Gupta
(arXiv 1710.01878).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from golden import quantile
from golden.dataset import Dataset
from golden.float_rule import Budget
from golden.networks.graph import Graph

DIP_STEPS = 50  # steps in which a dip goes down
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
CONSTANT = Recipe(epochs=16, batch=32, learning_rate=0.6, budget="25x", dip=0.3, period=8, decay=0.999, rate=13)
"""Recipes of the README's accuracy table (LeNet-300-100, MNIST)."""

CONV_DENSE = Recipe(epochs=5, batch=32, learning_rate=0.1, budget="dense")
CONV_ANNEALED = Recipe(epochs=5, batch=32, learning_rate=0.2, budget="2x:10x", anneal=0.6, period=8, decay=0.999)
CONV_CONSTANT = Recipe(epochs=5, batch=32, learning_rate=0.1, budget="10x", period=8, decay=0.999)
"""The same for convolutional networks."""


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


Net = tuple[int, ...] | Graph
"""A network to train: sizes of fully connected layers, or a graph."""


def weights_of(net: Net) -> int:
    """Weights of a network that compete for the budget, biases included."""
    if isinstance(net, Graph):
        return sum(layer.weights + layer.bias * layer.output.channels for layer in net.weight_layers())
    return sum(n * (m + 1) for m, n in pairwise(net))


def name_of(net: Net) -> str:
    """A network's name for reports."""
    return net.name if isinstance(net, Graph) else "-".join(map(str, net))


def whole_minibatches(data: Dataset, net: Net, batch: int) -> Dataset:
    """The data with as many training samples as fill minibatches, where the network is a graph: it counts samples.

    Raises:
        ValueError: fewer samples than a minibatch.
    """
    samples = len(data.train_y) - (len(data.train_y) % batch if isinstance(net, Graph) else 0)
    if not samples:
        raise ValueError(f"a minibatch of {batch} samples is more than the {len(data.train_y)} of {data.name!r}")
    return replace(data, train_x=data.train_x[:samples], train_y=data.train_y[:samples])


def check_sizes(data: Dataset, net: Net) -> None:
    """Refuse a network that does not fit the data.

    Raises:
        ValueError: names the size and what it must be.
    """
    if isinstance(net, Graph):
        shape = net.input
        sizes: tuple[int, ...] = (shape.channels * shape.height * shape.width, net.shape(net.output.name).channels)
    else:
        sizes = net
    for name, size, wanted in (("first", sizes[0], data.features), ("last", sizes[-1], data.classes)):
        if size != wanted:
            raise ValueError(f"the {name} layer size must be {wanted} for data set {data.name!r}, not {size}")
