"""Classes of layers: what the hardware may treat differently, so that a test of each class is a test of every network.

Two layers are of one class if kernel, stride, padding and bias are the same, their channels fill blocks and bus beats
alike, and their maps are of about one size. The classes are derived from the graphs: a network added to the zoo adds
its classes to every test that goes through them. `reduced` makes a small layer of a class, for simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from golden.networks.graph import Graph, WeightLayer
from golden.networks.node import Shape

MAP_SIDES = (1, 2, 4, 8, 16, 32)
"""Classes of maps: 4 stands for sides of 3 and 4, 8 for 5 to 8, and so on; 32 for all above 16."""


@dataclass(frozen=True)
class Blocks:
    """What channels and positions are cut into.

    Attributes:
        block_c: input channels of a block.
        block_k: output channels of a block.
        bus_elements: channels that go over the bus together.
        tile: positions of an output map that are computed together.
    """

    block_c: int
    block_k: int
    bus_elements: int
    tile: int

    def __post_init__(self) -> None:
        """Refuse sizes below 1."""
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, not {getattr(self, field.name)}")


@dataclass(frozen=True)
class LayerClass:
    """What makes two layers alike.

    Attributes:
        kind: conv, depthwise or linear.
        kernel: R and S.
        stride: of both directions.
        padding: zeros on all four sides.
        bias: whether there is one.
        side: the longer side of the output map, rounded up to one of `MAP_SIDES`, or down to the last.
        tiled: whether the output map has more positions than a tile.
        square: whether input and output map are as high as wide.
        unreached: whether the last row or column of the padded input is read by no window (a stride of 2 leaves one).
        ragged_c: whether the last block of input channels is not full.
        ragged_k: whether the last block of output channels is not full.
        ragged_bus_c: whether the last beat of input channels is not full.
        ragged_bus_k: whether the last beat of output channels is not full.
    """

    kind: str
    kernel: tuple[int, int]
    stride: int
    padding: int
    bias: bool
    side: int
    tiled: bool
    square: bool
    unreached: bool
    ragged_c: bool
    ragged_k: bool
    ragged_bus_c: bool
    ragged_bus_k: bool


def layer_class(layer: WeightLayer, blocks: Blocks) -> LayerClass:
    """The class of a layer."""
    c, k = layer.input.channels, layer.output.channels
    height, width = layer.output.height, layer.output.width
    longer = max(height, width)
    return LayerClass(
        kind=layer.kind,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        bias=layer.bias,
        side=next((side for side in MAP_SIDES if longer <= side), MAP_SIDES[-1]),
        tiled=height * width > blocks.tile,
        square=height == width and layer.input.height == layer.input.width,
        unreached=any(_unreached(layer)),
        ragged_c=c % blocks.block_c != 0,
        ragged_k=k % blocks.block_k != 0,
        ragged_bus_c=c % blocks.bus_elements != 0,
        ragged_bus_k=k % blocks.bus_elements != 0,
    )


def _unreached(layer: WeightLayer) -> tuple[int, int]:
    """Rows and columns of the padded input below and right of the last window."""
    sides = zip((layer.input.height, layer.input.width), layer.kernel, strict=True)
    down, right = ((side + 2 * layer.padding - kernel) % layer.stride for side, kernel in sides)
    return down, right


def layer_classes(graphs: Iterable[Graph], blocks: Blocks) -> dict[LayerClass, tuple[str, WeightLayer]]:
    """The distinct classes of some networks' layers, each with its cheapest example: network's name, and layer.

    The order is that of first appearance.
    """
    found: dict[LayerClass, tuple[str, WeightLayer]] = {}
    for graph in graphs:
        for layer in graph.weight_layers():
            key = layer_class(layer, blocks)
            if key not in found or layer.macs < found[key][1].macs:
                found[key] = (graph.name, layer)
    return found


def reduced(layer: WeightLayer, blocks: Blocks, side: int = 8) -> WeightLayer:
    """A small layer of the same class, but for the side of its map: few channels, few positions.

    Channels keep their remainders in blocks and beats, after at least one full one of each if there was one. A map that
    fits in a tile keeps its sides, at most `side` of them; one that does not gets just too large for a tile.

    Args:
        layer: any layer.
        blocks: as for its class.
        side: longest side of an output map, at least 1.
    """
    if side < 1:
        raise ValueError(f"side must be at least 1, not {side}")
    c, k = layer.input.channels, layer.output.channels
    if layer.depthwise:
        c = k = _few(c, blocks.block_c, blocks.block_k, blocks.bus_elements)
    else:
        c, k = _few(c, blocks.block_c, blocks.bus_elements), _few(k, blocks.block_k, blocks.bus_elements)
    height, width = _small_map(layer, blocks.tile, side)
    sizes = zip((height, width), layer.kernel, _unreached(layer), strict=True)
    inputs = [(n - 1) * layer.stride + kernel - 2 * layer.padding + rest for n, kernel, rest in sizes]
    return WeightLayer(
        name=layer.name,
        kind=layer.kind,
        source=layer.source,
        input=Shape(c, *inputs),
        output=Shape(k, height, width),
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        bias=layer.bias,
    )


def _few(channels: int, *sizes: int) -> int:
    """The fewest channels, at most `channels`, with the same remainders by all sizes and two full groups if even."""
    period = math.lcm(*sizes)
    rest = channels % period
    return min(channels, period + rest if rest else 2 * period)


def _small_map(layer: WeightLayer, tile: int, side: int) -> tuple[int, int]:
    """Height and width of the smaller output map: in or beyond a tile, square or not, as the layer's own."""
    height, width = layer.output.height, layer.output.width
    if height * width > tile:
        side = math.isqrt(tile) + 1
    # What gives an input of at least one element.
    low, left = (
        1 - (kernel - 2 * layer.padding + rest - 1) // layer.stride
        for kernel, rest in zip(layer.kernel, _unreached(layer), strict=True)
    )
    small = [min(height, max(side, low)), min(width, max(side, left))]
    if height * width > tile:
        # Of a long map one side was shorter than that: the other makes up for it.
        small[0] = min(height, max(small[0], tile // small[1] + 1))
        small[1] = min(width, max(small[1], tile // small[0] + 1))
    if small[0] == small[1] and height != width:
        small[0 if height > width else 1] += 1
    return small[0], small[1]
