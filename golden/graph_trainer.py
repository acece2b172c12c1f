"""Training of a network given as a graph: a step is one program, and the host only writes minibatches.

Activations, normalisation, pooling, the loss and its gradient are vector commands of that program (docs/vector.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from arch.vector import Op
from golden.graph_network import GraphNetwork
from golden.machine import Work
from golden.networks.graph import Graph
from golden.softmax import gradient_exponent
from golden.trainer import StepResult, Trainer


class GraphTrainer(Trainer):
    """A graph on the golden machine. Arguments as `Trainer`, but `sizes` is a `golden.networks.Graph`.

    Raises:
        ValueError: a graph the machine cannot run; names the node and what it wants.
    """

    network: GraphNetwork

    def _fan_ins(self, sizes: Any) -> list[int]:
        graph: Graph = sizes
        if not self.cfg.maps:
            raise ValueError(f"network {graph.name!r} is a graph, a build without maps takes sizes of layers only")
        layers = graph.weight_layers()
        if not layers:
            raise ValueError(f"network {graph.name!r} has no layer with weights to train")
        return [layer.weights // layer.output.channels for layer in layers]

    def _network(self, *given: Any) -> GraphNetwork:
        return GraphNetwork(*given)

    def _initial_exponents(self) -> None:
        a, e, tensors = self.cfg.operand_bits, self.machine.exponent, self.network.tensors
        e[: tensors.forward] = [min(0, 4 - (a - 1))] * tensors.forward
        for gradient in tensors.gradients:
            e[gradient.number] = 2 - (a - 1)
        e[self.network.inputs[0].number] = -(a - 2)
        e[tensors.gradients[0].number] = gradient_exponent(a)

    def put_input(self, x: np.ndarray, generation: int | None = None) -> None:
        """Write a minibatch of mantissas: (samples <= batch, channels * rows * columns), or that in four dimensions."""
        tensor = self.network.inputs[self.generation if generation is None else generation]
        n, width = self.cfg.columns, tensor.run * self.cfg.bus_elements
        full = np.zeros((tensor.images * n, tensor.channels, tensor.area), np.int32)
        full[: len(x)] = np.reshape(x, (len(x), tensor.channels, tensor.area))
        data = np.zeros((tensor.positions, n, width), np.int32)
        maps = full.reshape(-1, n, tensor.channels, tensor.area).transpose(0, 3, 1, 2)
        data[:, :, : tensor.channels] = maps.reshape(tensor.positions, n, tensor.channels)
        if width > tensor.channels and self.network.reads_ones:
            data[:, :, tensor.channels] = 1 << -self.machine.exponent[tensor.number]
        self._put(tensor, data)

    def put_labels(self, labels: np.ndarray, generation: int | None = None) -> None:
        """Write the classes of a minibatch."""
        network, columns = self.network, self.cfg.columns
        address = network.labels[self.generation if generation is None else generation]
        full = np.zeros(network.positions * columns, np.uint16)
        full[: len(labels)] = labels
        words = self.memory.image[address : address + network.positions].view("<u2")
        words[:, :columns] = full.reshape(-1, columns)
        if self.follower:
            self.follower.wrote(address, network.positions)

    def logits(self, samples: int) -> np.ndarray:
        """Logits (samples, classes) of the last program."""
        data = self.network.logits.data
        return data.reshape(-1, data.shape[2])[:samples, : self.network.logits.channels]

    def step(self, x: np.ndarray, labels: np.ndarray, following: np.ndarray | None = None) -> StepResult:
        """One training step on a full minibatch of input mantissas; `following` is the next one, if known.

        Raises:
            ValueError: a minibatch of another size: batch normalisation and the loss count samples.
        """
        if len(x) != self.batch:
            raise ValueError(f"a minibatch of {len(x)} samples, this network was laid out for {self.batch}")
        self.put_input(x)
        self.put_labels(labels)
        if following is not None:
            self.put_input(following, 1 - self.generation)
        visits = self.dense_visits
        fetched = self.fetched == (self.generation, visits)
        works = self._execute(self.network.step_program(self.generation, visits, fetched, following is not None))
        self.generation ^= 1
        self.fetched = (self.generation, visits) if following is not None else None
        loss, right = self._loss(works)
        return StepResult([], works, loss, right, len(labels))

    def _loss(self, works: list[Work]) -> tuple[float, int]:
        found = next(w.outcome for w in works if w.outcome is not None and w.command["op"] == Op.SOFTMAX)
        return found.loss / 2**20 * np.log(2) / self.batch, found.right
