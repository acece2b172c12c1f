"""Parts of an ONNX file as checked Python values: constants, and attributes of nodes.

ONNX stores lists of loosely typed fields. Whatever is not of the type or the size that the operator must have is a
ValueError that names the node, so that the importer need not look twice.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[np.generic]


def check_names(graph: onnx.GraphProto) -> None:
    """Refuse names that are no text: protobuf hands out bytes where a file's are not UTF-8."""
    names = [graph.name, *(value.name for values in (graph.input, graph.output, graph.initializer) for value in values)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"names must be UTF-8, not {name!r}")


class OnnxNode:
    """A node of the file, with the name it gets here."""

    def __init__(self, proto: onnx.NodeProto, name: str) -> None:
        self.proto = proto
        self.name = name
        self.op: str = proto.op_type
        self.inputs = list(proto.input)

    def __str__(self) -> str:
        return f"{self.op} {self.name!r}"

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def input(self, index: int) -> str:
        """Value that it reads there."""
        if not self.has(index):
            raise ValueError(f"{self}: must have an input number {index + 1}, it has {len(self.inputs)}")
        return self.inputs[index]


def nodes(graph: onnx.GraphProto) -> list[OnnxNode]:
    """Nodes of the file, each with a name of its own: that in the file, or else that of its first output.

    Raises:
        ValueError: a node has no output.
    """
    given = [proto.name for proto in graph.node]
    taken = {value.name for value in graph.input} | {name for name in given if given.count(name) > 1} | {""}
    named: list[OnnxNode] = []
    for proto in graph.node:
        if not proto.output or not proto.output[0]:
            raise ValueError(f"{proto.op_type} {proto.name!r}: must have an output")
        name = proto.name
        if name in taken:
            name = proto.output[0]
            while name in taken or name in given:
                name += "_"
        taken.add(name)
        named.append(OnnxNode(proto, name))
    return named


