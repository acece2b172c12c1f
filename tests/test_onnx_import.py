"""ONNX: round trips of the zoo, shapes against onnx's own inference, every spelling, every refusal, damaged files."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from golden.networks import Builder, Graph, load
from golden.networks.onnx_import import SUPPORTED, from_onnx, weights
from tests.onnx_files import Exporter

FLOAT = TensorProto.FLOAT
ROUND_TRIPS = ("lenet-300-100", "lenet5", "vgg-small", "resnet-small", "densenet", "mobilenetv2")


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    graph = load(name)
    exporter = Exporter(graph)
    path = exporter.write(tmp_path / "n.onnx")
    assert load(path) == from_onnx(path) == graph
    read = weights(path)
    assert list(read) == [layer.name for layer in graph.weight_layers()]
    for layer in graph.weight_layers():
        wanted = layer.weight_shape[: 2 if layer.kind == "linear" else 4]
        assert read[layer.name].shape == wanted
        assert np.array_equal(read[layer.name], exporter.arrays[layer.name])


@pytest.mark.parametrize("name", [*ROUND_TRIPS, "odd"])
def test_shapes_are_those_onnx_infers(name: str) -> None:
    graph = odd() if name == "odd" else load(name)
    inferred = onnx.shape_inference.infer_shapes(Exporter(graph).model(), strict_mode=True).graph
    found = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.output]
    }
    for node in graph.nodes[1:]:
        assert [*found[node.name], 1, 1][1:4] == list(graph.shape(node.name)), node


def odd() -> Graph:
    """Windows that leave rows over, sides that differ."""
    net = Builder("odd", (3, 31, 22))
    net.conv(6, (7, 4), 2, 3)
    net.depthwise((2, 3), 2, 1, bias=False)
    net.max_pool(3, 1, 1)
    left = net.avg_pool(2, 1, 1)
    net.relu6()
    net.batch_norm(1e-3, 0.25)
    net.concat(net.last, left, net.relu())
    net.max_pool(3, 2)
    net.flatten()
    net.linear(5, bias=False)
    return net.graph()


def test_round_trip_of_every_field(tmp_path: Path) -> None:
    assert load(Exporter(odd()).write(tmp_path / "odd.onnx")) == odd()


# -- small files made by hand ---------------------------------------------------------------


def constant(name: str, *shape: int, values: object = None) -> onnx.TensorProto:
    if values is None:
        return numpy_helper.from_array(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), name)
    return numpy_helper.from_array(np.array(values), name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shape: tuple[int | str | None, ...] = ("batch", 2, 6, 6),
    outputs: tuple[str, ...] = ("y",),
) -> Path:
    inputs = [helper.make_tensor_value_info("x", FLOAT, shape)]
    made = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "hand", inputs, made, constants)
    path = path / "hand.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def node(op: str, inputs: str, output: str, **fields: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), name=f"n_{output.split()[0]}", **fields)


HEAD = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "g"), node("Flatten", "g", "y")]
W = [constant("w", 3, 2, 3, 3)]


def expected(build: Callable[[Builder], None], shape: tuple[int, ...] = (2, 6, 6)) -> list[tuple[str, object]]:
    net = Builder("hand", shape)
    build(net)
    return signature(net.graph())


def signature(graph: Graph) -> list[tuple[str, object]]:
    """Operators, fields and links of a graph, whatever the names."""
    numbers = {each.name: i for i, each in enumerate(graph.nodes)}
    parts = []
    for each in graph.nodes:
        fields = {key: value for key, value in vars(each).items() if key not in ("name", "inputs")}
        parts.append((each.op, fields, [numbers[name] for name in each.inputs]))
    return parts


def test_linear_layers(tmp_path: Path) -> None:
    """Gemm either way round and without bias; MatMul with a bias on either side of the Add, and without."""
    nodes = [
        node("Gemm", "x w1 b1", "a", transB=1, alpha=1.0, beta=1.0),
        node("Gemm", "a w2", "b"),
        node("MatMul", "b w3", "c"),
        node("Add", "c b3", "d"),
        node("MatMul", "d w4", "e"),
        node("Add", "b4 e", "f"),
        node("MatMul", "f w5", "y"),
    ]
    shapes = {
        "w1": (4, 5),
        "b1": (1, 4),
        "w2": (4, 6),
        "w3": (6, 3),
        "b3": (3,),
        "w4": (3, 2),
        "b4": (2,),
        "w5": (2, 7),
    }
    constants = [constant(name, *shape) for name, shape in shapes.items()]
    path = save(tmp_path, nodes, constants, ("batch", 5))

    def build(net: Builder) -> None:
        for features, bias in ((4, True), (6, False), (3, True), (2, True), (7, False)):
            net.linear(features, bias)

    assert signature(load(path)) == expected(build, (5,))
    read = weights(path)
    assert list(read) == ["n_a", "n_b", "n_c", "n_e", "n_y"]
    assert np.array_equal(read["n_a"], np.arange(20).reshape(4, 5))
    assert np.array_equal(read["n_b"], np.arange(24).reshape(4, 6).T)
    assert np.array_equal(read["n_c"], np.arange(18).reshape(6, 3).T)


def test_what_is_dropped_and_respelled(tmp_path: Path) -> None:
    """Identity, Dropout, Softmax and needless reshapes vanish; Clip, ReduceMean, Reshape, Constant are understood."""
    nodes = [
        node("Identity", "w0", "w"),
        node("Identity", "x", "i"),
        node("Conv", "i w", "c", auto_pad=b"VALID", pads=[0, 0, 0, 0], dilations=[1, 1]),
        node("Constant", "", "six", value=constant("", values=np.float32(6))),
        node("Clip", "c zero six", "r"),
        node("Dropout", "r", "d mask"),
        node("ReduceMean", "d", "m", axes=[-1, 2], keepdims=0),
        node("Reshape", "m flat", "f"),
        node("Gemm", "f v", "l"),
        node("LogSoftmax", "l", "y"),
    ]
    constants = [constant("w0", 3, 2, 3, 3), constant("zero", values=np.float32(0)), constant("flat", values=[-1, 3])]
    path = save(tmp_path, nodes, [*constants, constant("v", 3, 4)])

    def build(net: Builder) -> None:
        net.conv(3, 3, bias=False)
        net.relu6()
        net.global_avg_pool()
        net.linear(4, bias=False)

    assert signature(load(path)) == expected(build)
    assert list(weights(path)) == ["n_c", "n_l"]


def test_reshapes_and_axes_as_an_input(tmp_path: Path) -> None:
    for target in ([0, -1], [1, 72], [-1, 72]):
        nodes = [node("Reshape", "x flat", "f"), node("Gemm", "f v", "y")]
        path = save(tmp_path, nodes, [constant("flat", values=target), constant("v", 72, 4)])

        def build(net: Builder) -> None:
            net.flatten()
            net.linear(4, bias=False)

        assert signature(load(path)) == expected(build)
    path = save(tmp_path, [node("ReduceMean", "x axes", "y")], [constant("axes", values=[2, 3])])
    assert signature(load(path)) == expected(lambda net: net.global_avg_pool())


def test_names_come_from_outputs_where_there_are_none(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["relu"]),
        helper.make_node("Relu", ["relu"], ["b"], name="relu"),
        helper.make_node("Relu", ["b"], ["c"], name="twice"),
        helper.make_node("GlobalAveragePool", ["c"], ["y"], name="twice"),
    ]
    graph = load(save(tmp_path, nodes, W))
    assert [each.name for each in graph.nodes] == ["x", "relu_", "relu", "c", "y"]
    assert list(weights(tmp_path / "hand.onnx")) == ["relu_"]


def test_an_initializer_may_be_listed_as_an_input(tmp_path: Path) -> None:
    path = save(tmp_path, HEAD, W)
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, (3, 2, 3, 3)))
    model.graph.ClearField("name")
    onnx.save(model, path)
    assert load(path).name == "hand" and load(path).weights() == 54


def test_input_without_batch_size_and_vectors(tmp_path: Path) -> None:
    for shape in ((None, 2, 6, 6), (64, 2, 6, 6), ("batch", 2, 6, 6)):
        assert load(save(tmp_path, HEAD, W, shape)).shape("x") == (2, 6, 6)


# -- refusals -------------------------------------------------------------------------------
B = [
    *W,
    constant("w4", 3, 2, 4, 4),
    constant("v", 3, 4),
    constant("b2", 2),
    constant("b3", 3),
    constant("s", values=[6, 4, 3]),
    constant("d", values=[2, 36]),
    constant("v72", 72, 4),
    constant("b4", 4),
]
TAIL = [node("GlobalAveragePool", "t", "y")]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("Sigmoid", "x", "t")],
            f"Sigmoid 'n_t': the operator is not supported; supported are {', '.join(SUPPORTED)}",
        ),
        ([node("Relu", "x", "t", domain="my.own")], "Relu 'n_t': the operator of domain 'my.own' is not supported"),
        (
            [node("Conv", "x w", "t", pads=[0, 0, 1, 1])],
            r"Conv 'n_t': pads must be four equal numbers.*not \[0, 0, 1, 1\]",
        ),
        (
            [node("Conv", "x w", "t", pads=[1, 1])],
            r"pads must be four equal numbers, padding is symmetric, not \[1, 1\]",
        ),
        ([node("Conv", "x w", "t", pads=[4] * 4)], "conv 'n_t': padding must be a whole number from 0 to 3, not 4"),
        ([node("Conv", "x w", "t", strides=[1, 2])], r"Conv 'n_t': strides must be two equal numbers, not \[1, 2\]"),
        ([node("Conv", "x w", "t", strides=[3, 3])], "conv 'n_t': stride must be a whole number from 1 to 2, not 3"),
        ([node("Conv", "x w", "t", dilations=[2, 2])], r"Conv 'n_t': dilations must be \[1, 1\], not \[2, 2\]"),
        ([node("Conv", "x w", "t", auto_pad=b"SAME_UPPER")], "auto_pad must be NOTSET or VALID, not SAME_UPPER"),
        ([node("Conv", "x w", "t", kernel_shape=[5, 5])], r"Conv 'n_t': kernel_shape must be \[3, 3\], not \[5, 5\]"),
        ([node("Conv", "x w", "t", kernel_shape=5)], r"Conv 'n_t': kernel_shape must be \[3, 3\], not 5"),
        ([node("Conv", "x w", "t", strides=2)], "Conv 'n_t': attribute strides must be of type INTS, not INT$"),
        ([node("Conv", "x w", "t", group=2)], "conv 'n_t': out_channels of a depthwise .* must be .*, 2, not 3"),
        ([node("Conv", "x w", "t", group=3)], "conv 'n_t': groups must be 1 or the number of input channels, 2, not 3"),
        ([node("Conv", "x w b2", "t")], r"Conv 'n_t': constant 'b2' must have the shape \(3,\), not \(2,\)"),
        ([node("Conv", "x v", "t")], r"Conv 'n_t': constant 'v' must have 4 dimensions.*it is of shape \(3, 4\)"),
        ([node("Conv", "x x", "t")], "Conv 'n_t': input 'x' must be a constant"),
        ([node("Conv", "x", "t")], "Conv 'n_t': must have an input number 2, it has 1"),
        (
            [node("Conv", "q w", "t")],
            "Conv 'n_t': input 'q' must be made by an earlier node, it is made by no earlier node",
        ),
        ([node("Relu", "w", "t")], "Relu 'n_t': input 'w' must be made by an earlier node, it is a constant"),
        (
            [node("Conv", "x w", "u"), node("Conv", "u w", "t")],
            "Conv 'n_t': weights must be for 3 input channels .*, not 2",
        ),
        ([node("MaxPool", "x", "t", kernel_shape=[2, 2], ceil_mode=1)], "MaxPool 'n_t': ceil_mode must be 0, not 1"),
        ([node("MaxPool", "x", "t", kernel_shape=[2, 3])], r"kernel_shape must be two equal numbers, not \[2, 3\]"),
        ([node("MaxPool", "x", "t", kernel_shape=[5, 5])], "max_pool 'n_t': window must be .* from 2 to 3, not 5"),
        ([node("MaxPool", "x", "t")], "MaxPool 'n_t': must have the attribute kernel_shape"),
        ([node("AveragePool", "x", "t", kernel_shape=[2, 2], pads=[1] * 4)], "count_include_pad must be 1, not 0"),
        ([node("Clip", "x", "t", min=0.0, max=1.0)], "Clip 'n_t': must clip from 0 to 6, not from 0.0 to 1.0"),
        ([node("Clip", "x", "t", min=0.0)], "Clip 'n_t': must clip from 0 to 6, not from 0.0 to inf"),
        ([node("Clip", "x u", "t")], "Clip 'n_t': input 'u' must be a constant"),
        (
            [node("ReduceMean", "x", "t", axes=[1])],
            r"ReduceMean 'n_t': axes must be 2 and 3, height and width, not \[1\]",
        ),
        ([node("ReduceMean", "x", "t")], r"ReduceMean 'n_t': axes must be 2 and 3, height and width, not \[\]"),
        ([node("ReduceMean", "x", "t", axes=[2, 7])], r"axes must be 2 and 3, height and width, not \[2, 7\]"),
        ([node("Concat", "x x", "t", axis=2)], "Concat 'n_t': axis must be 1, the channels, not 2"),
        ([node("Concat", "x x", "t")], "Concat 'n_t': must have the attribute axis"),
        ([node("Flatten", "x", "t", axis=2)], "Flatten 'n_t': axis must be 1, not 2"),
        ([node("Reshape", "x s", "t")], r"the shape must be two numbers, samples and all 72 elements, not \[6, 4, 3\]"),
        ([node("Reshape", "x d", "t")], r"all 72 elements, not \[2, 36\]"),
        (
            [node("Reshape", "x w", "t")],
            r"constant 'w' must be a list of whole numbers, not float32 of shape \(3, 2, 3, 3\)",
        ),
        (
            [node("Add", "x b2", "t")],
            "Add 'n_t': a constant may be added only to a MatMul that nothing else reads, not to 'x'",
        ),
        (
            [
                node("Flatten", "x", "f"),
                node("MatMul", "f v72", "m"),
                node("Add", "m b4", "a"),
                node("Add", "m a", "t"),
            ],
            "Add 'n_a': a constant may be added only to a MatMul that nothing else reads, not to 'n_m'",
        ),
        (
            [node("Flatten", "x", "f"), node("Gemm", "f v72 b4", "m"), node("Add", "m b4", "t")],
            "Add 'n_t': a constant may be added only to a MatMul that nothing else reads, not to 'n_m'",
        ),
        (
            [node("Flatten", "x", "f"), node("MatMul", "f v72", "m"), node("Add", "m b3", "t")],
            r"Add 'n_t': constant 'b3' must have the shape \(4,\), not \(3,\)",
        ),
        ([node("Gemm", "x v", "t")], "linear 'n_t': the input must have height and width 1, not 6x6"),
        ([node("Softmax", "x", "u"), node("Relu", "u", "t")], "Softmax 'n_u': may stand at the end only"),
        ([node("Dropout", "x", "u m"), node("Add", "u m", "t")], "Dropout 'n_u': its output 'm' must not be read"),
        (
            [node("Relu", "x", "u"), node("Relu", "x", "u"), node("Relu", "u", "t")],
            "its output 'u' is made by an earlier",
        ),
        ([node("Relu", "x", "w"), node("Relu", "w", "t")], "its output 'w' is made by an earlier node too"),
        ([helper.make_node("Relu", ["x"], [], name="q")], "Relu 'q': must have an output"),
        (
            [node("Constant", "", "u", value_int=3)],
            "Constant 'n_u': must have one attribute, a tensor 'value', not value_int",
        ),
        ([node("BatchNormalization", "x b2 b2 b2 b3", "t")], r"constant 'b3' must have the shape \(2,\), not \(3,\)"),
        ([node("BatchNormalization", "x b2 b2 b2 b2", "t", epsilon=0.0)], "eps must be above 0 and at most 1, not 0.0"),
        (
            [node("BatchNormalization", "x b2 b2 b2 b2", "t", epsilon=1)],
            "attribute epsilon must be of type FLOAT, not INT$",
        ),
        (
            [node("Relu", "x", "u"), node("Relu", "x", "t")],
            "must have exactly one output, but 2 nodes are read by none: 'n_u'",
        ),
    ],
)
def test_nodes_refused(nodes: list[onnx.NodeProto], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"hand.onnx: .*{message}"):
        load(save(tmp_path, [*nodes, *TAIL], B))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(alpha=0.5), "Gemm 'n_y': alpha must be 1.0, not 0.5"),
        (dict(beta=2.0), "Gemm 'n_y': beta must be 1.0, not 2.0"),
        (dict(transA=1), "Gemm 'n_y': transA must be 0, not 1"),
        (dict(transB=1), r"Gemm 'n_y': constant 'b' must have the shape \(3,\), not \(4,\)"),
    ],
)
def test_gemm_refused(fields: dict, message: str, tmp_path: Path) -> None:
    constants = [constant("v", 3, 4), constant("b", 4)]
    assert load(save(tmp_path, [node("Gemm", "x v b", "y")], constants, (1, 3))).weights() == 12
    with pytest.raises(ValueError, match=message):
        load(save(tmp_path, [node("Gemm", "x v b", "y", **fields)], constants, (1, 3)))
    with pytest.raises(ValueError, match="Gemm 'n_y': weights must be for 5 input channels, not 3"):
        load(save(tmp_path, [node("Gemm", "x v b", "y")], constants, (1, 5)))


@pytest.mark.parametrize(
    ("shape", "outputs", "message"),
    [
        ((1, 2, None, 6), ("y",), r"input 'x': must have 2 or 4 dimensions of known size.*not \[1, 2, 0, 6\]"),
        ((1, 2, 6), ("y",), r"input 'x': must have 2 or 4 dimensions of known size"),
        ((1, 2, 6, 6), ("y", "c"), r"must have exactly one output, made by a node, it has 2 \(y, c\)"),
        ((1, 2, 6, 6), (), r"must have exactly one output, made by a node, it has 0 \(none\)"),
        ((1, 2, 6, 6), ("q",), r"must have exactly one output, made by a node, it has 1 \(q\)"),
        ((1, 2, 6, 6), ("g",), "node 'n_r' is read by none, and is not the output 'g'"),
    ],
)
def test_ends_refused(shape: tuple, outputs: tuple[str, ...], message: str, tmp_path: Path) -> None:
    nodes = [*HEAD, node("Relu", "y", "r")] if outputs == ("g",) else HEAD
    with pytest.raises(ValueError, match=message):
        load(save(tmp_path, nodes, W, shape, outputs))


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path, HEAD, W))
    model.graph.input.append(helper.make_tensor_value_info("z", FLOAT, (1, 2)))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(ValueError, match=r"two.onnx: must have exactly one input, it has 2 \(x, z\)"):
        load(tmp_path / "two.onnx")


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = Exporter(load("lenet5")).write(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "bad.onnx"
    for data in (b"", b"name = 'toml'\n", b"\x00" * 64, whole[: len(whole) // 2], whole[:-1], b"\x08\x08"):
        path.write_bytes(data)
        for read in (load, weights):
            with pytest.raises(ValueError, match=r"bad.onnx: not a(n| readable) ONNX file"):
                read(path)
    for read in (from_onnx, weights):
        with pytest.raises(FileNotFoundError, match="none.onnx': there is no such file"):
            read(tmp_path / "none.onnx")


@pytest.mark.parametrize("name", [b"hand", b"n_c", b"Conv", b"strides"])
def test_names_that_are_no_text(name: bytes, tmp_path: Path) -> None:
    path = save(tmp_path, [node("Conv", "x w", "c", strides=[1, 1]), *HEAD[1:]], W)
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
    with pytest.raises(ValueError, match="hand.onnx: names must be UTF-8, not b'"):
        load(path)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    """The network can be read without them: too few values, and values in a file that is missing."""
    path = save(tmp_path, HEAD, W)
    model = onnx.load(path)
    short = model.graph.initializer[0]
    short.raw_data = short.raw_data[:8]
    onnx.save(model, path)
    assert load(path).weights() == 54
    with pytest.raises(ValueError, match="hand.onnx: Conv 'n_c': constant 'w' has no readable values"):
        weights(path)
    model = onnx.load(save(tmp_path, HEAD, W))
    onnx.save(model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    assert load(path).weights() == 54 and weights(path)["n_c"].shape == (3, 2, 3, 3)
    (tmp_path / "data.bin").unlink()
    assert load(path).weights() == 54
    with pytest.raises(ValueError, match="hand.onnx: "):
        weights(path)


def test_damaged_files_are_refused_or_read_never_worse(tmp_path: Path) -> None:
    """Bits flipped, bytes cut out or doubled: a graph, or a ValueError with the file's name."""
    net = Builder("tiny", (2, 6, 6))
    net.conv(2, 3)
    net.batch_norm()
    net.relu6()
    net.add(net.last, net.last)
    net.flatten()
    net.linear(2)
    whole = Exporter(net.graph()).write(tmp_path / "whole.onnx").read_bytes()
    rng = random.Random(3)
    path = tmp_path / "bad.onnx"
    refused = 0
    for _ in range(600):
        data = bytearray(whole)
        where = rng.randrange(len(data))
        how = rng.randrange(3)
        if how == 0:
            data[where] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[where : where + rng.randint(1, 4)]
        else:
            data[where:where] = data[where : where + rng.randint(1, 4)]
        path.write_bytes(data)
        try:
            load(path)
            weights(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert refused > 200
