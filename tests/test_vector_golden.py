"""What a vector command computes, against float64 written down as in the textbook."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from arch import vector as arch
from arch.config import PRESETS, Config
from arch.status import Status
from arch.vector import Clip, Op, Word
from golden.softmax import softmax_gradient
from golden.vector.affine import ceiling
from golden.vector.pool import Windows, pool, unpool
from golden.vector.real import unpack, values, word
from golden.vector.softmax import FRACTION, cross_entropy
from golden.vector.stage import Outcome, VectorMemory, run

TINY = PRESETS["tiny"]
CONFIGS = {"tiny": TINY, "small": PRESETS["small"], "eight": TINY.with_(operand_bits=8, bus_elements=4)}
EPSILON, MOMENTUM = 1e-5, 0.1


class Bench:
    """A memory with tensors (samples, positions, channels) placed one after the other, and their exponents."""

    def __init__(self, cfg: Config, samples: int, positions: int, channels: int) -> None:
        self.cfg, self.samples, self.positions, self.channels = cfg, samples, positions, channels
        self.batches = -(-samples // cfg.columns)
        self.beats = -(-channels // cfg.bus_elements)
        self.size = self.batches * positions * self.beats
        self.memory = VectorMemory(cfg, np.zeros((8 * self.size + 16 * channels, cfg.beat_bits // 8), np.uint8))
        self.exponents = [0] * 8
        self.records = 8 * self.size

    def put(self, tensor: int, x: np.ndarray) -> np.ndarray:
        """Quantise real numbers to a tensor with one bit of headroom; returns what it stands for."""
        e = int(np.ceil(np.log2(np.abs(x).max()))) - (self.cfg.operand_bits - 2)
        self.exponents[tensor] = e
        m = np.zeros((self.batches * self.cfg.columns, self.positions, self.beats * self.cfg.bus_elements), np.int64)
        m[: self.samples, :, : self.channels] = np.rint(x / 2.0**e)
        shaped = m.reshape(self.batches, self.cfg.columns, self.positions, -1).transpose(0, 2, 1, 3)
        places = tensor * self.size + np.arange(self.size).reshape(self.batches, self.positions, self.beats)
        self.memory.write(places, shaped)
        return np.rint(x / 2.0**e) * 2.0**e

    def get(self, tensor: int) -> np.ndarray:
        """A tensor's real numbers; what is padding must be zero."""
        places = tensor * self.size + np.arange(self.size).reshape(self.batches, self.positions, self.beats)
        m = (
            self.memory.read(places)
            .transpose(0, 2, 1, 3)
            .reshape(-1, self.positions, self.beats * self.cfg.bus_elements)
        )
        assert not m[self.samples :].any() and not m[:, :, self.channels :].any()
        return m[: self.samples, :, : self.channels] * 2.0 ** self.exponents[tensor]

    def do(
        self, op: Op, a: int = 0, b: int = 0, gate_tensor: int = 0, out: int = 0, learning: int = 0, **more: int
    ) -> Outcome:
        """Run a command on whole tensors."""
        terms = self.samples * self.positions
        fields = {"op": op, "batches": self.batches, "valid": self.samples - (self.batches - 1) * self.cfg.columns}
        fields |= {"positions": self.positions, "channels": self.channels, "record_addr": self.records}
        for name, tensor in (("a", a), ("b", b), ("gate", gate_tensor), ("out", out)):
            fields |= {f"{name}_addr": tensor * self.size, f"{name}_batch": self.positions * self.beats}
            fields |= {f"{name}_stride": self.beats, f"{name}_tensor": tensor}
        numbers = {"inverse_count": 1 / terms, "unbias": terms / (terms - 1) if terms > 1 else 0}
        numbers |= {"epsilon": EPSILON, "momentum": MOMENTUM}
        fields |= {name: word(value) for name, value in numbers.items()} | more
        command = arch.unpack(arch.pack(**fields))
        return run(self.memory, command, self.exponents, learning)

    def set_records(self, **columns: np.ndarray | float) -> None:
        """Set words of all records to real numbers."""
        records = self.memory.read_records(self.records, self.channels)
        for name, column in columns.items():
            records[:, Word[name]] = [word(v) for v in np.broadcast_to(column, self.channels)]
        self.memory.write_records(self.records, records)

    def record(self, name: str) -> np.ndarray:
        """A word of all records as real numbers."""
        return np.asarray(values(self.memory.read_records(self.records, self.channels)[:, Word[name]]))


