"""A network given as a graph, laid out in memory, and its program: one training step without the host.

Forward: every operation in order. Then the loss, and backward every operation in reverse: each gives its sources a
*contribution* to their gradients; one that gets several has them added up before it is used. Last, all weight updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from arch.command import Phase
from arch.vector import RECORD_WORDS, Clip, Op, Word, record_beats
from golden.graph_maps import Map, Maps
from golden.layout import Ends, Layer, Layout, Tiling
from golden.networks.fusion import Operation, operations
from golden.networks.graph import Graph
from golden.networks.operators import Add, AvgPool, BatchNorm, Concat, Conv, GlobalAvgPool, Input, Linear, Pool
from golden.program import Network
from golden.shape import LayerShape
from golden.vector.real import word
from golden.vector_program import Norm, affine, pool, reduce_, softmax, unpool
from golden.waits import Command, ahead, with_waits

Make = Callable[[int, bool], list[Command]]
"""Commands of a part of the step, from the generation of the weights and whether initial weights are visited."""


@dataclass
class GraphNetwork(Network):
    """A graph laid out in memory, and its programs. Arguments and errors as `Layout`, but `sizes` is a `Graph`.

    Attributes:
        operations: what the machine does, in order.
        maps: output of every operation.
        norms: records of every batch normalisation, by operation.
        labels: first beat of the labels, of both input buffers.
        tilings: of the layers that are to be cut otherwise than `tiling` says, by the name of their node.
    """

    operations: tuple[Operation, ...] = ()
    maps: dict[str, Map] = field(default_factory=dict)
    norms: dict[str, Norm] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    gradients: dict[str, list[Map]] = field(default_factory=dict)
    tilings: dict[str, Tiling] = field(default_factory=dict)
    tensors: Maps = field(init=False)

    def _place(self) -> None:
        """Place maps, weights and records; the program follows from where they are."""
        graph = self.sizes
        assert isinstance(graph, Graph)
        self.graph, self.operations = graph, operations(graph)
        self.layer_names = [o.layer.name for o in self.operations if o.layer is not None]  # by index of the layer
        self.tensors = Maps(self.memory, self.positions)
        self._place_maps()
        self.labels = [self.memory.raw(np.zeros(self.positions * self.cfg.words_per_beat, np.uint32)) for _ in range(2)]
        self._forward: list[Make] = [self._forward_operation(o) for o in self.operations[1:]]
        self._backward = self._plan_backward()

    # -- placement --------------------------------------------------------------------------
    def _consumers(self, name: str) -> list[Operation]:
        return [o for o in self.operations if name in o.sources]

    def _flattened(self, o: Operation) -> bool:
        """Whether the input is stored as vectors: only linear layers read it."""
        return isinstance(o.node, Input) and all(isinstance(c.node, Linear) for c in self._consumers(o.name))

    def _place_maps(self) -> None:
        """Concatenations first, the last one first, so that their parts find their place in them."""
        for o in reversed(self.operations):
            if isinstance(o.node, Concat):
                self._place_map(o)
                self._place_parts(o)
        for o in self.operations:
            if o.name not in self.maps:
                self._place_map(o)
        first = self.operations[0]
        twin = self.maps[first.name]
        second = self.memory.tensor(twin.positions, twin.run * self.cfg.bus_elements)
        other = Map(self.memory, second.address, twin.positions, twin.run, twin.channels, twin.height, twin.width,
                    twin.number, twin.images)  # fmt: skip
        self.inputs = [twin, other]
        self.logits = self.maps[self.operations[-1].name]

    def _place_map(self, o: Operation) -> None:
        if o.name in self.maps:
            return
        shape = self.graph.shape(o.name)
        size = (shape.channels, shape.height, shape.width)
        if self._flattened(o):
            size = (shape.channels * shape.height * shape.width, 1, 1)
        self.maps[o.name] = self.tensors.place(*size, extra=int(self._has_ones(o)))

    def _place_parts(self, o: Operation) -> None:
        at = 0
        for source in o.sources:
            channels = self.graph.shape(source).channels
            whole = self.maps[o.name]
            if source in self.maps or at % self.cfg.bus_elements or self._has_ones(self._operation(source)):
                raise ValueError(
                    f"{o.node}: input {source!r} begins at channel {at}; a part of a concatenation begins at a multiple of"
                    f" {self.cfg.bus_elements} channels, is part of one, and no layer with bias reads it"
                )
            self.maps[source] = whole.part(at, channels)
            at += channels

    def _operation(self, name: str) -> Operation:
        return next(o for o in self.operations if o.name == name)

    def _has_ones(self, o: Operation) -> bool:
        """Whether a layer with bias reads it."""
        return any(c.layer is not None and c.layer.bias for c in self._consumers(o.name))

    @property
    def reads_ones(self) -> bool:
        """Whether the input has a constant-one channel."""
        return self._has_ones(self.operations[0])

    def source(self, name: str, generation: int) -> Map:
        """The map of an operation; the input has two."""
        return self.inputs[generation] if name == self.operations[0].name else self.maps[name]

    # -- forward ----------------------------------------------------------------------------
    def _forward_operation(self, o: Operation) -> Make:
        """How an operation is computed."""
        out, node = self.maps[o.name], o.node
        ones = self._has_ones(o)
        if isinstance(node, Conv | Linear):
            layer = self._place_layer(o, ones)

            def multiply(generation: int, visits: bool) -> list[Command]:
                layer.x = self.source(o.sources[0], generation)
                return self._forward_of(layer, generation, visits)

            return multiply
        if isinstance(node, Concat):
            return lambda generation, visits: []
        if isinstance(node, BatchNorm):
            x = self.maps[o.sources[0]]
            norm = self._place_norm(o, x)
            self.norms[o.name] = norm
            return lambda generation, visits: [
                reduce_(self, norm, self.source(o.sources[0], generation)),
                affine(self, self.source(o.sources[0], generation), out, clip=o.clip, ones=ones, norm=norm),
            ]
        if isinstance(node, Pool | GlobalAvgPool):
            return lambda generation, visits: [
                pool(self, node, self.source(o.sources[0], generation), out, o.clip, ones)
            ]
        if isinstance(node, Add):

            def add(generation: int, visits: bool) -> list[Command]:
                maps = [self.source(name, generation) for name in o.sources]
                commands = []
                for i, second in enumerate(maps[1:], 1):
                    last = i == len(maps) - 1
                    first = maps[0] if i == 1 else out
                    commands.append(affine(self, first, out, second, o.clip if last else Clip.NONE, ones and last))
                return commands

            return add
        return lambda generation, visits: [
            affine(self, self.source(o.sources[0], generation), out, clip=o.clip, ones=ones)
        ]

    def _place_layer(self, o: Operation, ones: bool) -> Layer:
        """A layer; its gradients are known when the backward program is planned."""
        assert o.layer is not None
        x, y, given = self.maps[o.sources[0]], self.maps[o.name], o.layer
        kernel = (x.height, x.width) if given.kind == "linear" else given.kernel
        shape = LayerShape(y.channels, x.channels, x.height, x.width, kernel, given.stride, given.padding,
                           given.depthwise, given.bias)  # fmt: skip
        wants = o.sources[0] != self.operations[0].name
        nothing = y  # until the backward program is planned
        with self._tiled(given.name):
            layer = self._add_layer(shape, Ends(x, y, nothing, nothing if wants else None),
                                    Ends(x.number, y.number, 0, 0), o.clip == Clip.RELU, ones, gated=False)  # fmt: skip
        self.of_operation[o.name] = layer
        return layer

    @property
    def of_operation(self) -> dict[str, Layer]:
        """Layers by operation."""
        return self.__dict__.setdefault("_of_operation", {})

    def _place_norm(self, o: Operation, x: Map) -> Norm:
        """Records of a batch normalisation: scale one, shift zero."""
        assert isinstance(o.node, BatchNorm)
        records = np.zeros((x.channels + 1, record_beats(self.cfg.beat_bits) * self.cfg.words_per_beat), np.uint32)
        assert records.shape[1] >= RECORD_WORDS
        records[:, [Word.GAMMA, Word.RUNNING_VARIANCE]] = word(1.0)
        return Norm(self.memory.raw(records.ravel()), o.node.eps, o.node.momentum)

    # -- backward ---------------------------------------------------------------------------
    def _gradient(self, of: Map) -> Map:
        return self.tensors.place(of.channels, of.height, of.width, gradient=True)

    def _plan_backward(self) -> list[Make]:
        """The backward part, from the loss to the first layer."""
        last = self.operations[-1]
        if last.clip != Clip.NONE:
            raise ValueError(f"{last.node}: the logits must not pass an activation function")
        seed = self._gradient(self.logits)
        steps: list[Make] = [lambda generation, visits: [softmax(self, self.logits, seed, self.labels[generation])]]
        waiting: dict[str, list[Map]] = {last.name: [seed]}
        for o in reversed(self.operations[1:]):
            parts = waiting.pop(o.name)
            gradient, commands = self._added(parts)
            if commands:
                steps.append(_fixed(commands))
            self.gradients[o.name] = parts
            steps += self._backward_operation(o, gradient, waiting)
        return steps

    def _added(self, parts: list[Map]) -> tuple[Map, list[Command]]:
        """The sum of contributions, in the place of the first one."""
        first, *others = parts
        return first, [affine(self, first, first, other, backward=True) for other in others]

    def _backward_operation(self, o: Operation, dz: Map, waiting: dict[str, list[Map]]) -> list[Make]:
        """Hand the gradient of an operation's output on to its sources."""
        node, z = o.node, self.maps[o.name]
        wants = [name for name in o.sources if name != self.operations[0].name]

        def give(name: str, gradient: Map) -> None:
            waiting.setdefault(name, []).append(gradient)

        if isinstance(node, BatchNorm):
            norm, y = self.norms[o.name], o.sources[0]
            dy = self._gradient(dz)
            if wants:
                give(y, dy)

            def normalise(generation: int, visits: bool) -> list[Command]:
                source = self.source(y, generation)
                gate = {"gate": o.clip, "z": z}
                commands = [reduce_(self, norm, dz, source, **gate)]
                if wants:
                    commands.append(affine(self, dz, dy, source, norm=norm, backward=True, **gate))
                return commands

            return [normalise]
        steps: list[Make] = []
        if o.clip != Clip.NONE and not self._gated_by_reader(o):
            steps.append(_fixed([affine(self, dz, dz, gate=o.clip, z=z, backward=True)]))
        if isinstance(node, Conv | Linear):
            layer = self.of_operation[o.name]
            layer.dy, layer.dy_id = dz, dz.number
            if wants:
                x = self.maps[o.sources[0]]
                dx = self._gradient(x)
                layer.dx, layer.dx_id = dx, dx.number
                layer.gated = self._gated_by_reader(self._operation(o.sources[0]))
                give(o.sources[0], dx)
                backward = self._backward_of(layer)
                steps.append(lambda generation, visits: backward(generation, visits))
        elif isinstance(node, Concat):
            at = 0
            for name in o.sources:
                if name in wants:
                    give(name, dz.part(at, self.maps[name].channels))
                at += self.maps[name].channels
        elif isinstance(node, Pool | GlobalAvgPool):
            if wants:
                x = self.maps[o.sources[0]]
                dx = self._gradient(x)
                give(o.sources[0], dx)
                steps.append(_fixed([unpool(self, node, x, dz, dx)]))
        elif isinstance(node, Add):
            for i, name in enumerate(dict.fromkeys(wants)):
                if i == 0 or len(self._consumers(name)) == 1:
                    part = dz if i == 0 else self._copy(dz, steps)
                else:
                    part = self._copy(dz, steps)
                for _ in range(o.sources.count(name)):
                    give(name, part)
        elif wants:
            give(o.sources[0], dz)
        return steps

    def _copy(self, dz: Map, steps: list[Make]) -> Map:
        """A contribution that may be added to."""
        copy = self._gradient(dz)
        steps.append(_fixed([affine(self, dz, copy, backward=True)]))
        return copy

    def _gated_by_reader(self, o: Operation) -> bool:
        """Whether the ReLU behind a layer is undone by the drain of the one layer that reads it."""
        readers = self._consumers(o.name)
        return o.clip == Clip.RELU and o.layer is not None and len(readers) == 1 and readers[0].layer is not None

    def _backward_of(self, layer: Layer) -> Make:
        from golden.map_program import backward_map

        backward = backward_map if layer.tiles else Network._backward_layer

        def make(generation: int, visits: bool) -> list[Command]:
            with self._tiled(self.layer_names[layer.index]):
                return backward(self, layer, generation, visits)

        return make

    def _forward_of(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        with self._tiled(self.layer_names[layer.index]):
            return super()._forward_of(layer, generation, dense_visits)

    def _update_of(self, layer: Layer, generation: int) -> list[Command]:
        with self._tiled(self.layer_names[layer.index]):
            return super()._update_of(layer, generation)

    @contextmanager
    def _tiled(self, name: str) -> Iterator[None]:
        """While a layer is placed or compiled, `tiling` is the one of that layer; errors name it."""
        common = self.tiling
        self.tiling = self.tilings.get(name, common)
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.graph.node(name)}: {error}") from None
        finally:
            self.tiling = common

    # -- programs ---------------------------------------------------------------------------
    def step_program(
        self, generation: int, dense_visits: bool = False, fetched: bool = False, prefetch: bool = False
    ) -> list[Command]:
        """Commands of a training step.

        Args:
            generation: of the weights, and which of the two inputs is read.
            dense_visits: regenerated weights are not zero yet.
            fetched: the program before ended with what this one begins with.
            prefetch: end with what the next step's program begins with.
        """
        return self._cached(("step", generation, dense_visits, fetched, prefetch))

    def forward(self, generation: int, dense_visits: bool = False, *_: bool) -> list[Command]:
        """Commands of a classification: batch normalisation by the running statistics."""
        return self._cached(("classify", generation, dense_visits))

    def _cached(self, key: tuple) -> list[Command]:
        if key not in self._programs:
            kind, generation, visits, *options = key
            make = self._make_step if kind == "step" else self._make_classify
            self._programs[key] = with_waits(make(generation, visits, *options))
        return self._programs[key]

    def _opening(self, generation: int, visits: bool) -> list[Command]:
        return next(commands for make in self._forward if (commands := make(generation, visits)))

    def _make_step(self, generation: int, visits: bool, fetched: bool, prefetch: bool) -> list[Command]:
        program = [c for make in (*self._forward, *self._backward) for c in make(generation, visits)]
        begins = program[0].get("load_x", 0)
        if fetched and begins:
            program[0] = program[0] | dict(plan=0, load_w=0, load_x=0)
        first = len(program)
        for layer in self.layers:
            program += self._update_of(layer, generation)
        if prefetch and begins:
            # Headers are read three slots before a command computes: four commands after the region's last drain.
            behind = len(program) - first - len(self._update_of(self.layers[0], generation))
            program += [dict(phase=int(Phase.NOP))] * max(0, 3 - behind)
            program.append(ahead(self._opening(1 - generation, visits)[0]))
            self._opening(generation, visits)
        program[-1] = program[-1] | dict(commit=1)
        return program

    def _make_classify(self, generation: int, visits: bool) -> list[Command]:
        commands = [c for make in self._forward for c in make(generation, visits)]
        # The statistics of the minibatch do not count: coefficients from the running ones.
        return [c | dict(op=int(Op.COEFFICIENTS)) if c.get("op") == Op.REDUCE and "magic" in c else c for c in commands]

    @property
    def parameters(self) -> int:
        """Scales and shifts of batch normalisation, all of them trained."""
        return sum(2 * self.maps[name].channels for name in self.norms)


def tensors_for(graph: Graph) -> int:
    """Exponents that a build must have for a graph: a power of two, at least `golden.graph_maps.Maps` asks for."""
    known = operations(graph)
    gradients = 1 + sum(1 + len(o.sources) for o in known)
    return max(4, 1 << (2 * max(len(known), gradients) - 1).bit_length())


def _fixed(commands: list[Command]) -> Make:
    return lambda generation, visits: commands


_ = (Layout, AvgPool)
