"""Networks written in Python: one call a layer, each reading the one before unless told otherwise.

    net = Builder("tiny", (1, 8, 8))
    net.conv(8, 3, padding=1)
    net.relu()
    net.max_pool(2)
    net.flatten()
    net.linear(10)
    graph = net.graph()

Every call returns the name of its node, to be read elsewhere: `net.add(x, y)`.
"""

from __future__ import annotations

from collections.abc import Sequence

from golden.networks import operators
from golden.networks.graph import Graph
from golden.networks.node import Node, Shape

Kernel = int | tuple[int, int]


def pair(kernel: Kernel) -> tuple[int, int]:
    """Both sides of a kernel of which one may be given."""
    return (kernel, kernel) if isinstance(kernel, int) else kernel


class Builder:
    """A network in the making.

    Args of every layer: the operator's fields (`golden.networks.operators`), `x`, the name of the node to read (the
    last one made by default), and `name` (the operator's with a number by default).

    Raises:
        ValueError: at once, where a node does not fit those before it.
    """

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        """Begin with the input.

        Args:
            name: of the network.
            shape: channels, height, width; or channels alone, for vectors.
        """
        self._name = name
        self._nodes: list[Node] = []
        self._shapes: dict[str, Shape] = {}
        self._counts: dict[str, int] = {}
        if len(shape) not in (1, 3):
            raise ValueError(f"network {name!r}: the input's shape must be 1 or 3 numbers, not {tuple(shape)}")
        self.last = self.node(operators.Input("input", (), *shape))

    def node(self, node: Node) -> str:
        """Append a node made elsewhere; returns its name."""
        try:
            if node.name in self._shapes:
                raise ValueError(f"{node}: the name is taken by an earlier node, names must be unique")
            self._shapes[node.name] = node.infer(tuple(self.shape(name) for name in node.inputs))
        except ValueError as error:
            raise ValueError(f"network {self._name!r}: {error}") from None
        self._nodes.append(node)
        self.last = node.name
        return node.name

    def shape(self, x: str | None = None) -> Shape:
        """Shape of a node's output, the last one's by default."""
        name = self.last if x is None else x
        if name not in self._shapes:
            raise ValueError(f"there is no node {name!r} to read; there are {', '.join(self._shapes)}")
        return self._shapes[name]

    def graph(self) -> Graph:
        """The finished network."""
        return Graph(self._name, tuple(self._nodes))

    def _append(self, op: str, name: str | None, inputs: Sequence[str | None], *fields: object) -> str:
        self._counts[op] = self._counts.get(op, 0) + 1
        sources = tuple(self.last if x is None else x for x in inputs)
        return self.node(operators.OPERATORS[op](name or f"{op}{self._counts[op]}", sources, *fields))

    # -- layers -----------------------------------------------------------------------------
    def conv(
        self,
        out_channels: int,
        kernel: Kernel,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        *,
        x: str | None = None,
        name: str | None = None,
    ) -> str:
        """Convolution; one number for both sides of the kernel will do."""
        return self._append("conv", name, [x], out_channels, pair(kernel), stride, padding, groups, bias)

    def depthwise(
        self,
        kernel: Kernel,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        *,
        x: str | None = None,
        name: str | None = None,
    ) -> str:
        """Convolution of each channel by itself."""
        channels = self.shape(x).channels
        return self.conv(channels, kernel, stride, padding, channels, bias, x=x, name=name)

    def linear(self, out_features: int, bias: bool = True, *, x: str | None = None, name: str | None = None) -> str:
        """Fully connected layer of a vector."""
        return self._append("linear", name, [x], out_features, bias)

    def batch_norm(
        self, eps: float = 1e-5, momentum: float = 0.1, *, x: str | None = None, name: str | None = None
    ) -> str:
        """Batch normalisation."""
        return self._append("batch_norm", name, [x], eps, momentum)

    def relu(self, *, x: str | None = None, name: str | None = None) -> str:
        """`max(x, 0)`."""
        return self._append("relu", name, [x])

    def relu6(self, *, x: str | None = None, name: str | None = None) -> str:
        """`min(max(x, 0), 6)`."""
        return self._append("relu6", name, [x])

    def max_pool(
        self,
        window: int,
        stride: int | None = None,
        padding: int = 0,
        *,
        x: str | None = None,
        name: str | None = None,
    ) -> str:
        """Largest of each window; they lie side by side unless `stride` says otherwise."""
        return self._append("max_pool", name, [x], window, window if stride is None else stride, padding)

    def avg_pool(
        self,
        window: int,
        stride: int | None = None,
        padding: int = 0,
        *,
        x: str | None = None,
        name: str | None = None,
    ) -> str:
        """Mean of each window; they lie side by side unless `stride` says otherwise."""
        return self._append("avg_pool", name, [x], window, window if stride is None else stride, padding)

    def global_avg_pool(self, *, x: str | None = None, name: str | None = None) -> str:
        """Mean of each channel."""
        return self._append("global_avg_pool", name, [x])

    def add(self, *inputs: str, name: str | None = None) -> str:
        """Sum of two or more nodes."""
        return self._append("add", name, inputs)

    def concat(self, *inputs: str, name: str | None = None) -> str:
        """Channels of two or more nodes, one after the other."""
        return self._append("concat", name, inputs)

    def flatten(self, *, x: str | None = None, name: str | None = None) -> str:
        """A map as a vector."""
        return self._append("flatten", name, [x])
