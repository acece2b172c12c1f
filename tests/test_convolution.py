"""Golden convolutions against a direct computation: all phases, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest

from arch.command import Phase
from arch.config import PRESETS, Config
from golden import regenerate
from golden.layout import Layer, Tiling
from golden.requantise import requantise
from golden.shape import LayerShape
from golden.trainer import Trainer

TINY = PRESETS["tiny"].with_(gather_depth=512, value_beats=256, gradients=1024)
SMALL = PRESETS["small"].with_(value_beats=128)
Shape = LayerShape

CHAINS = {
    "padded": (Shape(6, 1, 6, 6, (3, 3), 1, 1), Shape(5, 6, 6, 6, (3, 3), 1, 1), Shape(3, 5, 6, 6, (6, 6))),
    "strided": (Shape(4, 3, 9, 8, (3, 3), 2, 1), Shape(6, 4, 5, 4, (3, 2), 2, bias=False), Shape(3, 6, 2, 2, (2, 2))),
    "wide": (Shape(4, 2, 7, 7, (7, 7), 2, 3), Shape(20, 4, 4, 4, (1, 1), 1, 0), Shape(3, 20, 4, 4, (4, 4), bias=False)),
    "shortcut": (Shape(6, 2, 8, 8, (1, 1), 2, bias=False), Shape(9, 6, 4, 4, (1, 1), 2), Shape(3, 9, 2, 2, (2, 2))),
    "depthwise": (
        Shape(6, 3, 8, 8, (3, 3), 2, 1, bias=False),
        Shape(6, 6, 4, 4, (3, 3), 1, 1, depthwise=True, bias=False),
        Shape(6, 6, 4, 4, (3, 3), 2, 1, depthwise=True, bias=False),
        Shape(3, 6, 2, 2, (2, 2)),
    ),
    "void taps": (Shape(4, 1, 2, 2, (5, 5), 1, 2), Shape(4, 4, 2, 2, (5, 5), 1, 2), Shape(3, 4, 2, 2, (2, 2))),
    "connected": (Shape(10, 40, 1, 1), Shape(6, 10, 1, 1), Shape(3, 6, 1, 1)),
}


def samples(data: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    """A tensor in memory as (samples, channels, rows, columns)."""
    _, columns, _ = data.shape
    maps = data[:, :, :channels].reshape(-1, height, width, columns, channels)
    return maps.transpose(0, 3, 4, 1, 2).reshape(-1, channels, height, width).astype(np.int64)


def weights(trainer: Trainer, layer: Layer, generation: int) -> tuple[np.ndarray, np.ndarray]:
    """Accumulated updates and weights of a layer: (outputs, channels, taps) each."""
    shape, bits = layer.shape, trainer.cfg.operand_bits
    delta = np.zeros((shape.outputs, shape.channels, shape.taps), np.int64)
    for row in layer.stores[generation]:
        for store in row:
            g = store.region.geometry
            part = store.region.dense().reshape(g.k_end - g.k0, g.c_end - g.c0, shape.taps)
            delta[g.k0 : g.k_end, g.c0 : g.c_end] = part
    k, c, tap = np.ogrid[: shape.outputs, : shape.channels, : shape.taps]
    scale = 0 if trainer.settings.dense else regenerate.decayed(layer.scale, trainer.machine.decay)
    w = regenerate.initial(k, c, tap, layer.salt, scale, bits) + requantise(delta, bits, bits)[0]
    w = np.clip(w, -(1 << bits - 1), (1 << bits - 1) - 1)
    if shape.bias and shape.taps > 1:
        w[:, -1, np.arange(shape.taps) != shape.bias_tap] = 0
    return delta, w


def windows(shape: LayerShape, x: np.ndarray) -> np.ndarray:
    """What every tap of every output sees: (samples, channels, out rows, out columns, R, S)."""
    p = shape.padding
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    view = np.lib.stride_tricks.sliding_window_view(padded, shape.kernel, axis=(2, 3))
    return view[:, :, :: shape.stride, :: shape.stride]


def with_ones(shape: LayerShape, x: np.ndarray, one: int) -> np.ndarray:
    """The input with its constant-one channel, if there is a bias."""
    return np.concatenate([x, np.full_like(x[:, :1], one)], 1) if shape.bias else x


def convolve(shape: LayerShape, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Exact sums of the forward phase; `x` with the constant-one channel."""
    taps = w.reshape(*w.shape[:2], *shape.kernel)
    if shape.depthwise:
        return np.einsum("nkpqrs,krs->nkpq", windows(shape, x), taps[:, 0])
    return np.einsum("ncpqrs,kcrs->nkpq", windows(shape, x), taps)


