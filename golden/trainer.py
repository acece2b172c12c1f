"""Training on the golden machine: minibatches in, two programs a step, weights out.

`Trainer` is the host: it writes inputs and softmax gradients to memory, sets the control registers
and swaps the two generations of weights. A `Follower` is told everything the host does; the one in
`scripts.lockstep` does the same to the RTL and compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from arch.command import Policy
from arch.config import Config
from golden import quantile, regenerate
from golden.layout import Tiling, he_std, shapes_of
from golden.machine import Machine, Settings, Work
from golden.memory import Memory, Tensor
from golden.program import Network
from golden.shape import LayerShape
from golden.softmax import gradient_exponent, softmax_gradient


class Follower(Protocol):
    """Somebody who does to another machine what the host does to the golden one."""

    def wrote(self, address: int, beats: int) -> None:
        """The host wrote `beats` beats of the memory image from `address` on."""

    def running(self, program: list[dict[str, int]]) -> None:
        """The golden machine is about to execute a program."""

    def ran(self, program: list[dict[str, int]], works: list[Work]) -> None:
        """The golden machine executed a program with the present settings."""

    def forgot(self) -> None:
        """The host had the machine forget unfinished sums and peaks."""


@dataclass
class StepResult:
    """What one training step did."""

    forward: list[Work]
    backward: list[Work]
    loss: float
    correct: int
    samples: int

    @property
    def tracked(self) -> int:
        """Weights stored after the step."""
        return sum(w.kept for w in self.backward)

    @property
    def seen(self) -> int:
        """Weights visited by the weight update."""
        return sum(w.seen for w in self.backward)


def weight_exponent(fan_ins: Sequence[int], operand_bits: int) -> int:
    """Exponent of the weights: -(A-2), so that they reach 2; larger where narrow layers start with a wide spread."""
    exponent = -(operand_bits - 2)
    while not regenerate.fits(he_std(min(fan_ins)), exponent):
        exponent += 1
    return exponent


class Trainer:
    """A network on the golden machine.

    Args:
        cfg: configuration.
        sizes: of fully connected layers, or shapes of layers, see `golden.layout.Layout`.
        batch: minibatch.
        budget: tracked weights wanted; None trains densely (dense mode).
        period: T of rotating exploration.
        decay: lambda.
        seed: of the regenerated weights.
        keep_image: keep memory bytes (needed for lock-step with the RTL).
        learning_rate: of the first step; change it with `set_learning_rate`.
        input_exponent: exponent of the inputs.
        rate: right shift of the quantile estimator.
    """

    def __init__(
        self,
        cfg: Config,
        sizes: tuple[int, ...] | tuple[LayerShape, ...],
        batch: int,
        *,
        budget: int | None = None,
        period: int = 1,
        decay: float = 0.99,
        seed: int = 1,
        keep_image: bool = False,
        learning_rate: float = 0.1,
        tiling: Tiling | None = None,
        rate: int = 9,
        memory_beats: int = 1 << 22,
    ) -> None:
        """Lay out memory and set the registers; nothing is computed yet."""
        self.cfg, self.batch = cfg, batch
        dense = budget is None
        tiling = tiling or (Tiling() if cfg.sparse else Tiling(policy=Policy.NONE))
        self.settings = Settings(
            rate=rate,
            period_log2=period.bit_length() - 1,
            dense=dense,
            factor=regenerate.decay_factor(decay),
            weight_exponent=weight_exponent(self._fan_ins(sizes), cfg.operand_bits),
        )
        self.memory = Memory(cfg, memory_beats, keep_image)
        self.network = self._network(cfg, sizes, batch, self.memory, seed, tiling, self.settings.weight_exponent, dense)
        self.network.set_first_cycles(period)
        self.machine = Machine(cfg, self.memory, self.settings)
        self.period, self.generation = period, 0
        self.fetched: tuple[int, bool] | None = None
        self.follower: Follower | None = None
        self._initial_exponents()
        self.set_learning_rate(learning_rate)
        if budget is not None:
            self.set_budget(budget)
            self.machine.log2_theta = quantile.log2_from_theta(1.0, cfg.delta_bits)

    def _fan_ins(self, sizes: Any) -> list[int]:
        """Inputs of an output, of every layer."""
        return [shape.fan_in for shape in shapes_of(tuple(sizes))]

    def _network(self, *given: Any) -> Network:
        return Network(*given)

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Shapes of the layers."""
        return tuple(layer.shape for layer in self.network.layers)

    def _initial_exponents(self) -> None:
        """A first guess from the initialiser's scale; the hardware follows the data from then on."""
        a = self.cfg.operand_bits
        e = self.machine.exponent
        e[0] = -(a - 2)
        for layer in self.network.layers:
            e[layer.y_id] = min(0, 4 - (a - 1))
            e[layer.dy_id] = 2 - (a - 1)
        e[self.network.layers[-1].dy_id] = gradient_exponent(a)

    def set_learning_rate(self, rate: float) -> None:
        """Learning rate for the sum over the minibatch, as mantissa and exponent."""
        per_sample = rate / self.batch
        exponent = math.floor(math.log2(per_sample)) - self.cfg.lr_bits + 1
        mantissa = round(per_sample / 2.0**exponent)
        if mantissa == 1 << self.cfg.lr_bits:
            mantissa, exponent = mantissa >> 1, exponent + 1
        self.settings.learning, self.settings.learning_exponent = mantissa, exponent

    def set_budget(self, budget: int) -> None:
        """Weights to track: sets the share to keep of what a step sees (tracked + rest / T)."""
        total = self.network.total
        if not 1 <= budget <= total:
            raise ValueError(f"budget must be between 1 and the {total} weights of the network, not {budget}")
        self.budget = budget
        seen = budget + (total - budget) / self.period
        self.settings.keep = quantile.keep_share(min(budget / seen, 1 - 2.0**-16))

    @property
    def dense_visits(self) -> bool:
        """Whether regenerated weights are still nonzero."""
        return (
            any(regenerate.decayed(layer.scale, self.machine.decay) for layer in self.network.layers)
            and not self.settings.dense
        )

    def put_input(self, x: np.ndarray, generation: int | None = None) -> None:
        """Write a minibatch of mantissas, zero-padded, with the constant one.

        Args:
            x: (samples <= batch, channels * rows * columns), or that in four dimensions.
            generation: which of the two inputs; None for the next step's.
        """
        tensor, shape = self.network.inputs[self.generation if generation is None else generation], self.shapes[0]
        positions, n, width = tensor.positions, self.cfg.columns, tensor.run * self.cfg.bus_elements
        area = shape.height * shape.width
        full = np.zeros((positions // area * n, shape.inputs, area), np.int32)
        full[: len(x)] = np.reshape(x, (len(x), shape.inputs, area))
        data = np.zeros((positions, n, width), np.int32)
        data[:, :, : shape.inputs] = (
            full.reshape(-1, n, shape.inputs, area).transpose(0, 3, 1, 2).reshape(positions, n, shape.inputs)
        )
        if shape.bias:
            data[:, :, shape.inputs] = 1 << -self.machine.exponent[0]
        self._put(tensor, data)

    def _put(self, tensor: Tensor, data: np.ndarray) -> None:
        self.memory.put_tile(tensor.address + tensor.run * np.arange(len(data)), data)
        if self.follower:
            self.follower.wrote(tensor.address, tensor.beats)

    def _execute(self, program: list[dict[str, int]]) -> list[Work]:
        if self.follower:
            self.follower.running(program)
        works = self.machine.execute(program)
        if self.follower:
            self.follower.ran(program, works)
        return works

    def logits(self, samples: int) -> np.ndarray:
        """Logits (samples, classes) of the last forward program."""
        data = self.network.logits.data
        return data.reshape(-1, data.shape[2])[:samples, : self.shapes[-1].outputs]

    def put_gradient(self, labels: np.ndarray) -> tuple[float, int]:
        """Softmax gradient of the logits in memory; returns (loss, correct)."""
        layer = self.network.layers[-1]
        values, loss, right = softmax_gradient(
            self.logits(len(labels)), self.machine.exponent[layer.y_id], labels, self.cfg.operand_bits
        )
        u, n, width = layer.dy.positions, self.cfg.columns, layer.dy.run * self.cfg.bus_elements
        full = np.zeros((u * n, width), np.int32)
        full[: len(labels), : values.shape[1]] = values
        self._put(layer.dy, full.reshape(u, n, width))
        return loss, right

    def programs(self, following: bool) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
        """The forward and backward program of this step; `following` if a next minibatch is known."""
        visits = self.dense_visits
        fetched = self.fetched == (self.generation, visits)
        forward = self.network.forward(self.generation, visits, fetched, followed=True)
        return forward, self.network.backward(self.generation, visits, following, fetched=True)

    def step(self, x: np.ndarray, labels: np.ndarray, following: np.ndarray | None = None) -> StepResult:
        """One training step on a minibatch of input mantissas; `following` is the next one, if known."""
        self.put_input(x)
        programs = self.programs(following is not None)
        forward = self._execute(programs[0])
        loss, right = self.put_gradient(labels)
        if following is not None:
            self.put_input(following, 1 - self.generation)
        visits = self.dense_visits
        backward = self._execute(programs[1])
        self.generation ^= 1
        self.fetched = (self.generation, visits) if following is not None else None
        return StepResult(forward, backward, loss, right, len(labels))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Classes of inputs (samples, features), in minibatches, without training.

        The exponents stay those of the last step; peaks seen here are forgotten.
        """
        peaks, exponents = dict(self.machine.peak), list(self.machine.exponent)
        self.fetched = None
        out = []
        for start in range(0, len(x), self.batch):
            part = x[start : start + self.batch]
            self.put_input(part)
            self._execute(self.network.forward(self.generation, self.dense_visits))
            out.append(self.logits(len(part)).argmax(axis=1))
        self.machine.peak, self.machine.exponent = peaks, exponents
        if self.follower:
            self.follower.forgot()
        return np.concatenate(out)