def fit(bench: Bench, tensor: int, largest: float) -> None:
    """An exponent with room for a magnitude."""
    bench.exponents[tensor] = int(np.ceil(np.log2(largest))) - (bench.cfg.operand_bits - 2)


def batch_norm(y: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    mean, variance = y.mean(axis=(0, 1)), y.var(axis=(0, 1))
    return gamma * (y - mean) / np.sqrt(variance + EPSILON) + beta


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_batch_normalisation_against_float(name: str, offset: float) -> None:
    """Forward, backward with a ReLU behind, running statistics, updates of gamma and beta, inference."""
    cfg = CONFIGS[name]
    rng = np.random.default_rng(7)
    samples, positions, channels = cfg.columns + 3, 9, 5
    bench = Bench(cfg, samples, positions, channels)
    spread = np.array([1, 0.3, 2, 0.7, 1.5])
    y = bench.put(0, rng.normal(size=(samples, positions, channels)) * spread + offset * spread)
    gamma, beta = rng.uniform(0.5, 1.5, channels), rng.normal(size=channels)
    bench.set_records(GAMMA=gamma, BETA=beta, RUNNING_MEAN=1.0, RUNNING_VARIANCE=2.0)
    gamma, beta = bench.record("GAMMA"), bench.record("BETA")
    bench.do(Op.REDUCE, a=0)
    mean, variance = y.mean(axis=(0, 1)), y.var(axis=(0, 1))
    unbiased = y.var(axis=(0, 1), ddof=1)
    assert bench.record("MEAN") == pytest.approx(mean, rel=1e-6, abs=1e-7)
    assert bench.record("RSQRT") == pytest.approx(1 / np.sqrt(variance + EPSILON), rel=1e-6)
    assert bench.record("RUNNING_MEAN") == pytest.approx(0.9 + 0.1 * mean, rel=1e-6)
    assert bench.record("RUNNING_VARIANCE") == pytest.approx(1.8 + 0.1 * unbiased, rel=1e-6)

    reference = batch_norm(y, gamma, beta)
    fit(bench, 1, np.abs(reference).max())
    outcome = bench.do(Op.AFFINE, a=0, out=1, records=1, clip=Clip.RELU)
    ulp = 2.0 ** bench.exponents[1]
    z = np.maximum(reference, 0)
    assert np.abs(bench.get(1) - z).max() < 1.6 * ulp  # half a unit of rounding, and the coefficients' 16 bits
    assert outcome.saturated == 0 and outcome.peak is not None
    assert 2.0 ** (outcome.peak - 1) <= z.max() * (1 + 2**-12) and z.max() < 2.0**outcome.peak * (1 + 2**-12)

    # Backward: the analytic gradient, of the loss sum(dz * relu(bn(y))).
    dz = bench.put(2, rng.normal(size=y.shape))
    learning, rate = 205 | (-10 & 0xFFFF) << 16, 205 * 2.0**-10
    g = dz * (bench.get(1) > 0)
    root = 1 / np.sqrt(variance + EPSILON)
    x_hat = (y - mean) * root
    d_gamma, d_beta = (g * x_hat).sum(axis=(0, 1)), g.sum(axis=(0, 1))
    terms = samples * positions
    wanted = gamma * root * (g - d_beta / terms - x_hat * d_gamma / terms)
    bench.do(Op.REDUCE, a=2, b=0, gate_tensor=1, gate=Clip.RELU, backward=1, learning=learning)
    assert bench.record("GAMMA") == pytest.approx(gamma - rate * d_gamma, rel=1e-5, abs=1e-5)
    assert bench.record("BETA") == pytest.approx(beta - rate * d_beta, rel=1e-5, abs=1e-5)
    fit(bench, 3, np.abs(wanted).max())
    common = {"a": 2, "b": 0, "gate_tensor": 1, "out": 3}
    bench.do(Op.AFFINE, **common, gate=Clip.RELU, records=1, backward=1, has_b=1)
    assert np.abs(bench.get(3) - wanted).max() < 1.8 * 2.0 ** bench.exponents[3]

    # Inference with what was learnt.
    gamma, beta = bench.record("GAMMA"), bench.record("BETA")
    mean, variance = bench.record("RUNNING_MEAN"), bench.record("RUNNING_VARIANCE")
    bench.do(Op.COEFFICIENTS, a=0)
    reference = gamma * (y - mean) / np.sqrt(variance + EPSILON) + beta
    fit(bench, 1, np.abs(reference).max())
    bench.do(Op.AFFINE, a=0, out=1, records=1)
    assert np.abs(bench.get(1) - reference).max() < 1.6 * 2.0 ** bench.exponents[1]
    assert bench.record("RUNNING_MEAN") == pytest.approx(mean) and bench.record("GAMMA") == pytest.approx(gamma)


def test_gradient_is_the_numerical_derivative() -> None:
    """The float reference above against differences of the loss."""
    rng = np.random.default_rng(8)
    y, dz = rng.normal(size=(3, 4, 1)), rng.normal(size=(3, 4, 1))
    bench = Bench(TINY, 3, 4, 1)
    y, dz = bench.put(0, y), bench.put(2, dz)
    bench.set_records(GAMMA=1.25, BETA=0.5)
    bench.do(Op.REDUCE, a=0)
    bench.do(Op.REDUCE, a=2, b=0, backward=1)
    fit(bench, 3, 4.0)
    bench.do(Op.AFFINE, a=2, b=0, out=3, records=1, backward=1, has_b=1)
    got = bench.get(3)
    for place in product(range(3), range(4), (0,)):
        step = np.zeros(y.shape)
        step[place] = 1e-4
        up, down = ((dz * batch_norm(y + s, np.array([1.25]), np.array([0.5]))).sum() for s in (step, -step))
        assert got[place] == pytest.approx((up - down) / 2e-4, abs=2.0 ** bench.exponents[3])


def test_training_steps_against_float() -> None:
    """gamma and beta fitted by gradient descent over 60 steps: the golden ones stay with those of float64."""
    rng = np.random.default_rng(9)
    bench = Bench(TINY, 8, 16, 6)
    shape = (8, 16, 6)
    goal_gamma, goal_beta = rng.uniform(0.5, 2, 6), rng.normal(size=6)
    bench.set_records(GAMMA=1.0, BETA=0.0, RUNNING_MEAN=0.0, RUNNING_VARIANCE=1.0)
    gamma, beta = np.ones(6), np.zeros(6)
    learning, rate = 128 | (-14 & 0xFFFF) << 16, 2.0**-7
    for _ in range(60):
        y = bench.put(0, rng.normal(size=shape) * 1.5 + 0.5)
        goal = batch_norm(y, goal_gamma, goal_beta)
        z = batch_norm(y, gamma, beta)
        d = z - goal
        x_hat = batch_norm(y, np.ones(6), np.zeros(6))
        gamma, beta = gamma - rate * (d * x_hat).sum(axis=(0, 1)), beta - rate * d.sum(axis=(0, 1))
        bench.do(Op.REDUCE, a=0)
        fit(bench, 1, np.abs(z).max() * 1.2)
        bench.do(Op.AFFINE, a=0, out=1, records=1)
        bench.put(2, bench.get(1) - goal + 1e-9)
        bench.do(Op.REDUCE, a=2, b=0, backward=1, learning=learning)
    assert bench.record("GAMMA") == pytest.approx(gamma, abs=2e-4)
    assert bench.record("BETA") == pytest.approx(beta, abs=2e-4)
    assert bench.record("GAMMA") == pytest.approx(goal_gamma, abs=1e-2)


@pytest.mark.parametrize("name", CONFIGS)
def test_sum_of_tensors(name: str) -> None:
    """A residual addition with distant exponents, ReLU6 behind; its gradient; a copy to another exponent."""
    cfg = CONFIGS[name]
    rng = np.random.default_rng(10)
    bench = Bench(cfg, 3, 4, 3)
    x = bench.put(0, rng.normal(size=(3, 4, 3)) * 4)
    y = bench.put(1, rng.normal(size=(3, 4, 3)) / 40)
    one = word(1.0)
    bench.exponents[2] = -(cfg.operand_bits - 4)
    bench.do(Op.AFFINE, a=0, b=1, out=2, a_factor=one, b_factor=one, has_b=1, clip=Clip.RELU6)
    z = np.clip(x + y, 0, 6)
    ulp = 2.0 ** bench.exponents[2]
    assert (np.abs(bench.get(2) - z) <= ulp / 2 + 2.0 ** bench.exponents[0] / 4).all()
    assert (z == 6).any() and (bench.get(2)[z == 6] == 6).all()
    g = bench.put(3, rng.normal(size=(3, 4, 3)))
    bench.exponents[4] = bench.exponents[3]
    bench.do(Op.AFFINE, a=3, out=4, gate_tensor=2, gate=Clip.RELU6, a_factor=one)
    z = bench.get(2)
    assert (bench.get(4) == np.where((z > 0) & (z < 6), g, 0)).all()
    bench.exponents[5] = bench.exponents[0] + 3
    bench.do(Op.AFFINE, a=0, out=5, a_factor=one)
    ulp = 2.0 ** bench.exponents[5]
    assert (bench.get(5) == np.rint(x / ulp) * ulp).all()


def test_normalise_and_add() -> None:
    """A residual sum in the same pass: REDUCE aligns a factor for a second operand."""
    rng = np.random.default_rng(14)
    bench = Bench(TINY, 6, 8, 3)
    y, skip = bench.put(0, rng.normal(size=(6, 8, 3)) * 3 + 1), bench.put(1, rng.normal(size=(6, 8, 3)))
    bench.set_records(GAMMA=0.5, BETA=0.25)
    bench.do(Op.REDUCE, a=0, b=1, b_factor=word(1.0))
    wanted = np.maximum(batch_norm(y, np.array(0.5), np.array(0.25)) + skip, 0)
    fit(bench, 2, wanted.max())
    bench.do(Op.AFFINE, a=0, b=1, out=2, records=1, has_b=1, clip=Clip.RELU)
    assert np.abs(bench.get(2) - wanted).max() < 1.6 * 2.0 ** bench.exponents[2]


def test_ceiling() -> None:
    assert [ceiling(e, 16) for e in (-14, -13, -12, 0, 1, 2, 3, 4, 27)] == [32768, 32768, 24576, 6, 3, 2, 1, 0, 0]


def naive_pool(x: np.ndarray, w: Windows, average: bool) -> np.ndarray:
    """One sample, padded with minus infinity (or zero), window by window."""
    p = w.padding
    fill = 0.0 if average else -np.inf
    # Enough on every side for windows that hang over.
    padded = np.pad(x.astype(float), ((p, 16), (p, 16)), constant_values=fill)
    out = np.empty((w.out_height, w.out_width))
    for i, j in np.ndindex(out.shape):
        part = padded[i * w.step : i * w.step + w.window_height, j * w.step : j * w.step + w.window_width]
        out[i, j] = part.sum() if average else part.max()
    return out


def test_pooling_against_its_definition() -> None:
    rng = np.random.default_rng(11)
    for k, step, padding, size in product((2, 3), (1, 2), (0, 1), (3, 4, 7)):
        out = (size + 2 * padding - k) // step + 1
        w = Windows(size, size, out, out, k, k, step, padding)
        x = rng.integers(-4, 5, (1, size, size))
        g = rng.integers(-9, 10, (1, out, out))
        for average in (False, True):
            assert (pool(x, w, 1, average)[0] == naive_pool(x[0], w, average)).all()
            # The gradient of sum(g * pool(x)): what x + a tiny bit does. Ties go to the first maximum.
            order = x * 100.0 - np.arange(size * size).reshape(1, size, size)
            got = unpool(None if average else x, g, w, 1)[0]
            base = (g[0] * naive_pool(order[0], w, average)).sum()
            for i, j in np.ndindex(size, size):
                moved = order[0].copy()
                moved[i, j] += 0.5
                assert got[i, j] == round(2 * ((g[0] * naive_pool(moved, w, average)).sum() - base))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("exponent", [-14, -11, -6, -1, 0, 3])
def test_softmax_against_float(bits: int, exponent: int) -> None:
    rng = np.random.default_rng(12)
    top = 1 << bits - 1
    for classes, scale in ((10, 1.0), (1000, 1.0), (10, 0.01), (2, 1e-4), (1, 1.0), (1024, 0.0)):
        spread = min(top - 1, scale * 8 * 2.0**-exponent)
        logits = rng.integers(-top, top, (20, classes)) if spread >= top - 1 else np.rint(
            rng.normal(size=(20, classes)) * spread / 4).clip(-top, top - 1).astype(np.int64)  # fmt: skip
        labels = rng.integers(0, classes, 20)
        found = cross_entropy(logits, exponent, labels, bits)
        z = logits * 2.0**exponent
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(20), labels] -= 1
        assert np.abs(found.gradient - p * 2.0 ** (bits - 2)).max() < 0.6
        gradient, loss, right = softmax_gradient(logits, exponent, labels, bits)
        assert np.abs(found.gradient - gradient).max() <= 1 and found.right == right
        nats = found.loss / 2**FRACTION * np.log(2) / 20
        if loss < 20:  # the float reference and u end somewhere
            assert nats == pytest.approx(loss, abs=2e-5, rel=1e-5)


