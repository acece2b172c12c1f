"""Float reference of graphs: operators by definition and finite differences, the rule, the golden trainer beside it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arch.config import PRESETS
from golden import dataset
from golden.float_graph import FloatGraphTrainer, initial_weights
from golden.float_operators import (
    AveragePooling,
    BatchNormalisation,
    Concatenation,
    Convolution,
    Flattening,
    MaxPooling,
    Operator,
    Rectifier,
    Sliding,
    Sum,
)
from golden.float_reference import FloatTrainer
from golden.float_rule import Budget, DropBack
from golden.graph_network import tensors_for
from golden.graph_trainer import GraphTrainer
from golden.networks import toml_format
from golden.networks.builder import Builder
from golden.networks.graph import Graph
from golden.networks.node import Shape
from golden.networks.zoo import make
from golden.recipe import Recipe, weights_of
from golden.trainer import Trainer
from golden.training import mantissas, roomy, run, run_float
from golden.vector.pool import Windows, pool, unpool
from scripts import accuracy, train

STEP = 1e-6  # of finite differences: rounds off 1e-9; a larger one crosses bends of the activation functions
Shape4 = tuple[int, int, int, int]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def sliding(shape: Shape4, kernel: tuple[int, int], stride: int, padding: int) -> Sliding:
    out = [(n + 2 * padding - k) // stride + 1 for n, k in zip(shape[2:], kernel, strict=True)]
    return Sliding(kernel, stride, padding, Shape(1, *out))


def slope(loss: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """Derivative of a loss with respect to every element of an array, by central differences."""
    out = np.empty_like(array)
    for i in np.ndindex(array.shape):
        kept = array[i]
        ends = []
        for h in (STEP, -STEP):
            array[i] = kept + h
            ends.append(loss())
        array[i] = kept
        out[i] = (ends[0] - ends[1]) / (2 * STEP)
    return out


def check_gradients(operator: Operator, *x: np.ndarray, **trained: tuple[np.ndarray, np.ndarray]) -> None:
    """Gradients of the inputs and of what is trained, (values, gradient), for a random gradient of the result."""
    dz = normal(99, *operator.forward(*x, training=True).shape)

    def loss() -> float:
        return float((dz * operator.forward(*x, training=True)).sum())

    want = [slope(loss, part) for part in x]
    want_trained = {name: slope(loss, values) for name, (values, _) in trained.items()}
    operator.forward(*x, training=True)
    for got, wanted in zip(operator.backward(dz), want, strict=True):
        assert got.shape == wanted.shape and np.allclose(got, wanted, rtol=0, atol=1e-7)
    for name, (_, gradient) in trained.items():
        assert np.allclose(gradient, want_trained[name], rtol=0, atol=1e-7), name


# -- operators --------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((1, 1), 1, 0), ((3, 3), 1, 1), ((3, 2), 2, 0), ((2, 3), 2, 1), ((5, 4), 1, 3)]
)
def test_convolution(kernel: tuple[int, int], stride: int, padding: int, depthwise: bool, bias: bool) -> None:
    """Forward by the sum in the definition; backward by finite differences. Rows may be left over."""
    shape = (3, 2, 6, 5)
    k, c = (3, 1) if depthwise else (2, 3)
    w, x = normal(1, k, c * math.prod(kernel) + bias), normal(2, *shape)
    operator = Convolution(w, np.zeros_like(w), sliding(shape, kernel, stride, padding), 3 if depthwise else 1)
    y = operator.forward(x, training=True)
    filters = w[:, : c * math.prod(kernel)].reshape(k, c, *kernel)
    for o, n, p, q in np.ndindex(y.shape):
        want = w[o, -1] if bias else 0.0
        for i, r, s in np.ndindex(c, *kernel):
            row, column = p * stride + r - padding, q * stride + s - padding
            if 0 <= row < 6 and 0 <= column < 5:
                want += filters[o, i, r, s] * x[o if depthwise else i, n, row, column]
        assert y[o, n, p, q] == pytest.approx(want, rel=1e-12)
    check_gradients(operator, x, w=(w, operator.dw))


def test_batch_normalisation() -> None:
    """By definition in training and evaluation; running statistics; gradients of input, scale and shift."""
    x = 3 + 2 * normal(3, 2, 4, 3, 2)
    operator = BatchNormalisation(2, 0.1, 0.25, np.float64)
    operator.scale[:], operator.shift[:] = [1.5, -0.5], [0.25, 2]
    z = operator.forward(x, training=True)
    for c in range(2):
        normalised = (x[c] - x[c].mean()) / np.sqrt(x[c].var() + 0.1)
        assert np.allclose(z[c], operator.scale[c] * normalised + operator.shift[c], rtol=1e-12)
        assert operator.running_mean[c] == pytest.approx(0.25 * x[c].mean())
        assert operator.running_variance[c] == pytest.approx(0.75 + 0.25 * x[c].var(ddof=1))
    before = operator.running_mean.copy(), operator.running_variance.copy()
    z = operator.forward(x, training=False)
    for c in range(2):
        normalised = (x[c] - before[0][c]) / np.sqrt(before[1][c] + 0.1)
        assert np.allclose(z[c], operator.scale[c] * normalised + operator.shift[c], rtol=1e-12)
    assert np.array_equal(before, (operator.running_mean, operator.running_variance))
    trained = {"scale": (operator.scale, operator.d_scale), "shift": (operator.shift, operator.d_shift)}
    check_gradients(operator, x, **trained)


@pytest.mark.parametrize("ceiling", [math.inf, 6.0])
def test_rectifier(ceiling: float) -> None:
    x = np.array([-1.0, 0.0, 1e-9, 5.0, 6.0, 7.0]).reshape(1, 1, 2, 3)
    operator = Rectifier(ceiling)
    want = [0, 0, 1e-9, 5, 6, min(7, ceiling)]
    assert operator.forward(x, training=True).ravel().tolist() == want
    (dx,) = operator.backward(np.full(x.shape, 2.0))
    open_above = 2.0 * (ceiling > 6)
    assert dx.ravel().tolist() == [0, 0, 2, 2, open_above, open_above]
    check_gradients(operator, 5 * normal(4, 3, 2, 2, 2))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(2, 2, 0), (2, 1, 1), (3, 2, 1), (3, 1, 0), (3, 3, 1), (2, 3, 0), (3, 2, 0)]
)
def test_pooling(window: int, stride: int, padding: int, average: bool) -> None:
    """Small whole numbers, so that most windows have several maxima: as the vector stage routes them, exactly."""
    shape = (3, 2, 7, 6)
    rng = np.random.default_rng(5)
    x = rng.integers(-2, 2, shape)
    given = sliding(shape, (window, window), stride, padding)
    operator = (AveragePooling if average else MaxPooling)(given)
    machine = Windows(*shape[2:], *given.size, window, window, stride, padding)
    parts = window * window if average else 1
    y = operator.forward(x.astype(np.float64), training=True)

    def rows_first(maps: np.ndarray) -> np.ndarray:
        return maps.transpose(1, 2, 3, 0)  # batches, height, width, channels

    assert np.array_equal(rows_first(y) * parts, pool(rows_first(x), machine, 1, average))
    dz = rng.integers(-9, 9, y.shape)
    (dx,) = operator.backward(dz.astype(np.float64))
    want = unpool(None if average else rows_first(x), rows_first(dz), machine, 1)
    assert np.allclose(rows_first(dx) * parts, want, rtol=1e-12, atol=1e-12)
    check_gradients(operator, normal(6, *shape))


def test_sum_concatenation_flattening() -> None:
    a, b, c = normal(7, 2, 3, 2, 2), normal(8, 2, 3, 2, 2), normal(9, 1, 3, 2, 2)
    assert np.array_equal(Sum().forward(a, b, a, training=True), a + b + a)
    assert np.array_equal(Concatenation().forward(a, c, b, training=True)[2:3], c)
    vector = Flattening().forward(a, training=True)
    assert vector.shape == (8, 3, 1, 1)
    for channel, n, h, w in np.ndindex(a.shape):
        assert vector[(channel * 2 + h) * 2 + w, n, 0, 0] == a[channel, n, h, w]
    check_gradients(Sum(), a, b, normal(10, *a.shape))
    check_gradients(Concatenation(), a, c, b)
    check_gradients(Flattening(), a)


# -- graphs -----------------------------------------------------------------------------------
def everything() -> Graph:
    """Every operator but the global average, in a network that the machine runs as well; maps of 8x8."""
    net = Builder("everything", (1, 8, 8))
    net.conv(8, 3, padding=1)
    start = net.relu()
    net.depthwise(3, padding=1, bias=False)
    net.batch_norm()
    net.add(start, net.relu6())
    net.relu()
    net.max_pool(3, 2, 1)
    net.conv(8, 3, padding=1, bias=False)
    net.batch_norm()
    first = net.relu()
    net.conv(8, 1, bias=False)
    net.batch_norm()
    net.concat(first, net.relu())
    net.avg_pool(2)
    net.flatten()
    net.linear(20)
    net.relu()
    net.linear(10)
    return net.graph()


def residual() -> Graph:
    """A strided shortcut, a node read three times, an input read twice, a global average."""
    net = Builder("residual", (2, 5, 4))
    way = net.conv(3, 3, 2, 1)
    other = net.conv(3, 1, 2, x="input")
    both = net.add(way, other, way)
    net.batch_norm()
    net.relu()
    net.add(both, net.depthwise(3, 1, 1))
    net.global_avg_pool()
    net.linear(4)
    return net.graph()


def perceptron(*shape: int) -> Graph:
    net = Builder("perceptron", shape)
    if len(shape) > 1:
        net.flatten()
    net.linear(7)
    net.relu()
    net.linear(5)
    return net.graph()


def batches(graph: Graph, seed: int, steps: int, samples: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    classes = graph.shape(graph.output.name).channels
    size = graph.shape(graph.input.name).size
    return [(rng.normal(size=(samples, size)), rng.integers(0, classes, samples)) for _ in range(steps)]


@pytest.mark.parametrize("graph", [residual(), everything()], ids=lambda graph: graph.name)
def test_gradient_of_a_graph(graph: Graph) -> None:
    """Of the mean loss, by finite differences, with respect to all that is trained (of much: a part)."""
    trainer = FloatGraphTrainer(graph, dtype=np.float64)
    trainer.vector += normal(11, trainer.vector.size) / 10  # biases too
    [(x, y)] = batches(graph, 12, 1, 6)
    trainer.backward(x, y)
    gradient = trainer.gradient.copy()
    norms = [(norm.d_scale.copy(), norm.d_shift.copy()) for norm in trainer.norms]

    def loss() -> float:
        return trainer.backward(x, y)

    for i in range(0, trainer.vector.size, max(1, trainer.vector.size // 200)):
        assert gradient[i] == pytest.approx(slope(loss, trainer.vector[i : i + 1])[0], abs=1e-7), i
    for norm, (d_scale, d_shift) in zip(trainer.norms, norms, strict=True):
        assert np.allclose(d_scale, slope(loss, norm.scale), rtol=0, atol=1e-7)
        assert np.allclose(d_shift, slope(loss, norm.shift), rtol=0, atol=1e-7)


def test_dense_step_is_sgd() -> None:
    """Of weights, scales and shifts, with the learning rate of the step."""
    graph = everything()
    trainer = FloatGraphTrainer(graph, lr=lambda step: 0.5 / (1 + step), dtype=np.float64)
    want = trainer.vector.copy()
    scale, shift = trainer.norms[1].scale.copy(), trainer.norms[1].shift.copy()
    for number, (x, y) in enumerate(batches(graph, 13, 3, 5)):
        report = trainer.step(x, y)
        want -= 0.5 / (1 + number) * trainer.gradient
        scale -= 0.5 / (1 + number) * trainer.norms[1].d_scale
        shift -= 0.5 / (1 + number) * trainer.norms[1].d_shift
        assert np.array_equal(trainer.vector, want) and report.tracked == 0
        assert np.array_equal(trainer.norms[1].scale, scale) and np.array_equal(trainer.norms[1].shift, shift)
    assert trainer.step_number == 3 and len(trainer.norms) == 3
    assert not np.array_equal(scale, np.ones(8)) and shift.any()


@pytest.mark.parametrize("method", [None, DropBack(Budget(30, 90, 8), decay=0.9, period=4, block=(2, 4))])
@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)])
def test_a_perceptron_is_that_of_float_trainer(shape: tuple[int, ...], method: DropBack | None) -> None:
    """The same weights in the same order, the same losses up to rounding, the same choice of weights."""
    graph = perceptron(*shape)
    trainer = FloatGraphTrainer(graph, method, lr=0.3, seed=4, dtype=np.float64)
    other = FloatTrainer([12, 7, 5], method, lr=0.3, seed=4, dtype=np.float64)
    assert np.array_equal(trainer.vector, other.vector)
    for x, y in batches(graph, 14, 25, 16):
        report, want = trainer.step(x, y), other.step(x, y)
        assert report.loss == pytest.approx(want.loss, rel=1e-10)
        assert replace(report, loss=0, theta=0) == replace(want, loss=0, theta=0)
        assert report.theta == pytest.approx(want.theta, rel=1e-8)
        assert np.array_equal(trainer.delta != 0, other.delta != 0)
        assert trainer.error(x, y) == other.error(x, y)


@pytest.mark.parametrize(("decay", "period"), [(1.0, 1), (0.9, 8)])
def test_dropback_tracks_the_budget(decay: float, period: int) -> None:
    """Exactly, over all layers and biases; untracked weights are the initial ones, decayed."""
    graph = everything()
    budget = Budget(50, 100, 4)
    trainer = FloatGraphTrainer(graph, DropBack(budget, decay=decay, period=period), dtype=np.float64)
    assert trainer.vector.size == weights_of(graph)
    for step, (x, y) in enumerate(batches(graph, 15, 12, 8)):
        report = trainer.step(x, y)
        assert report.tracked == (trainer.delta != 0).sum() == budget.at(step)
        untracked = trainer.delta == 0
        assert np.allclose(trainer.vector[untracked], decay ** (step + 1) * trainer.initial[untracked], rtol=1e-12)
    assert report.tracked == 50


def dense_golden(graph: Graph, **given: object) -> Trainer:
    cfg = PRESETS["small"]
    cfg = roomy(cfg).with_(tensors=max(cfg.tensors, tensors_for(graph)))
    return GraphTrainer(cfg, graph, 32, **given)  # type: ignore[arg-type]


def bypassed() -> Graph:
    """Linear layers of the input, directly and flattened, and of a map: what the machine makes of each."""
    net = Builder("bypassed", (2, 3, 3))
    net.flatten()
    start = net.linear(6)
    net.relu()
    net.linear(6)
    net.add(start, net.relu())
    net.linear(3)
    return net.graph()


@pytest.mark.parametrize("graph", [everything(), bypassed(), perceptron(3, 2, 2)], ids=lambda graph: graph.name)
def test_initial_weights_and_turns_are_those_of_the_machine(graph: Graph) -> None:
    """Place by place, to half a unit; and the step in which each weight is explored."""
    trainer = dense_golden(graph, seed=7)
    cfg, unit = trainer.cfg, 2.0**trainer.settings.weight_exponent
    weights, places = initial_weights(graph, 7)
    method = DropBack(Budget(1), period=8, block=(cfg.block_k, cfg.block_c))
    turns = iter(FloatGraphTrainer(graph, method)._turns)
    assert len(trainer.network.layers) == len(weights)
    for layer, matrix, where in zip(trainer.network.layers, weights, places, strict=True):
        index = [np.broadcast_to(part, matrix.shape).ravel().tolist() for part in where]
        mine = dict(zip(zip(*index, strict=True), matrix.ravel(), strict=True))
        my_turn = {key: next(turns) for key in mine}
        found = 0
        for store in itertools.chain(*layer.stores[0]):
            g = store.region.geometry  # dense mode stores every weight
            machine = store.region.delta / 2.0**cfg.operand_bits * unit
            words = np.repeat(g.explore_word & np.uint32(7), cfg.mask_bits)
            for i, value in zip(store.region.stored, machine, strict=True):
                key = int(g.k_of[i]), int(g.c_of[i]), int(g.tap_of[i])
                assert abs(value - mine[key]) < 0.6 * unit + 1e-4 * abs(mine[key]), key
                assert words[i] == my_turn[key]
                found += 1
        assert found == matrix.size


def test_golden_steps_have_the_losses_of_float() -> None:
    """Dense, from the same weights. The first loss is off by rounding alone, later ones by what that led to.

    Tolerances: twice the worst of eight seeds, 1.5e-4 and 2.3e-2.
    """
    data = dataset.load("digits")
    graph = everything()
    golden, trainer = dense_golden(graph, learning_rate=0.1, seed=3), FloatGraphTrainer(graph, lr=0.1, seed=3)
    x = mantissas(data.train_x, golden.cfg.operand_bits)
    for step in range(6):
        part = slice(32 * step, 32 * step + 32)
        want = golden.step(x[part], data.train_y[part]).loss
        loss = trainer.step(data.train_x[part] / 256, data.train_y[part]).loss
        assert loss == pytest.approx(want, rel=5e-2 if step else 3e-4)
    test = slice(0, 320)  # by the running statistics
    same = golden.predict(x[test]) == trainer.forward(data.train_x[test] / 256).argmax(1)
    assert same.mean() > 0.9


def two_convolutions() -> Graph:
    """One with batch normalisation, one with biases."""
    net = Builder("two convolutions", (1, 8, 8))
    net.conv(8, 3, 2, 1, bias=False)
    net.batch_norm()
    net.relu()
    net.conv(12, 3, 1, 1)
    net.relu()
    net.max_pool(2)
    net.flatten()
    net.linear(10)
    return net.graph()


# Bounds: the worst of four seeds leaves a quarter of each.
@pytest.mark.parametrize(("budget", "rate", "bound", "apart"), [("dense", 0.2, 7.0, 2.0), ("3x", 0.3, 11.0, 4.0)])
def test_golden_and_float_learn_alike(budget: str, rate: float, bound: float, apart: float) -> None:
    """Four epochs of the digits."""
    graph, data = two_convolutions(), dataset.load("digits")
    cfg = PRESETS["small"].with_(columns=32, bus_elements=2, tensors=tensors_for(graph))
    recipe = Recipe(epochs=4, batch=32, learning_rate=rate, budget=budget, period=2, decay=0.98)
    golden, reference = run(data, graph, recipe, cfg), run_float(data, graph, recipe)
    for history in (golden, reference):
        assert len(history.loss) == 4 * (len(data.train_y) // 32) and len(history.error) == 4  # whole minibatches
        assert history.error[-1] < bound
    assert abs(golden.error[-1] - reference.error[-1]) < apart
    assert np.mean(golden.loss[-44:]) == pytest.approx(np.mean(reference.loss[-44:]), rel=0.35)
    assert reference.tracked[-1] == weights_of(graph) // (1 if budget == "dense" else 3)


def test_jobs_train_float_references_of_graphs(tmp_path: Path) -> None:
    """`accuracy` on the float engine, and the references of `train`."""
    path = tmp_path / "net.toml"
    path.write_text(toml_format.to_toml(two_convolutions()))
    common = ["--data", "digits", "--net", str(path), "--epochs", "1"]
    given = ["--engines", "float", "--seeds", "1", "--recipes", "dense,constant", "--out", str(tmp_path / "accuracy")]
    assert accuracy.main([*common, *given]) == 0
    results = json.loads((tmp_path / "accuracy" / "accuracy.json").read_text())["results"]
    assert results["dense"]["float"][0]["last"] == weights_of(two_convolutions())
    assert results["constant"]["float"][0]["last"] == weights_of(two_convolutions()) // 10
    assert train.main([*common, "--engine", "golden", "--array", "small", "--out", str(tmp_path / "train")]) == 0
    found = json.loads((tmp_path / "train" / "report.json").read_text())["accuracy"]
    assert found["float_dense"] > 50 and found["float_dropback"] > 25


# -- refusals ---------------------------------------------------------------------------------
def unweighted() -> Graph:
    net = Builder("bare", (3, 2, 2))
    net.global_avg_pool()
    return net.graph()


def wide() -> Graph:
    net = Builder("wide", (1, 9, 8))
    net.relu()
    net.flatten()
    net.linear(2)
    return net.graph()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: FloatGraphTrainer(unweighted()), "network 'bare' has no layer with weights to train"),
        (lambda: FloatGraphTrainer(wide()), "linear 'linear1': tap must be between 0 and 63, not 71"),
        (lambda: FloatGraphTrainer(perceptron(3), dtype=np.float16), "dtype must be float32 or float64, not float16"),
        (lambda: FloatGraphTrainer(perceptron(3), DropBack(Budget(69))), "tracked must be at most 68, not 69"),
        (
            lambda: FloatGraphTrainer(make("lenet5")).step(np.zeros((2, 64)), np.zeros(2, int)),
            "a sample must have the 784 values of a 1x28x28 input, not 64",
        ),
        (
            lambda: FloatGraphTrainer(perceptron(3)).step(np.zeros((2, 3)), np.array([0, 5])),
            "a label must be between 0 and 4, not 5",
        ),
        (
            lambda: FloatGraphTrainer(perceptron(3)).step(np.zeros((2, 3)), np.array([-1, 0])),
            "a label must be between 0 and 4, not -1",
        ),
        (
            lambda: FloatGraphTrainer(perceptron(3)).step(np.zeros((2, 3)), np.array([0])),
            "there must be a label for each of 2 samples, not 1",
        ),
        (
            lambda: FloatGraphTrainer(perceptron(3)).step(np.zeros((0, 3)), np.array([], int)),
            "there must be at least 1 sample, not 0",
        ),
        (
            lambda: run_float(dataset.load("digits"), make("lenet5"), Recipe()),
            "the first layer size must be 64 for data set 'digits', not 784",
        ),
        (
            lambda: run_float(dataset.load("digits"), everything(), Recipe(batch=2000)),
            "a minibatch of 2000 samples is more than the 1437 of 'digits'",
        ),
    ],
    ids=range(11),
)
def test_refusals(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        act()
    assert str(raised.value) == message
