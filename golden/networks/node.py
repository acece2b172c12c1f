"""What all operators of a network have in common: a name, inputs, and rules that are checked.

A node is one operator with a name and the names of the nodes it reads. Its own numbers are checked when it is made;
what needs the shapes of its inputs is checked by `infer`. Every refusal is a ValueError that names node, value and
bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

MAX_CHANNELS = 1 << 20
MAX_SIDE = 1 << 14


class Shape(NamedTuple):
    """Shape of one sample's activation; a vector has height and width 1."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


Shapes = tuple[Shape, ...]


@dataclass(frozen=True)
class Node:
    """What all operators have.

    Attributes:
        name: of this node, unique in its graph.
        inputs: names of the nodes it reads.
    """

    name: str
    inputs: tuple[str, ...]
    op: ClassVar[str]
    arity: ClassVar[tuple[int, float]] = (1, 1)

    def __post_init__(self) -> None:
        """Refuse what cannot be, as far as it shows without the inputs' shapes."""
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"the name of a {self.op} must be text and not empty, it is {self.name!r}")
        if not isinstance(self.inputs, tuple) or not all(isinstance(name, str) for name in self.inputs):
            raise ValueError(f"{self}: inputs must be names of nodes, not {self.inputs!r}")
        low, high = self.arity
        if not low <= len(self.inputs) <= high:
            wanted = f"{low}" if low == high else f"at least {low}"
            raise ValueError(f"{self}: must have {wanted} input{'s' * (wanted != '1')}, not {len(self.inputs)}")
        self.check()

    def __str__(self) -> str:
        return f"{self.op} {self.name!r}"

    def check(self) -> None:
        """Check the operator's own numbers."""

    def infer(self, inputs: Shapes) -> Shape:
        """Shape of the output. Raises ValueError where the inputs do not fit."""
        return inputs[0]

    def weights(self, inputs: Shapes) -> int:  # noqa: ARG002
        """Weights that multiply an input, biases not counted: the part of the parameters that is pruned."""
        return 0

    def parameters(self, inputs: Shapes) -> int:
        """Everything that is trained: weights, biases, scale and shift of a batch normalisation."""
        return self.weights(inputs)

    def macs(self, inputs: Shapes) -> int:  # noqa: ARG002
        """Multiply-accumulates of the forward pass of one sample, dense; those with padding count, biases do not."""
        return 0

    # -- checks of the operators ------------------------------------------------------------
    def _whole(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{self}: {field} must be a whole number from {low} to {high}, not {value!r}")

    def _flag(self, field: str) -> None:
        value = getattr(self, field)
        if type(value) is not bool:
            raise ValueError(f"{self}: {field} must be true or false, not {value!r}")

    def _share(self, field: str, *, zero: bool) -> None:
        value = getattr(self, field)
        if type(value) not in (int, float) or not (0 < value <= 1 or (zero and value == 0)):
            raise ValueError(
                f"{self}: {field} must be {'at least' if zero else 'above'} 0 and at most 1, not {value!r}"
            )

    def _window(self, shape: Shape, kernel: tuple[int, int], stride: int, padding: int, what: str) -> tuple[int, int]:
        """Height and width that a window of that kind makes of a map."""
        padded = (shape.height + 2 * padding, shape.width + 2 * padding)
        if kernel[0] > padded[0] or kernel[1] > padded[1]:
            raise ValueError(
                f"{self}: {what} must be at most the padded input, {padded[0]}x{padded[1]}, not {kernel[0]}x{kernel[1]}"
            )
        return (padded[0] - kernel[0]) // stride + 1, (padded[1] - kernel[1]) // stride + 1
