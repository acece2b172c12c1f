"""Tiles of a convolution: how much of a layer each working set takes, chosen by an estimate of its cycles.

What bounds a working set: the gather bank holds the patch (channels x positions), the partial sums (stationary
operands) of a row its units x positions, the weight buffers its records, the gradient memory its visits. Small
tiles reload more and large ones leave few weights to balance at a barrier, so every tile that fits is priced and the
cheapest wins. The estimate decides nothing but speed: cycles are counted by `golden.timing`, whatever is chosen.

Load balancing helps where units stay whole between a plan and its barrier: a row that has several of them evens them
out. Where one plan serves several working sets (input channels in FW, output channels in BW go by in pieces) each of
them is as uneven as chance makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log2, sqrt

from arch.config import MAX_SEGMENTS, PLAN_BEATS, Config
from golden.boxes import Axis, backward_axis, forward_axis
from golden.shape import LayerShape

BARRIER = 22  # cycles around the rows' work: FW, BW
UPDATE_BARRIER = 45  # ... WU
LOADING = 30  # ... around a load
PLANNING = 45  # ... around a plan
DRAINING = 14  # ... around a drain
KEYS = 0.03  # units are sorted by numbers with few digits: what a row is off by, in units
UNEVEN = (1.0, 0.4, 0.15)  # of the spread of a unit, how much is left where a row has 1, 2, 3 of them
CANDIDATES = 4  # regions that are tried with every number of blocks


@dataclass(frozen=True)
class Tile:
    """What a working set takes.

    Attributes:
        images, rows, cols: positions (FW, WU: outputs; BW: inputs).
        units: most units (FW, WU: records; BW: lane groups).
        cap: most units of a row.
        records: BW: records of which every row holds a copy.
        segments: BW: regions side by side.
        wide: BW: 1 if a unit is two lane groups.
        cycles: estimate for the layer.
    """

    images: int
    rows: int
    cols: int
    units: int
    cap: int
    records: int = 0
    segments: int = 1
    wide: int = 0
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


@lru_cache(maxsize=1 << 10)
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
            f"a layer of {shape.inputs} to {shape.outputs} channels and {shape.kernel[0]}x{shape.kernel[1]} taps does"
            f" not fit: a gather bank holds {cfg.gather_depth} operands, a row {cfg.psum_depth} partial sums,"
            f" {cfg.value_beats} value beats and {cfg.gradients} gradients"
        )
    return best


def pieces(cfg: Config, count: int, most: int, shared: bool = True) -> list[tuple[int, int]]:
    """Split `count` records into (first, number) of at most `most`, each beginning at a beat of channels.

    Where records are `shared` out among the rows (FW, WU), a piece is whole rounds of the rows.

    Raises:
        ValueError: `most` records are fewer than those of a beat.
    """
    align = max(1, cfg.bus_elements // cfg.block_k)
    if most < count and most < align:
        raise ValueError(f"{most} records at a time are fewer than the {align} of one beat of channels")
    parts = -(-count // most)
    size = -(-(-(-count // parts)) // align) * align
    if parts > 1 and shared:  # a last, short round idles rows only once
        each = max(align, cfg.rows)
        size = max(size, most // each * each)
    size = min(size, most // align * align or most)
    return [(a, min(size, count - a)) for a in range(0, count, size)]


def _sizes(cfg: Config, count: int, most: int, shared: bool = True) -> dict[int, int]:
    """How many pieces there are of each size."""
    out: dict[int, int] = {}
    for _, size in pieces(cfg, count, most, shared):
        out[size] = out.get(size, 0) + 1
    return out


def _with_blocks(cfg: Config, shape: LayerShape, room: Room, blocks: int, backward: bool) -> Tiles | None:
    """The cheapest tiles with regions of so many blocks: FW and BW work within the regions that WU writes."""
    updates: dict[int, Tile] = {}
    for tile in _tiles(cfg, shape, room, blocks, _update):
        if tile.units not in updates or tile.cycles < updates[tile.units].cycles:
            updates[tile.units] = tile
    best = None
    for update in sorted(updates.values(), key=lambda tile: tile.cycles)[:CANDIDATES]:
        regions = _sizes(cfg, -(-shape.outputs // cfg.block_k), update.units)
        forward = min(_tiles(cfg, shape, room, blocks, _forward, regions), key=_cycles, default=None)
        if forward is None:
            continue
        back = None
        if backward:
            price = _forward if shape.depthwise else _backward
            back = min(_tiles(cfg, shape, room, blocks, price, regions, back=True), key=_cycles, default=None)
            if back is None:
                continue
        tiles = Tiles(blocks, forward, back, update)
        if best is None or tiles.cycles < best.cycles:
            best = tiles
    return best


def _cycles(tile: Tile) -> float:
    return tile.cycles


@dataclass(frozen=True)
class Cut:
    """A map cut in tiles, and what a working set takes of the channels.

    Attributes:
        images, rows, cols: of a tile.
        kinds: (how many, positions, positions of the patch, positions a tap visits on average) of tiles that are alike.
        blocks: of a region.
        regions: sizes of the regions in records, and how many there are.
        back: the map is the layer's input.
    """

    images: int
    rows: int
    cols: int
    kinds: tuple[tuple[int, int, int, float], ...]
    blocks: int
    regions: dict[int, int]
    back: bool

    @property
    def positions(self) -> int:
        """Partial sums of a channel: a power of two."""
        return 1 << (self.images * self.rows * self.cols - 1).bit_length()

    @property
    def area(self) -> int:
        """Positions of the largest patch."""
        return max(area for _, _, area, _ in self.kinds)

    @property
    def tiles(self) -> int:
        """Tiles of all sub-batches."""
        return sum(n for n, _, _, _ in self.kinds)


def _tiles(cfg, shape, room, blocks, price, regions=None, back=False):  # type: ignore[no-untyped-def]
    """Every tile that fits, priced by one of the functions below."""
    height, width = (shape.height, shape.width) if back else (shape.out_height, shape.out_width)
    align = shape.stride if back else 1
    for rows in _splits(height, align):
        for cols in _splits(width, align):
            whole = (rows, cols) == (height, width)
            for images in range(1, room.images + 1) if whole else (1,):
                if images * rows * cols <= cfg.psum_depth * 2:
                    kinds = _kinds(shape, back, room.images, images, rows, cols)
                    tile = price(cfg, shape, room, Cut(images, rows, cols, kinds, blocks, regions or {}, back))
                    if tile:
                        yield tile


@lru_cache(maxsize=1 << 10)
def _splits(size: int, align: int) -> list[int]:
    """Sizes of about equal pieces of an axis, each but the last a multiple of `align`."""
    sizes = {size}
    for parts in range(2, size + 1):
        sizes.add(min(size, -(-(-(-size // parts)) // align) * align))
    return sorted(sizes, reverse=True)


@lru_cache(maxsize=1 << 14)
def _axis(
    back: bool, size: int, out: int, kernel: int, stride: int, padding: int, count: int, whole: bool
) -> tuple[tuple[int, int, int, int], ...]:
    """An axis cut in tiles of `count`: (how many, positions, patch, visits of all taps) of those alike."""
    limit = size if back else out
    found: dict[tuple[int, int, int], int] = {}
    for first in range(0, limit, count):
        part = min(count, limit - first)
        given = kernel, stride, padding, first, part, whole
        axis: Axis = backward_axis(out, *given) if back else forward_axis(size, *given)
        key = part, axis.count, axis.visits
        found[key] = found.get(key, 0) + 1
    return tuple((n, *key) for key, n in found.items())


@lru_cache(maxsize=1 << 14)
def _kinds(
    shape: LayerShape, back: bool, total: int, images: int, rows: int, cols: int
) -> tuple[tuple[int, int, int, float], ...]:
    """See `Cut`."""
    axes = [
        _axis(back, size, out, kernel, shape.stride, shape.padding, count, images > 1)
        for size, out, kernel, count in (
            (shape.height, shape.out_height, shape.kernel[0], rows),
            (shape.width, shape.out_width, shape.kernel[1], cols),
        )
    ]
    batches = [(total // images, images), (1, total % images)] if total % images else [(total // images, images)]
    return tuple(
        (n * nr * nc, m * pr * pc, m * ar * ac, m * vr * vc / shape.taps)
        for n, m in batches
        for nr, pr, ar, vr in axes[0]
        for nc, pc, ac, vc in axes[1]
    )


def _record(cfg: Config, shape: LayerShape, room: Room, blocks: int) -> tuple[int, int, float]:
    """Weights, mask beats and value beats of a record, the latter as the mean over several records."""
    weights = cfg.block_k * min(blocks * cfg.block_c, shape.channels) * shape.taps
    words = blocks * shape.taps
    if not cfg.sparse:
        return weights, 0, -(-cfg.dense_words(words) * cfg.mask_bits // cfg.values_per_beat)
    masks = -(-words // cfg.masks_per_beat)
    if room.stored >= 1:
        return weights, masks, -(-weights // cfg.values_per_beat)
    return weights, masks, weights * room.stored / cfg.values_per_beat + 0.55


def _rows_hold(cfg: Config, room: int, masks: int, values: float) -> int:
    """Records of `masks` mask and `values` value beats in a row that has room for `room` of the latter."""
    return int(min(room // values, cfg.mask_beats // masks if masks else inf))


def _slowest(cfg: Config, visits: float, deviation: float, per_row: int, balanced: bool) -> float:
    """Visits of the fullest row that has `per_row` units of so many visits, with their standard deviation."""
    if not cfg.sparse:
        return per_row * visits
    spread = deviation * (0.25 + 0.38 * log2(cfg.rows))  # the largest of so many normal numbers
    if not balanced or per_row == 1:
        return per_row * visits + spread * sqrt(per_row)
    left = UNEVEN[per_row - 1] if per_row <= len(UNEVEN) else 0.0
    return per_row * visits + max(spread * left, KEYS * visits)


def _forward(cfg: Config, shape: LayerShape, room: Room, cut: Cut) -> Tile | None:
    """FW, and BW of a depthwise layer."""
    _, masks, values = _record(cfg, shape, room, cut.blocks)
    cap = min(cfg.psum_depth // (cfg.block_k * cut.positions), _rows_hold(cfg, cfg.rounded_beats, masks, values))
    channels = min(cut.blocks * cfg.block_c, shape.channels)
    if shape.depthwise:
        cap = min(cap, cfg.gather_depth // (cut.area * cfg.block_k * cfg.rows))
    elif cut.area * _whole(channels, cfg.bus_elements) > cfg.gather_depth:
        return None
    records = -(-shape.outputs // cfg.block_k)
    units = min(cap * cfg.rows, records, cfg.units)
    if cap < 1 or units < min(cfg.bus_elements // cfg.block_k or 1, records):
        return None
    segments = ceil(shape.channels / (cut.blocks * cfg.block_c))
    mean = cfg.block_k * shape.channels * shape.taps / segments * room.density
    total = 0.0
    for region, times in cut.regions.items():
        for size, number in _sizes(cfg, region, units).items():
            slowest = _slowest(cfg, mean, sqrt(mean * (1 - room.density)), -(-size // cfg.rows), segments == 1)
            loaded = size * cfg.block_k if shape.depthwise else shape.channels / segments
            runs = ceil(loaded / cfg.bus_elements) + 1
            weights_in = size * (masks + values)
            out = _whole(min(size * cfg.block_k, shape.outputs), cfg.bus_elements)
            piece = max(0.0, weights_in - slowest * cut.kinds[0][3]) if segments == 1 else 0.0  # once, for all tiles
            for n, positions, area, visited in cut.kinds:
                load = area * runs + (weights_in if segments > 1 else 0) + LOADING
                most = max(slowest * visited + BARRIER, load)
                piece += n * ((segments - 1) * most + max(most, positions * out + DRAINING))
            total += times * number * piece
    return Tile(cut.images, cut.rows, cut.cols, units, cap, cycles=total)


def _backward(cfg: Config, shape: LayerShape, room: Room, cut: Cut) -> Tile | None:
    """BW: every row holds all records of a window, and lane groups of its own."""
    blocks = cut.blocks
    _, masks, values = _record(cfg, shape, room, blocks)
    all_segments = -(-shape.inputs // (blocks * cfg.block_c))
    best = None
    for wide in range(min(2, cfg.groups_per_word)):
        lanes = cfg.lane_group << wide
        cap = cfg.psum_depth // (lanes * cut.positions)
        each = min(blocks * cfg.block_c // lanes, -(-shape.inputs // lanes))
        segments = min(all_segments, cap * cfg.rows // each, cfg.units // each)
        while segments >= 1:
            tile = _backward_window(cfg, shape, room, cut, segments, wide, cap, masks, values)
            if tile and (best is None or tile.cycles < best.cycles):
                best = tile
            segments //= 2
    return best


def _backward_window(
    cfg: Config,
    shape: LayerShape,
    room: Room,
    cut: Cut,
    segments: int,
    wide: int,
    cap: int,
    masks: int,
    values: float,
) -> Tile | None:
    k_records = -(-shape.outputs // cfg.block_k)
    records = min(
        _rows_hold(cfg, cfg.rounded_beats, segments * masks, segments * values),
        cfg.gather_depth // (cut.area * cfg.block_k),
        k_records,
    )
    if records < k_records:
        align = max(1, cfg.bus_elements // cfg.block_k)
        records = records // align * align
    if records < 1 or cut.area * _whole(records * cfg.block_k, cfg.bus_elements) > cfg.gather_depth:
        return None
    lanes = cfg.lane_group << wide
    groups = -(-shape.inputs // lanes)
    each = min(cut.blocks * cfg.block_c // lanes, groups)
    passes = [min(segments * each, groups - first) for first in range(0, groups, segments * each)]
    windows: dict[tuple[int, int], int] = {}
    for region, times in cut.regions.items():
        for size, number in _sizes(cfg, region, records, shared=False).items():
            windows[size, region] = windows.get((size, region), 0) + times * number
    alone = sum(windows.values()) == 1
    total = 0.0
    for units in passes:
        per_row = -(-units // cfg.rows)
        drain = min(units * lanes, shape.inputs)
        for n, positions, area, visited in cut.kinds:
            cycles = 0.0
            for (size, region), number in windows.items():
                mean = lanes * cfg.block_k * shape.taps * size * room.density
                slowest = _slowest(cfg, mean, sqrt(mean * (1 - room.density)), per_row, alone)
                idle = _not_hidden(cfg, room.density, lanes * cfg.block_k, visited) * per_row * size * shape.taps
                compute = slowest * visited + idle + BARRIER
                operands = area * (-(-size * cfg.block_k // cfg.bus_elements) + 1)
                load = operands + segments * size * (masks + values) + LOADING
                plan = segments * (1 + region + (each << wide)) + PLANNING + (units if alone else 0)
                cycles += number * max(compute, load, plan)
            last = cycles / sum(windows.values())
            total += n * (cycles + max(0.0, positions * drain + DRAINING - last))
    units = min(segments * each, cap * cfg.rows)
    return Tile(cut.images, cut.rows, cut.cols, units, cap, records, segments, wide, total)


def _not_hidden(cfg: Config, density: float, weights: int, visited: float) -> float:
    """Cycles a word that a row spends on words without visits, see `golden.walk.looked_ahead`.

    A run of them is as long as chance makes it, and what is left of it behind a word of c cycles is, on average,
    q ** c for every word with visits over the share of those, q the chance of a word without.
    """
    if not cfg.sparse or density >= 1:
        return 0.0
    none: float = (1 - density) ** weights
    return (1 - density + density * none**visited) ** weights - none


def wide_units(cfg: Config, inputs: int, records: int, density: float, positions: int) -> int:
    """BW of a fully connected layer: 1 if units of two lane groups are as fast as those of one, or faster.

    They are half as many to plan and leave fewer words without visits, but are harder to even out.
    """
    if cfg.groups_per_word < 2 or (cfg.lane_group << 1) * positions > cfg.psum_depth:
        return 0
    cycles = []
    for wide in range(2):
        weights, per_row = (cfg.lane_group << wide) * cfg.block_k, -(-inputs // (cfg.lane_group << wide) // cfg.rows)
        mean = weights * records * density
        slowest = _slowest(cfg, mean, sqrt(mean * (1 - density)), per_row, True) * positions
        cycles.append(slowest + _not_hidden(cfg, density, weights, positions) * per_row * records)
    return int(cycles[1] <= cycles[0])


def _update(cfg: Config, shape: LayerShape, room: Room, cut: Cut) -> Tile | None:
    """WU."""
    weights, masks, values = _record(cfg, shape, room, cut.blocks)
    channels = min(cut.blocks * cfg.block_c, shape.channels)
    cap = min(
        cfg.psum_depth * cfg.stationary_pack // (cfg.block_k * cut.positions),
        _rows_hold(cfg, cfg.value_beats, masks, values),
        int(cfg.gradients // (weights * room.seen_most)) if cut.tiles > 1 else cfg.value_beats,
    )
    if shape.depthwise:
        cap = min(cap, cfg.gather_depth // (cut.area * cfg.block_k * cfg.rows))
    elif cut.area * _whole(channels, cfg.bus_elements) > cfg.gather_depth:
        return None
    segments = ceil(shape.channels / (cut.blocks * cfg.block_c))
    headers = PLAN_BEATS // segments * cfg.words_per_beat - 1 - cut.blocks * cfg.groups_per_word
    records = -(-shape.outputs // cfg.block_k)
    units = min(cap * cfg.rows, records, cfg.units, headers)
    if cap < 1 or units < min(cfg.bus_elements // cfg.block_k or 1, records):
        return None
    stationary = cfg.bus_elements // cfg.stationary_pack
    words = cut.blocks * shape.taps
    share = min(1.0, shape.channels / (segments * cut.blocks * cfg.block_c))
    mean = cfg.block_k * shape.channels * shape.taps / segments * room.seen
    chance = room.explored * (1 - room.explored) * words * share  # of the words that are explored
    deviation = sqrt(mean * (1 - room.seen) + chance * (cfg.mask_bits * (1 - room.density)) ** 2)
    total = 0.0
    for size, number in _sizes(cfg, records, units).items():
        slowest = _slowest(cfg, mean, deviation, -(-size // cfg.rows), True)
        loaded = size * cfg.block_k if shape.depthwise else shape.channels / segments
        gathered = ceil(loaded / cfg.bus_elements) + 1
        fixed = -(-size * cfg.block_k // cfg.bus_elements) * stationary + 1
        piece = last = 0.0
        for n, positions, area, visited in cut.kinds:
            last = max(slowest * visited + UPDATE_BARRIER, area * gathered + positions * fixed + LOADING)
            piece += n * last
        drain = (
            size * (max(masks + values, words / min(4, cfg.masks_per_beat) if masks else 0) + 2)
            + 3 * cfg.words_per_beat
        )
        in_and_out = max(size * (masks + values) + PLANNING, drain)
        total += number * segments * (piece + max(0.0, in_and_out - last))
    return Tile(cut.images, cut.rows, cut.cols, units, cap, cycles=total)


def _whole(channels: int, elements: int) -> int:
    return -(-channels // elements) * elements
