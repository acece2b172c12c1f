"""Shape of a layer with weights: a convolution, of which a fully connected layer is the case of one position."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from golden.boxes import check_kernel, outputs_of

MOST_CHANNELS = 8190


@dataclass(frozen=True)
class LayerShape:
    """y = W * x, with a bias as the weight of a channel that is constantly one.

    Attributes:
        outputs, inputs: channels, without the constant-one channel.
        height, width: of the input map.
        kernel: rows and columns of the filter, 1 to 7 each.
        stride, padding: of both axes.
        depthwise: output channel k reads input channel k alone (as many of both).
        bias: whether there is one.

    Raises:
        ValueError: a shape that cannot be; names value and bound.
    """

    outputs: int
    inputs: int
    height: int = 1
    width: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    depthwise: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        """Check every size."""
        for name in ("outputs", "inputs", "height", "width"):
            value, most = getattr(self, name), MOST_CHANNELS if name.endswith("puts") else 1 << 15
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be between 1 and {most}, not {value}")
        check_kernel(*self.kernel)
        if self.stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, not {self.stride}")
        if not 0 <= self.padding <= 3:
            raise ValueError(f"padding must be between 0 and 3, not {self.padding}")
        for size, kernel in zip((self.height, self.width), self.kernel, strict=True):
            outputs_of(size, kernel, self.stride, self.padding)
        if self.depthwise and (self.inputs != self.outputs or self.bias):
            raise ValueError(
                f"a depthwise layer has as many inputs as outputs and no bias, not {self.inputs} and {self.outputs}"
                + ", with bias" * self.bias
            )
        if self.bias and self.padding * 2 >= min(self.kernel) > 0 and self.padding:
            raise ValueError(
                f"padding {self.padding} of a {self.kernel[0]}x{self.kernel[1]} filter with bias: some outputs would"
                " meet padding alone; it must be less than half the filter"
            )

    @property
    def out_height(self) -> int:
        """Rows of the output map."""
        return outputs_of(self.height, self.kernel[0], self.stride, self.padding)

    @property
    def out_width(self) -> int:
        """Columns of the output map."""
        return outputs_of(self.width, self.kernel[1], self.stride, self.padding)

    @property
    def taps(self) -> int:
        """Positions of the filter."""
        return self.kernel[0] * self.kernel[1]

    @property
    def fan_in(self) -> int:
        """Weights of an output, without bias."""
        return self.taps * (1 if self.depthwise else self.inputs)

    @property
    def weights(self) -> int:
        """Weights, biases included."""
        return self.outputs * (self.fan_in + self.bias)

    @property
    def macs(self) -> int:
        """Products of a sample in the forward phase, those with padding counted."""
        return self.outputs * self.fan_in * self.out_height * self.out_width

    @property
    def bias_tap(self) -> int:
        """The tap in which the bias exists: one that no output loses to padding."""
        return self.padding * self.kernel[1] + self.padding if self.bias and self.taps > 1 else -1

    @property
    def channels(self) -> int:
        """Input channels of a weight matrix: bias included, one if depthwise."""
        return 1 if self.depthwise else self.inputs + self.bias

    @property
    def is_map(self) -> bool:
        """Whether there is more than one position, or more than one tap."""
        return (self.height, self.width, self.taps) != (1, 1, 1)


def connected(sizes: tuple[int, ...]) -> tuple[LayerShape, ...]:
    """Fully connected layers of these sizes, with biases."""
    return tuple(LayerShape(outputs, inputs) for inputs, outputs in pairwise(sizes))
