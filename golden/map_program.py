"""Commands of a convolution: output channels, positions and input channels cut in tiles, in the order of each phase.

A working set takes a tile of positions. What it loads of the other map is the patch that the tile's positions meet
(`golden.boxes`); the sums of a tile stay in their rows while the input channels (BW: the output channels) pass by, and
in WU the gradients of a region stay in the rows while the tiles pass by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch.command import Phase, Policy
from golden.boxes import Axis, backward_axis, box_fields, forward_axis
from golden.layout import Layer
from golden.memory import Tensor
from golden.shape import LayerShape
from golden.tile_search import Tile
from golden.waits import Command

if TYPE_CHECKING:
    from golden.program import Network


@dataclass(frozen=True)
class Place:
    """A tile of a map: first and number of its sub-batches, rows and columns."""

    image: int
    images: int
    row: int
    rows: int
    col: int
    cols: int

    @property
    def positions(self) -> int:
        """Positions of the tile."""
        return self.images * self.rows * self.cols


def places(tile: Tile, images: int, height: int, width: int) -> Iterator[Place]:
    """The tiles of a map, sub-batch by sub-batch, row by row."""
    for image in range(0, images, tile.images):
        for row in range(0, height, tile.rows):
            for col in range(0, width, tile.cols):
                yield Place(
                    image,
                    min(tile.images, images - image),
                    row,
                    min(tile.rows, height - row),
                    col,
                    min(tile.cols, width - col),
                )


def forward_map(network: Network, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
    """FW: for ranges of output channels, for tiles of outputs, for tiles of input channels."""
    shape = layer.shape
    assert layer.tiles is not None
    program: list[Command] = []
    for common, k0 in _ranges(network, layer, generation, dense_visits, layer.tiles.forward):
        channels = common["out_channels"]
        ones = int(layer.ones and k0 + channels == shape.outputs)
        target = dict(
            x_tensor=layer.x_id,
            out_tensor=layer.y_id,
            relu=int(layer.relu),
            ones=ones,
            out_run=_beats(network, channels + ones),
        )
        for place in places(layer.tiles.forward, network.positions, shape.out_height, shape.out_width):
            rows, cols = _patch(shape, place, back=False)
            out = _tile(network, layer.y, "out", place, shape.out_height, shape.out_width, k0)
            program += _walked(network, layer, common | target | out, place, (rows, cols), layer.x, k0)
    return program


def backward_map(network: Network, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
    """BW: for ranges of input channels, for tiles of inputs, for ranges of output channels."""
    if layer.shape.depthwise:
        return _backward_depthwise(network, layer, generation, dense_visits)
    assert layer.tiles is not None and layer.tiles.backward is not None and layer.dx is not None
    cfg, shape, tile, e = network.cfg, layer.shape, layer.tiles.backward, network.cfg.bus_elements
    program: list[Command] = []
    step = layer.tiles.blocks * cfg.block_c
    for c0 in range(0, shape.inputs, tile.segments * step):
        inputs = min(tile.segments * step, shape.inputs - c0)
        segments = -(-inputs // step)
        for place in places(tile, network.positions, shape.height, shape.width):
            rows, cols = _patch(shape, place, back=True)
            work: list[Command] = []
            for region in range(len(layer.stores[0])):
                base = network.weights_of(layer, generation, region)
                g = layer.geometries[region][0]
                for record0, records in network._ranges(g.records, tile.records, shared=False):
                    k0 = g.k0 + record0 * cfg.block_k
                    channels = min(records * cfg.block_k, g.k_end - k0)
                    run = _beats(network, channels)
                    work.append(
                        base
                        | dict(
                            phase=int(Phase.BW),
                            plan=1,
                            keep=int(bool(work)),
                            load_x=1,
                            load_w=1,
                            segments=segments,
                            load_segments=segments,
                            w_addr=layer.stores[generation][region][c0 // step].address,
                            c0=c0,
                            c_end=c0 + inputs,
                            bias=0,
                            log2_lanes=cfg.lane_group.bit_length() - 1 + tile.wide,
                            wide=tile.wide,
                            units=-(-inputs // (cfg.lane_group << tile.wide)),
                            cap=tile.cap,
                            policy=int(Policy.NONE if dense_visits else network.tiling.policy),
                            x_tensor=layer.dy_id,
                            record0=record0,
                            records=records,
                        )
                        | _gathered(network, layer.dy, rows, cols, place, shape.out_height, shape.out_width, k0, run)
                        | _boxes(rows, cols, place, run * e)
                    )
            work[-1] |= _gated(network, layer, place, c0, inputs)
            program += work
    return program


def update_map(network: Network, layer: Layer, generation: int) -> list[Command]:
    """WU: for regions, for tiles of outputs; the gradients of a region wait in the rows for its last tile."""
    assert layer.tiles is not None
    cfg, shape, tile, e = network.cfg, layer.shape, layer.tiles.update, network.cfg.bus_elements
    program: list[Command] = []
    tiles = list(places(tile, network.positions, shape.out_height, shape.out_width))
    for s in range(len(layer.geometries[0])):
        for region in range(len(layer.stores[0])):
            base = network.weights_of(layer, generation, region)
            g = layer.geometries[region][s]
            target = layer.stores[1 - generation][region][s]
            channels = g.k_end - g.k0
            first = g.k0 if shape.depthwise else g.c0
            run = _beats(network, channels if shape.depthwise else min(g.c_end, shape.channels) - g.c0)
            for i, place in enumerate(tiles):
                rows, cols = _patch(shape, place, back=False)
                last = i == len(tiles) - 1
                program.append(
                    base
                    | dict(
                        phase=int(Phase.WU),
                        plan=int(i == 0),
                        load_x=int(len(tiles) > 1 or region == 0 or shape.depthwise),
                        load_aux=1,
                        load_w=int(i == 0),
                        drain=int(last),
                        sum_add=int(i > 0),
                        sum_store=int(not last),
                        segments=1,
                        load_segments=1,
                        w_addr=layer.stores[generation][region][s].address,
                        c0=g.c0,
                        c_end=g.c_end,
                        bias=int(g.bias_tap >= 0),
                        log2_lanes=cfg.block_k.bit_length() - 1,
                        units=g.records,
                        cap=min(tile.cap, network._room(g)),
                        policy=int(network.tiling.policy),
                        aux_run=_beats(network, channels),
                        out_channels=channels,
                        out_addr=target.address,
                        limit=target.limit,
                        x_tensor=layer.x_id,
                        aux_tensor=layer.dy_id,
                    )
                    | _tile(network, layer.dy, "aux", place, shape.out_height, shape.out_width, g.k0)
                    | _gathered(network, layer.x, rows, cols, place, shape.height, shape.width, first, run)
                    | _boxes(rows, cols, place, run * e)
                )
    return program


def _backward_depthwise(network: Network, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
    """BW of a depthwise layer: rows own channels as in FW, and walk the filters the other way."""
    assert layer.tiles is not None and layer.tiles.backward is not None and layer.dx is not None
    shape = layer.shape
    program: list[Command] = []
    for common, k0 in _ranges(network, layer, generation, dense_visits, layer.tiles.backward):
        for place in places(layer.tiles.backward, network.positions, shape.height, shape.width):
            target = dict(x_tensor=layer.dy_id, gradient=1) | _gated(network, layer, place, k0, common["out_channels"])
            axes = _patch(shape, place, back=True)
            program += _walked(network, layer, common | target, place, axes, layer.dy, k0, back=True)
    return program


def _ranges(
    network: Network, layer: Layer, generation: int, dense_visits: bool, tile: Tile
) -> Iterator[tuple[Command, int]]:
    """Working sets that walk records: their common fields, and the first output channel of each."""
    cfg = network.cfg
    for region in range(len(layer.stores[0])):
        base = network.weights_of(layer, generation, region)
        g = layer.geometries[region][0]
        for record0, records in network._ranges(g.records, tile.units):
            k0 = g.k0 + record0 * cfg.block_k
            if k0 % cfg.bus_elements:
                raise ValueError(f"output tile starts at channel {k0}, not at a beat of {cfg.bus_elements}")
            channels = min(records * cfg.block_k, g.k_end - k0)
            yield (
                base
                | dict(
                    phase=int(Phase.FW),
                    log2_lanes=cfg.block_k.bit_length() - 1,
                    units=records,
                    cap=tile.cap,
                    policy=int(Policy.NONE if dense_visits else network.tiling.policy),
                    out_channels=channels,
                    record0=record0,
                    records=records,
                    plan=1,
                ),
                k0,
            )


def _walked(
    network: Network,
    layer: Layer,
    common: Command,
    place: Place,
    axes: tuple[Axis, Axis],
    source: Tensor,
    k0: int,
    back: bool = False,
) -> list[Command]:
    """The working sets of one tile that walk records: one a tile of input channels."""
    shape, e, out = layer.shape, network.cfg.bus_elements, []
    height, width = (shape.out_height, shape.out_width) if back else (shape.height, shape.width)
    first = (place.image, place.row, place.col) == (0, 0, 0)
    segments = common["segments"]
    for s in range(segments):
        c0 = k0 if shape.depthwise else s * common["c_step"]
        channels = common["out_channels"] if shape.depthwise else min(common["c_step"], shape.channels - c0)
        run = _beats(network, channels)
        last = s == segments - 1
        out.append(
            common
            | dict(
                plan=int(first and s == 0),
                load_w=int(first or segments > 1),
                load_x=1,
                load_aux=int(last and common.get("load_aux", 0)),
                drain=int(last),
                segment=s,
                load_segments=1,
            )
            | _gathered(network, source, *axes, place, height, width, c0, run)
            | _boxes(*axes, place, run * e)
        )
    return out


def _gated(network: Network, layer: Layer, place: Place, c0: int, channels: int) -> Command:
    """Fields of a drain of input gradients, closed where the layer's input was not positive."""
    assert layer.dx is not None
    shape, run = layer.shape, _beats(network, channels)
    return (
        dict(
            drain=1,
            gate=int(layer.gated),
            load_aux=int(layer.gated),
            aux_run=run,
            out_run=run,
            out_channels=channels,
            out_tensor=layer.dx_id,
        )
        | _tile(network, layer.x, "aux", place, shape.height, shape.width, c0)
        | _tile(network, layer.dx, "out", place, shape.height, shape.width, c0)
    )


