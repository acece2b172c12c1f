"""The host's compiler: a network becomes two programs a step.

The forward program ends with the logits in memory; the host computes the gradient of the softmax
cross-entropy and writes it; the backward program does BW and WU of all layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from arch.command import Phase, Policy
from golden import tile_search
from golden.boxes import POINT, box_fields
from golden.layout import Layer, Layout
from golden.map_program import backward_map, forward_map, update_map
from golden.waits import Command, ahead, with_waits


@dataclass
class Network(Layout):
    """A network laid out in memory, and its programs. Arguments and errors as `Layout`."""

    _programs: dict[tuple, list[Command]] = field(default_factory=dict)

    def forward(
        self, generation: int, dense_visits: bool = False, fetched: bool = False, followed: bool = False
    ) -> list[Command]:
        """Commands of the forward program.

        Args:
            generation: of the weights.
            dense_visits: regenerated weights are not zero yet.
            fetched: the program before ended with what this one begins with.
            followed: the backward program follows: this one ends with what that begins with.
        """
        return self._cached(("forward", generation, dense_visits, fetched, followed))

    def backward(
        self, generation: int, dense_visits: bool = False, prefetch: bool = False, fetched: bool = False
    ) -> list[Command]:
        """Commands of the backward program: BW from the last layer to the second, then all WU.

        With `prefetch` it ends by planning and loading what the next step's forward program begins with, while the
        last weight updates are computed and drained. The first layer is updated first, so that the others hide its
        drain. `fetched`: the forward program ended with what this one begins with.
        """
        return self._cached(("backward", generation, dense_visits, prefetch, fetched))

    def _cached(self, key: tuple) -> list[Command]:
        if key not in self._programs:
            kind, generation, dense_visits, *options = key
            self.layers[0].x = self.inputs[generation]
            make = self._make_forward if kind == "forward" else self._make_backward
            self._programs[key] = with_waits(make(generation, dense_visits, *options))
        return self._programs[key]

    def _make_forward(self, generation: int, dense_visits: bool, fetched: bool, followed: bool) -> list[Command]:
        program = [c for layer in self.layers for c in self._forward_of(layer, generation, dense_visits)]
        if fetched:
            program[0] = program[0] | dict(plan=0, load_w=0, load_x=0)
        if followed:
            first = self._make_backward(generation, dense_visits, prefetch=False, fetched=False)[0]
            program.append(ahead(first, later=("x", "aux")))
        return program

    def _make_backward(self, generation: int, dense_visits: bool, prefetch: bool, fetched: bool) -> list[Command]:
        program: list[Command] = []
        for layer in reversed(self.layers):
            if layer.dx is not None:
                backward = backward_map if layer.tiles else Network._backward_layer
                program += backward(self, layer, generation, dense_visits)
        first = len(program)
        for layer in self.layers:
            program += self._update_of(layer, generation)
        if fetched:
            program[0] = program[0] | dict(plan=0, load_w=0)
        if prefetch:
            # Headers are read three slots before a command computes: four commands after the region's last drain.
            behind = len(program) - first - len(self._update_of(self.layers[0], generation))
            program += [dict(phase=int(Phase.NOP))] * max(0, 3 - behind)
            self.layers[0].x = self.inputs[1 - generation]
            program.append(ahead(self._forward_of(self.layers[0], 1 - generation, dense_visits)[0]))
            self.layers[0].x = self.inputs[generation]
        program[-1] = program[-1] | dict(commit=1)
        return program

    def _forward_of(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        forward = forward_map if layer.tiles else Network._forward_layer
        return forward(self, layer, generation, dense_visits)

    def _update_of(self, layer: Layer, generation: int) -> list[Command]:
        update = update_map if layer.tiles else Network._update_layer
        return update(self, layer, generation)

    def weights_of(self, layer: Layer, generation: int, tile: int) -> Command:
        """The fields that describe the regions of one output tile."""
        stores = layer.stores[generation][tile]
        g = stores[0].region.geometry
        stride = stores[1].address - stores[0].address if len(stores) > 1 else 0
        return dict(
            w_addr=stores[0].address,
            w_stride=stride,
            segments=len(stores),
            header_beats=g.header_beats,
            block_rows=g.records,
            words=g.words,
            mask_beats=g.mask_beats,
            groups=g.groups,
            c0=0,
            c_step=g.blocks * self.cfg.block_c,
            k0=g.k0,
            k_end=g.k_end,
            c_end=layer.shape.channels,
            segment=0,
            load_segments=len(stores),
            record0=0,
            records=g.records,
            salt=layer.salt,
            scale=0 if self.dense else layer.scale,
            depthwise=int(layer.shape.depthwise),
            bias=int(layer.shape.bias_tap >= 0),
            bias_tap=max(layer.shape.bias_tap, 0),
            log2_blocks=(g.blocks - 1).bit_length() if g.taps > 1 else 8,
            log2_cycles=0 if layer.tiles else self.log2_u,
        )

    def _forward_layer(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        cfg, e, program = self.cfg, self.cfg.bus_elements, []
        x_run = layer.x.run
        for tile in range(len(layer.stores[0])):
            base = self.weights_of(layer, generation, tile)
            g = layer.geometries[tile][0]
            whole = x_run * e <= cfg.gather_depth and self.tiling.fw_by_position and self.tiling.density < 1
            whole = whole and not dense_visits
            spans = base["segments"] if whole else 1
            u = 1 if whole else self.positions
            per_row = min(self._per_row(g.words, spans), self._cap(Phase.FW, u))
            if per_row < 1:
                raise ValueError(f"layer {layer.index}: a row cannot hold one unit of {spans} segments")
            for record0, records in self._ranges(g.records, self._units(per_row)):
                k0 = g.k0 + record0 * cfg.block_k
                channels = min(records * cfg.block_k, g.k_end - k0)
                is_last = k0 + channels == layer.outputs
                ones = int(layer.ones and is_last)
                common = base | dict(
                    phase=int(Phase.FW),
                    log2_lanes=cfg.block_k.bit_length() - 1,
                    units=records,
                    cap=per_row,
                    policy=int(Policy.NONE if dense_visits else self.tiling.policy),
                    out_run=-(-(channels + ones) // e),
                    out_channels=channels,
                    out_stride=layer.y.run,
                    x_tensor=layer.x_id,
                    out_tensor=layer.y_id,
                    relu=int(layer.relu),
                    ones=ones,
                    record0=record0,
                    records=records,
                    x_stride=x_run,
                )
                address = layer.y.address + k0 // e
                if k0 % e:
                    raise ValueError(f"output tile starts at channel {k0}, not at a beat of {e}")
                if whole:
                    for p in range(0, self.positions, u):
                        program.append(
                            common
                            | dict(
                                plan=int(p == 0),
                                load_w=int(p == 0),
                                load_x=1,
                                drain=1,
                                x_addr=layer.x.address + p * x_run,
                                x_run=x_run,
                                **_points(u, x_run * e),
                                out_addr=address + p * common["out_stride"],
                            )
                        )
                else:
                    for s in range(base["segments"]):
                        run = min(base["c_step"] // e, x_run - s * base["c_step"] // e)
                        program.append(
                            common
                            | dict(
                                plan=int(s == 0),
                                load_w=1,
                                load_x=1,
                                drain=int(s == base["segments"] - 1),
                                segment=s,
                                load_segments=1,
                                x_addr=layer.x.address + s * base["c_step"] // e,
                                x_run=run,
                                **_points(u, run * e),
                                out_addr=address,
                            )
                        )
        return program

    def _backward_layer(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        cfg, e, program = self.cfg, self.cfg.bus_elements, []
        assert layer.dx is not None
        u, dy_run = self.positions, layer.dy.run
        for s in range(len(layer.geometries[0])):
            work: list[Command] = []
            for tile in range(len(layer.stores[0])):
                base = self.weights_of(layer, generation, tile)
                g = layer.geometries[tile][s]
                inputs = min(g.c_end, layer.inputs) - g.c0
                if inputs <= 0:
                    continue
                wide = tile_search.wide_units(cfg, inputs, g.records, self.tiling.density, u)
                cap, units = self._cap(Phase.BW) >> wide, -(-inputs // (cfg.lane_group << wide))
                if units > cap * cfg.rows:
                    raise ValueError(f"layer {layer.index}: {units} units, {cfg.rows} rows of {cap} hold fewer")
                most = min(self._image_records(g, 1), cfg.gather_depth // (u * cfg.block_k))
                for record0, records in self._ranges(g.records, most, shared=False):
                    k0 = g.k0 + record0 * cfg.block_k
                    if k0 % e:
                        raise ValueError(f"gradient tile starts at channel {k0}, not at a beat of {e}")
                    channels = min(records * cfg.block_k, g.k_end - k0)
                    run = -(-channels // e)
                    work.append(
                        base
                        | dict(
                            phase=int(Phase.BW),
                            plan=1,
                            load_x=1,
                            load_w=1,
                            segments=1,
                            w_addr=layer.stores[generation][tile][s].address,
                            c0=g.c0,
                            load_segments=1,
                            log2_lanes=cfg.lane_group.bit_length() - 1 + wide,
                            wide=wide,
                            units=units,
                            cap=cap,
                            policy=int(Policy.NONE if dense_visits else self.tiling.policy),
                            c_end=layer.inputs,
                            x_addr=layer.dy.address + k0 // e,
                            x_run=run,
                            **_points(u, run * e),
                            x_stride=dy_run,
                            x_tensor=layer.dy_id,
                            record0=record0,
                            records=records,
                        )
                    )
            if not work:
                continue
            if units > self._units(cap):
                work = [c | dict(policy=int(Policy.NONE)) for c in work]
            # Sums that wait in their rows want the lane groups to stay where the first plan put them.
            work = [c | dict(keep=int(i > 0)) for i, c in enumerate(work)]
            run = -(-inputs // e)
            stride = layer.dx.run
            work[-1] |= dict(
                drain=1,
                gate=int(layer.gated),
                load_aux=int(layer.gated),
                aux_addr=layer.x.address + g.c0 // e,
                aux_run=run,
                aux_runs=u,
                aux_cols=u,
                aux_stride=layer.x.run,
                out_addr=layer.dx.address + g.c0 // e,
                out_run=run,
                out_channels=inputs,
                out_stride=stride,
                out_tensor=layer.dx_id,
            )
            program += work
        return program

    def _update_layer(self, layer: Layer, generation: int) -> list[Command]:
        cfg, e, program = self.cfg, self.cfg.bus_elements, []
        u, x_run, dy_run = self.positions, layer.x.run, layer.dy.run
        for s in range(len(layer.geometries[0])):
            for tile in range(len(layer.stores[0])):
                base = self.weights_of(layer, generation, tile)
                g = layer.geometries[tile][s]
                if g.k0 % e:
                    raise ValueError(f"gradient tile starts at channel {g.k0}, not at a beat of {e}")
                run = min(base["c_step"] // e, x_run - g.c0 // e)
                target = layer.stores[1 - generation][tile][s]
                channels = g.k_end - g.k0
                program.append(
                    base
                    | dict(
                        phase=int(Phase.WU),
                        plan=1,
                        load_x=int(tile == 0),
                        load_aux=1,
                        load_w=1,
                        drain=1,
                        segments=1,
                        load_segments=1,
                        w_addr=layer.stores[generation][tile][s].address,
                        c0=g.c0,
                        c_end=g.c_end,
                        log2_lanes=cfg.block_k.bit_length() - 1,
                        units=g.records,
                        cap=min(self._cap(Phase.WU), self._room(g)),
                        policy=int(self.tiling.policy),
                        x_addr=layer.x.address + g.c0 // e,
                        x_run=run,
                        **_points(u, run * e),
                        x_stride=x_run,
                        aux_addr=layer.dy.address + g.k0 // e,
                        aux_run=-(-channels // e),
                        aux_runs=u,
                        aux_cols=u,
                        aux_stride=dy_run,
                        out_channels=channels,
                        out_addr=target.address,
                        limit=target.limit,
                        x_tensor=layer.x_id,
                        aux_tensor=layer.dy_id,
                    )
                )
        return program


def _points(images: int, gather_stride: int) -> Command:
    """Boxes and runs of a fully connected layer: one tap, one position a sub-batch."""
    box = box_fields(POINT, POINT, images, (1, 1), gather_stride)
    return box | dict(x_runs=images, x_cols=images, out_cols=images)