def input_gradient(shape: LayerShape, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Exact sums of the backward phase, by the transposed definition: each output spreads over its window."""
    p = shape.padding
    dx = np.zeros((len(dy), shape.inputs, shape.height + 2 * p, shape.width + 2 * p), np.int64)
    taps = w.reshape(*w.shape[:2], *shape.kernel)
    for r in range(shape.kernel[0]):
        for s in range(shape.kernel[1]):
            rows = slice(r, r + shape.stride * shape.out_height, shape.stride)
            cols = slice(s, s + shape.stride * shape.out_width, shape.stride)
            if shape.depthwise:
                dx[:, :, rows, cols] += dy * taps[:, 0, r, s][:, None, None]
            else:
                dx[:, :, rows, cols] += np.einsum("nkpq,kc->ncpq", dy, taps[:, : shape.inputs, r, s])
    return dx[:, :, p : p + shape.height, p : p + shape.width]


def weight_gradient(shape: LayerShape, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Exact gradients (outputs, channels, taps); `x` with the constant-one channel."""
    rule = "nkpqrs,nkpq->krs" if shape.depthwise else "ncpqrs,nkpq->kcrs"
    return np.einsum(rule, windows(shape, x), dy).reshape(shape.outputs, shape.channels, shape.taps)


def check_step(trainer: Trainer, x: np.ndarray, labels: np.ndarray) -> None:
    """One step, every tensor and in dense mode every weight compared with the direct computation."""
    machine, bits, generation = trainer.machine, trainer.cfg.operand_bits, trainer.generation
    before = [weights(trainer, layer, generation) for layer in trainer.network.layers]
    exponents = list(machine.exponent)
    trainer.step(x, labels)
    updates = []
    for layer, (delta, w) in zip(trainer.network.layers, before, strict=True):
        shape, last = layer.shape, layer.index == len(before) - 1
        x_tensor = layer.x if layer.index else trainer.network.inputs[generation]
        xs = samples(x_tensor.data, shape.inputs, shape.height, shape.width)
        xs = with_ones(shape, xs, 1 << -exponents[layer.x_id])
        ys = samples(layer.y.data, shape.outputs, shape.out_height, shape.out_width)
        dys = samples(layer.dy.data, shape.outputs, shape.out_height, shape.out_width)
        sums = convolve(shape, xs, w)
        shift = exponents[layer.y_id] - exponents[layer.x_id] - trainer.settings.weight_exponent
        assert np.array_equal(ys, requantise(sums if last else np.maximum(sums, 0), shift, bits)[0])
        if layer.dx is not None:
            dxs = samples(layer.dx.data, shape.inputs, shape.height, shape.width)
            sums = np.where(xs[:, : shape.inputs] > 0, input_gradient(shape, dys, w), 0)
            shift = exponents[layer.dx_id] - exponents[layer.dy_id] - trainer.settings.weight_exponent
            assert np.array_equal(dxs, requantise(sums, shift, bits)[0])
        s = trainer.settings
        shift = s.weight_exponent - bits - exponents[layer.x_id] - exponents[layer.dy_id] - s.learning_exponent
        step = requantise(weight_gradient(shape, xs, dys) * s.learning, shift, 2 * bits)[0]
        after = weights(trainer, layer, 1 - generation)[0]
        wanted = delta - step
        if shape.bias and shape.taps > 1:
            wanted[:, -1, np.arange(shape.taps) != shape.bias_tap] = 0
        if s.dense:
            assert np.array_equal(after, wanted)
        else:
            assert np.array_equal(after[after != 0], wanted[after != 0])
        updates.append(np.count_nonzero(after))
    assert min(updates) > 0


@pytest.mark.parametrize("config", [TINY, SMALL, TINY.with_(operand_bits=8, bus_elements=4, block_k=1, lane_group=4)])
@pytest.mark.parametrize("budget", [None, 0.3])
@pytest.mark.parametrize("name", CHAINS)
def test_equals_direct_computation(name: str, budget: float | None, config: Config) -> None:
    """Activations, gradients and updates are those of the textbook, batch larger than the columns included."""
    shapes = CHAINS[name]
    batch = config.columns + 1
    total = sum(shape.weights for shape in shapes)
    tiling = Tiling(density=1.0 if budget is None else 0.6, explored=0.5)
    trainer = Trainer(
        config,
        shapes,
        batch,
        budget=None if budget is None else round(budget * total),
        period=2,
        decay=0.9,
        tiling=tiling,
        memory_beats=1 << 18,
        keep_image=True,
    )
    rng = np.random.default_rng(1)
    features = shapes[0].inputs * shapes[0].height * shapes[0].width
    for _ in range(3):
        x = rng.integers(0, 1 << config.operand_bits - 2, (batch, features)).astype(np.int32)
        check_step(trainer, x, rng.integers(0, shapes[-1].outputs, batch))


def test_tiles_do_not_matter() -> None:
    """Smaller buffers cut a layer in more tiles; the weights that come out are the same."""
    shapes = CHAINS["padded"]
    outcomes: list[list[np.ndarray]] = []
    commands = []
    for config in (TINY, TINY.with_(psum_depth=16), TINY.with_(gradients=128)):
        trainer = Trainer(config, shapes, 6, period=2, decay=0.9, memory_beats=1 << 18, budget=None)
        rng = np.random.default_rng(2)
        for _ in range(3):
            result = trainer.step(rng.integers(0, 1 << 14, (6, 36)).astype(np.int32), rng.integers(0, 3, 6))
        commands.append(len(result.forward) + len(result.backward))
        layers = trainer.network.layers
        outcomes.append([weights(trainer, layer, trainer.generation)[0] for layer in layers])
    assert len(set(commands)) > 1
    for other in outcomes[1:]:
        assert all(map(np.array_equal, outcomes[0], other))
    assert all(np.count_nonzero(w) for w in outcomes[0])


def test_weights_serve_the_phase_they_were_loaded_for() -> None:
    trainer = Trainer(TINY, CHAINS["connected"], 6, period=2, decay=0.9, memory_beats=1 << 18, budget=None)
    trainer.step(np.zeros((6, 40), np.int32), np.zeros(6, int))
    loads = trainer.network.forward(trainer.generation)[0]
    update = next(c for c in trainer.network.backward(trainer.generation) if c["phase"] == Phase.WU and c.get("drain"))
    with pytest.raises(ValueError, match=r"^a WU command computes with weights loaded for FW$"):
        trainer.machine.execute([loads | {"ahead": 1, "plan": 1, "load_w": 1}, update | {"plan": 0, "load_w": 0}])
