"""Convolutions and whole graphs on the accelerator, in lock-step with the golden model: every cycle, every bit.

Chains of convolutions (`tests.test_convolution` checks the golden side of the same ones), graphs with everything that
stands between convolutions, and one small instance of every class of layer that the networks of the zoo have.
"""

from __future__ import annotations

import pytest

from arch.command import Policy
from arch.config import PRESETS, Config
from golden.graph_network import tensors_for
from golden.networks import Builder, Graph, WeightLayer, zoo
from golden.networks.classes import Blocks, LayerClass, layer_classes, reduced
from tests.programs import Case, train
from tests.test_convolution import CHAINS

TINY = PRESETS["tiny"].with_(gather_depth=512, value_beats=256, gradients=1024)
BUILDS: dict[str, tuple[Config, Policy]] = {
    "tiny": (TINY, Policy.LPT),
    "eight bit, 1x16": (TINY.with_(operand_bits=8, bus_elements=4, block_k=1, lane_group=4), Policy.LPT),
    "small, 2x16": (PRESETS["small"].with_(value_beats=128, mask_bits=32, lane_group=2), Policy.LPT),
    "dense build": (TINY.with_(sparse=False), Policy.NONE),
}


def run(cfg: Config, net: object, batch: int, steps: int, **given: object) -> None:
    """Train a case in lock-step and see that nothing differed."""
    case = Case(cfg, net, batch, steps, **{"period": 2, "decay": 0.5, **given})  # type: ignore[arg-type]
    compared = train(case)
    assert compared.mismatches == 0, compared.first
    assert compared.cycles > 500 * steps


@pytest.mark.parametrize(
    ("build", "budget"),
    [(build, b) for build, (cfg, _) in BUILDS.items() for b in ((0.3, None) if cfg.sparse else (None,))],
)
@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str, build: str, budget: float | None) -> None:
    """Every phase of every kind of convolution; a batch that fills the columns and one sample more."""
    cfg, policy = BUILDS[build]
    run(cfg, CHAINS[name], cfg.columns + 1, 4, budget=budget, policy=policy)


def lenet() -> Graph:
    """Convolutions with biases, pooling, a flattened map."""
    net = Builder("lenet", (1, 8, 8))
    net.conv(4, 3, padding=1)
    net.relu()
    net.max_pool(2)
    net.conv(6, 3)
    net.relu()
    net.flatten()
    net.linear(5)
    return net.graph()


def vgg() -> Graph:
    """Batch normalisation behind convolutions; an odd map pooled with padding."""
    net = Builder("vgg", (2, 7, 7))
    for channels in (4, 6):
        net.conv(channels, 3, padding=1, bias=False)
        net.batch_norm()
        net.relu()
        net.max_pool(3, 2, 1)
    net.global_avg_pool()
    net.linear(5)
    return net.graph()


def residual() -> Graph:
    """An identity and a strided 1x1 shortcut."""
    net = Builder("residual", (1, 6, 6))

    def block(channels: int, kernel: int, stride: int, x: str | None = None) -> str:
        given = {} if x is None else {"x": x}
        net.conv(channels, kernel, stride=stride, padding=kernel // 2, bias=False, **given)
        return net.batch_norm()

    block(4, 3, 1)
    start = net.relu()
    block(4, 3, 1)
    net.relu()
    net.add(start, block(4, 3, 1))
    middle = net.relu()
    way = block(6, 3, 2)
    net.add(way, block(6, 1, 2, middle))
    net.relu()
    net.global_avg_pool()
    net.linear(3)
    return net.graph()


def dense_block() -> Graph:
    """Concatenations of concatenations, an average pool."""
    net = Builder("dense", (1, 6, 6))
    so_far = net.conv(4, 3, padding=1, bias=False)
    for _ in range(2):
        net.batch_norm()
        net.relu()
        so_far = net.concat(so_far, net.conv(4, 3, padding=1, bias=False))
    net.batch_norm()
    net.relu()
    net.conv(6, 1, bias=False)
    net.avg_pool(2)
    net.global_avg_pool()
    net.linear(3)
    return net.graph()


def mobile() -> Graph:
    """Depthwise convolutions and ReLU6."""
    net = Builder("mobile", (1, 6, 6))
    net.conv(6, 3, stride=2, padding=1, bias=False)
    net.batch_norm()
    net.relu6()
    net.conv(6, 3, padding=1, groups=6, bias=False)
    net.batch_norm()
    net.relu6()
    net.conv(4, 1, bias=False)
    net.batch_norm()
    net.global_avg_pool()
    net.linear(3)
    return net.graph()


GRAPHS = {make.__name__: make for make in (lenet, vgg, residual, dense_block, mobile)}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str, build: str) -> None:
    """A step of a graph is one program; values, gradients, statistics and loss are the golden model's."""
    cfg, policy = BUILDS[build]
    graph = GRAPHS[name]()
    cfg = cfg.with_(tensors=max(cfg.tensors, tensors_for(graph)))
    run(cfg, graph, cfg.columns + 1, 4, budget=0.3 if cfg.sparse else None, policy=policy)


def test_stalls_change_no_bit() -> None:
    """A memory that stalls changes when things happen, and nothing else."""
    cfg = TINY.with_(tensors=64)
    for net in (residual(), CHAINS["strided"]):
        case = Case(cfg, net, 4, 3, period=2, decay=0.5)
        assert train(case, stalls=(0.3, 0.3, 0.3)).mismatches == 0


# -- classes of layers ------------------------------------------------------------------------------------------------
PROOF = TINY.with_(gather_depth=2048, value_beats=512, gradients=4096, tensors=32)
BLOCKS = Blocks(PROOF.block_c, PROOF.block_k, PROOF.bus_elements, tile=36)
CLASSES = layer_classes([zoo.make(name) for name in zoo.NETWORKS], BLOCKS)


def around(layer: WeightLayer) -> Graph:
    """A network in which the layer is neither the first nor the last, so that it has all three phases."""
    net = Builder("proof", (2, layer.input.height, layer.input.width))
    k, _, r, s = layer.weight_shape
    if layer.kind == "linear":
        net.flatten()
        net.linear(layer.input.channels, bias=False)
        net.relu()
        net.linear(k, bias=layer.bias)
    else:
        net.conv(layer.input.channels, 1, bias=False)
        net.relu()
        groups = layer.input.channels if layer.depthwise else 1
        net.conv(k, (r, s), stride=layer.stride, padding=layer.padding, groups=groups, bias=layer.bias)
        net.relu()
        net.global_avg_pool()
    net.linear(3)
    return net.graph()


@pytest.mark.parametrize("number", range(len(CLASSES)))
def test_class_of_layers(number: int) -> None:
    """Every class of layer of every network of the zoo, in all three phases, at several densities and densely."""
    kind: LayerClass = list(CLASSES)[number]
    layer = reduced(CLASSES[kind][1], BLOCKS)
    graph = around(layer)
    for budget in (0.08, 0.4, None):
        run(PROOF, graph, 4, 3, budget=budget)