def _patch(shape: LayerShape, place: Place, back: bool) -> tuple[Axis, Axis]:
    axes = []
    sizes = (
        (shape.height, shape.out_height, place.row, place.rows),
        (shape.width, shape.out_width, place.col, place.cols),
    )
    for kernel, (size, outputs, first, count) in zip(shape.kernel, sizes, strict=True):
        common = kernel, shape.stride, shape.padding, first, count, place.images > 1
        axes.append(backward_axis(outputs, *common) if back else forward_axis(size, *common))
    return axes[0], axes[1]


def _boxes(rows: Axis, cols: Axis, place: Place, gather_stride: int) -> Command:
    return box_fields(rows, cols, place.images, (place.rows, place.cols), gather_stride)


def _beats(network: Network, channels: int) -> int:
    return -(-channels // network.cfg.bus_elements)


def _gathered(
    network: Network, source: Tensor, rows: Axis, cols: Axis, place: Place, height: int, width: int, c0: int, run: int
) -> Command:
    """Runs of the patch of a map of height x width positions, `run` beats from channel c0 on."""
    e = network.cfg.bus_elements
    beats = source.run
    first = (place.image * height + rows.first) * width + cols.first
    return dict(
        x_addr=source.address + first * beats + c0 // e,
        x_run=min(run, beats - c0 // e),
        x_runs=place.images * rows.count * cols.count,
        x_cols=cols.count,
        x_stride=cols.step * beats,
        x_pitch=rows.step * width * beats,
    )


def _tile(network: Network, tensor: Tensor, name: str, place: Place, height: int, width: int, c0: int) -> Command:
    """Runs of a tile of a map, from channel c0 on, as operand `aux` or as what is drained (`out`)."""
    e = network.cfg.bus_elements
    beats = tensor.run
    first = (place.image * height + place.row) * width + place.col
    out = {
        f"{name}_addr": tensor.address + first * beats + c0 // e,
        f"{name}_cols": place.cols,
        f"{name}_stride": beats,
        f"{name}_pitch": width * beats,
    }
    return out | ({"aux_runs": place.positions} if name == "aux" else {})
