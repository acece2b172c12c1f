"""Operators of a network: what may stand in a description, and what each makes of its inputs' shapes.

Nothing is computed here: no weight exists yet. What a number may be stands beside the field; `docs/networks.md` has the
table of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from golden.networks.node import MAX_CHANNELS, MAX_SIDE, Node, Shape, Shapes


@dataclass(frozen=True)
class Input(Node):
    """The samples: the one node without inputs."""

    channels: int
    height: int = 1
    width: int = 1
    op = "input"
    arity = (0, 0)

    def check(self) -> None:
        self._whole("channels", 1, MAX_CHANNELS)
        self._whole("height", 1, MAX_SIDE)
        self._whole("width", 1, MAX_SIDE)

    def infer(self, inputs: Shapes) -> Shape:  # noqa: ARG002
        """The shape it was given."""
        return Shape(self.channels, self.height, self.width)


@dataclass(frozen=True)
class Conv(Node):
    """Convolution: `y[k, p, q] = bias[k] + sum w[k, c, r, s] * x[c, p * stride + r - pad, q * stride + s - pad]`.

    The sum is over c, r and s; elements outside the map are zero.

    Attributes:
        out_channels: K.
        kernel: R and S, each 1 to 7.
        stride: 1 or 2, of both directions.
        padding: zeros on all four sides, 0 to 3.
        groups: 1; or as many as input channels, which must be `out_channels` then: depthwise.
        bias: whether there is one.
    """

    out_channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True
    op = "conv"

    def check(self) -> None:
        self._whole("out_channels", 1, MAX_CHANNELS)
        sides = self.kernel
        if not (isinstance(sides, tuple) and len(sides) == 2 and all(type(n) is int and 1 <= n <= 7 for n in sides)):
            raise ValueError(f"{self}: kernel must be two whole numbers from 1 to 7, not {sides!r}")
        self._whole("stride", 1, 2)
        self._whole("padding", 0, 3)
        self._whole("groups", 1, MAX_CHANNELS)
        self._flag("bias")

    def infer(self, inputs: Shapes) -> Shape:
        """Shape of the output."""
        (x,) = inputs
        if self.groups not in (1, x.channels):
            raise ValueError(
                f"{self}: groups must be 1 or the number of input channels, {x.channels}, not {self.groups}"
            )
        if self.groups > 1 and self.out_channels != x.channels:
            raise ValueError(
                f"{self}: out_channels of a depthwise convolution must be that of its input, {x.channels},"
                f" not {self.out_channels}"
            )
        return Shape(self.out_channels, *self._window(x, self.kernel, self.stride, self.padding, "kernel"))

    def weights(self, inputs: Shapes) -> int:
        """K * C * R * S, or C * R * S if depthwise."""
        return self.out_channels * (inputs[0].channels // self.groups) * math.prod(self.kernel)

    def parameters(self, inputs: Shapes) -> int:
        """With biases."""
        return self.weights(inputs) + self.out_channels * self.bias

    def macs(self, inputs: Shapes) -> int:
        """Every weight at every position of the output."""
        out = self.infer(inputs)
        return self.weights(inputs) * out.height * out.width


@dataclass(frozen=True)
class Linear(Node):
    """Fully connected layer: `y[k] = bias[k] + sum w[k, c] * x[c]`, of a vector (`flatten` makes one of a map)."""

    out_features: int
    bias: bool = True
    op = "linear"

    def check(self) -> None:
        self._whole("out_features", 1, MAX_CHANNELS)
        self._flag("bias")

    def infer(self, inputs: Shapes) -> Shape:
        """A vector."""
        (x,) = inputs
        if (x.height, x.width) != (1, 1):
            raise ValueError(f"{self}: the input must have height and width 1, not {x.height}x{x.width}: flatten it")
        return Shape(self.out_features, 1, 1)

    def weights(self, inputs: Shapes) -> int:
        """K * C."""
        return self.out_features * inputs[0].channels

    def parameters(self, inputs: Shapes) -> int:
        """With biases."""
        return self.weights(inputs) + self.out_features * self.bias

    def macs(self, inputs: Shapes) -> int:
        """Every weight once."""
        return self.weights(inputs)


@dataclass(frozen=True)
class BatchNorm(Node):
    """Batch normalisation of each channel, with a trained scale and shift.

    Attributes:
        eps: added to the variance, above 0 and at most 1.
        momentum: share of the newest batch in the running mean and variance, 0 to 1.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    op = "batch_norm"

    def check(self) -> None:
        self._share("eps", zero=False)
        self._share("momentum", zero=True)

    def parameters(self, inputs: Shapes) -> int:
        """Scale and shift of each channel; the running mean and variance are not trained."""
        return 2 * inputs[0].channels