class Constants:
    """Values known before the network runs: initializers, and what Constant nodes make."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, value: str) -> bool:
        return value in self._tensors

    def add(self, node: OnnxNode) -> None:
        """Take the output of a Constant node."""
        attributes = list(node.proto.attribute)
        if [a.name for a in attributes] != ["value"] or not attributes[0].HasField("t"):
            names = ", ".join(a.name for a in attributes) or "none"
            raise ValueError(f"{node}: must have one attribute, a tensor 'value', not {names}")
        self._tensors[node.proto.output[0]] = attributes[0].t

    def alias(self, value: str, of: str) -> None:
        """Give a constant a second name."""
        self._tensors[value] = self._tensors[of]

    def _tensor(self, node: OnnxNode, index: int) -> onnx.TensorProto:
        value = node.input(index)
        if value not in self._tensors:
            raise ValueError(f"{node}: input {value!r} must be a constant")
        return self._tensors[value]

    def shape(self, node: OnnxNode, index: int, dimensions: int) -> tuple[int, ...]:
        """Shape of a constant input, which must have so many dimensions, none of them empty."""
        sizes = tuple(self._tensor(node, index).dims)
        if len(sizes) != dimensions or min(sizes) < 1:
            raise ValueError(
                f"{node}: constant {node.input(index)!r} must have {dimensions} dimensions, each at least 1,"
                f" it is of shape {sizes}"
            )
        return sizes

    def expect(self, node: OnnxNode, index: int, wanted: tuple[int, ...]) -> None:
        """Refuse a constant input of another shape; dimensions of 1 before it do not matter."""
        sizes = tuple(self._tensor(node, index).dims)
        more = len(sizes) - len(wanted)
        if more < 0 or sizes != (1,) * more + wanted:
            raise ValueError(f"{node}: constant {node.input(index)!r} must have the shape {wanted}, not {sizes}")

    def array(self, node: OnnxNode, index: int) -> Array:
        """Values of a constant input; at least one."""
        try:
            values = np.asarray(onnx.numpy_helper.to_array(self._tensor(node, index)))
        except (ValueError, TypeError, KeyError, OSError, onnx.checker.ValidationError) as error:
            raise ValueError(f"{node}: constant {node.input(index)!r} has no readable values: {error}") from None
        if values.size == 0:
            raise ValueError(f"{node}: constant {node.input(index)!r} must not be empty")
        return values

    def integers(self, node: OnnxNode, index: int) -> list[int]:
        """Values of a constant input that must be a list of whole numbers."""
        values = self.array(node, index)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ValueError(
                f"{node}: constant {node.input(index)!r} must be a list of whole numbers, not {values.dtype}"
                f" of shape {values.shape}"
            )
        return [int(value) for value in values]


def network_input(graph: onnx.GraphProto, constants: Constants) -> tuple[str, list[int]]:
    """Name of the input, and its dimensions after that of the samples."""
    found = [value for value in graph.input if value.name not in constants]
    if len(found) != 1:
        names = ", ".join(value.name for value in found) or "none"
        raise ValueError(f"must have exactly one input, it has {len(found)} ({names})")
    sides = [dim.dim_value for dim in found[0].type.tensor_type.shape.dim]
    if len(sides) not in (2, 4) or min(sides[1:]) < 1:
        raise ValueError(
            f"input {found[0].name!r}: must have 2 or 4 dimensions of known size, the first being samples,"
            f" not {sides} (0 is unknown)"
        )
    return found[0].name, sides[1:]


class Attributes:
    """Attributes of a node; each has a default, or must be there where the default is None."""

    def __init__(self, node: OnnxNode) -> None:
        self._node = node
        self._values = {attribute.name: attribute for attribute in node.proto.attribute}

    def _get(self, name: str, kind: int, field: str) -> object:
        attribute = self._values[name]
        if attribute.type != kind:
            wanted = onnx.AttributeProto.AttributeType.Name(kind)
            found = onnx.AttributeProto.AttributeType.Name(attribute.type)
            raise ValueError(f"{self._node}: attribute {name} must be of type {wanted}, not {found}")
        return getattr(attribute, field)

    def integers(self, name: str, default: list[int] | None) -> list[int]:
        """A list of whole numbers."""
        if name in self._values:
            return list(self._get(name, onnx.AttributeProto.INTS, "ints"))  # type: ignore[call-overload]
        if default is None:
            raise ValueError(f"{self._node}: must have the attribute {name}")
        return default

    def integer(self, name: str, default: int | None) -> int:
        """A whole number."""
        if name in self._values:
            return int(self._get(name, onnx.AttributeProto.INT, "i"))  # type: ignore[call-overload]
        if default is None:
            raise ValueError(f"{self._node}: must have the attribute {name}")
        return default

    def real(self, name: str, default: float) -> float:
        """A float32, as the shortest decimal that is the same float32."""
        if name in self._values:
            return float(str(np.float32(self._get(name, onnx.AttributeProto.FLOAT, "f"))))  # type: ignore[arg-type]
        return default

    def expect(self, name: str, wanted: object, *, default: object) -> None:
        """Refuse any other value of an attribute."""
        value = default
        if name in self._values:
            value = onnx.helper.get_attribute_value(self._values[name])
        if value != wanted:
            raise ValueError(f"{self._node}: {name} must be {wanted}, not {value}")

    def window(self) -> tuple[int, int]:
        """Stride and padding of something with a window, the same on all sides; no dilation."""
        auto = self._values["auto_pad"].s if "auto_pad" in self._values else b"NOTSET"
        if auto not in (b"NOTSET", b"VALID"):
            raise ValueError(f"{self._node}: auto_pad must be NOTSET or VALID, not {auto.decode(errors='replace')}")
        self.expect("dilations", [1, 1], default=[1, 1])
        strides = self.integers("strides", [1, 1])
        pads = self.integers("pads", [0, 0, 0, 0]) if auto == b"NOTSET" else [0, 0, 0, 0]
        if len(strides) != 2 or strides[0] != strides[1]:
            raise ValueError(f"{self._node}: strides must be two equal numbers, not {strides}")
        if len(pads) != 4 or len(set(pads)) != 1:
            raise ValueError(f"{self._node}: pads must be four equal numbers, padding is symmetric, not {pads}")
        return strides[0], pads[0]
