"""A network as a validated list of nodes, from which everything else derives: compiler, predictor, references, tests.

A `Graph` exists only if it is sound: one input, every node after those it reads, all shapes fitting, and exactly one
node that nothing reads, the logits. The loss is always softmax cross-entropy and is no node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from golden.networks.node import Node, Shape, Shapes
from golden.networks.operators import Conv, Input, Linear

KINDS = ("conv", "depthwise", "linear")


@dataclass(frozen=True)
class WeightLayer:
    """A layer with weights, as the compiler wants it: a linear layer is a 1x1 convolution of a 1x1 map.

    Attributes:
        name: of its node.
        kind: one of `KINDS`.
        source: node it reads.
        input: shape of its input (C, H, W).
        output: shape of its output (K, P, Q).
        kernel: R and S.
        stride: of both directions.
        padding: zeros on all four sides.
        bias: whether there is one a channel.
    """

    name: str
    kind: str
    source: str
    input: Shape
    output: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    bias: bool = True

    @property
    def depthwise(self) -> bool:
        """Whether output channel k reads input channel k alone."""
        return self.kind == "depthwise"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """K, C, R, S of the weights; C is 1 if depthwise."""
        return (self.output.channels, 1 if self.depthwise else self.input.channels, *self.kernel)

    @property
    def weights(self) -> int:
        """Weights, biases not counted."""
        k, c, r, s = self.weight_shape
        return k * c * r * s

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of the forward pass of one sample, those with padding included."""
        return self.weights * self.output.height * self.output.width


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        name: for reports.
        nodes: in topological order, the input first.

    Raises:
        ValueError: anything that is wrong with it; the message names graph, node, value and bound.
    """

    name: str
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        """Check everything there is to check."""
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"the name of a network must be text and not empty, it is {self.name!r}")
        try:
            _check_links(self.nodes)
            self.shapes  # noqa: B018 - made here, so that shapes that do not fit are refused here
            self._check_output()
        except ValueError as error:
            raise ValueError(f"network {self.name!r}: {error}") from None

    def _check_output(self) -> None:
        unread = [node for node in self.nodes if not self.consumers(node.name)]
        if len(unread) > 1:
            names = ", ".join(repr(node.name) for node in unread)
            raise ValueError(f"must have exactly one output, but {len(unread)} nodes are read by none: {names}")
        shape = self.shapes[unread[0].name]
        if (shape.height, shape.width) != (1, 1) or isinstance(unread[0], Input):
            raise ValueError(
                f"{unread[0]}: the output must be logits, made of the input, with height and width 1, it is {shape}"
            )

    # -- nodes ------------------------------------------------------------------------------
    @cached_property
    def by_name(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def input(self) -> Input:
        """The input."""
        assert isinstance(self.nodes[0], Input)
        return self.nodes[0]

    @cached_property
    def output(self) -> Node:
        """The node whose result is the logits."""
        return next(node for node in self.nodes if not self.consumers(node.name))

    def node(self, name: str) -> Node:
        """A node. Raises ValueError if there is none of that name."""
        if name not in self.by_name:
            raise ValueError(f"network {self.name!r} has no node {name!r}; it has {', '.join(self.by_name)}")
        return self.by_name[name]

    def consumers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read a node, in order; each once."""
        return self._consumers[self.node(name).name]

    # -- shapes and sums --------------------------------------------------------------------
    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node."""
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            shapes[node.name] = node.infer(tuple(shapes[name] for name in node.inputs))
        return shapes

    def shape(self, name: str) -> Shape:
        """Output shape of a node."""
        return self.shapes[self.node(name).name]

    def input_shapes(self, name: str) -> Shapes:
        """Shapes of what a node reads."""
        return tuple(self.shapes[source] for source in self.node(name).inputs)

    def weights(self, name: str | None = None) -> int:
        """Weights of a node, or of the whole network, biases not counted."""
        return sum(node.weights(self.input_shapes(node.name)) for node in self._chosen(name))

    def parameters(self, name: str | None = None) -> int:
        """All that is trained in a node or the network: weights, biases, batch normalisation's scale and shift."""
        return sum(node.parameters(self.input_shapes(node.name)) for node in self._chosen(name))

    def macs(self, name: str | None = None) -> int:
        """Dense multiply-accumulates of the forward pass of one sample, in a node or the network; padding counts."""
        return sum(node.macs(self.input_shapes(node.name)) for node in self._chosen(name))

    def _chosen(self, name: str | None) -> tuple[Node, ...]:
        return self.nodes if name is None else (self.node(name),)

    def weight_layers(self) -> tuple[WeightLayer, ...]:
        """Convolutions and linear layers, in order."""
        return tuple(self._layer(node) for node in self.nodes if isinstance(node, Conv | Linear))

    def _layer(self, node: Conv | Linear) -> WeightLayer:
        (source,) = node.inputs
        common = (source, self.shapes[source], self.shapes[node.name])
        if isinstance(node, Linear):
            return WeightLayer(node.name, "linear", *common, bias=node.bias)
        kind = "depthwise" if node.groups > 1 else "conv"
        return WeightLayer(node.name, kind, *common, node.kernel, node.stride, node.padding, node.bias)


def _check_links(nodes: Sequence[Node]) -> None:
    """Refuse what is no acyclic graph with one input, or not in order."""
    if not isinstance(nodes, tuple) or not all(isinstance(node, Node) for node in nodes):
        raise ValueError(f"nodes must be a tuple of nodes, not {nodes!r}")
    if not nodes:
        raise ValueError("must have at least an input and an output, it has 0 nodes")
    found = [node for node in nodes if isinstance(node, Input)]
    if len(found) != 1:
        names = ", ".join(repr(node.name) for node in found) or "none"
        raise ValueError(f"must have exactly one input, it has {len(found)} ({names})")
    if nodes[0] is not found[0]:
        raise ValueError(f"{found[0]}: must be the first node, that is {nodes[0]}")
    sources: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        if node.name in sources:
            raise ValueError(f"{node}: the name is taken by an earlier node, names must be unique")
        sources[node.name] = node.inputs
    earlier: set[str] = set()
    for node in nodes:
        for name in node.inputs:
            if name not in sources:
                raise ValueError(f"{node}: there is no node {name!r} to read; there are {', '.join(sources)}")
            if name not in earlier:
                if path := _path(sources, name, node.name):
                    raise ValueError(f"{node}: is in a cycle, {' reads '.join([node.name, *path])}")
                raise ValueError(f"{node}: reads {name!r}, which comes after it; a node must come after its inputs")
        earlier.add(node.name)


def _path(sources: dict[str, tuple[str, ...]], start: str, goal: str) -> list[str]:
    """Names from `start` to `goal`, each reading the next; empty if there is no such way."""
    came: dict[str, str] = {start: ""}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name == goal:
            path = [name]
            while path[0] != start:
                path.insert(0, came[path[0]])
            return path
        for source in sources.get(name, ()):
            if source not in came:
                came[source] = name
                waiting.append(source)
    return []