@dataclass(frozen=True)
class Relu(Node):
    """`max(x, 0)`."""

    op = "relu"


@dataclass(frozen=True)
class Relu6(Node):
    """`min(max(x, 0), 6)`."""

    op = "relu6"


@dataclass(frozen=True)
class Pool(Node):
    """A window that moves over each channel.

    Attributes:
        window: side, 2 or 3.
        stride: 1 to 3, of both directions.
        padding: on all four sides, 0 or 1.
    """

    window: int
    stride: int
    padding: int = 0

    def check(self) -> None:
        self._whole("window", 2, 3)
        self._whole("stride", 1, 3)
        self._whole("padding", 0, 1)

    def infer(self, inputs: Shapes) -> Shape:
        """Shape of the output."""
        (x,) = inputs
        return Shape(x.channels, *self._window(x, (self.window,) * 2, self.stride, self.padding, "window"))


@dataclass(frozen=True)
class MaxPool(Pool):
    """Largest element of each window; padding never wins."""

    op = "max_pool"


@dataclass(frozen=True)
class AvgPool(Pool):
    """Mean of each window; always of `window * window` elements, padding counts as zeros."""

    op = "avg_pool"


@dataclass(frozen=True)
class GlobalAvgPool(Node):
    """Mean of each channel."""

    op = "global_avg_pool"

    def infer(self, inputs: Shapes) -> Shape:
        """A vector."""
        return Shape(inputs[0].channels, 1, 1)


@dataclass(frozen=True)
class Add(Node):
    """Sum of two or more inputs of one shape."""

    op = "add"
    arity = (2, math.inf)

    def infer(self, inputs: Shapes) -> Shape:
        """That shape."""
        for name, shape in zip(self.inputs, inputs, strict=True):
            if shape != inputs[0]:
                raise ValueError(
                    f"{self}: input {name!r} must have the shape of {self.inputs[0]!r}, {inputs[0]}, not {shape}"
                )
        return inputs[0]


@dataclass(frozen=True)
class Concat(Node):
    """The channels of all inputs, one after the other."""

    op = "concat"
    arity = (2, math.inf)

    def infer(self, inputs: Shapes) -> Shape:
        """All channels of one map size."""
        first = inputs[0]
        for name, shape in zip(self.inputs, inputs, strict=True):
            if shape[1:] != first[1:]:
                raise ValueError(
                    f"{self}: input {name!r} must have the height and width of {self.inputs[0]!r},"
                    f" {first.height}x{first.width}, not {shape.height}x{shape.width}"
                )
        return Shape(sum(shape.channels for shape in inputs), first.height, first.width)


@dataclass(frozen=True)
class Flatten(Node):
    """A map as a vector: element (c, h, w) becomes channel `(c * height + h) * width + w`."""

    op = "flatten"

    def infer(self, inputs: Shapes) -> Shape:
        """A vector."""
        return Shape(inputs[0].size, 1, 1)


OPERATORS: dict[str, type[Node]] = {
    cls.op: cls
    for cls in (
        *(Input, Conv, Linear, BatchNorm, Relu, Relu6),
        *(MaxPool, AvgPool, GlobalAvgPool, Add, Concat, Flatten),
    )
}
"""Operators by name."""
