"""Layer classes: what tells two layers apart, that all of the zoo is covered, and that small layers stay in class."""

from dataclasses import replace

import pytest

from golden.networks import Builder, Graph, Shape, WeightLayer, load, zoo
from golden.networks.classes import MAP_SIDES, Blocks, layer_class, layer_classes, reduced

BLOCKS = [
    Blocks(32, 2, 4, 64),
    Blocks(8, 2, 2, 16),
    Blocks(8, 8, 4, 1),
    Blocks(4, 1, 8, 100),
    Blocks(12, 5, 4, 1 << 20),
]
LAYER = WeightLayer("c", "conv", "x", Shape(64, 8, 8), Shape(32, 8, 8), (3, 3), 1, 1, True)


def graphs() -> list[Graph]:
    return [load(name) for name in zoo.NETWORKS]


def conv(shape: tuple[int, int, int], out: int, kernel: tuple[int, int], stride: int, padding: int) -> WeightLayer:
    """A layer of a real graph, so that its output has the right shape."""
    net = Builder("n", shape)
    net.conv(out, kernel, stride, padding, name="c")
    net.global_avg_pool()
    return net.graph().weight_layers()[0]


def test_what_tells_layers_apart() -> None:
    blocks = BLOCKS[0]
    key = layer_class(LAYER, blocks)
    assert (key.kind, key.kernel, key.stride, key.padding, key.bias) == ("conv", (3, 3), 1, 1, True)
    assert key.square and not (key.tiled or key.unreached)
    assert not (key.ragged_c or key.ragged_k or key.ragged_bus_c or key.ragged_bus_k)
    assert layer_class(replace(LAYER, name="other", source="y", input=Shape(96, 8, 8)), blocks) == key
    assert layer_class(replace(LAYER, kind="depthwise"), blocks) == replace(key, kind="depthwise")
    assert layer_class(replace(LAYER, bias=False), blocks) == replace(key, bias=False)
    assert layer_class(replace(LAYER, input=Shape(36, 8, 8)), blocks) == replace(key, ragged_c=True)
    assert layer_class(replace(LAYER, input=Shape(34, 8, 8)), blocks) == replace(key, ragged_c=True, ragged_bus_c=True)
    assert layer_class(replace(LAYER, output=Shape(2, 8, 8)), blocks) == replace(key, ragged_bus_k=True)
    assert layer_class(replace(LAYER, output=Shape(3, 8, 8)), blocks) == replace(key, ragged_k=True, ragged_bus_k=True)
    assert layer_class(LAYER, replace(blocks, tile=63)) == replace(key, tiled=True)


def test_map_sides() -> None:
    """The longer side counts."""
    found = {side: layer_class(conv((4, side, 1), 4, (1, 1), 1, 0), BLOCKS[0]).side for side in range(1, 60)}
    for side, chosen in found.items():
        fitting = [limit for limit in MAP_SIDES if side <= limit]
        assert chosen == (min(fitting) if fitting else 32)
    assert [found[side] for side in (1, 2, 4, 7, 8, 14, 16, 28, 32, 56)] == [1, 2, 4, 8, 8, 16, 16, 32, 32, 32]
    assert layer_class(conv((4, 1, 14), 4, (1, 1), 1, 0), BLOCKS[0]).side == 16


def test_square_and_unreached() -> None:
    def seen(height: int, width: int, kernel: tuple[int, int], stride: int, padding: int) -> tuple[bool, bool]:
        key = layer_class(conv((4, height, width), 4, kernel, stride, padding), BLOCKS[0])
        return key.square, key.unreached

    assert seen(8, 8, (3, 3), 2, 1) == (True, True)
    assert seen(7, 7, (3, 3), 2, 1) == (True, False)
    assert seen(8, 7, (3, 3), 2, 1) == (False, True)
    assert seen(7, 8, (1, 1), 2, 0) == (False, True)
    assert seen(8, 8, (3, 1), 1, 0) == (False, False)
    assert seen(8, 8, (3, 3), 1, 0) == (True, False)


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_classes_of_the_zoo(blocks: Blocks) -> None:
    """Every layer is in exactly the class of its example, which is the cheapest of them."""
    found = layer_classes(graphs(), blocks)
    examples = {key: example for key, (_, example) in found.items()}
    seen = set()
    for graph in graphs():
        for layer in graph.weight_layers():
            key = layer_class(layer, blocks)
            seen.add(key)
            assert examples[key].macs <= layer.macs
    assert seen == set(found)
    for key, (name, example) in found.items():
        assert layer_class(example, blocks) == key and example in load(name).weight_layers()
    kernels = {(key.kind, key.kernel, key.stride) for key in found}
    assert {("linear", (1, 1), 1), ("conv", (5, 5), 1), ("conv", (7, 7), 2), ("depthwise", (3, 3), 2)} <= kernels
    assert {key.side for key in found} == set(MAP_SIDES)


