"""Float reference: gradients, the exact rule against a slow one, thresholds, and what it reaches."""

import itertools
import math

import numpy as np
import pytest

from golden import dataset
from golden.float_reference import Budget, DropBack, FloatTrainer, cosine, initial_weights, largest
from golden.regenerate import explored

LAYERS = [12, 7, 5]


def batches(seed: int, steps: int, samples: int = 16) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(samples, LAYERS[0])), rng.integers(0, LAYERS[-1], samples)) for _ in range(steps)]


def digits(method: DropBack | None, *, steps: int = 1200, lr: float = 0.2, **more: object) -> FloatTrainer:
    """64-100-10 on the digits, minibatches of 32."""
    data = dataset.load("digits")
    trainer = FloatTrainer([64, 100, 10], method, lr=cosine(lr, steps), **more)  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    for _ in range(steps):
        chosen = rng.integers(0, len(data.train_y), 32)
        trainer.step(data.train_x[chosen] / 256, data.train_y[chosen])
    return trainer


def test_error() -> None:
    """By hand: a perceptron of one layer whose largest input is its class."""
    trainer = FloatTrainer([3, 3])
    trainer.weights[0][:] = np.hstack([np.eye(3), np.zeros((3, 1))])
    x = np.array([[1, 0, 0], [0, 2, 1], [0, 0, 3], [5, 4, 3]])
    assert trainer.error(x, np.array([0, 1, 2, 0])) == 0
    assert trainer.error(x, np.array([0, 1, 1, 1])) == 0.5
    trainer.weights[0][1, 3] = 10  # the bias of class 1 outweighs everything
    assert trainer.error(x, np.array([1, 1, 1, 1])) == 0


def test_gradient_by_finite_differences() -> None:
    trainer = FloatTrainer(LAYERS, dtype=np.float64)
    trainer.vector += np.random.default_rng(1).normal(0, 0.1, trainer.vector.size)  # biases too
    [(x, y)] = batches(2, 1, 11)
    trainer.backward(x, y)
    gradient = trainer.gradient.copy()
    for i in range(trainer.vector.size):
        kept = trainer.vector[i]
        losses = []
        for h in (1e-6, -1e-6):
            trainer.vector[i] = kept + h
            losses.append(trainer.backward(x, y))
        trainer.vector[i] = kept
        assert abs((losses[0] - losses[1]) / 2e-6 - gradient[i]) < 1e-8


def test_dense_step_is_sgd() -> None:
    trainer = FloatTrainer(LAYERS, lr=lambda step: 0.5 / (1 + step), dtype=np.float64)
    want = trainer.vector.copy()
    for number, (x, y) in enumerate(batches(3, 3)):
        report = trainer.step(x, y)
        want -= 0.5 / (1 + number) * trainer.gradient
        assert np.array_equal(trainer.vector, want)
        assert report.tracked == 0 and 0.5 < report.loss < 5
    assert trainer.step_number == 3


