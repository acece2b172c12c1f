"""Floating-point reference of graphs: the learning rule of `golden.float_rule` on a `golden.networks.graph.Graph`.

What is computed follows from the definitions of the operators and of the rule alone. Only the initial weights, and the
step in which each is explored, are those of the machine: they are functions of a weight's place, and the references
share them so that a comparison starts from the same network. As in the machine, weights and biases compete for the
budget, and scale and shift of batch normalisation are trained by plain SGD outside it (docs/vector.md). There is
neither momentum nor weight decay.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from golden import regenerate
from golden.float_operators import (
    Array,
    AveragePooling,
    BatchNormalisation,
    Concatenation,
    Convolution,
    Flattening,
    MaxPooling,
    Operator,
    Rectifier,
    Sliding,
    Sum,
    cross_entropy,
)
from golden.float_rule import DropBack, Learner, Place, Schedule, StepReport
from golden.networks.fusion import Operation, operations
from golden.networks.graph import Graph
from golden.networks.node import Node
from golden.networks.operators import (
    Add,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    Input,
    Linear,
    MaxPool,
    Pool,
    Relu,
    Relu6,
)

EVALUATED = 32  # samples classified at a time: maps of more leave the caches, and take twice as long


def place(graph: Graph, operation: Operation) -> Place:
    """Where the weights of a layer are, as the machine numbers them, for a matrix [outputs, inputs * taps + bias].

    A linear layer of a flattened map is a filter of the map's size: its taps are the map's elements. Input maps that
    nothing but linear layers read are vectors from the start. The bias is the weight of one more input channel, in
    the tap that no output loses to padding.
    """
    layer = operation.layer
    assert layer is not None
    outputs, channels, *kernel = layer.weight_shape
    if layer.kind == "linear":
        known = operations(graph)
        (name,) = operation.sources
        readers = (o.node for o in known if name in o.sources)
        if name != known[0].name or not all(isinstance(node, Linear) for node in readers):
            channels, *kernel = graph.shape(name)
    taps = math.prod(kernel)
    c, tap = (index.ravel() for index in np.indices((channels, taps)))
    if layer.bias:
        c = np.append(c, channels)
        tap = np.append(tap, layer.padding * kernel[1] + layer.padding)
    return Place(np.arange(outputs)[:, None], c, tap)


def initial_weights(graph: Graph, seed: int) -> tuple[list[Array], list[Place]]:
    """He-normal weights of the hashed normals of the hardware, biases zero.

    Args:
        graph: network.
        seed: of the salts.

    Returns:
        Of each layer with weights in order: weights, float64 [outputs, inputs * taps + bias], of a depthwise one
        [outputs, taps + bias]; and where they are.

    Raises:
        ValueError: a layer beyond the places that can be regenerated; names node, value and bound.
    """
    weights: list[Array] = []
    places: list[Place] = []
    for operation in operations(graph):
        layer = operation.layer
        if layer is None:
            continue
        where = place(graph, operation)
        try:
            w = regenerate.normal(*where, regenerate.layer_salt(seed, len(weights))) / regenerate.NORMAL_STD
        except ValueError as error:
            raise ValueError(f"{graph.node(layer.name)}: {error}") from None
        if layer.bias:
            w[:, -1] = 0
        weights.append(w * (2 / math.prod(layer.weight_shape[1:])) ** 0.5)
        places.append(where)
    return weights, places


class FloatGraphTrainer(Learner):
    """A graph with softmax cross-entropy, trained by plain SGD or DropBack.

    Attributes:
        graph: network.
        operators: those of all nodes but the input, by name, in order.
        norms: the batch normalisations of them.
        weights: a matrix a layer, as of `initial_weights`; others see `Learner`.
    """

    def __init__(
        self,
        graph: Graph,
        method: DropBack | None = None,
        *,
        lr: float | Schedule = 0.1,
        seed: int = 1,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        """Start at the initial weights.

        Args:
            graph: network.
            method: None trains all weights (dense SGD).
            lr: learning rate, or its schedule over the steps.
            seed: of the initial weights.
            dtype: float32 or float64.

        Raises:
            ValueError: no layer with weights, a layer beyond what can be regenerated, another dtype, or more tracked
                weights than there are.
        """
        layers = graph.weight_layers()
        if not layers:
            raise ValueError(f"network {graph.name!r} has no layer with weights to train")
        super().__init__(*initial_weights(graph, seed), method, lr, dtype)
        self.graph = graph
        self._places = {layer.name: number for number, layer in enumerate(layers)}
        self.operators = {node.name: self._operator(node) for node in graph.nodes if not isinstance(node, Input)}
        self.norms = [op for op in self.operators.values() if isinstance(op, BatchNormalisation)]

    def _operator(self, node: Node) -> Operator:
        """What a node computes."""
        (source, *_), out = self.graph.input_shapes(node.name), self.graph.shape(node.name)
        match node:
            case Conv() | Linear():
                number = self._places[node.name]
                w, dw = self.weights[number], self._gradients[number]
                wanted = node.inputs[0] != self.graph.input.name
                if isinstance(node, Linear):
                    return Convolution(w, dw, Sliding((1, 1), 1, 0, out), wanted=wanted)
                return Convolution(w, dw, Sliding(node.kernel, node.stride, node.padding, out), node.groups, wanted)
            case BatchNorm():
                return BatchNormalisation(source.channels, node.eps, node.momentum, self.vector.dtype.type)
            case Relu() | Relu6():
                return Rectifier(6.0 if isinstance(node, Relu6) else math.inf)
            case Pool():
                windows = Sliding((node.window, node.window), node.stride, node.padding, out)
                return MaxPooling(windows) if isinstance(node, MaxPool) else AveragePooling(windows)
            case GlobalAvgPool():
                return AveragePooling(Sliding((source.height, source.width), 1, 0, out))
            case Add():
                return Sum()
            case Concat():
                return Concatenation()
            case Flatten():
                return Flattening()
        raise ValueError(f"{node}: the floating-point reference has no such operator")

    def forward(self, x: Array, training: bool = False) -> Array:
        """Scores, [samples, classes].

        Args:
            x: [samples, channels * height * width], or that in four dimensions.
            training: whether batch normalisation takes the statistics of these samples, or the running ones.

        Raises:
            ValueError: samples of another size than the network's input.
        """
        shape = self.graph.shape(self.graph.input.name)
        given = math.prod(np.shape(x)[1:])
        if given != shape.size:
            raise ValueError(f"a sample must have the {shape.size} values of a {shape} input, not {given}")
        samples = np.asarray(x, self.vector.dtype).reshape(-1, *shape)
        maps = {self.graph.input.name: np.ascontiguousarray(samples.swapaxes(0, 1))}
        for name, operator in self.operators.items():
            maps[name] = operator.forward(*(maps[source] for source in self.graph.node(name).inputs), training=training)
        return maps[self.graph.output.name][:, :, 0, 0].T

    def error(self, x: Array, y: NDArray[np.integer]) -> float:
        """Share of wrongly classified samples, by the running statistics; arguments as `step`."""
        parts = [slice(start, start + EVALUATED) for start in range(0, len(y), EVALUATED)]
        return sum(int((self.forward(x[part]).argmax(1) != y[part]).sum()) for part in parts) / len(y)

    def backward(self, x: Array, y: NDArray[np.integer]) -> float:
        """Fill `gradient`, and those of the batch normalisations, with that of the mean loss; returns the mean loss.

        Moves the running statistics.

        Args:
            x: samples, as of `forward`.
            y: class numbers, [samples].

        Raises:
            ValueError: no samples, some that do not fit, or a class number that is none.
        """
        classes = self.graph.shape(self.graph.output.name).channels
        if len(y) != len(x):
            raise ValueError(f"there must be a label for each of {len(x)} samples, not {len(y)}")
        if not len(y):
            raise ValueError("there must be at least 1 sample, not 0")
        for label in (np.min(y), np.max(y)):
            if not 0 <= label < classes:
                raise ValueError(f"a label must be between 0 and {classes - 1}, not {label}")
        loss, d = cross_entropy(self.forward(x, training=True), y)
        waiting = {self.graph.output.name: np.ascontiguousarray(d.T)[:, :, None, None]}
        for name, operator in reversed(self.operators.items()):
            sent = operator.backward(waiting.pop(name))
            for source, dx in zip(self.graph.node(name).inputs, sent, strict=False):  # none where none is wanted
                waiting[source] = waiting[source] + dx if source in waiting else dx
        return loss

    def step(self, x: Array, y: NDArray[np.integer]) -> StepReport:
        """One step on a minibatch; arguments and errors as `backward`."""
        lr = self.vector.dtype.type(self.learning_rate)
        report = super().step(x, y)
        for norm in self.norms:
            norm.scale -= lr * norm.d_scale
            norm.shift -= lr * norm.d_shift
        return report
