"""Where a graph lies: maps, weights and records of every operation, in memory.

Concatenations are placed first, so that what they join is written where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from arch.command import MOST_KERNEL
from arch.vector import RECORD_WORDS, Clip, Word, record_beats
from golden.graph_maps import Map, Maps
from golden.layout import Ends, Layer, Tiling
from golden.networks.fusion import Operation, operations
from golden.networks.graph import Graph
from golden.networks.operators import BatchNorm, Concat, Input, Linear
from golden.program import Network
from golden.shape import LayerShape
from golden.vector.real import word
from golden.vector_program import Norm
from golden.waits import Command


@dataclass
class GraphLayout(Network):
    """A graph laid out in memory. Arguments and errors as `Layout`, but `sizes` is a `Graph`.

    Attributes:
        operations: what the machine does, in order.
        maps: output of every operation.
        norms: records of every batch normalisation, by operation.
        of_operation: layers by operation.
        labels: first beat of the labels, of both input buffers.
        tilings: of the layers that are to be cut otherwise than `tiling` says, by the name of their node.
        tensors: numbers of all maps.
    """

    operations: tuple[Operation, ...] = ()
    maps: dict[str, Map] = field(default_factory=dict)
    norms: dict[str, Norm] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    of_operation: dict[str, Layer] = field(default_factory=dict)
    tilings: dict[str, Tiling] = field(default_factory=dict)
    tensors: Maps = field(init=False)
    inputs: list[Map] = field(init=False)  # type: ignore[assignment]
    logits: Map = field(init=False)

    def _place(self) -> None:
        """Place the maps; weights and records follow when the forward program is planned."""
        graph = self.sizes
        assert isinstance(graph, Graph)
        self.graph, self.operations = graph, operations(graph)
        self.layer_names = [o.layer.name for o in self.operations if o.layer is not None]  # by index of the layer
        self.tensors = Maps(self.memory, self.positions)
        self._place_maps()
        self.labels = [self.memory.raw(np.zeros(self.positions * self.cfg.words_per_beat, np.uint32)) for _ in range(2)]

    def consumers(self, name: str) -> list[Operation]:
        """The operations that read one."""
        return [o for o in self.operations if name in o.sources]

    def _flattened(self, o: Operation) -> bool:
        """Whether the input is stored as vectors: only linear layers read it."""
        return isinstance(o.node, Input) and all(isinstance(c.node, Linear) for c in self.consumers(o.name))

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
        self.maps[o.name] = self.tensors.place(*size, extra=int(self.has_ones(o)))

    def _place_parts(self, o: Operation) -> None:
        at = 0
        for source in o.sources:
            channels = self.graph.shape(source).channels
            whole = self.maps[o.name]
            if source in self.maps or at % self.cfg.bus_elements or self.has_ones(self.operation(source)):
                raise ValueError(
                    f"{o.node}: input {source!r} begins at channel {at}; a part of a concatenation begins at a multiple"
                    f" of {self.cfg.bus_elements} channels, is part of one, and no layer with bias reads it"
                )
            self.maps[source] = whole.part(at, channels)
            at += channels

    def operation(self, name: str) -> Operation:
        """An operation by its name."""
        return next(o for o in self.operations if o.name == name)

    def has_ones(self, o: Operation) -> bool:
        """Whether a layer with bias reads it."""
        return any(c.layer is not None and c.layer.bias for c in self.consumers(o.name))

    @property
    def reads_ones(self) -> bool:
        """Whether the input has a constant-one channel."""
        return self.has_ones(self.operations[0])

    def source(self, name: str, generation: int) -> Map:
        """The map of an operation; the input has two."""
        return self.inputs[generation] if name == self.operations[0].name else self.maps[name]

    def place_layer(self, o: Operation, ones: bool) -> Layer:
        """A layer; its gradients are known when the backward program is planned."""
        assert o.layer is not None
        x, y, given = self.maps[o.sources[0]], self.maps[o.name], o.layer
        wants = o.sources[0] != self.operations[0].name
        nothing = y  # until the backward program is planned
        with self.tiled(given.name):
            kernel = given.kernel
            if given.kind == "linear":
                kernel = (x.height, x.width)  # a flattened map is read as a filter of its size
                if max(kernel) > MOST_KERNEL:
                    raise ValueError(
                        f"it reads a flattened map of {x.height}x{x.width}, which may be {MOST_KERNEL}x{MOST_KERNEL} at"
                        " most: pool it before"
                    )
            shape = LayerShape(y.channels, x.channels, x.height, x.width, kernel, given.stride, given.padding,
                               given.depthwise, given.bias)  # fmt: skip
            layer = self._add_layer(
                shape,
                Ends(x, y, nothing, nothing if wants else None),
                Ends(x.number, y.number, 0, 0),
                relu=o.clip == Clip.RELU,
                ones=ones,
                gated=False,
            )
        self.of_operation[o.name] = layer
        return layer

    def place_norm(self, o: Operation, x: Map) -> Norm:
        """Records of a batch normalisation: scale one, shift zero."""
        assert isinstance(o.node, BatchNorm)
        records = np.zeros((x.channels + 1, record_beats(self.cfg.beat_bits) * self.cfg.words_per_beat), np.uint32)
        assert records.shape[1] >= RECORD_WORDS
        records[:, [Word.GAMMA, Word.RUNNING_VARIANCE]] = word(1.0)
        return Norm(self.memory.raw(records.ravel()), o.node.eps, o.node.momentum)

    def _forward_of(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        with self.tiled(self.layer_names[layer.index]):
            return super()._forward_of(layer, generation, dense_visits)

    def _update_of(self, layer: Layer, generation: int) -> list[Command]:
        with self.tiled(self.layer_names[layer.index]):
            return super()._update_of(layer, generation)

    @contextmanager
    def tiled(self, name: str) -> Iterator[None]:
        """While a layer is placed or compiled, `tiling` is the one of that layer; errors name it."""
        common = self.tiling
        self.tiling = self.tilings.get(name, common)
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.graph.node(name)}: {error}") from None
        finally:
            self.tiling = common
