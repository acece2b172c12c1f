"""The zoo: sums against closed forms and against the table of the papers' workloads, and who is in it."""

import re

import pytest

from golden.networks import Graph, load, zoo
from golden.networks.graph import WeightLayer
from scripts.verilator import ROOT

# The table's columns: layers, weights, MACs, as published there, rounded.
PUBLISHED = {
    "vgg-s": (15, "14.98 M", "268.8 M"),
    "densenet": (34, "2.68 M", "528.0 M"),
    "wrn-28-10": (29, "36.46 M", "4014 M"),
    "resnet18": (18, "11.51 M", "1795 M"),
    "mobilenetv2": (53, "3.47 M", "300.8 M"),
}


def millions(value: int, like: str) -> str:
    """Rounded to as many digits as the other."""
    digits = len(like.removesuffix(" M").partition(".")[2])
    return f"{value / 1e6:.{digits}f} M"


def counted(graph: Graph) -> list[WeightLayer]:
    """The layers that the table counts: ResNet18 there has no shortcut convolutions."""
    layers = list(graph.weight_layers())
    if graph.name == "resnet18":
        layers = [layer for layer in layers if not (layer.kind == "conv" and layer.kernel == (1, 1))]
    return layers


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sums(name: str) -> None:
    layers, weights, macs = PUBLISHED[name]
    found = counted(load(name))
    assert len(found) == layers
    assert millions(sum(layer.weights for layer in found), weights) == weights
    assert millions(sum(layer.macs for layer in found), macs) == macs


def test_resnet18_beyond_the_table() -> None:
    """Its three shortcuts, one for each halving of the map, complete the published number of parameters."""
    graph = load("resnet18")
    left = set(graph.weight_layers()) - set(counted(graph))
    assert sorted(layer.weight_shape for layer in left) == [(128, 64, 1, 1), (256, 128, 1, 1), (512, 256, 1, 1)]
    assert graph.parameters() == 11_689_512


def test_published_parameters() -> None:
    """Batch normalisation and biases included: MobileNetV2 as the papers' settings give it, LeNet-300-100 as here."""
    assert load("mobilenetv2").parameters() == 3_504_872
    assert load("lenet-300-100").parameters() == 266_610
    assert load("lenet5").weights() == 430_500


def test_vgg_s_layers() -> None:
    layers = load("vgg-s").weight_layers()
    assert [layer.output.channels for layer in layers] == [64, 64, 128, 128, *[256] * 3, *[512] * 6, 512, 10]
    assert [layer.output.height for layer in layers] == [28, 28, 14, 14, 7, 7, 7, 4, 4, 4, 2, 2, 2, 1, 1]
    assert all(layer.kernel == (3, 3) and layer.output.height == layer.output.width for layer in layers[:13])


def test_densenet_layers() -> None:
    graph = load("densenet")
    layers = graph.weight_layers()
    grown = [16 + 24 * n for n in range(11)]
    assert grown[-1] == 256
    inputs = [3, *grown, *[256 + 24 * n for n in range(11)], *[496 + 24 * n for n in range(11)]]
    assert [layer.input.channels for layer in layers] == inputs and inputs[-1] == 736
    transitions = [layer for layer in layers if layer.kernel == (1, 1) and layer.kind == "conv"]
    assert [layer.weight_shape for layer in transitions] == [(256, 256, 1, 1), (496, 496, 1, 1)]
    by_hand = 432 + 216 * sum(inputs[1:11] + inputs[12:22] + inputs[23:33]) + 256**2 + 496**2 + 7360
    assert graph.weights() == by_hand
    assert {layer.output.height for layer in layers} == {28, 14, 7, 1}


def test_wide_residual_network_layers() -> None:
    """Per group of width w after v: a block with a shortcut, then three without."""
    graph = load("wrn-28-10")
    weights, before = 3 * 16 * 9, 16
    for width in (160, 320, 640):
        weights += 9 * before * width + 9 * width**2 + before * width + 3 * 2 * 9 * width**2
        before = width
    assert graph.weights() == weights + 6400
    assert sum(node.op == "add" for node in graph.nodes) == 12
    assert graph.parameters() == 36_479_194


def test_mobilenetv2_layers() -> None:
    graph = load("mobilenetv2")
    kinds = [layer.kind for layer in graph.weight_layers()]
    assert [kinds.count(kind) for kind in ("depthwise", "conv", "linear")] == [17, 35, 1]
    assert sum(node.op == "add" for node in graph.nodes) == 10
    deep = [layer for layer in graph.weight_layers() if layer.depthwise]
    assert [layer.output.height for layer in deep] == [112, 56, 56, *[28] * 3, *[14] * 7, *[7] * 4]


def test_small_networks() -> None:
    vgg, resnet = load("vgg-small"), load("resnet-small")
    assert 100_000 < vgg.weights() < 200_000
    assert sum(layer.kernel == (3, 3) for layer in vgg.weight_layers()) == 6
    strided = [layer for layer in resnet.weight_layers() if layer.stride == 2]
    assert sorted({layer.kernel for layer in strided}) == [(1, 1), (3, 3)]
    assert sum(node.op == "add" for node in resnet.nodes) == 3
    for graph in (vgg, resnet, load("lenet5"), load("lenet-300-100")):
        assert graph.shape(graph.input.name) == (1, 28, 28) and graph.shape(graph.output.name) == (10, 1, 1)


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_network(name: str) -> None:
    """Each comes under its name; a normalised layer has no bias, every other one has."""
    graph = zoo.make(name)
    assert graph.name == name and graph.output.op == "linear"
    for layer in graph.weight_layers():
        assert layer.bias == (layer.kind == "linear" or name == "lenet5")


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="the zoo has no network 'lenet6'; it has lenet-300-100, lenet5, vgg-small"):
        zoo.make("lenet6")


def test_document_lists_all_with_their_sums() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\d.*) \|$", (ROOT / "docs" / "networks.md").read_text(), re.MULTILINE)
    graphs = {name: zoo.make(name) for name in zoo.NETWORKS}
    wanted = [
        (
            name,
            f"{str(graph.shape(graph.input.name)).replace('x', '×')} | {len(graph.weight_layers())}"
            f" | {graph.weights():,} | {graph.parameters():,} | {graph.macs():,}",
        )
        for name, graph in graphs.items()
    ]
    assert rows == wanted
