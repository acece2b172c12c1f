"""Networks read from .onnx files, with their weights where somebody wants to measure them.

What an operator of ONNX becomes:

- Conv, BatchNormalization, MaxPool, AveragePool, GlobalAveragePool, Relu, Add, Concat, Flatten: the same;
- Gemm, or MatMul with or without Add of a constant: linear;
- Clip from 0 to 6: relu6; ReduceMean over the map: global_avg_pool; Reshape to two dimensions: flatten;
- Identity, Dropout, a Softmax or LogSoftmax at the end, and Flatten of what is flat: nothing.

Everything else is refused by name. `onnx` is imported here and nowhere else, as it takes a while.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from golden.networks import onnx_values, operators
from golden.networks.graph import Graph
from golden.networks.node import Node, Shape
from golden.networks.onnx_values import Attributes, Constants, OnnxNode

Array = NDArray[np.generic]


def from_onnx(path: str | Path) -> Graph:
    """The network in an .onnx file; nodes are named as there, or after their output where they have no name.

    Raises:
        ValueError: the file is damaged, or the network has something that a `Graph` cannot have.
        FileNotFoundError: there is no such file.
    """
    with _named(path):
        return _read(Path(path), data=False).graph


def weights(path: str | Path) -> dict[str, Array]:
    """Weights in an .onnx file by the name of their node: a convolution's [K, C, R, S], a linear layer's [K, C].

    C is 1 if the convolution is depthwise. They are as stored, of the file's type; biases and batch normalisations are
    left out.

    Raises:
        ValueError: as `from_onnx`; or the file has no values for a weight.
        FileNotFoundError: there is no such file.
    """
    with _named(path):
        return {name: make() for name, make in _read(Path(path), data=True).weights.items()}


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path: Path, *, data: bool) -> _Importer:
    if not path.is_file():
        raise FileNotFoundError(f"network {str(path)!r}: there is no such file")
    try:
        model = onnx.load(path, load_external_data=data)
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise ValueError(f"not a readable ONNX file: {error}") from None
    if not model.HasField("graph") or not model.graph.node:
        raise ValueError("not an ONNX file of a network: there is no graph with nodes in it")
    return _Importer(model.graph, path.stem)


class _Importer:
    """Goes through the nodes once, in their order, and keeps for each value the node that makes it.

    Attributes:
        graph: the network.
        weights: for each layer with weights, what makes its array.
    """

    def __init__(self, source: onnx.GraphProto, name: str) -> None:
        self.weights: dict[str, Callable[[], Array]] = {}
        onnx_values.check_names(source)
        self._constants = Constants(source)
        self._nodes: dict[str, Node] = {}
        self._shapes: dict[str, Shape] = {}
        self._made_by: dict[str, str] = {}  # value -> node of ours
        name_in, sides = onnx_values.network_input(source, self._constants)
        self._emit(operators.Input(name_in, (), *sides), name_in)
        self._readers = [value for node in source.node for value in node.input]
        for node in onnx_values.nodes(source):
            self._add(node)
        outputs = [value.name for value in source.output]
        if len(outputs) != 1 or outputs[0] not in self._made_by:
            made = ", ".join(outputs) or "none"
            raise ValueError(f"must have exactly one output, made by a node, it has {len(outputs)} ({made})")
        self.graph = Graph(source.name or name, tuple(self._nodes.values()))
        if self.graph.output.name != self._made_by[outputs[0]]:
            raise ValueError(f"node {self.graph.output.name!r} is read by none, and is not the output {outputs[0]!r}")

    def _add(self, node: OnnxNode) -> None:
        for value in node.proto.output:
            if value in self._made_by or value in self._constants:
                raise ValueError(f"{node}: its output {value!r} is made by an earlier node too")
        if node.op == "Constant":
            self._constants.add(node)
            return
        if node.proto.domain not in ("", "ai.onnx") or node.op not in _READERS:
            domain = node.proto.domain and f" of domain {node.proto.domain!r}"
            raise ValueError(f"{node}: the operator{domain} is not supported; supported are {', '.join(_READERS)}")
        if node.op == "Identity" and node.inputs and node.inputs[0] in self._constants:
            self._constants.alias(node.proto.output[0], node.inputs[0])
            return
        _READERS[node.op](self, node, Attributes(node))

    # -- values -----------------------------------------------------------------------------
    def _emit(self, made: Node, value: str) -> None:
        self._shapes[made.name] = made.infer(tuple(self._shapes[name] for name in made.inputs))
        self._nodes[made.name] = made
        self._made_by[value] = made.name

    def _x(self, node: OnnxNode, index: int = 0) -> str:
        """Name of the node that makes an input."""
        value = node.input(index)
        if value not in self._made_by:
            what = "a constant" if value in self._constants else "made by no earlier node"
            raise ValueError(f"{node}: input {value!r} must be made by an earlier node, it is {what}")
        return self._made_by[value]

    def _pass(self, node: OnnxNode) -> None:
        self._made_by[node.proto.output[0]] = self._x(node)

    # -- operators --------------------------------------------------------------------------
    def _conv(self, node: OnnxNode, attributes: Attributes) -> None:
        x, sizes = self._x(node), self._constants.shape(node, 1, 4)
        kernel = (sizes[2], sizes[3])
        attributes.expect("kernel_shape", list(kernel), default=list(kernel))
        stride, padding = attributes.window()
        groups, channels = attributes.integer("group", 1), self._shapes[x].channels
        bias = node.has(2)
        if bias:
            self._constants.expect(node, 2, (sizes[0],))
        made = operators.Conv(node.name, (x,), sizes[0], kernel, stride, padding, groups, bias)
        made.infer((self._shapes[x],))
        if sizes[1] * groups != channels:
            raise ValueError(f"{node}: weights must be for {channels // groups} input channels a group, not {sizes[1]}")
        self._emit(made, node.proto.output[0])
        self.weights[node.name] = lambda: self._constants.array(node, 1)

    def _linear(self, node: OnnxNode, sizes: tuple[int, ...], transposed: bool, bias: bool) -> None:
        """`sizes` are K and C if transposed, else C and K."""
        x = self._x(node)
        k, c = sizes if transposed else sizes[::-1]
        made = operators.Linear(node.name, (x,), k, bias)
        made.infer((self._shapes[x],))
        if c != self._shapes[x].channels:
            raise ValueError(f"{node}: weights must be for {self._shapes[x].channels} input channels, not {c}")
        self._emit(made, node.proto.output[0])
        array = self._constants.array
        self.weights[node.name] = lambda: array(node, 1) if transposed else array(node, 1).T

    def _gemm(self, node: OnnxNode, attributes: Attributes) -> None:
        attributes.expect("alpha", 1.0, default=1.0)
        attributes.expect("transA", 0, default=0)
        bias = node.has(2)
        sizes, transposed = self._constants.shape(node, 1, 2), attributes.integer("transB", 0)
        if bias:
            attributes.expect("beta", 1.0, default=1.0)
            self._constants.expect(node, 2, (sizes[0 if transposed else 1],))
        self._linear(node, sizes, bool(transposed), bias)

    def _matmul(self, node: OnnxNode, _: Attributes) -> None:
        self._linear(node, self._constants.shape(node, 1, 2), transposed=False, bias=False)

    def _plus(self, node: OnnxNode, _: Attributes) -> None:
        constant = [index for index in (0, 1) if node.input(index) in self._constants]
        if not constant:
            self._emit(operators.Add(node.name, (self._x(node, 0), self._x(node, 1))), node.proto.output[0])
            return
        # A bias is a constant added to what a MatMul alone makes for this Add alone.
        value = node.input(1 - constant[0])
        x = self._x(node, 1 - constant[0])
        before = self._nodes[x]
        if not isinstance(before, operators.Linear) or before.bias or self._readers.count(value) != 1:
            raise ValueError(f"{node}: a constant may be added only to a MatMul that nothing else reads, not to {x!r}")
        self._constants.expect(node, constant[0], (before.out_features,))
        self._nodes[x] = dataclasses.replace(before, bias=True)
        self._made_by[node.proto.output[0]] = x

    def _batch_norm(self, node: OnnxNode, attributes: Attributes) -> None:
        x = self._x(node)
        for index in range(1, 5):
            self._constants.expect(node, index, (self._shapes[x].channels,))
        # In ONNX, momentum is the share of the old mean.
        momentum = round(1 - attributes.real("momentum", 0.9), 7)
        made = operators.BatchNorm(node.name, (x,), attributes.real("epsilon", 1e-5), momentum)
        self._emit(made, node.proto.output[0])

    def _clip(self, node: OnnxNode, attributes: Attributes) -> None:
        given = (attributes.real("min", -math.inf), attributes.real("max", math.inf))
        bounds = [
            float(self._constants.array(node, index).reshape(-1)[0]) if node.has(index) else bound
            for index, bound in enumerate(given, 1)
        ]
        if bounds != [0, 6]:
            raise ValueError(f"{node}: must clip from 0 to 6, not from {bounds[0]} to {bounds[1]}")
        self._emit(operators.Relu6(node.name, (self._x(node),)), node.proto.output[0])

    def _relu(self, node: OnnxNode, _: Attributes) -> None:
        self._emit(operators.Relu(node.name, (self._x(node),)), node.proto.output[0])

    def _pool(self, node: OnnxNode, attributes: Attributes) -> None:
        sides = attributes.integers("kernel_shape", None)
        if len(set(sides)) != 1 or len(sides) != 2:
            raise ValueError(f"{node}: kernel_shape must be two equal numbers, not {sides}")
        attributes.expect("ceil_mode", 0, default=0)
        stride, padding = attributes.window()
        if node.op == "AveragePool" and padding:
            attributes.expect("count_include_pad", 1, default=0)
        cls = operators.MaxPool if node.op == "MaxPool" else operators.AvgPool
        self._emit(cls(node.name, (self._x(node),), sides[0], stride, padding), node.proto.output[0])

    def _global_pool(self, node: OnnxNode, _: Attributes) -> None:
        self._emit(operators.GlobalAvgPool(node.name, (self._x(node),)), node.proto.output[0])

    def _mean(self, node: OnnxNode, attributes: Attributes) -> None:
        axes = self._constants.integers(node, 1) if node.has(1) else attributes.integers("axes", [])
        if sorted(axis % 4 for axis in axes) != [2, 3] or any(not -4 <= axis < 4 for axis in axes):
            raise ValueError(f"{node}: axes must be 2 and 3, height and width, not {axes}")
        self._global_pool(node, attributes)

    def _concat(self, node: OnnxNode, attributes: Attributes) -> None:
        axis = attributes.integer("axis", None)
        if axis not in (1, -3):
            raise ValueError(f"{node}: axis must be 1, the channels, not {axis}")
        sources = tuple(self._x(node, index) for index in range(len(node.inputs)))
        self._emit(operators.Concat(node.name, sources), node.proto.output[0])

    def _flatten(self, node: OnnxNode, attributes: Attributes) -> None:
        x = self._x(node)
        size = self._shapes[x].size
        if node.op == "Flatten":
            attributes.expect("axis", 1, default=1)
        elif len(target := self._constants.integers(node, 1)) != 2 or target[1] not in (-1, size):
            raise ValueError(f"{node}: the shape must be two numbers, samples and all {size} elements, not {target}")
        if self._shapes[x] == (size, 1, 1):
            self._pass(node)
        else:
            self._emit(operators.Flatten(node.name, (x,)), node.proto.output[0])

    def _drop(self, node: OnnxNode, _: Attributes) -> None:
        for value in node.proto.output[1:]:
            if value in self._readers:
                raise ValueError(f"{node}: its output {value!r} must not be read")
        self._pass(node)

    def _softmax(self, node: OnnxNode, _: Attributes) -> None:
        if node.proto.output[0] in self._readers:
            raise ValueError(f"{node}: may stand at the end only, but its output is read")
        self._pass(node)


_READERS: dict[str, Callable[[_Importer, OnnxNode, Attributes], None]] = {
    "Conv": _Importer._conv,
    "Gemm": _Importer._gemm,
    "MatMul": _Importer._matmul,
    "BatchNormalization": _Importer._batch_norm,
    "Relu": _Importer._relu,
    "Clip": _Importer._clip,
    "MaxPool": _Importer._pool,
    "AveragePool": _Importer._pool,
    "GlobalAveragePool": _Importer._global_pool,
    "ReduceMean": _Importer._mean,
    "Add": _Importer._plus,
    "Concat": _Importer._concat,
    "Flatten": _Importer._flatten,
    "Reshape": _Importer._flatten,
    "Identity": _Importer._drop,
    "Dropout": _Importer._drop,
    "Softmax": _Importer._softmax,
    "LogSoftmax": _Importer._softmax,
}
"""What reads each operator; Constant is supported too."""

SUPPORTED = tuple(_READERS)
"""Operators that are understood."""
