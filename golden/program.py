"""The host's compiler: a fully connected network becomes tensors, regions and two programs a step.

The forward program ends with the logits in memory; the host computes the gradient of the softmax
cross-entropy and writes it; the backward program does BW and WU of all layers. Weights have two
generations: a step reads one and writes the other, and the host swaps them when the step succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from arch.command import Phase, Policy
from arch.config import MAX_SEGMENTS, PLAN_BEATS, Config
from golden import regenerate
from golden.csb import Geometry, Region, update_cycles
from golden.memory import Memory, Store, Tensor

Command = dict[str, int]


@dataclass
class Layer:
    """One fully connected layer y = W x, bias as the weight of a constant-one channel.

    Attributes:
        index: number of the layer.
        outputs, inputs: channels, without the constant-one channel.
        geometries: [output tile][input tile].
        stores: [generation][output tile][input tile].
        salt, scale: of the weight regeneration.
        log2_u: log2 of the psum stride of a channel.
        x, y, dx, dy: tensors; dx is None in the first layer. Numbers are exponent-table entries.
    """

    index: int
    outputs: int
    inputs: int
    geometries: list[list[Geometry]]
    stores: list[list[list[Store]]]
    salt: int
    scale: int
    x: Tensor
    y: Tensor
    dy: Tensor
    dx: Tensor | None
    x_id: int = 0
    y_id: int = 0
    dy_id: int = 0
    dx_id: int = 0


@dataclass
class Tiling:
    """How many channels and records the working sets take; None lets the compiler choose.

    Attributes:
        density: the largest share of weights stored that buffers must hold (1 for dense mode).
        policy: load balancing; a dense build knows NONE only.
    """

    density: float = 1.0
    policy: Policy = Policy.LPT
    margin: float = 1.3
    fw_by_position: bool = True


@dataclass
class Network:
    """Memory layout and programs of a network on one configuration.

    Args:
        cfg: configuration.
        sizes: layer sizes, for example (784, 300, 100, 10).
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
    sizes: tuple[int, ...]
    batch: int
    memory: Memory
    seed: int = 1
    tiling: Tiling = field(default_factory=Tiling)
    weight_exponent: int = -14
    dense: bool = False
    layers: list[Layer] = field(default_factory=list)
    _programs: dict[tuple, list[Command]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Place all tensors and regions."""
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"a network needs at least two layer sizes, all positive, not {self.sizes}")
        if not self.cfg.sparse:
            self._check_dense()
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, not {self.batch}")
        if max(self.sizes) > 8190:
            raise ValueError(f"a layer has at most 8190 channels, not {max(self.sizes)}")
        limit = self.cfg.gather_depth // self.cfg.block_c
        if self.positions > min(limit, 255):
            raise ValueError(
                f"batch {self.batch} on {self.cfg.columns} columns takes {self.positions} "
                f"positions, a gather bank holds one block of at most {min(limit, 255)}"
            )
        u = self.positions
        self.inputs = [self.memory.tensor(u, self.sizes[0] + 1) for _ in range(2)]
        activations = [self.inputs[0], *(self.memory.tensor(u, n + 1) for n in self.sizes[1:-1])]
        self.logits = self.memory.tensor(u, self.sizes[-1])
        outputs = [*activations[1:], self.logits]
        gradients = [self.memory.tensor(u, n) for n in self.sizes[1:]]
        for i, (inputs, count) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            layer = Layer(
                i,
                count,
                inputs,
                self._tiles(count, inputs),
                [],
                regenerate.layer_salt(self.seed, i),
                regenerate.scale(he_std(inputs), self.weight_exponent),
                activations[i],
                outputs[i],
                gradients[i],
                gradients[i - 1] if i else None,
                x_id=i,
                y_id=i + 1,
                dy_id=16 + i,
                dx_id=16 + i - 1 if i else 0,
            )
            for _ in range(2):
                layer.stores.append(
                    [
                        [self.memory.store(g, self._limit(g), self._first(layer, g)) for g in row]
                        for row in layer.geometries
                    ]
                )
            self.layers.append(layer)

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

    # -- layout -----------------------------------------------------------------------------
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
        return sum(layer.outputs * (layer.inputs + 1) for layer in self.layers)

    def _record_beats(self, words: int) -> int:
        """Value beats of a record to provide for."""
        values = words * self.cfg.mask_bits * min(1.0, self.tiling.density * self.tiling.margin)
        return int(-(-values // self.cfg.values_per_beat)) + (self.tiling.density < 1)

    def _per_row(self, words: int, spans: int) -> int:
        """Records of each of `spans` segments a row may hold: many records even out their value beats."""
        values = words * self.cfg.mask_bits * min(1.0, self.tiling.density * self.tiling.margin)
        beats = values / self.cfg.values_per_beat
        mean = self._record_beats(words) if self.tiling.density >= 1 else max(1.0, beats) + 0.25
        return int(
            min(
                self.cfg.value_beats // (spans * mean),
                self.cfg.mask_beats // (spans * -(-words // self.cfg.masks_per_beat)) if self.cfg.sparse else np.inf,
            )
        )

    def _units(self, per_row: int) -> int:
        """Most units of a command whose rows take `per_row`: pairing gives every row two halves of one size."""
        halves = 2 if self.tiling.policy == Policy.PAIR and per_row > 1 else 1
        return min(per_row // halves * halves * self.cfg.rows, self.cfg.units)

    def _tiles(self, outputs: int, inputs: int) -> list[list[Geometry]]:
        """Regions [output tile][input tile]: what one weight update can hold."""
        cfg = self.cfg
        most_words = min(cfg.gather_depth // (self.positions * cfg.block_c), 255)
        words = -(-(inputs + 1) // cfg.block_c)
        tiles = -(-words // most_words)
        if tiles > MAX_SEGMENTS:
            raise ValueError(
                f"a layer of {inputs} inputs takes {tiles} input tiles at {self.positions} positions a weight,"
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
        records = -(-outputs // cfg.block_k)
        spans = self._ranges(records, min(self._units(per_row), headers))
        each = spans[0][1] * cfg.block_k
        step = words * cfg.block_c
        return [
            [
                Geometry(cfg, k, min(k + each, outputs), c, min(c + step, inputs + 1), words)
                for c in range(0, inputs + 1, step)
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
        w0 = regenerate.initial(g.k_of, g.c_of, 0, layer.salt, layer.scale, self.cfg.operand_bits)
        stored = np.flatnonzero(g.valid)
        w0 = np.where(g.c_of[stored] == layer.inputs, 0, w0[stored])
        return Region(g, stored, w0 << self.cfg.operand_bits)

    def set_first_cycles(self, period: int) -> None:
        """Enter the cycles of step 0's update in the headers of generation 0 (later ones come from WU)."""
        if self.dense:
            return
        for layer in self.layers:
            for row in layer.stores[0]:
                for store in row:
                    g = store.region.geometry
                    words = regenerate.explored(g.kb, g.cb, 0, 0, period)
                    visits = np.where(words, g.valid_per_word, store.region.per_word())
                    store.region.cycles_next = update_cycles(g, visits, self.log2_u)
                    self.memory.put_region(store, store.region)

    # -- programs ---------------------------------------------------------------------------
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
            self._programs[key] = _with_waits(make(generation, dense_visits, *options))
        return self._programs[key]

    def _make_forward(self, generation: int, dense_visits: bool, fetched: bool, followed: bool) -> list[Command]:
        program = [c for layer in self.layers for c in self._forward_layer(layer, generation, dense_visits)]
        if fetched:
            program[0] = program[0] | dict(plan=0, load_w=0, load_x=0)
        if followed:
            first = self._make_backward(generation, dense_visits, prefetch=False, fetched=False)[0]
            program.append(_ahead(first, later=("x", "aux")))
        return program

    def _make_backward(self, generation: int, dense_visits: bool, prefetch: bool, fetched: bool) -> list[Command]:
        program: list[Command] = []
        for layer in reversed(self.layers):
            if layer.dx is not None:
                program += self._backward_layer(layer, generation, dense_visits)
        first = len(program)
        for layer in self.layers:
            program += self._update_layer(layer, generation)
        if fetched:
            program[0] = program[0] | dict(plan=0, load_w=0)
        if prefetch:
            # Headers are read three slots before a command computes: four commands after the region's last drain.
            behind = len(program) - first - len(self._update_layer(self.layers[0], generation))
            program += [dict(phase=int(Phase.NOP))] * max(0, 3 - behind)
            self.layers[0].x = self.inputs[1 - generation]
            program.append(_ahead(self._forward_layer(self.layers[0], 1 - generation, dense_visits)[0]))
            self.layers[0].x = self.inputs[generation]
        program[-1] = program[-1] | dict(commit=1)
        return program

    def _weights(self, layer: Layer, generation: int, tile: int) -> Command:
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
            c_step=g.words * self.cfg.block_c,
            k0=g.k0,
            k_end=g.k_end,
            c_end=layer.inputs + 1,
            segment=0,
            load_segments=len(stores),
            record0=0,
            records=g.records,
            salt=layer.salt,
            scale=0 if self.dense else layer.scale,
            log2_positions=self.log2_u,
        )

    def _image_records(self, g: Geometry, segments: int) -> int:
        """Records of which every row can hold a copy (BW)."""
        cfg = self.cfg
        return max(
            1,
            min(
                cfg.value_beats // (segments * self._record_beats(g.words)),
                cfg.mask_beats // (segments * g.mask_beats) if cfg.sparse else cfg.units,
                cfg.units,
            ),
        )

    def _ranges(self, count: int, most: int) -> list[tuple[int, int]]:
        """Split `count` records into ranges of at most `most` that begin at a beat of channels."""
        align = max(1, self.cfg.bus_elements // self.cfg.block_k)
        if most < count and most < align:
            raise ValueError(f"{most} records at a time are fewer than the {align} of one beat of channels")
        parts = -(-count // most)
        size = -(-(-(-count // parts)) // align) * align
        if parts > 1:  # whole rounds of the rows: a last, short round idles rows only once
            each = max(align, self.cfg.rows)
            size = max(size, most // each * each)
        size = min(size, most // align * align or most)
        return [(a, min(size, count - a)) for a in range(0, count, size)]

    def _forward_layer(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        cfg, e, program = self.cfg, self.cfg.bus_elements, []
        x_run = layer.x.data.shape[2] // e
        last = layer.index == len(self.layers) - 1
        for tile in range(len(layer.stores[0])):
            base = self._weights(layer, generation, tile)
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
                ones = int(not last and is_last)
                common = base | dict(
                    phase=int(Phase.FW),
                    positions=u,
                    log2_positions=(u - 1).bit_length(),
                    log2_lanes=cfg.block_k.bit_length() - 1,
                    units=records,
                    cap=per_row,
                    policy=int(Policy.NONE if dense_visits else self.tiling.policy),
                    out_run=-(-(channels + ones) // e),
                    out_channels=channels,
                    out_stride=layer.y.data.shape[2] // e,
                    x_tensor=layer.x_id,
                    out_tensor=layer.y_id,
                    relu=int(not last),
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
                                x_runs=u,
                                gather_stride=x_run * e,
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
                                x_runs=u,
                                gather_stride=run * e,
                                out_addr=address,
                            )
                        )
        return program

    def _backward_layer(self, layer: Layer, generation: int, dense_visits: bool) -> list[Command]:
        cfg, e, program = self.cfg, self.cfg.bus_elements, []
        assert layer.dx is not None
        cap = self._cap(Phase.BW)
        u, dy_run = self.positions, layer.dy.data.shape[2] // e
        for s in range(len(layer.geometries[0])):
            work: list[Command] = []
            for tile in range(len(layer.stores[0])):
                base = self._weights(layer, generation, tile)
                g = layer.geometries[tile][s]
                inputs = min(g.c_end, layer.inputs) - g.c0
                if inputs <= 0:
                    continue
                groups = -(-inputs // cfg.lane_group)
                if groups > cap * cfg.rows:
                    raise ValueError(f"layer {layer.index}: {groups} lane groups, {cfg.rows} rows of {cap} hold fewer")
                most = min(self._image_records(g, 1), cfg.gather_depth // (u * cfg.block_k))
                for record0, records in self._ranges(g.records, most):
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
                            positions=u,
                            segments=1,
                            w_addr=layer.stores[generation][tile][s].address,
                            c0=g.c0,
                            load_segments=1,
                            log2_lanes=cfg.lane_group.bit_length() - 1,
                            units=groups,
                            cap=cap,
                            policy=int(Policy.NONE if dense_visits else self.tiling.policy),
                            c_end=layer.inputs,
                            x_addr=layer.dy.address + k0 // e,
                            x_run=run,
                            x_runs=u,
                            x_stride=dy_run,
                            gather_stride=run * e,
                            x_tensor=layer.dy_id,
                            record0=record0,
                            records=records,
                        )
                    )
            if not work:
                continue
            # Sums that wait in their rows want every plan to share the lane groups out alike. Ranges of records of one
            # region have the same counts, other regions have not.
            if len({c["w_addr"] for c in work}) > 1 or groups > self._units(cap):
                work = [c | dict(policy=int(Policy.NONE)) for c in work]
            run = -(-inputs // e)
            stride = layer.dx.data.shape[2] // e
            work[-1] |= dict(
                drain=1,
                gate=1,
                load_aux=1,
                aux_addr=layer.x.address + g.c0 // e,
                aux_run=run,
                aux_runs=u,
                aux_stride=layer.x.data.shape[2] // e,
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
        u, x_run, dy_run = self.positions, layer.x.data.shape[2] // e, layer.dy.data.shape[2] // e
        for s in range(len(layer.geometries[0])):
            for tile in range(len(layer.stores[0])):
                base = self._weights(layer, generation, tile)
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
                        positions=u,
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
                        x_runs=u,
                        x_stride=x_run,
                        gather_stride=run * e,
                        aux_addr=layer.dy.address + g.k0 // e,
                        aux_run=-(-channels // e),
                        aux_runs=u,
                        aux_stride=dy_run,
                        out_channels=channels,
                        out_addr=target.address,
                        limit=target.limit,
                        x_tensor=layer.x_id,
                        aux_tensor=layer.dy_id,
                    )
                )
        return program


def he_std(inputs: int) -> float:
    """Standard deviation of a layer's initial weights (He et al., 2015)."""
    return float((2 / inputs) ** 0.5)


def _ahead(c: Command, later: Sequence[str] = ()) -> Command:
    """The command that plans and loads for `c`, but for the operands (x, aux) that come later."""
    return c | dict(ahead=1, drain=0, commit=0, relu=0, ones=0, gate=0, wait=0) | {f"load_{name}": 0 for name in later}


def _with_waits(program: Sequence[Command]) -> list[Command]:
    """Where a load would overtake the drain it depends on, load what can be loaded ahead and set `wait`.

    Command j loads while j-2 drains, so only what the two commands before it write can be missed.
    """
    out: list[Command] = []
    written: list[list[tuple[int, int]]] = []
    for c in program:
        late = _late(c, written[-2:])
        loads = {name for name in ("x", "aux", "w") if c.get(f"load_{name}")}
        if late and (c.get("plan") or loads - set(late)):
            out.append(_ahead(c, later=late))
            written.append([])
            c = c | dict(plan=0, load_w=0) | {f"load_{name}": 0 for name in ("x", "aux") if name not in late}
            late = _late(c, written[-2:])
        out.append(c | dict(wait=int(bool(late))))
        drains = c.get("drain") and c["phase"] in (Phase.FW, Phase.BW)
        written.append(_spans(c["out_addr"], c["out_run"], c["positions"], c["out_stride"]) if drains else [])
    return out


def _late(c: Command, written: list[list[tuple[int, int]]]) -> list[str]:
    """Operands of a command that overlap what is being written."""
    return [
        name
        for name in ("x", "aux")
        if c.get(f"load_{name}")
        for first, end in _spans(c[f"{name}_addr"], c[f"{name}_run"], c[f"{name}_runs"], c[f"{name}_stride"])
        if any(first < b and a < end for spans in written for a, b in spans)
    ]


def _spans(address: int, run: int, runs: int, stride: int) -> list[tuple[int, int]]:
    """Beats [first, end) of every run of a tile."""
    return [(address + r * stride, address + r * stride + run) for r in range(runs)]
