"""The backward part of a graph's step: every operation in reverse hands its gradient on.

Each operation gives its sources a *contribution* to their gradients; one that gets several has them added up, in the
place of the first, before it is used.
"""

from __future__ import annotations

from collections.abc import Callable

from arch.vector import Clip
from golden.graph_layout import GraphLayout
from golden.graph_maps import Map
from golden.layout import Layer
from golden.map_program import backward_map
from golden.networks.fusion import Operation
from golden.networks.operators import Add, BatchNorm, Concat, Conv, GlobalAvgPool, Linear, Pool
from golden.program import Network
from golden.vector_program import affine, reduce_, softmax, unpool
from golden.waits import Command

Make = Callable[[int, bool], list[Command]]
"""Commands of a part of the step, from the generation of the weights and whether initial weights are visited."""


class Backward:
    """Plans the backward part; places gradients as it goes.

    Args:
        network: laid out, its layers placed; they learn here where their gradients are.
    """

    def __init__(self, network: GraphLayout) -> None:
        """Nothing planned."""
        self.network = network

    def plan(self) -> list[Make]:
        """The backward part, from the loss to the first layer."""
        last = self.network.operations[-1]
        if last.clip != Clip.NONE:
            raise ValueError(f"{last.node}: the logits must not pass an activation function")
        seed = self._gradient(self.network.logits)
        steps: list[Make] = [
            lambda generation, _: [softmax(self.network, self.network.logits, seed, self.network.labels[generation])]
        ]
        waiting: dict[str, list[Map]] = {last.name: [seed]}
        for o in reversed(self.network.operations[1:]):
            parts = waiting.pop(o.name)
            gradient, commands = self._added(parts)
            if commands:
                steps.append(_fixed(commands))
            steps += self._backward_operation(o, gradient, waiting)
        return steps

    def _added(self, parts: list[Map]) -> tuple[Map, list[Command]]:
        """The sum of contributions, in the place of the first one."""
        first, *others = parts
        return first, [affine(self.network, first, first, other, backward=True) for other in others]

    def _backward_operation(self, o: Operation, dz: Map, waiting: dict[str, list[Map]]) -> list[Make]:
        """Hand the gradient of an operation's output on to its sources."""
        node, z = o.node, self.network.maps[o.name]
        wants = [name for name in o.sources if name != self.network.operations[0].name]

        def give(name: str, gradient: Map) -> None:
            waiting.setdefault(name, []).append(gradient)

        if isinstance(node, BatchNorm):
            norm, y = self.network.norms[o.name], o.sources[0]
            dy = self._gradient(dz)
            if wants:
                give(y, dy)

            def normalise(generation: int, _: bool) -> list[Command]:
                source = self.network.source(y, generation)
                commands = [reduce_(self.network, norm, dz, source, gate=o.clip, z=z)]
                if wants:
                    commands.append(affine(self.network, dz, dy, source, norm=norm, gate=o.clip, z=z, backward=True))
                return commands

            return [normalise]
        steps: list[Make] = []
        if o.clip != Clip.NONE and not self._gated_by_reader(o):
            steps.append(_fixed([affine(self.network, dz, dz, gate=o.clip, z=z, backward=True)]))
        if isinstance(node, Conv | Linear):
            layer = self.network.of_operation[o.name]
            layer.dy, layer.dy_id = dz, dz.number
            if wants:
                x = self.network.maps[o.sources[0]]
                dx = self._gradient(x)
                layer.dx, layer.dx_id = dx, dx.number
                layer.gated = self._gated_by_reader(self.network.operation(o.sources[0]))
                give(o.sources[0], dx)
                steps.append(self._backward_of(layer))
        elif isinstance(node, Concat):
            at = 0
            for name in o.sources:
                if name in wants:
                    give(name, dz.part(at, self.network.maps[name].channels))
                at += self.network.maps[name].channels
        elif isinstance(node, Pool | GlobalAvgPool):
            if wants:
                x = self.network.maps[o.sources[0]]
                dx = self._gradient(x)
                give(o.sources[0], dx)
                steps.append(_fixed([unpool(self.network, node, x, dz, dx)]))
        elif isinstance(node, Add):
            for i, name in enumerate(dict.fromkeys(wants)):
                part = dz if i == 0 else self._copy(dz, steps)
                for _ in range(o.sources.count(name)):
                    give(name, part)
        elif wants:
            give(o.sources[0], dz)
        return steps

    def _copy(self, dz: Map, steps: list[Make]) -> Map:
        """A contribution that may be added to."""
        copy = self._gradient(dz)
        steps.append(_fixed([affine(self.network, dz, copy, backward=True)]))
        return copy

    def _gated_by_reader(self, o: Operation) -> bool:
        """Whether the ReLU behind a layer is undone by the drain of the one layer that reads it."""
        readers = self.network.consumers(o.name)
        return o.clip == Clip.RELU and o.layer is not None and len(readers) == 1 and readers[0].layer is not None

    def _gradient(self, of: Map) -> Map:
        return self.network.tensors.place(of.channels, of.height, of.width, gradient=True)

    def _backward_of(self, layer: Layer) -> Make:
        backward = backward_map if layer.tiles else Network._backward_layer

        def make(generation: int, visits: bool) -> list[Command]:
            with self.network.tiled(self.network.layer_names[layer.index]):
                return backward(self.network, layer, generation, visits)

        return make


def _fixed(commands: list[Command]) -> Make:
    return lambda *_: commands
