"""Where a network lies: tensors and regions in memory, and how much of a layer the array's buffers hold at a time.

Weights have two generations: a step reads one and writes the other, and the host swaps them when the step succeeded.
A region is what one weight update can hold; FW and BW cut layers in tiles of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np

from arch.command import Phase, Policy
from arch.config import MAX_SEGMENTS, PLAN_BEATS, Config
from golden import regenerate, tile_search
from golden.csb import Geometry, Region, update_cycles
from golden.memory import Memory, Store, Tensor
from golden.shape import MOST_CHANNELS, LayerShape, connected

T = TypeVar("T")


@dataclass(frozen=True)
class Ends(Generic[T]):
    """Something of the four tensors at the ends of a layer."""

    x: T
    y: T
    dy: T
    dx: T | None


@dataclass
class Layer:
    """One layer y = W * x, bias as the weight of a constant-one channel.

    Attributes:
        index: number of the layer.
        shape: its shape.
        geometries: [output tile][input tile].
        stores: [generation][output tile][input tile].
        salt, scale: of the weight regeneration.
        tiles: of a convolution; None for a fully connected layer, which `golden.program` cuts in a way of its own.
        x, y, dx, dy: tensors; dx is None in the first layer. Numbers are exponent-table entries.
        relu, ones: of what it writes: clipped at zero; followed by a constant-one channel.
        gated: its input is such a clipped tensor, and nobody else reads it: the gradient it writes is zero there.
    """

    index: int
    shape: LayerShape
    geometries: list[list[Geometry]]
    stores: list[list[list[Store]]]
    salt: int
    scale: int
    tiles: tile_search.Tiles | None
    x: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    x_id: int = 0
    y_id: int = 0
    dy_id: int = 0
    dx_id: int = 0
    relu: bool = True
    ones: bool = True
    gated: bool = True

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.shape.outputs

    @property
    def inputs(self) -> int:
        """Input channels, without the constant-one channel."""
        return self.shape.inputs


@dataclass
class Tiling:
    """How many channels and records the working sets take; None lets the compiler choose.

    Attributes:
        density: the largest share of weights stored that buffers must hold (1 for dense mode).
        policy: load balancing; a dense build knows NONE only.
        explored: the share of words explored in a step, 1 / T.
    """

    density: float = 1.0
    policy: Policy = Policy.LPT
    margin: float = 1.3
    fw_by_position: bool = True
    explored: float = 1.0


@dataclass
class Layout:
    """Memory layout of a network on one configuration.

    Args:
        cfg: configuration.
        sizes: sizes of fully connected layers, for example (784, 300, 100, 10), or shapes of layers, each of which
            reads what the one before writes.
        batch: samples of a minibatch; padded with zero samples to whole columns.
        memory: where everything is placed.
        seed: of the regenerated weights.
        tiling: see `Tiling`.
        weight_exponent: exponent of the weights.
        dense: dense mode: every weight is stored, the initial ones included.

    Raises:
        ValueError: a size the array cannot take; the message names value and bound.
    """

    cfg: Config
    sizes: tuple[int, ...] | tuple[LayerShape, ...]
    batch: int
    memory: Memory
    seed: int = 1
    tiling: Tiling = field(default_factory=Tiling)
    weight_exponent: int = -14
    dense: bool = False
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Place all tensors and regions."""
        self._check()
        self._place()

    def _place(self) -> None:
        """Place the tensors and regions of a chain of layers."""
        self.shapes = shapes_of(self.sizes)
        if 2 * len(self.shapes) + 1 > self.cfg.tensors:
            raise ValueError(f"{len(self.shapes)} layers have more tensors than the {self.cfg.tensors} of the build")
        first = self._input(self.shapes[0])
        self.inputs = [first, self._input(self.shapes[0])]
        activations = [first, *(self._input(shape) for shape in self.shapes[1:])]
        maps = [self.positions * shape.out_height * shape.out_width for shape in self.shapes]
        self.logits = self.memory.tensor(maps[-1], self.shapes[-1].outputs)
        outputs = [*activations[1:], self.logits]
        gradients = [self.memory.tensor(u, shape.outputs) for u, shape in zip(maps, self.shapes, strict=True)]
        half = self.cfg.tensors // 2
        for i, shape in enumerate(self.shapes):
            following = self.shapes[i + 1] if i + 1 < len(self.shapes) else None
            self._add_layer(
                shape,
                Ends(activations[i], outputs[i], gradients[i], gradients[i - 1] if i else None),
                Ends(i, i + 1, half + i, half + i - 1 if i else 0),
                relu=following is not None,
                ones=following is not None and following.bias,
            )

    def _add_layer(
        self, shape: LayerShape, tensors: Ends[Tensor], ids: Ends[int], relu: bool, ones: bool, gated: bool = True
    ) -> Layer:
        """Cut a layer in regions and place them."""
        i = len(self.layers)
        tiles = self._tiles_of(shape, i, tensors.dx is not None) if shape.is_map else None
        layer = Layer(
            i,
            shape,
            self._map_regions(shape, tiles) if tiles else self._tiles(shape.outputs, shape.channels),
            [],
            regenerate.layer_salt(self.seed, i),
            regenerate.scale(he_std(shape.fan_in), self.weight_exponent),
            tiles,
            tensors.x,
            tensors.y,
            tensors.dy,
            tensors.dx,
            ids.x,
            ids.y,
            ids.dy,
            ids.dx or 0,
            relu,
            ones,
            gated,
        )
        self._check_layer(layer)
        for _ in range(2):
            layer.stores.append(
                [[self.memory.store(g, self._limit(g), self._first(layer, g)) for g in row] for row in layer.geometries]
            )
        self.layers.append(layer)
        return layer

    def _check(self) -> None:
        """Refuse what no network can run on this configuration."""
        if not self.cfg.sparse:
            self._check_dense()
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, not {self.batch}")
        limit = self.cfg.gather_depth // self.cfg.block_c
        if self.positions > min(limit, 255):
            raise ValueError(
                f"batch {self.batch} on {self.cfg.columns} columns takes {self.positions} "
                f"positions, a gather bank holds one block of at most {min(limit, 255)}"
            )

    def _check_layer(self, layer: Layer) -> None:
        """Refuse a layer that a smaller build leaves out, or whose sums it cannot hold."""
        if layer.tiles:
            if not self.cfg.maps:
                raise ValueError(f"layer {layer.index} is a convolution: a build without maps has fully connected ones")
            return
        terms = max(layer.shape.channels, layer.outputs, self.positions * self.cfg.columns)
        if terms >= 1 << self.cfg.sum_bits:
            raise ValueError(
                f"layer {layer.index} adds up to {terms} products, the build takes fewer than {1 << self.cfg.sum_bits}"
            )

    def _input(self, shape: LayerShape) -> Tensor:
        """Place the tensor a layer reads, with its constant-one channel."""
        return self.memory.tensor(self.positions * shape.height * shape.width, shape.inputs + shape.bias)

    def _tiles_of(self, shape: LayerShape, index: int, backward: bool) -> tile_search.Tiles:
        t = self.tiling
        room = tile_search.Room(t.density, 0.0 if self.dense else t.explored, t.margin, self.positions)
        try:
            return tile_search.choose(self.cfg, shape, room, backward)
        except ValueError as error:
            raise ValueError(f"layer {index}: {error}") from None

    def _map_regions(self, shape: LayerShape, tiles: tile_search.Tiles) -> list[list[Geometry]]:
        """Regions [output tile][input tile] of a convolution."""
        cfg, step = self.cfg, tiles.blocks * self.cfg.block_c
        spans = self._ranges(-(-shape.outputs // cfg.block_k), tiles.update.units)
        out = []
        for first, records in spans:
            k0, row = first * cfg.block_k, []
            for c0 in range(0, shape.channels, step):
                c_end = min(c0 + step, shape.channels)
                bias_tap = shape.bias_tap if c_end == shape.channels else -1
                k_end = min(k0 + records * cfg.block_k, shape.outputs)
                row.append(Geometry(cfg, k0, k_end, c0, c_end, tiles.blocks * shape.taps, shape.taps, bias_tap))
            out.append(row)
        return out

    def _check_dense(self) -> None:
        """Refuse what a build without sparse hardware cannot run."""
        if not self.dense:
            raise ValueError("a dense build cannot train a sparse network: dense must be set")
        if self.tiling.policy != Policy.NONE:
            raise ValueError(
                f"a dense build balances no load: policy must be NONE, not {Policy(self.tiling.policy).name}"
            )
        if self.tiling.density < 1:
            raise ValueError(f"a dense build stores every weight: density must be 1, not {self.tiling.density}")

    # -- sizes ------------------------------------------------------------------------------
    @property
    def positions(self) -> int:
        """U: sub-batches of the minibatch."""
        return -(-self.batch // self.cfg.columns)

    @property
    def log2_u(self) -> int:
        """log2 of the psum stride of a channel."""
        return (self.positions - 1).bit_length()

    @property
    def total(self) -> int:
        """Weights of the network, biases included."""
        return sum(layer.shape.weights for layer in self.layers)

    def _record_beats(self, words: int) -> int:
        """Value beats of a record to provide for."""
        values = words * self.cfg.mask_bits * min(1.0, self.tiling.density * self.tiling.margin)
        return int(-(-values // self.cfg.values_per_beat)) + (self.tiling.density < 1)

    def _per_row(self, words: int, spans: int) -> int:
        """FW: records of each of `spans` segments a row may hold; many records even out their value beats."""
        values = words * self.cfg.mask_bits * min(1.0, self.tiling.density * self.tiling.margin)
        beats = values / self.cfg.values_per_beat
        mean = self._record_beats(words) if self.tiling.density >= 1 else max(1.0, beats) + 0.25
        return int(
            min(
                self.cfg.rounded_beats // (spans * mean),
                self.cfg.mask_beats // (spans * -(-words // self.cfg.masks_per_beat)) if self.cfg.sparse else np.inf,
            )
        )

    def _units(self, per_row: int) -> int:
        """Most units of a command whose rows take `per_row`: pairing gives every row two halves of one size."""
        halves = 2 if self.tiling.policy == Policy.PAIR and per_row > 1 else 1
        return min(per_row // halves * halves * self.cfg.rows, self.cfg.units)

    def _tiles(self, outputs: int, channels: int) -> list[list[Geometry]]:
        """Regions [output tile][input tile]: what one weight update can hold."""
        cfg = self.cfg
        most_words = min(cfg.gather_depth // (self.positions * cfg.block_c), 255)
        words = -(-channels // cfg.block_c)
        tiles = -(-words // most_words)
        if tiles > MAX_SEGMENTS:
            raise ValueError(
                f"a layer of {channels} inputs takes {tiles} input tiles at {self.positions} positions a weight,"
                f" a command plans at most {MAX_SEGMENTS}: use a smaller batch or more columns"
            )
        words = -(-words // tiles)
        headers = PLAN_BEATS // tiles * cfg.words_per_beat - 1 - words * cfg.groups_per_word
        per_row = min(
            cfg.value_beats // self._record_beats(words),
            cfg.mask_beats // -(-words // cfg.masks_per_beat) if cfg.sparse else cfg.value_beats,
            self._cap(Phase.WU),
        )
        if per_row < 1:
            raise ValueError(
                f"a record of {words} mask words takes {self._record_beats(words)} value "
                f"beats, a row holds {cfg.value_beats}"
            )
        if headers < 1:
            raise ValueError(
                f"a layer of {channels} inputs has {tiles} input tiles of {words * cfg.groups_per_word} lane groups,"
                f" their headers hold {PLAN_BEATS} beats of {cfg.words_per_beat} counts in all: use wider beats"
            )
        records = -(-outputs // cfg.block_k)
        spans = self._ranges(records, min(self._units(per_row), headers))
        each = spans[0][1] * cfg.block_k
        step = words * cfg.block_c
        return [
            [
                Geometry(cfg, k, min(k + each, outputs), c, min(c + step, channels), words)
                for c in range(0, channels, step)
            ]
            for k in range(0, outputs, each)
        ]

    def _cap(self, phase: Phase, positions: int | None = None) -> int:
        """Most units of a row: what its psum (WU: stationary) bank holds."""
        cfg = self.cfg
        u = 1 << ((positions or self.positions) - 1).bit_length()
        lanes = cfg.lane_group if phase == Phase.BW else cfg.block_k
        pack = cfg.stationary_pack if phase == Phase.WU else 1
        cap = cfg.psum_depth * pack // (lanes * u)
        if cap < 1:
            raise ValueError(f"{u} positions of {lanes} channels do not fit a psum bank of {cfg.psum_depth}")
        return cap

    def _room(self, g: Geometry) -> int:
        """Records of which a row's buffers hold the masks, and a beat of values each."""
        masks = self.cfg.mask_beats // g.mask_beats if g.mask_beats else self.cfg.value_beats
        return min(masks, self.cfg.value_beats)

    def _limit(self, g: Geometry) -> int:
        """Beats of a region in memory: room for all its weights, since sparse layers leave others dense."""
        values = -(-g.words * self.cfg.mask_bits // self.cfg.values_per_beat)
        return g.header_beats + g.records * (g.mask_beats + values)

    def _first(self, layer: Layer, g: Geometry) -> Region:
        """What a region holds before the first step: nothing, or in dense mode every initial weight."""
        if not self.dense:
            return Region(g)
        w0 = regenerate.initial(g.k_of, g.c_of, g.tap_of, layer.salt, layer.scale, self.cfg.operand_bits)
        stored = np.flatnonzero(g.valid)
        w0 = np.where(g.c_of[stored] == layer.inputs, 0, w0[stored])  # biases begin at zero
        return Region(g, stored, w0 << self.cfg.operand_bits)

    def set_first_cycles(self, period: int) -> None:
        """Enter the cycles of step 0's update in the headers of generation 0 (later ones come from WU)."""
        if self.dense:
            return
        for layer in self.layers:
            for row in layer.stores[0]:
                for store in row:
                    g = store.region.geometry
                    words = regenerate.explored(g.kb, g.cb, g.tap_of_word, 0, period)
                    visits = np.where(words, g.valid_per_word, store.region.per_word())
                    store.region.cycles_next = update_cycles(g, visits, 0 if layer.tiles else self.log2_u)
                    self.memory.put_region(store, store.region)

    def _image_records(self, g: Geometry, segments: int) -> int:
        """Records of which every row can hold a copy (BW)."""
        cfg = self.cfg
        return max(
            1,
            min(
                cfg.rounded_beats // (segments * self._record_beats(g.words)),
                cfg.mask_beats // (segments * g.mask_beats) if cfg.sparse else cfg.units,
                cfg.units,
            ),
        )

    def _ranges(self, count: int, most: int, shared: bool = True) -> list[tuple[int, int]]:
        """Split `count` records into ranges of at most `most`, see `golden.tile_search.pieces`."""
        return tile_search.pieces(self.cfg, count, most, shared)


def he_std(inputs: int) -> float:
    """Standard deviation of a layer's initial weights (He et al., 2015)."""
    return float((2 / inputs) ** 0.5)


def shapes_of(sizes: tuple[int, ...] | tuple[LayerShape, ...]) -> tuple[LayerShape, ...]:
    """Shapes of the layers of a chain, given as such or as the sizes of fully connected layers.

    Raises:
        ValueError: not a chain; the message names the layer, what it reads and what the one before writes.
    """
    shapes = tuple(shape for shape in sizes if isinstance(shape, LayerShape))
    if not shapes:
        numbers = tuple(size for size in sizes if isinstance(size, int))
        if len(numbers) < 2 or min(numbers) < 1:
            raise ValueError(f"a network needs at least two layer sizes, all positive, not {numbers}")
        if max(numbers) > MOST_CHANNELS:
            raise ValueError(f"a layer has at most {MOST_CHANNELS} channels, not {max(numbers)}")
        shapes = connected(numbers)
    for i, (before, after) in enumerate(pairwise(shapes)):
        written = before.outputs, before.out_height, before.out_width
        read = after.inputs, after.height, after.width
        if written != read:
            raise ValueError(f"layer {i} writes {written} (channels, rows, columns), layer {i + 1} reads {read}")
    return shapes
