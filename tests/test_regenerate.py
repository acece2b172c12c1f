"""Weight regeneration: exact definition, statistics within sampling error, decay to exactly zero.

Bounds on a statistic are five standard errors, each derived where it is used: a value that follows
the null hypothesis exceeds one of them with probability 6e-7, and the seeds are fixed anyway.
"""

from fractions import Fraction

import numpy as np
import pytest

from golden import regenerate as rg

SALTS = [0, rg.layer_salt(1, 0), rg.layer_salt(1, 1)]
LAGS = [*range(1, 65), 128, 512]
SHAPES = [(150, 25, 1), (50, 10, 1), (5, 4, 1), (32, 2, 9), (256, 32, 9)]


def reference_mix(z: int) -> int:
    """The definition in unbounded integers, truncated after every step."""
    for shift in (12, -19, 5, -9, 3, -16):
        if shift in (12, 5, 3):
            z = (z * (1 + 2**shift)) % 2**32
        elif shift == -9:
            z = (z ^ (z * 2**9)) % 2**32
        else:
            z = z ^ (z // 2**-shift)
    return z


def layer(salt: int, k: int = 1024, c: int = 1024) -> np.ndarray:
    return rg.normal(np.arange(k)[:, None], np.arange(c), 0, salt) / rg.NORMAL_STD


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """In standard errors: the correlation of n independent pairs has deviation 1/sqrt(n)."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1] * a.size**0.5)


def test_mix_is_the_definition() -> None:
    words = [0, 1, 2, 0x80000000, 0xFFFFFFFF, *np.random.default_rng(1).integers(0, 2**32, 500)]
    assert rg.mix(words).tolist() == [reference_mix(int(w)) for w in words]
    assert rg.mix(1).shape == () and int(rg.mix(1)) == reference_mix(1)


def test_mix_is_a_bijection() -> None:
    """Each step is undone in turn: multiplication by an odd number, xor with a shifted self."""
    z = rg.mix(np.arange(0, 2**32, 65537, dtype=np.uint64)).astype(np.uint64)
    want, mask = np.arange(0, 2**32, 65537, dtype=np.uint64), np.uint64(2**32 - 1)
    z = z ^ z >> 16
    z = z * np.uint64(pow(9, -1, 2**32)) & mask
    z = z ^ (z << 9 & mask) ^ (z << 18 & mask) ^ (z << 27 & mask)
    z = z * np.uint64(pow(33, -1, 2**32)) & mask
    z = z ^ z >> 19
    z = z * np.uint64(pow(4097, -1, 2**32)) & mask
    assert np.array_equal(z, want)


def test_position_packs_the_fields() -> None:
    assert int(rg.position(8191, 8191, 63)) == 2**32 - 1
    assert int(rg.position(3, 5, 7)) == 3 * 2**19 + 5 * 2**6 + 7
    assert rg.position(np.arange(4)[:, None, None], np.arange(3)[:, None], np.arange(9)).shape == (4, 3, 9)


@pytest.mark.parametrize(
    ("k", "c", "tap", "message"),
    [
        ([8192, 1], 0, 0, "k must be between 0 and 8191, not 8192"),
        (0, [1, -1], 0, "c must be between 0 and 8191, not -1"),
        (0, 0, 64, "tap must be between 0 and 63, not 64"),
    ],
)
def test_position_out_of_range(k: int | list[int], c: int | list[int], tap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rg.position(k, c, tap)


def test_normal_is_the_definition() -> None:
    rng = np.random.default_rng(2)
    k, c, tap = rng.integers(0, 8192, 300), rng.integers(0, 8192, 300), rng.integers(0, 64, 300)
    for salt in (0, 0xFFFFFFFF, rg.layer_salt(9, 3)):
        words = [
            reference_mix(reference_mix((int(a) * 2**19 + int(b) * 2**6 + int(t)) ^ salt))
            for a, b, t in zip(k, c, tap, strict=True)
        ]
        assert rg.normal(k, c, tap, salt).tolist() == [sum(w.to_bytes(4, "big")) - 510 for w in words]
    with pytest.raises(ValueError, match="salt must be between 0 and 4294967295, not 4294967296"):
        rg.normal(0, 0, 0, 2**32)


@pytest.mark.parametrize("bits", [8, 16])
def test_initial_rounds_half_to_even_and_saturates(bits: int) -> None:
    """Against Python's rounding of the exact fraction, at every scale of a spread-out set."""
    c = np.arange(200)
    values = rg.normal(0, c, 0, 5)
    ties = 0
    for scale in (0, 1, 2, 3, 4, 64, 512, 1024, 2048, 12345, 65535):
        exact = [Fraction(int(v) * scale, 2048) for v in values]
        ties += sum(x.denominator == 2 for x in exact)
        want = [min(max(round(x), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1) for x in exact]
        assert rg.initial(0, c, 0, 5, scale, bits).tolist() == want
    assert ties > 20
    with pytest.raises(ValueError, match="scale must be between 0 and 65535, not 65536"):
        rg.initial(0, 0, 0, 0, 65536, bits)


def test_initial_vanishes_at_scale_two() -> None:
    extremes = np.array([-510, 510])
    assert (abs(extremes * 2) <= 1024).all(), "half a unit rounds to the even zero"
    assert not rg.initial(np.arange(200)[:, None], np.arange(500), 0, 3, 2, 16).any()
    assert rg.initial(np.arange(200)[:, None], np.arange(500), 0, 3, 3, 16).any()


@pytest.mark.parametrize("salt", SALTS)
def test_moments(salt: int) -> None:
    """Standard errors of n = 2**20 draws: mean 1/sqrt(n), variance sqrt((kurtosis-1)/n).

    The fourth moment: sqrt((m8 - m4**2)/n) with m8 about 56, that is 0.0068, and its division by
    the squared variance makes it smaller.
    """
    x = layer(salt)
    n = x.size
    kurtosis = 3 - 1.2 / 4 * (256**2 + 1) / (256**2 - 1)
    assert abs(x.mean()) < 5 / n**0.5
    assert abs(x.var() - 1) < 5 * ((kurtosis - 1) / n) ** 0.5
    assert abs((x**4).mean() / x.var() ** 2 - kurtosis) < 5 * 0.0068
    assert abs((x**3).mean()) < 5 * (12 / n) ** 0.5  # sixth moment 10.9
    assert abs(x).max() <= 510 / rg.NORMAL_STD


@pytest.mark.parametrize("salt", SALTS)
def test_rows_columns_and_diagonals_do_not_correlate(salt: int) -> None:
    x = layer(salt, 600, 700)
    scores = []
    for lag in LAGS:
        scores.append(correlation(x[:, lag:], x[:, :-lag]))
        scores.append(correlation(x[lag:], x[:-lag]))
        scores.append(correlation(x[lag:, lag:], x[:-lag, :-lag]))
        scores.append(correlation(x[lag:, :-lag], x[:-lag, lag:]))
    assert max(map(abs, scores)) < 5
    # the mean square of m scores is 1 with deviation sqrt(2/m)
    assert abs(np.mean(np.square(scores)) - 1) < 5 * (2 / len(scores)) ** 0.5
    for sums in (x.sum(0) / 600**0.5, x.sum(1) / 700**0.5):  # no row or column stands out
        assert abs((sums**2).mean() - 1) < 5 * (2 / sums.size) ** 0.5
        assert abs(sums).max() < 5


def test_taps_do_not_correlate() -> None:
    grid = np.ogrid[:128, :128, :9]
    x = rg.normal(*grid, rg.layer_salt(4, 0))
    for a in range(9):
        for b in range(a):
            assert abs(correlation(x[..., a], x[..., b])) < 5


def test_layers_do_not_correlate() -> None:
    salts = [rg.layer_salt(seed, number) for seed in (0, 1, 2) for number in range(6)]
    assert len(set(salts)) == len(salts)
    assert all(salt >> 31 for salt in salts)
    layers = [layer(salt, 256, 256) for salt in salts]
    for i, a in enumerate(layers):
        for b in layers[:i]:
            assert abs(correlation(a, b)) < 5
            assert abs(correlation(a, b.T)) < 5


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("shape", [(300, 784), (512, 512)])
def test_spectrum_is_that_of_a_random_matrix(salt: int, shape: tuple[int, int]) -> None:
    """Marchenko-Pastur: edges sqrt(C) +- sqrt(K), fluctuating by about sqrt(C) * K**(-2/3).

    And every quantile of the singular values lies where numpy's normals put it (their largest
    distance between draws is 0.004 sqrt(C); 0.02 allowed).
    """
    k, c = shape
    ours = np.linalg.svd(layer(salt, k, c), compute_uv=False)
    other = np.linalg.svd(np.random.default_rng(3).normal(size=shape), compute_uv=False)
    fluctuation = c**0.5 * k ** (-2 / 3)
    assert abs(ours[0] - (c**0.5 + k**0.5)) < 2.5 * fluctuation
    assert ours[-1] > c**0.5 - k**0.5 - 2.5 * fluctuation
    assert abs(ours - other).max() < 0.02 * c**0.5 + 2.5 * fluctuation
    assert abs(ours - other).mean() < 0.005 * c**0.5


@pytest.mark.parametrize(("std", "exponent"), [(0.05, -15), (0.05, -16), (0.0, -15), (4096.0, 0), (1.0, 0), (0.3, 0)])
def test_scale_gives_the_wanted_deviation(std: float, exponent: int) -> None:
    scale = rg.scale(std, exponent)
    got = rg.initial(np.arange(512)[:, None], np.arange(512), 0, rg.layer_salt(5, 5), scale, 16).std()
    want = std / 2.0**exponent
    # half a unit of the scale is 0.036; the deviation is sampled from 2**18 draws; for wants above
    # half a unit rounding adds 1/12 to the variance, below it the normal is too coarse to predict
    expected = (want**2 + 1 / 12) ** 0.5 if want > 0.5 else want
    assert abs(got - expected) < 0.04 + 5 * want / 2**9.5 + (0.05 if want < 0.5 else 0)


@pytest.mark.parametrize("std", [-0.1, 1.0])
def test_scale_out_of_range(std: float) -> None:
    with pytest.raises(ValueError, match=f"std {std} at weight_exponent -15 .* must be between 0 and 65535"):
        rg.scale(std, -15)


def test_decay_reaches_exactly_zero_for_any_lambda_below_one() -> None:
    """For every factor below 2**16 and every decay above zero the next decay is smaller.

    decay*factor/2**16 <= decay*(1 - 2**-16) < decay, and the floor keeps it so; checked at the
    largest factor for every decay, and in full length for the lambdas in use.
    """
    assert all(rg.next_decay(decay, 65535) == decay - 1 for decay in range(1, 65537))
    assert rg.decay_factor(1) == 65536 and rg.next_decay(65536, 65536) == 65536
    assert rg.decay_factor(0.9999999) == 65535
    steps = {lam: rg.steps_to_zero(rg.decay_factor(lam)) for lam in (0, 0.5, 0.9, 0.99, 0.999, 0.9999999)}
    assert steps == {0: 1, 0.5: 16, 0.9: 87, 0.99: 702, 0.999: 4737, 0.9999999: 65535}
    assert rg.steps_to_zero(65536) is None and rg.steps_to_zero(65536, 0) == 0
    assert rg.steps_to_zero(rg.decay_factor(0.9), 1000) == 65


def test_scale_follows_lambda_to_the_t() -> None:
    decay, factor = rg.DECAY_ONE, rg.decay_factor(0.9)
    for step in range(40):
        # truncation loses at most one unit a step: the sum of 0.9**i, that is 10, and one more
        assert 0 <= 0.9**step * 50000 - rg.decayed(50000, decay) < 11
        decay = rg.next_decay(decay, factor)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_decay_factor_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=f"lambda must be between 0 and 1, not {value}"):
        rg.decay_factor(value)


def test_decay_words_out_of_range() -> None:
    with pytest.raises(ValueError, match="decay must be between 0 and 65536, not 65537"):
        rg.next_decay(65537, 1)
    with pytest.raises(ValueError, match="factor must be between 0 and 65536, not -1"):
        rg.next_decay(1, -1)
    with pytest.raises(ValueError, match="scale_0 must be between 0 and 65535, not 65536"):
        rg.decayed(65536, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("period", [1, 2, 4, 8, 16, 32, 64])
def test_each_word_is_explored_once_in_a_period(shape: tuple[int, int, int], period: int) -> None:
    grid = np.ogrid[: shape[0], : shape[1], : shape[2]]
    first = 1000 * period + 3
    masks = np.array([rg.explored(*grid, step, period) for step in range(first, first + period)])
    assert masks.shape == (period, *shape) and (masks.sum(0) == 1).all()
    shares = masks.reshape(period, -1).sum(1)
    fair = masks[0].size / period
    # a share of independent draws is binomial, its deviation below sqrt(fair)
    assert abs(shares - fair).max() < 5 * max(fair, 1) ** 0.5
    assert np.array_equal(rg.explored(*grid, first + period, period), masks[0])


def test_explored_is_the_definition() -> None:
    grid = np.ogrid[:9, :7, :5]
    for step, period in ((0, 8), (5, 8), (2**31 + 77, 64), (3, 2)):
        got = rg.explored(*grid, step, period)
        for kb, cb, tap in np.ndindex(9, 7, 5):
            z = reference_mix((kb * 2**19 + cb * 2**6 + tap) ^ 0x5BD1E995)
            assert got[kb, cb, tap] == (z % period == step % period)


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_block_rows_and_columns_get_fair_shares(period: int) -> None:
    """What balancing needs: no block row and no block column is explored much more than another.

    One round leaves neighbouring words correlated (up to 0.29 at some distances, two rounds 0.015),
    so the spread of the shares is held to 1.5 times the variance of independent draws, not to one.
    """
    for step in range(period):
        mask = rg.explored(*np.ogrid[:256, :256], 0, step, period)
        unit = (256 / period * (1 - 1 / period)) ** 0.5
        for axis in (0, 1):
            score = (mask.sum(axis) - 256 / period) / unit
            assert abs(score).max() < 5 and (score**2).mean() < 1.5


@pytest.mark.parametrize("period", [0, 3, 128, -2, 2.0])
def test_bad_period(period: int) -> None:
    with pytest.raises(ValueError, match=f"period must be a power of two between 1 and 64, not {period}"):
        rg.explored(0, 0, 0, 0, period)