@pytest.mark.parametrize(("decay", "period", "anneal"), [(1.0, 1, 0), (0.9, 1, 0), (0.9, 4, 0), (0.5, 8, 10)])
def test_exact_dropback_against_loops(decay: float, period: int, anneal: int) -> None:
    """The rule once more, with a sort and a loop over single weights."""
    budget = Budget(20, 100 if anneal else 0, anneal)
    block = (2, 4)
    trainer = FloatTrainer(LAYERS, DropBack(budget, decay=decay, period=period, block=block), lr=0.3, dtype=np.float64)
    places = [(k, c) for n, m in itertools.pairwise(LAYERS) for k in range(m) for c in range(n + 1)]
    initial, delta = trainer.vector.tolist(), [0.0] * len(places)
    for step, (x, y) in enumerate(batches(4, 25)):
        report = trainer.step(x, y)
        candidate = []
        for i, (k, c) in enumerate(places):
            looked_at = bool(explored(k // block[0], c // block[1], 0, step, period))
            candidate.append(delta[i] - 0.3 * trainer.gradient[i] if delta[i] or looked_at else 0.0)
        order = sorted(range(len(places)), key=lambda i: (-abs(candidate[i]), i))
        want = 20 if step >= anneal else 20 + round(80 * (1 - step / anneal) ** 3)
        kept = {i for i in order[:want] if candidate[i]}
        before = {i for i, d in enumerate(delta) if d}
        delta = [candidate[i] if i in kept else 0.0 for i in range(len(places))]
        assert np.array_equal(trainer.delta, delta)
        weights = [decay ** (step + 1) * w + d for w, d in zip(initial, delta, strict=True)]
        assert np.allclose(trainer.vector, weights, rtol=1e-13, atol=0)
        assert (report.tracked, report.adopted, report.evicted) == (len(kept), len(kept - before), len(before - kept))
        assert report.theta == min(abs(candidate[i]) for i in kept)
    assert (trainer.delta != 0).sum() == 20


def test_largest_against_a_sort() -> None:
    """Also for k near n/2, where the entry -k of a partition around k is some other value."""
    rng = np.random.default_rng(6)
    for n, k in ((100, 10), (1000, 40), (1000, 400), (1000, 600), (5, 4), (5, 5), (7, 1)):
        values = rng.random(n)
        assert set(np.flatnonzero(largest(values, k))) == set(np.argsort(-values)[:k])


def test_largest_with_equals_and_zeros() -> None:
    values = np.array([2.0, 1.0, 1.0, 3.0, 1.0, 0.0])
    assert np.flatnonzero(largest(values, 3)).tolist() == [0, 1, 3]
    assert np.flatnonzero(largest(values, 4)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(largest(values, 6)).tolist() == [0, 1, 2, 3, 4]
    assert not largest(np.zeros(4), 2).any()


def test_sequential_threshold_is_the_papers_loop() -> None:
    """Written from the paper's recurrence, weight by weight, over the whole network."""
    method = DropBack(Budget(20), "sequential", decay=0.9, rho=0.01, theta=0.05)
    trainer = FloatTrainer(LAYERS, method, lr=0.3, dtype=np.float64)
    theta, q = 0.05, 1 - 20 / trainer.vector.size
    delta = np.zeros(trainer.vector.size)
    for x, y in batches(7, 10):
        report = trainer.step(x, y)
        candidate = delta - 0.3 * trainer.gradient
        for i in range(len(candidate) - 1, -1, -1):
            if theta < abs(candidate[i]):
                theta *= 1 + 0.01 * q
            else:
                candidate[i] = 0.0
                theta *= 1 - 0.01 * (1 - q)
        delta = candidate
        assert np.array_equal(trainer.delta, delta) and report.theta == theta


def test_averaged_threshold_follows_the_sequential_one() -> None:
    """Chunks of one weight: the same factors up to rho**2; whole chunks: the counts of the stream."""
    ends = []
    for method in (
        DropBack(Budget(20), "sequential", rho=1e-4, theta=0.05),
        DropBack(Budget(20), "averaged", rho=1e-4, theta=0.05, chunk=1),
    ):
        trainer = FloatTrainer(LAYERS, method, lr=0.3, dtype=np.float64)
        ends.append([trainer.step(x, y).theta for x, y in batches(8, 4)][-1])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
    trainer = FloatTrainer(
        LAYERS, DropBack(Budget(20), "averaged", rho=0.01, theta=0.05, chunk=50), lr=0.3, dtype=np.float64
    )
    [(x, y)] = batches(8, 1)
    report = trainer.step(x, y)
    theta, magnitude = 0.05, abs(0.3 * trainer.gradient)
    for start in range(0, magnitude.size, 50):
        part = magnitude[start : start + 50]
        theta *= math.exp(0.01 * ((part > theta).sum() - 20 / magnitude.size * len(part)))
    assert report.theta == pytest.approx(theta, rel=1e-12)


@pytest.mark.parametrize(("threshold", "period"), [("averaged", 1), ("averaged", 8), ("sequential", 1)])
def test_quantile_estimates_hold_the_budget(threshold: str, period: int) -> None:
    method = DropBack(Budget(700), threshold, decay=0.9, period=period, rho=2e-3)
    trainer = digits(method, steps=200 if threshold == "sequential" else 600)
    assert abs((trainer.delta != 0).sum() - 700) < 70


def test_untracked_weights_are_the_initial_ones() -> None:
    trainer = digits(DropBack(Budget(500)), steps=50)
    untracked = trainer.delta == 0
    assert untracked.sum() == trainer.vector.size - 500
    assert np.array_equal(trainer.vector[untracked], trainer.initial[untracked])
    trainer = digits(DropBack(Budget(500), decay=0.1), steps=60)  # 0.1**60 is no float32
    assert np.count_nonzero(trainer.vector) == 500


def test_budget_schedule() -> None:
    assert [Budget(7).at(step) for step in (0, 1, 1000)] == [7, 7, 7]
    budget = Budget(100, 1100, 10)
    assert [budget.at(step) for step in (0, 5, 9, 10, 11)] == [1100, 225, 101, 100, 100]


def test_cosine() -> None:
    lr = cosine(0.4, 100, 0.1)
    assert lr(0) == pytest.approx(0.4) and lr(50) == pytest.approx(0.22)
    assert lr(100) == pytest.approx(0.04) and lr(200) == pytest.approx(0.04)


def test_digits_dense_and_dropback() -> None:
    """64-100-10 has 7,510 weights; plain, decaying and annealed DropBack at 5x fewer."""
    data = dataset.load("digits")
    test = data.test_x / 256, data.test_y
    dense = digits(None).error(*test)
    assert dense < 0.035
    for method in (
        DropBack(Budget(1502)),
        DropBack(Budget(1502), decay=0.99, period=8),
        DropBack(Budget(1502, 7510, 700), decay=0.99, period=8),
    ):
        trainer = digits(method)
        assert (trainer.delta != 0).sum() == 1502
        assert trainer.error(*test) < dense + 0.015


def test_regenerated_weights_train_as_well_as_normals() -> None:
    """Mean test error over four seeds, dense and plain DropBack (which keeps the initial weights).

    The deviation of one run is about 0.5 points, so of the difference of two means 0.35: a
    point is almost three of them.
    """
    data = dataset.load("digits")
    for method in (None, DropBack(Budget(1000))):
        means = []
        for source in ("regenerate", "numpy"):
            runs = [digits(method, steps=500, seed=seed, source=source) for seed in range(4)]
            means.append(np.mean([run.error(data.test_x / 256, data.test_y) for run in runs]))
        assert abs(means[0] - means[1]) < 0.01, means


def test_initial_weights() -> None:
    for source in ("regenerate", "numpy"):
        first, second = initial_weights([200, 100, 10], 3, source)
        assert first.shape == (100, 201) and second.shape == (10, 101)
        assert not first[:, -1].any() and not second[:, -1].any()
        assert first[:, :-1].std() == pytest.approx(0.1, rel=0.03)
        assert second[:, :-1].std() == pytest.approx(0.02**0.5, rel=0.12)
        assert not np.array_equal(first, initial_weights([200, 100, 10], 4, source)[0])
    with pytest.raises(ValueError, match="source must be 'regenerate' or 'numpy', not 'ones'"):
        initial_weights([3, 2], 1, "ones")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(0), "tracked must be at least 1, not 0"),
        (lambda: Budget(5, 4, 10), "start must be at least tracked = 5, not 4"),
        (lambda: Budget(5, 9, -1), "anneal_steps must be at least 0, not -1"),
        (lambda: DropBack(Budget(1), "sorted"), "threshold must be one of exact, averaged, sequential, not 'sorted'"),
        (lambda: DropBack(Budget(1), decay=1.5), "decay must be between 0 and 1, not 1.5"),
        (lambda: DropBack(Budget(1), rho=0), "rho must be above 0, not 0"),
        (lambda: DropBack(Budget(1), chunk=0), "chunk must be above 0, not 0"),
        (
            lambda: FloatTrainer([3, 2], DropBack(Budget(1), period=3)),
            "period must be a power of two between 1 and 64, not 3",
        ),
        (lambda: FloatTrainer([3]), "layers must be at least two widths of at least 1, not .3."),
        (lambda: FloatTrainer([3, 0]), "layers must be at least two widths of at least 1, not .3, 0."),
        (lambda: FloatTrainer([3, 2], DropBack(Budget(9))), "tracked must be at most 8, not 9"),
    ],
    ids=range(11),
)
def test_bad_parameters(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