def test_a_new_network_adds_its_classes() -> None:
    net = Builder("new", (8, 9, 9))
    net.conv(8, (2, 5), 2, 2)
    net.flatten()
    net.linear(7)
    new = set(layer_classes([*graphs(), net.graph()], BLOCKS[0])) - set(layer_classes(graphs(), BLOCKS[0]))
    assert [key.kernel for key in new if key.kind == "conv"] == [(2, 5)]


ODD = [
    conv((20, 40, 9), 7, (3, 3), 1, 1),
    conv((20, 9, 40), 7, (3, 3), 2, 1),
    conv((5, 200, 3), 64, (7, 1), 2, 3),
    conv((3, 5, 6), 2, (5, 4), 2, 3),
    conv((100, 12, 11), 30, (1, 1), 1, 0),
    conv((32, 9, 8), 30, (1, 1), 2, 3),
    conv((64, 1, 300), 8, (1, 7), 1, 3),
    conv((4, 2, 2), 4, (3, 3), 1, 3),
    conv((1, 1, 1), 1, (1, 1), 1, 0),
]


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("side", [1, 2, 5, 8, 64])
def test_reduced(blocks: Blocks, side: int) -> None:
    """Same class but for the side of the map, never larger, and a layer that exists."""
    layers = [example for _, example in layer_classes(graphs(), blocks).values()]
    for layer in [*layers, *ODD]:
        small = reduced(layer, blocks, side)
        key = layer_class(layer, blocks)
        assert replace(layer_class(small, blocks), side=key.side) == key, layer
        assert small.weight_shape[2:] == layer.weight_shape[2:] and small.weights <= layer.weights
        assert all(a <= b for a, b in zip((*small.input, *small.output), (*layer.input, *layer.output), strict=True))
        if layer.kind != "linear":
            groups = small.input.channels if layer.depthwise else 1
            net = Builder("n", small.input)
            net.conv(small.output.channels, small.kernel, small.stride, small.padding, groups, small.bias)
            assert net.shape() == small.output, layer
        for now, before, sizes in (
            (small.input.channels, layer.input.channels, (blocks.block_c, blocks.bus_elements)),
            (small.output.channels, layer.output.channels, (blocks.block_k, blocks.bus_elements)),
        ):
            for size in sizes:
                assert now % size == before % size and now >= min(before, size)
        assert reduced(small, blocks, side) == small
        if not key.tiled and side >= max(layer.output[1:]):
            assert layer_class(small, blocks) == key and small.output[1:] == layer.output[1:]


def test_reduced_is_small() -> None:
    """All of the zoo on the paper's blocks: what a simulation can afford."""
    blocks = BLOCKS[0]
    for _, layer in layer_classes(graphs(), blocks).values():
        small = reduced(layer, blocks)
        assert small.input.channels <= 64 and small.output.channels <= 64 and max(small.output[1:]) <= 9
        assert small.macs < 400_000
    assert reduced(LAYER, blocks).output == (8, 8, 8) and reduced(LAYER, blocks).input == (64, 8, 8)
    assert reduced(LAYER, replace(blocks, tile=15)).output == (8, 4, 4)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="block_k must be at least 1, not 0"):
        Blocks(8, 0, 2, 16)
    with pytest.raises(ValueError, match="tile must be at least 1, not -4"):
        Blocks(8, 2, 2, -4)
    with pytest.raises(ValueError, match="side must be at least 1, not 0"):
        reduced(LAYER, BLOCKS[0], 0)