def test_softmax_command_leaves_padding_zero() -> None:
    bench = Bench(TINY, 6, 1, 3)
    rng = np.random.default_rng(13)
    z = bench.put(0, rng.normal(size=(6, 1, 3)))
    labels = np.array([0, 1, 2, 0, 1, 2])
    stored = np.zeros((2, TINY.beat_bits // 16), np.uint16)
    stored[:, : TINY.columns] = np.resize(np.append(labels, [1, 1]), (2, 4))
    bench.memory.image[5 * bench.size : 5 * bench.size + 2] = stored.view(np.uint8)
    outcome = bench.do(Op.SOFTMAX, a=0, out=1, b_addr=5 * bench.size, b_batch=1)
    bench.exponents[1] = -14
    p = np.exp(z[:, 0]) / np.exp(z[:, 0]).sum(axis=1, keepdims=True)
    p[np.arange(6), labels] -= 1
    assert np.abs(bench.get(1)[:, 0] - p).max() < 0.6 * 2.0**-14
    assert outcome.right == int((z[:, 0].argmax(axis=1) == labels).sum())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"magic": 1}, Status.MAGIC),
        ({"op": 6}, Status.FIELD),
        ({"batches": 0}, Status.FIELD),
        ({"channels": 0}, Status.FIELD),
        ({"valid": 0}, Status.FIELD),
        ({"valid": TINY.columns + 1}, Status.FIELD),
        ({"positions": 0}, Status.FIELD),
        ({"clip": 3}, Status.FIELD),
        ({"gate": 3}, Status.FIELD),
        ({"step": 3}, Status.FIELD),
        ({"op": Op.REDUCE, "batches": 8, "positions": (1 << 15) + 1}, Status.FIELD),
        ({"op": Op.SOFTMAX, "channels": 1025}, Status.FIELD),
        ({"op": Op.POOL}, Status.FIELD),
    ],
)
def test_refusals(change: dict[str, int], status: Status) -> None:
    bench = Bench(TINY, 4, 1, 2)
    before = bench.memory.image.copy()
    assert bench.do(Op.AFFINE).status == Status.OK
    bench.memory.image[:] = before
    given = {"op": Op.AFFINE} | change
    assert bench.do(given.pop("op"), **given).status == status
    assert (bench.memory.image == before).all()


def test_bad_fields() -> None:
    with pytest.raises(ValueError, match="^a vector command has no field 'speed'$"):
        arch.pack(speed=1)
    with pytest.raises(ValueError, match=r"^vector command field step = 4 does not fit 2 bits \(0 to 3\)$"):
        arch.pack(step=4)
    assert float(unpack(word(2.5)).to_float()) == 2.5
