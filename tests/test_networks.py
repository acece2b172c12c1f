"""Operators, graphs and the builder: shapes against a sliding window, sums, links, and every refusal."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from golden.networks import Builder, Graph, Shape, WeightLayer
from golden.networks.node import MAX_CHANNELS, MAX_SIDE, Node
from golden.networks.operators import (
    OPERATORS,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    Input,
    Linear,
    MaxPool,
    Relu,
    Relu6,
)
from scripts.verilator import ROOT

IN = Input("x", (), 6, 8, 5)
END = (GlobalAvgPool("pool", ("last",)), Linear("logits", ("pool",), 10))


def positions(shape: Shape, kernel: tuple[int, int], stride: int, padding: int) -> Shape:
    """Height and width by sliding a window until it leaves the padded map."""
    rows = itertools.count(-padding, stride)
    columns = itertools.count(-padding, stride)
    high = sum(1 for _ in itertools.takewhile(lambda top: top + kernel[0] <= shape.height + padding, rows))
    wide = sum(1 for _ in itertools.takewhile(lambda left: left + kernel[1] <= shape.width + padding, columns))
    return Shape(shape.channels, high, wide)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (7, 7), (2, 3), (7, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_conv(kernel: tuple[int, int], stride: int, padding: int) -> None:
    for shape in (Shape(6, 8, 7), Shape(6, 7, 9), Shape(6, 12, 12)):
        expected = positions(shape, kernel, stride, padding)
        for groups in (1, 6):
            conv = Conv("c", ("x",), 6, kernel, stride, padding, groups, bias=True)
            assert conv.infer((shape,)) == expected
            weights = np.zeros((6, 6 // groups, *kernel)).size
            assert conv.weights((shape,)) == weights
            assert conv.parameters((shape,)) == weights + 6
            assert Conv("c", ("x",), 6, kernel, stride, padding, groups, bias=False).parameters((shape,)) == weights
            assert conv.macs((shape,)) == weights * expected.height * expected.width


@pytest.mark.parametrize("cls", [MaxPool, AvgPool])
def test_pool(cls: type[MaxPool | AvgPool]) -> None:
    for window, stride, padding, side in itertools.product((2, 3), (1, 2, 3), (0, 1), (3, 4, 7, 8)):
        shape = Shape(5, side, side + 1)
        pool = cls("p", ("x",), window, stride, padding)
        assert pool.infer((shape,)) == positions(shape, (window, window), stride, padding)
        assert pool.weights((shape,)) == pool.parameters((shape,)) == pool.macs((shape,)) == 0


def test_other_operators() -> None:
    x = Shape(6, 4, 5)
    for node in (BatchNorm("n", ("x",)), Relu("n", ("x",)), Relu6("n", ("x",)), Add("n", ("x", "x"))):
        assert node.infer((x,) * len(node.inputs)) == x
        assert node.macs((x,)) == node.weights((x,)) == 0
    assert BatchNorm("n", ("x",)).parameters((x,)) == 12
    assert Relu("n", ("x",)).parameters((x,)) == 0
    assert GlobalAvgPool("n", ("x",)).infer((x,)) == (6, 1, 1)
    assert Flatten("n", ("x",)).infer((x,)) == (120, 1, 1) and x.size == 120
    assert Concat("n", ("x", "y", "z")).infer((x, Shape(2, 4, 5), x)) == (14, 4, 5)
    linear = Linear("n", ("x",), 7)
    vector = (Shape(120, 1, 1),)
    assert linear.infer(vector) == (7, 1, 1)
    assert (linear.weights(vector), linear.macs(vector), linear.parameters(vector)) == (840, 840, 847)
    assert Linear("n", ("x",), 7, bias=False).parameters(vector) == 840
    assert str(x) == "6x4x5" and str(linear) == "linear 'n'"


def residual() -> Graph:
    net = Builder("residual", (3, 9, 9))
    start = net.conv(8, 3, 2, 1)
    net.depthwise(3, padding=1, bias=False)
    net.relu()
    way = net.conv(8, 1)
    net.add(way, start)
    net.relu(name="top")
    net.flatten()
    net.linear(4, bias=False, name="logits")
    return net.graph()


def test_graph() -> None:
    graph = residual()
    assert [node.name for node in graph.nodes] == (
        ["input", "conv1", "conv2", "relu1", "conv3", "add1", "top", "flatten1", "logits"]
    )
    assert graph.input == Input("input", (), 3, 9, 9) and graph.output.name == "logits"
    assert graph.shape("conv1") == (8, 5, 5) and graph.shape("flatten1") == (200, 1, 1)
    assert [node.name for node in graph.consumers("conv1")] == ["conv2", "add1"]
    assert graph.consumers("logits") == () and graph.node("add1").inputs == ("conv3", "conv1")
    assert graph.input_shapes("add1") == ((8, 5, 5), (8, 5, 5)) and graph.input_shapes("input") == ()
    assert graph.weights("conv1") == 216 and graph.parameters("conv1") == 224 and graph.macs("conv1") == 216 * 25
    assert graph.weights() == 216 + 72 + 64 + 800 and graph.parameters() == 216 + 8 + 72 + 64 + 8 + 800
    assert graph.macs() == (216 + 72 + 64) * 25 + 800
    assert residual() == graph and hash(residual()) == hash(graph)


def test_weight_layers() -> None:
    graph = residual()
    mapped, vector = Shape(8, 5, 5), Shape(200, 1, 1)
    layers = graph.weight_layers()
    assert layers == (
        WeightLayer("conv1", "conv", "input", Shape(3, 9, 9), mapped, (3, 3), 2, 1, True),
        WeightLayer("conv2", "depthwise", "conv1", mapped, mapped, (3, 3), 1, 1, False),
        WeightLayer("conv3", "conv", "relu1", mapped, mapped, (1, 1), 1, 0, True),
        WeightLayer("logits", "linear", "flatten1", vector, Shape(4, 1, 1), (1, 1), 1, 0, False),
    )
    assert [layer.weight_shape for layer in layers] == [(8, 3, 3, 3), (8, 1, 3, 3), (8, 8, 1, 1), (4, 200, 1, 1)]
    assert [layer.depthwise for layer in layers] == [False, True, False, False]
    for layer in layers:
        assert layer.weights == graph.weights(layer.name) and layer.macs == graph.macs(layer.name)


def test_depthwise_layer_of_two_channels_and_oblong_kernel() -> None:
    net = Builder("n", (2, 9, 9))
    net.depthwise((3, 5))
    net.depthwise(1, bias=False, x=net.conv(1, (5, 1)))
    net.global_avg_pool()
    layers = net.graph().weight_layers()
    assert [layer.kind for layer in layers] == ["depthwise", "conv", "conv"]
    assert [layer.weight_shape for layer in layers] == [(2, 1, 3, 5), (1, 2, 5, 1), (1, 1, 1, 1)]


def test_a_node_read_twice_by_one_is_one_consumer() -> None:
    graph = Graph("n", (Input("x", (), 4), Add("twice", ("x", "x")), Linear("y", ("twice",), 2)))
    assert [node.name for node in graph.consumers("x")] == ["twice"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Conv("c", ("x",), 0, (3, 3)),
            "conv 'c': out_channels must be a whole number from 1 to 1048576, not 0",
        ),
        (lambda: Conv("c", ("x",), MAX_CHANNELS + 1, (3, 3)), "out_channels .* to 1048576, not 1048577"),
        (lambda: Conv("c", ("x",), -3, (3, 3)), "not -3"),
        (lambda: Conv("c", ("x",), True, (3, 3)), "out_channels must be a whole number .*, not True"),
        (lambda: Conv("c", ("x",), 6, (0, 3)), r"conv 'c': kernel must be two whole numbers from 1 to 7, not \(0, 3\)"),
        (lambda: Conv("c", ("x",), 6, (3, 8)), r"from 1 to 7, not \(3, 8\)"),
        (lambda: Conv("c", ("x",), 6, (3,)), r"two whole numbers from 1 to 7, not \(3,\)"),
        (lambda: Conv("c", ("x",), 6, [3, 3]), r"two whole numbers from 1 to 7, not \[3, 3\]"),
        (lambda: Conv("c", ("x",), 6, (3, 3), 3), "conv 'c': stride must be a whole number from 1 to 2, not 3"),
        (lambda: Conv("c", ("x",), 6, (3, 3), 0), "stride must be a whole number from 1 to 2, not 0"),
        (lambda: Conv("c", ("x",), 6, (3, 3), 1, 4), "padding must be a whole number from 0 to 3, not 4"),
        (lambda: Conv("c", ("x",), 6, (3, 3), 1, -1), "padding must be a whole number from 0 to 3, not -1"),
        (lambda: Conv("c", ("x",), 6, (3, 3), 1, 1.0), "padding must be a whole number from 0 to 3, not 1.0"),
        (lambda: Conv("c", ("x",), 6, (3, 3), 1, 1, 0), "groups must be a whole number from 1 to 1048576, not 0"),
        (lambda: Conv("c", ("x",), 6, (3, 3), bias=1), "conv 'c': bias must be true or false, not 1"),
        (lambda: Linear("l", ("x",), 0), "linear 'l': out_features must be a whole number from 1 to 1048576, not 0"),
        (lambda: Linear("l", ("x",), 3, "yes"), "linear 'l': bias must be true or false, not 'yes'"),
        (lambda: Linear("l", ("x", "y"), 3), "linear 'l': must have 1 input, not 2"),
        (lambda: Linear("l", (), 3), "linear 'l': must have 1 input, not 0"),
        (lambda: Linear("l", "x", 3), "linear 'l': inputs must be names of nodes, not 'x'"),
        (lambda: Input("i", ("x",), 3), "input 'i': must have 0 inputs, not 1"),
        (lambda: Input("i", (), 0), "input 'i': channels must be a whole number from 1 to 1048576, not 0"),
        (lambda: Input("i", (), 1, 0, 4), "height must be a whole number from 1 to 16384, not 0"),
        (lambda: Input("i", (), 1, 4, MAX_SIDE + 1), "width must be a whole number from 1 to 16384, not 16385"),
        (lambda: BatchNorm("b", ("x",), 0), "batch_norm 'b': eps must be above 0 and at most 1, not 0"),
        (lambda: BatchNorm("b", ("x",), float("nan")), "eps must be above 0 and at most 1, not nan"),
        (lambda: BatchNorm("b", ("x",), "small"), "eps must be above 0 and at most 1, not 'small'"),
        (lambda: BatchNorm("b", ("x",), 1e-5, 1.5), "momentum must be at least 0 and at most 1, not 1.5"),
        (lambda: BatchNorm("b", ("x",), 1e-5, -0.1), "momentum must be at least 0 and at most 1, not -0.1"),
        (lambda: MaxPool("p", ("x",), 4, 2), "max_pool 'p': window must be a whole number from 2 to 3, not 4"),
        (lambda: AvgPool("p", ("x",), 1, 2), "avg_pool 'p': window must be a whole number from 2 to 3, not 1"),
        (lambda: MaxPool("p", ("x",), 2, 4), "stride must be a whole number from 1 to 3, not 4"),
        (lambda: MaxPool("p", ("x",), 2, 2, 2), "padding must be a whole number from 0 to 1, not 2"),
        (lambda: Add("a", ("x",)), "add 'a': must have at least 2 inputs, not 1"),
        (lambda: Concat("a", ("x",)), "concat 'a': must have at least 2 inputs, not 1"),
        (lambda: Relu("", ("x",)), "the name of a relu must be text and not empty, it is ''"),
        (lambda: Relu(3, ("x",)), "the name of a relu must be text and not empty, it is 3"),
    ],
)
def test_operators_refuse(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Conv("last", ("input",), 6, (7, 7)), "kernel must be at most the padded input, 8x5, not 7x7"),
        (Conv("last", ("input",), 6, (3, 6)), "kernel must be at most the padded input, 8x5, not 3x6"),
        (Conv("last", ("input",), 6, (3, 3), groups=2), "groups must be 1 or the number of input channels, 6, not 2"),
        (Conv("last", ("input",), 12, (3, 3), groups=6), "out_channels of a depthwise .* that of its input, 6, not 12"),
        (Linear("last", ("input",), 6), "the input must have height and width 1, not 8x5: flatten it"),
        (Add("last", ("input", "half")), "input 'half' must have the shape of 'input', 6x8x5, not 6x4x2"),
        (Concat("last", ("input", "half")), "input 'half' must have the height and width of 'input', 8x5, not 4x2"),
        (MaxPool("last", ("thin",), 3, 1), "window must be at most the padded input, 4x2, not 3x3"),
    ],
)
def test_shapes_that_do_not_fit(node: Node, message: str) -> None:
    half, thin = MaxPool("half", ("input",), 2, 2), Relu("thin", ("half",))
    with pytest.raises(ValueError, match=f"network 'n': {node.op} 'last': .*{message}"):
        Graph("n", (Input("input", (), 6, 8, 5), half, thin, node, *END))
    net = Builder("n", (6, 8, 5))
    net.node(half)
    net.node(thin)
    with pytest.raises(ValueError, match=f"network 'n': {node.op} 'last': .*{message}"):
        net.node(node)
    assert net.last == "thin"


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), "must have at least an input and an output, it has 0 nodes"),
        ((IN,), "input 'x': the output must be logits, made of the input, with height and width 1, it is 6x8x5"),
        ((Input("x", (), 6),), "input 'x': the output must be logits, made of the input"),
        ((IN, Relu("last", ("x",))), "relu 'last': the output must be logits.* it is 6x8x5"),
        ((Relu("last", ("last",)), *END), r"must have exactly one input, it has 0 \(none\)"),
        ((IN, Input("z", (), 3), *END), r"must have exactly one input, it has 2 \('x', 'z'\)"),
        ((Relu("last", ("x",)), IN, *END), "input 'x': must be the first node, that is relu 'last'"),
        ((IN, Relu("x", ("x",))), "relu 'x': the name is taken by an earlier node, names must be unique"),
        (
            (IN, Relu("last", ("y",)), *END),
            "relu 'last': there is no node 'y' to read; there are x, last, pool, logits",
        ),
        ((IN, Relu("last", ("last",)), *END), "relu 'last': is in a cycle, last reads last"),
        (
            (IN, Add("a", ("x", "c")), Relu("b", ("a",)), Relu("c", ("b",)), Relu("last", ("c",)), *END),
            "add 'a': is in a cycle, a reads c reads b reads a",
        ),
        (
            (IN, Relu("b", ("last",)), Relu("last", ("x",)), *END),
            "relu 'b': reads 'last', which comes after it; a node must come after its inputs",
        ),
        (
            (IN, Relu("last", ("x",)), Relu("other", ("x",)), *END),
            "must have exactly one output, but 2 nodes are read by none: 'other', 'logits'",
        ),
    ],
)
def test_graphs_refuse(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"network 'n': {message}"):
        Graph("n", nodes)


def test_graphs_refuse_other_things() -> None:
    with pytest.raises(ValueError, match="the name of a network must be text and not empty, it is ''"):
        Graph("", (IN, Relu("last", ("x",)), *END))
    with pytest.raises(ValueError, match="nodes must be a tuple of nodes, not 'relu'"):
        Graph("n", "relu")  # type: ignore[arg-type]
    graph = residual()
    for ask in (graph.node, graph.shape, graph.consumers, graph.weights, graph.macs):
        with pytest.raises(ValueError, match="network 'residual' has no node 'conv9'; it has input, conv1, conv2"):
            ask("conv9")


def test_builder() -> None:
    """Every method makes its operator, and defaults are the operator's."""
    net = Builder("all", (4, 12, 12))
    assert net.shape() == (4, 12, 12)
    assert net.conv(8, (3, 5), 2, 1, 1, False) == "conv1" and net.shape() == (8, 6, 5)
    assert net.shape("input") == (4, 12, 12)
    made = [net.batch_norm(1e-3, 0.2), net.relu6(), net.max_pool(2, 1), net.avg_pool(3, padding=1), net.max_pool(2)]
    assert made == ["batch_norm1", "relu61", "max_pool1", "avg_pool1", "max_pool2"]
    joined = net.concat("max_pool2", net.relu(name="r"), net.relu(x="max_pool2"))
    net.add(joined, joined, joined)
    net.global_avg_pool()
    net.linear(3)
    nodes = net.graph().nodes
    assert nodes[1:] == (
        Conv("conv1", ("input",), 8, (3, 5), 2, 1, 1, False),
        BatchNorm("batch_norm1", ("conv1",), 1e-3, 0.2),
        Relu6("relu61", ("batch_norm1",)),
        MaxPool("max_pool1", ("relu61",), 2, 1, 0),
        AvgPool("avg_pool1", ("max_pool1",), 3, 3, 1),
        MaxPool("max_pool2", ("avg_pool1",), 2, 2, 0),
        Relu("r", ("max_pool2",)),
        Relu("relu2", ("max_pool2",)),
        Concat("concat1", ("max_pool2", "r", "relu2")),
        Add("add1", ("concat1",) * 3),
        GlobalAvgPool("global_avg_pool1", ("add1",)),
        Linear("linear1", ("global_avg_pool1",), 3, True),
    )
    assert {node.op for node in nodes} | {"flatten"} == set(OPERATORS)


def test_builder_refuses_at_once() -> None:
    net = Builder("n", (4, 5, 5))
    with pytest.raises(ValueError, match="network 'n': conv 'conv1': kernel must be at most the padded input, 5x5"):
        net.conv(8, 7)
    assert net.last == "input"
    with pytest.raises(ValueError, match="there is no node 'conv7' to read; there are input"):
        net.relu(x="conv7")
    net.relu(name="r")
    with pytest.raises(ValueError, match="relu 'r': the name is taken by an earlier node"):
        net.relu(name="r")
    with pytest.raises(ValueError, match=r"network 'n': the input's shape must be 1 or 3 numbers, not \(4, 5\)"):
        Builder("n", (4, 5))
    assert Builder("vector", (7,)).shape() == (7, 1, 1)


def test_describing_imports_neither_onnx_nor_hardware() -> None:
    code = (
        "import sys, golden.networks as n; n.load('mobilenetv2')\n"
        "print([m for m in ('onnx', 'google.protobuf', 'rtl', 'amaranth', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
