"""A network given as a graph: its program, one training step without the host.

Forward: every operation in order. Then the loss, and backward every operation in reverse (`golden.graph_backward`).
Last, all weight updates.
"""

from __future__ import annotations

from dataclasses import dataclass

from arch.command import Phase
from arch.vector import Clip, Op
from golden.graph_backward import Backward, Make
from golden.graph_layout import GraphLayout
from golden.networks.fusion import Operation, operations
from golden.networks.graph import Graph
from golden.networks.operators import Add, BatchNorm, Concat, Conv, GlobalAvgPool, Linear, Pool
from golden.vector_program import affine, pool, reduce_
from golden.waits import Command, ahead, is_vector, with_waits


@dataclass
class GraphNetwork(GraphLayout):
    """A graph laid out in memory, and its programs; see `GraphLayout`."""

    def _place(self) -> None:
        """Place everything; the program follows from where things are."""
        super()._place()
        self._forward: list[Make] = [self._forward_operation(o) for o in self.operations[1:]]
        self._backward = Backward(self).plan()

    def _forward_operation(self, o: Operation) -> Make:
        """How an operation is computed."""
        out, node = self.maps[o.name], o.node
        ones = self.has_ones(o)
        if isinstance(node, Conv | Linear):
            layer = self.place_layer(o, ones)

            def multiply(generation: int, visits: bool) -> list[Command]:
                layer.x = self.source(o.sources[0], generation)
                return self._forward_of(layer, generation, visits)

            return multiply
        if isinstance(node, Concat):
            return lambda *_: []
        if isinstance(node, BatchNorm):
            x = self.maps[o.sources[0]]
            norm = self.place_norm(o, x)
            self.norms[o.name] = norm
            return lambda generation, _: [
                reduce_(self, norm, self.source(o.sources[0], generation)),
                affine(self, self.source(o.sources[0], generation), out, clip=o.clip, ones=ones, norm=norm),
            ]
        if isinstance(node, Pool | GlobalAvgPool):
            return lambda generation, _: [pool(self, node, self.source(o.sources[0], generation), out, o.clip, ones)]
        if isinstance(node, Add):

            def add(generation: int, _: bool) -> list[Command]:
                maps = [self.source(name, generation) for name in o.sources]
                commands = []
                for i, second in enumerate(maps[1:], 1):
                    last = i == len(maps) - 1
                    first = maps[0] if i == 1 else out
                    commands.append(affine(self, first, out, second, o.clip if last else Clip.NONE, ones and last))
                return commands

            return add
        return lambda generation, _: [affine(self, self.source(o.sources[0], generation), out, clip=o.clip, ones=ones)]

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
        return [c | dict(op=int(Op.COEFFICIENTS)) if is_vector(c) and c["op"] == Op.REDUCE else c for c in commands]

    @property
    def parameters(self) -> int:
        """Scales and shifts of batch normalisation, all of them trained."""
        return sum(2 * self.maps[name].channels for name in self.norms)


def tensors_for(graph: Graph) -> int:
    """Exponents that a build must have for a graph: a power of two, at least `golden.graph_maps.Maps` asks for."""
    known = operations(graph)
    gradients = 1 + sum(1 + len(o.sources) for o in known)
    return max(4, 1 << (2 * max(len(known), gradients) - 1).bit_length())
