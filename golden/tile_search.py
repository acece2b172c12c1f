"""Tiles of a convolution: how much of a layer each working set takes, chosen by an estimate of its cycles.

What bounds a working set: the gather bank holds the patch (channels x positions), the partial sums (stationary
operands) of a row its units x positions, the weight buffers its records, the gradient memory its visits. Small
tiles reload more and large ones leave few weights to balance at a barrier, so every tile that fits is priced and the
cheapest wins. The estimate decides nothing but speed: cycles are counted by `golden.timing`, whatever is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, sqrt

from arch.config import MAX_SEGMENTS, PLAN_BEATS, Config
from golden.boxes import Axis, backward_axis, forward_axis
from golden.shape import LayerShape

BARRIER = 30  # cycles between two working sets
SPREAD = 1.8  # the largest of 16 normal numbers, in standard deviations


@dataclass(frozen=True)
class Tile:
    """What a working set takes.

    Attributes:
        images, rows, cols: positions (FW, WU: outputs; BW: inputs).
        units: most units (FW, WU: records; BW: lane groups).
        cap: most units of a row.
        records: BW: records of which every row holds a copy.
        segments: BW: regions side by side.
        cycles: estimate for the layer.
    """

    images: int
    rows: int
    cols: int
    units: int
    cap: int
    records: int = 0
    segments: int = 1
    cycles: float = inf


@dataclass(frozen=True)
class Tiles:
    """Choice for a layer: blocks of a region, and tiles by phase."""

    blocks: int
    forward: Tile
    backward: Tile | None
    update: Tile

    @property
    def cycles(self) -> float:
        """Estimate of all phases."""
        return self.forward.cycles + (self.backward.cycles if self.backward else 0) + self.update.cycles


@dataclass(frozen=True)
class Room:
    """What is provided for.

    Attributes:
        density: share of weights stored.
        explored: share of words explored in a weight update.
        margin: buffers are filled to 1 / margin at this density.
        images: sub-batches.
    """

    density: float
    explored: float
    margin: float
    images: int

    @property
    def stored(self) -> float:
        """Share of weights that buffers have room for."""
        return min(1.0, self.density * self.margin)

    @property
    def seen(self) -> float:
        """Share of weights a weight update visits."""
        return min(1.0, self.density + (1 - self.density) * self.explored)

    @property
    def seen_most(self) -> float:
        """Share of them that there is room for."""
        return min(1.0, self.seen * self.margin)


def choose(cfg: Config, shape: LayerShape, room: Room, backward: bool) -> Tiles:
    """The cheapest tiles of a layer; `backward` if its inputs want a gradient.

    Raises:
        ValueError: nothing fits; says what is too small.
    """
    blocks = -(-shape.channels // cfg.block_c)
    best: Tiles | None = None
    size = 1
    while True:
        if -(-blocks // size) <= MAX_SEGMENTS and size * shape.taps <= 255:
            tiles = _with_blocks(cfg, shape, room, size, backward)
            if tiles and (best is None or tiles.cycles < best.cycles):
                best = tiles
        if size >= blocks:
            break
        size *= 2
    if best is None:
        raise ValueError(
            f"a layer of {shape.inputs} to {shape.outputs} channels and {shape.kernel[0]}x{shape.kernel[1]} taps does not"
            f" fit: a gather bank holds {cfg.gather_depth} operands, a row {cfg.psum_depth} partial sums, {cfg.value_beats}"
            f" value beats and {cfg.gradients} gradients"
        )
    return best


def _with_blocks(cfg: Config, shape: LayerShape, room: Room, blocks: int, backward: bool) -> Tiles | None:
    update = _best(cfg, shape, room, blocks, _update)
    if update is None:
        return None
    forward = _best(cfg, shape, room, blocks, _forward)
    if forward is None:
        return None
    if not backward:
        return Tiles(blocks, forward, None, update)
    back = _best(cfg, shape, room, blocks, _forward if shape.depthwise else _backward, shape.depthwise or None)
    return None if back is None else Tiles(blocks, forward, back, update)


def _best(cfg, shape, room, blocks, price, transposed=None):  # type: ignore[no-untyped-def]
    """The cheapest tile by one of the prices below."""
    inputs = price is _backward or transposed
    height, width = (shape.height, shape.width) if inputs else (shape.out_height, shape.out_width)
    best = None
    for rows in _splits(height, shape.stride if inputs else 1):
        for cols in _splits(width, shape.stride if inputs else 1):
            whole = (rows, cols) == (height, width)
            for images in range(1, room.images + 1) if whole else (1,):
                if images * rows * cols > cfg.psum_depth * 2:
                    continue
                tile = price(cfg, shape, room, blocks, images, rows, cols, bool(transposed))
                if tile and (best is None or tile.cycles < best.cycles):
                    best = tile
    return best


def _splits(size: int, align: int) -> list[int]:
    """Sizes of about equal pieces of an axis, each but the last a multiple of `align`."""
    sizes = {size}
    for parts in range(2, size + 1):
        sizes.add(min(size, -(-(-(-size // parts)) // align) * align))
    return sorted(sizes, reverse=True)


@lru_cache(maxsize=1 << 14)
def _axis(back: bool, size: int, out: int, kernel: int, stride: int, padding: int, count: int, whole: bool) -> Axis:
    """An axis in the middle of the map: the largest patch."""
    limit = size if back else out
    first = max(0, min(limit - count, (limit - count) // 2 // stride * stride))
    if back:
        return backward_axis(out, kernel, stride, padding, first, count, whole)
    return forward_axis(size, kernel, stride, padding, first, count, whole)


def patch(shape: LayerShape, back: bool, images: int, rows: int, cols: int) -> tuple[int, float]:
    """Positions of the largest patch of a tile, and positions that its taps visit on average."""
    whole = images > 1
    r = _axis(back, shape.height, shape.out_height, shape.kernel[0], shape.stride, shape.padding, rows, whole)
    c = _axis(back, shape.width, shape.out_width, shape.kernel[1], shape.stride, shape.padding, cols, whole)
    return images * r.count * c.count, images * r.visits * c.visits / shape.taps


def _power(positions: int) -> int:
    return 1 << (positions - 1).bit_length()


def _beats(cfg: Config, positions: float, share: float) -> float:
    """Value beats of a record of so many weights, as the mean over several records."""
    if share >= 1:
        return -(-positions // cfg.values_per_beat)
    return positions * share / cfg.values_per_beat + 0.75


def _record(cfg: Config, shape: LayerShape, room: Room, blocks: int) -> tuple[int, int, float]:
    """Weights, mask beats and value beats of a record."""
    channels = min(blocks * cfg.block_c, shape.channels)
    weights = cfg.block_k * channels * shape.taps
    words = blocks * shape.taps
    if not cfg.sparse:
        return weights, 0, -(-cfg.dense_words(words) * cfg.mask_bits // cfg.values_per_beat)
    return weights, -(-words // cfg.masks_per_beat), _beats(cfg, weights, room.stored)


def _rows_hold(cfg: Config, masks: int, values: float) -> int:
    return int(min(cfg.value_beats // values, cfg.mask_beats // masks if masks else inf))


def _balanced(cfg: Config, visits: float) -> float:
    """Visits of the fullest row, if `visits` is the mean and they are random."""
    return visits + (SPREAD * sqrt(visits) if cfg.sparse else 0)


def _slots(shape: LayerShape, room: Room, back: bool, images: int, rows: int, cols: int) -> int:
    height, width = (shape.height, shape.width) if back else (shape.out_height, shape.out_width)
    return ceil(room.images / images) * ceil(height / rows) * ceil(width / cols)


def _forward(
    cfg: Config, shape: LayerShape, room: Room, blocks: int, images: int, rows: int, cols: int, back: bool
) -> Tile | None:
    positions = images * rows * cols
    weights, masks, values = _record(cfg, shape, room, blocks)
    cap = min(cfg.psum_depth // (cfg.block_k * _power(positions)), _rows_hold(cfg, masks, values))
    area, visited = patch(shape, back, images, rows, cols)
    channels = min(blocks * cfg.block_c, shape.channels)
    if shape.depthwise:
        cap = min(cap, cfg.gather_depth // (area * cfg.block_k * cfg.rows))
    elif area * _whole(channels, cfg.bus_elements) > cfg.gather_depth:
        return None
    records = -(-shape.outputs // cfg.block_k)
    least = cfg.bus_elements // cfg.block_k or 1
    units = min(cap * cfg.rows, records, cfg.units)
    if cap < 1 or units < min(least, records):
        return None
    passes = ceil(records / units)
    per_row = ceil(ceil(records / passes) / cfg.rows)
    segments = ceil(shape.channels / (blocks * cfg.block_c))
    loaded = units * cfg.block_k if shape.depthwise else channels
    compute = _balanced(cfg, per_row * weights * room.density) * visited
    load = area * (-(-loaded // cfg.bus_elements) + 1) + units * (masks + values)
    drain = positions * _whole(min(units * cfg.block_k, shape.outputs), cfg.bus_elements) / segments
    slots = _slots(shape, room, back, images, rows, cols) * passes * segments
    return Tile(images, rows, cols, units, cap, cycles=slots * (max(compute, load, drain) + BARRIER))


def _backward(
    cfg: Config, shape: LayerShape, room: Room, blocks: int, images: int, rows: int, cols: int, back: bool
) -> Tile | None:
    positions = images * rows * cols
    weights, masks, values = _record(cfg, shape, room, blocks)
    cap = cfg.psum_depth // (cfg.lane_group * _power(positions))
    area, visited = patch(shape, True, images, rows, cols)
    all_segments = -(-shape.inputs // (blocks * cfg.block_c))
    groups_each = min(blocks * cfg.groups_per_word, -(-shape.inputs // cfg.lane_group))
    most = min(all_segments, cap * cfg.rows // groups_each if groups_each else 0, cfg.units // groups_each)
    best = None
    for segments in {most, (most + 1) // 2, 1}:
        if not 1 <= segments <= most:
            continue
        records = min(
            _rows_hold(cfg, segments * masks, segments * values),
            cfg.gather_depth // (area * cfg.block_k),
            -(-shape.outputs // cfg.block_k),
        )
        align = max(1, cfg.bus_elements // cfg.block_k)
        if records < -(-shape.outputs // cfg.block_k):
            records = records // align * align
        if records < 1 or area * _whole(records * cfg.block_k, cfg.bus_elements) > cfg.gather_depth:
            continue
        windows = ceil(-(-shape.outputs // cfg.block_k) / records)
        passes = ceil(all_segments / segments)
        per_row = ceil(min(segments * groups_each, -(-shape.inputs // cfg.lane_group)) / cfg.rows)
        a_group = cfg.lane_group * cfg.block_k * shape.taps * records  # its weights
        words = per_row * records * shape.taps
        empty = words * (1 - room.density) ** (cfg.lane_group * cfg.block_k) if cfg.sparse else 0
        compute = _balanced(cfg, per_row * a_group * room.density) * visited + empty
        load = area * (-(-records * cfg.block_k // cfg.bus_elements) + 1) + segments * records * (masks + values)
        drain = positions * min(segments * blocks * cfg.block_c, shape.inputs) / windows
        slots = _slots(shape, room, True, images, rows, cols) * passes * windows
        cycles = slots * (max(compute, load, drain) + BARRIER)
        if best is None or cycles < best.cycles:
            units = min(segments * groups_each, cap * cfg.rows)
            best = Tile(images, rows, cols, units, cap, records, segments, cycles)
    return best


def _update(
    cfg: Config, shape: LayerShape, room: Room, blocks: int, images: int, rows: int, cols: int, back: bool
) -> Tile | None:
    positions = images * rows * cols
    weights, masks, values = _record(cfg, shape, room, blocks)
    area, visited = patch(shape, False, images, rows, cols)
    channels = min(blocks * cfg.block_c, shape.channels)
    slots = _slots(shape, room, False, images, rows, cols)
    cap = min(
        cfg.psum_depth * cfg.stationary_pack // (cfg.block_k * _power(positions)),
        _rows_hold(cfg, masks, values),
        int(cfg.gradients // (weights * room.seen_most)) if slots > 1 else cfg.value_beats,
    )
    if shape.depthwise:
        cap = min(cap, cfg.gather_depth // (area * cfg.block_k * cfg.rows))
    elif area * _whole(channels, cfg.bus_elements) > cfg.gather_depth:
        return None
    segments = ceil(shape.channels / (blocks * cfg.block_c))
    headers = PLAN_BEATS // segments * cfg.words_per_beat - 1 - blocks * cfg.groups_per_word
    records = -(-shape.outputs // cfg.block_k)
    units = min(cap * cfg.rows, records, cfg.units, headers)
    if cap < 1 or units < min(cfg.bus_elements // cfg.block_k or 1, records):
        return None
    passes = ceil(records / units)
    per_row = ceil(ceil(records / passes) / cfg.rows)
    compute = per_row * weights * room.seen * visited
    pieces = cfg.bus_elements // cfg.stationary_pack
    loaded = units * cfg.block_k if shape.depthwise else channels
    load = area * (-(-loaded // cfg.bus_elements) + 1)
    load += positions * (-(-units * cfg.block_k // cfg.bus_elements) * pieces + 1)
    load += units * (masks + values) / slots
    slots *= passes * segments
    return Tile(images, rows, cols, units, cap, cycles=slots * (max(compute, load) + BARRIER))


def _whole(channels: int, elements: int) -> int:
    return -(-channels // elements) * elements
