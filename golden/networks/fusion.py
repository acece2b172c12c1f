"""From the nodes of a graph to what the machine does: activation functions join what stands before them.

A ReLU costs nothing where sums are drained or a vector operation ends, so it is no operation of its own there.
`flatten` is none either: a linear layer reads a map as a filter of the map's size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arch.vector import Clip
from golden.networks.graph import Graph, WeightLayer
from golden.networks.node import Node
from golden.networks.operators import (
    Add,
    BatchNorm,
    Concat,
    Conv,
    Flatten,
    Input,
    Linear,
    Pool,
    Relu,
    Relu6,
)

CLIPS = {Relu: Clip.RELU, Relu6: Clip.RELU6}


@dataclass(frozen=True)
class Operation:
    """One thing the machine does.

    Attributes:
        name: of the node whose output it writes.
        node: what it does.
        sources: operations it reads, by name.
        clip: activation function of the result.
        layer: of a node with weights.
    """

    name: str
    node: Node
    sources: tuple[str, ...]
    clip: Clip = Clip.NONE
    layer: WeightLayer | None = None


def operations(graph: Graph) -> tuple[Operation, ...]:
    """The operations of a graph, in its order; the first is the input."""
    layers = {layer.name: layer for layer in graph.weight_layers()}
    written: dict[str, str] = {}  # node: operation that writes its output
    found: dict[str, Operation] = {}
    for node in graph.nodes:
        sources = tuple(written[name] for name in node.inputs)
        if isinstance(node, Flatten):
            written[node.name] = sources[0]
            continue
        clip = CLIPS.get(type(node))
        if clip is not None and _takes(graph, node, found[sources[0]], clip):
            before = found.pop(sources[0])
            found[node.name] = replace(before, name=node.name, clip=clip)
            written |= {name: node.name for name, operation in written.items() if operation == before.name}
        else:
            found[node.name] = Operation(node.name, node, sources, clip or Clip.NONE, layers.get(node.name))
        written[node.name] = node.name
    return tuple(found.values())


def _takes(graph: Graph, node: Node, before: Operation, clip: Clip) -> bool:
    """Whether an activation function can join the operation before it."""
    if len(graph.consumers(node.inputs[0])) > 1 or before.clip != Clip.NONE:
        return False
    if isinstance(before.node, Conv | Linear):
        return clip == Clip.RELU
    return isinstance(before.node, BatchNorm | Add | Pool) and not isinstance(before.node, Concat | Input)
