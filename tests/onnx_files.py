"""ONNX files of graphs, with random weights: what another tool would write, to be read by the importer."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from golden.networks.graph import Graph
from golden.networks.node import Node
from golden.networks.operators import AvgPool, BatchNorm, Conv, Input, Linear, MaxPool

PLAIN = {
    "relu": "Relu",
    "relu6": "Clip",
    "max_pool": "MaxPool",
    "avg_pool": "AveragePool",
    "global_avg_pool": "GlobalAveragePool",
    "add": "Add",
    "concat": "Concat",
    "flatten": "Flatten",
}


class Exporter:
    """Nodes and initializers of a graph; `arrays` are the weights by node."""

    def __init__(self, graph: Graph, seed: int = 1) -> None:
        self.graph = graph
        self.rng = np.random.default_rng(seed)
        self.arrays: dict[str, np.ndarray] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        for node in graph.nodes[1:]:
            self.export(node)

    def constant(self, name: str, values: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, *shape: int) -> str:
        return self.constant(name, self.rng.standard_normal(shape, dtype=np.float32))

    def weight(self, node: Node, *shape: int) -> str:
        name = self.random(f"{node.name}.weight", *shape)
        self.arrays[node.name] = numpy_helper.to_array(self.initializers[-1])
        return name

    def export(self, node: Node) -> None:
        inputs = list(node.inputs)
        fields: dict[str, object] = {}
        op = PLAIN.get(node.op, "")
        source = self.graph.input_shapes(node.name)[0]
        if isinstance(node, Conv):
            op = "Conv"
            inputs.append(self.weight(node, node.out_channels, source.channels // node.groups, *node.kernel))
            inputs += [self.random(f"{node.name}.bias", node.out_channels)] * node.bias
            fields = dict(strides=[node.stride] * 2, pads=[node.padding] * 4, group=node.groups)
            fields["kernel_shape"] = list(node.kernel)
        elif isinstance(node, Linear):
            op = "Gemm"
            if len(self.sides(node.inputs[0])) == 4:
                inputs = [f"{node.name}.flat"]
                self.nodes.append(helper.make_node("Flatten", list(node.inputs), inputs, name=inputs[0]))
            inputs.append(self.weight(node, node.out_features, source.channels))
            inputs += [self.random(f"{node.name}.bias", node.out_features)] * node.bias
            fields = dict(transB=1)
        elif isinstance(node, BatchNorm):
            op = "BatchNormalization"
            inputs += [self.random(f"{node.name}.{part}", source.channels) for part in ("scale", "bias", "mean", "var")]
            fields = dict(epsilon=node.eps, momentum=1 - node.momentum)
        elif isinstance(node, MaxPool | AvgPool):
            fields = dict(kernel_shape=[node.window] * 2, strides=[node.stride] * 2, pads=[node.padding] * 4)
            if isinstance(node, AvgPool):
                fields["count_include_pad"] = 1
        elif op == "Clip":
            inputs += [self.constant(f"{node.name}.{end}", np.float32(end)) for end in (0, 6)]
        elif op == "Concat":
            fields = dict(axis=1)
        self.nodes.append(helper.make_node(op, inputs, [node.name], name=node.name, **fields))

    def sides(self, name: str) -> tuple[int, ...]:
        """Dimensions of a value in the file: vectors of a flatten or a linear layer have two, all others four."""
        node, shape = self.graph.node(name), self.graph.shape(name)
        if node.op in ("flatten", "linear") or (isinstance(node, Input) and shape[1:] == (1, 1)):
            return (1, shape.channels)
        if node.op in ("relu", "relu6", "batch_norm", "add", "concat"):
            return (1, *shape)[: len(self.sides(node.inputs[0]))]
        return (1, *shape)

    def model(self) -> onnx.ModelProto:
        first, last = self.graph.input.name, self.graph.output.name
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.sides(n)) for n in (first, last)]
        graph = helper.make_graph(self.nodes, self.graph.name, values[:1], values[1:], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        onnx.checker.check_model(model, full_check=True)
        return model

    def write(self, path: Path) -> Path:
        onnx.save(self.model(), path)
        return path
