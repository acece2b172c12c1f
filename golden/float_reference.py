"""Floating-point reference of multilayer perceptrons: the learning rule of `golden.float_rule` on ReLU layers.

A bias is the weight of a constant-one last input channel, so it competes for the weight budget like
any other weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from golden import regenerate
from golden.float_operators import cross_entropy
from golden.float_rule import (
    Array,
    Budget,
    DropBack,
    Learner,
    Place,
    Schedule,
    StepReport,
    cosine,
    largest,
)

__all__ = ["Budget", "DropBack", "FloatTrainer", "Schedule", "StepReport", "cosine", "initial_weights", "largest"]


def initial_weights(layers: Sequence[int], seed: int, source: str = "regenerate") -> list[Array]:
    """He-normal weights, float64 [outputs, inputs + 1] a layer; biases (the last column) are zero.

    Args:
        layers: widths from the input to the output.
        seed: of the salts or of the generator.
        source: `regenerate` for the hashed normals of the hardware, `numpy` for true normals.

    Raises:
        ValueError: an unknown source.
    """
    if source not in ("regenerate", "numpy"):
        raise ValueError(f"source must be 'regenerate' or 'numpy', not {source!r}")
    generator = np.random.default_rng(seed)
    weights = []
    for number, (inputs, outputs) in enumerate(pairwise(layers)):
        if source == "numpy":
            w = generator.normal(size=(outputs, inputs + 1))
        else:
            salt = regenerate.layer_salt(seed, number)
            k, c = np.ogrid[:outputs, : inputs + 1]
            w = regenerate.normal(k, c, 0, salt) / regenerate.NORMAL_STD
        w[:, -1] = 0
        weights.append(w * (2 / inputs) ** 0.5)
    return weights


class FloatTrainer(Learner):
    """A ReLU perceptron with softmax cross-entropy, trained by plain SGD or DropBack.

    `weights[l]` is `[outputs, inputs + 1]`; all layers are views of one vector, in layer order.
    """

    def __init__(
        self,
        layers: Sequence[int],
        method: DropBack | None = None,
        *,
        lr: float | Schedule = 0.1,
        seed: int = 1,
        source: str = "regenerate",
        dtype: type[np.floating] = np.float32,
    ) -> None:
        """Start at the initial weights.

        Args:
            layers: widths from the input to the output, at least two.
            method: None trains all weights (dense SGD).
            lr: learning rate, or its schedule over the steps.
            seed: of the initial weights.
            source: of the initial weights, see `initial_weights`.
            dtype: float32 or float64.

        Raises:
            ValueError: fewer than two widths, one below 1, or more tracked weights than there are.
        """
        if len(layers) < 2 or min(layers) < 1:
            raise ValueError(f"layers must be at least two widths of at least 1, not {list(layers)}")
        start = initial_weights(layers, seed, source)
        places = [Place(*np.ogrid[:outputs, : inputs + 1]) for inputs, outputs in pairwise(layers)]
        super().__init__(start, places, method, lr, dtype)

    def forward(self, x: Array) -> list[Array]:
        """Inputs of every layer with their constant-one channel, then the scores of the classes."""
        values = [_with_one(np.asarray(x, dtype=self.vector.dtype))]
        for w in self.weights[:-1]:
            values.append(_with_one(np.maximum(values[-1] @ w.T, 0)))
        return [*values, values[-1] @ self.weights[-1].T]

    def error(self, x: Array, y: NDArray[np.integer]) -> float:
        """Share of wrongly classified samples."""
        return float((self.forward(x)[-1].argmax(1) != y).mean())

    def backward(self, x: Array, y: NDArray[np.integer]) -> float:
        """Fill `gradient` with that of the mean loss over the samples; returns the mean loss."""
        *inputs, scores = self.forward(x)
        loss, d = cross_entropy(scores, y)
        for number in reversed(range(len(self.weights))):
            np.matmul(d.T, inputs[number], out=self._gradients[number])
            if number:
                d = (d @ self.weights[number])[:, :-1] * (inputs[number][:, :-1] > 0)
        return loss


def _with_one(x: Array) -> Array:
    return np.hstack([x, np.ones((len(x), 1), dtype=x.dtype)])
