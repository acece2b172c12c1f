"""Load balancer: properties of the golden policies, and the Verilated units against them."""

from itertools import product

import numpy as np
import pytest

from arch.command import Policy
from arch.config import PRESETS
from golden.balancer import balance, balance_cycles, imbalance, policy_of, row_loads, sort_key
from rtl.balancer import Balancer, load_bits, reciprocal
from rtl.row_queue import RowQueue
from scripts.simulate import run_bench

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "two": TINY.with_(rows=2, units=4),
    "six": TINY.with_(rows=6, units=16),
    "sixteen": TINY.with_(rows=16, units=128),
}


def cases(seed: int, trials: int = 60):
    """Counts, rows and a cap that every policy accepts."""
    rng = np.random.default_rng(seed)
    for trial in range(trials):
        rows, n = int(rng.integers(1, 9)), int(rng.integers(1, 70))
        counts = rng.integers(0, (3, 100, 65536)[trial % 3], n)
        yield counts, rows, 2 * -(-n // (2 * rows)) + int(rng.integers(0, 5))


def key(number: int) -> int:
    """Sort key by its definition: the leading five bits of a number of more than four, and how many follow."""
    number = int(number)
    dropped = max(number.bit_length() - 5, 0)
    wanted = number if number < 32 else (dropped + 1) * 16 + (number >> dropped) - 16
    return min(wanted, 255)


def test_sort_keys_are_monotone_and_exact_where_they_say() -> None:
    numbers = np.r_[0:70000, 2**18 - 3 : 2**18 + 3, 2**19 - 20000 : 2**19 + 5 : 1000, 2**19 - 5 : 2**19 + 5, 2**40]
    keys = sort_key(numbers)
    assert keys.tolist() == [key(n) for n in numbers]
    assert (np.diff(keys) >= 0).all() and keys[:32].tolist() == list(range(32)) and keys.max() == 255
    below = numbers[(numbers >= 32) & (numbers < 2**18)]  # numbers further apart than 1 in 16 have keys apart
    assert (sort_key(np.ceil(below * (1 + 1 / 16)).astype(np.int64)) > sort_key(below)).all()


def test_the_coarse_keys_cost_lpt_little() -> None:
    """Against an exact order, as many units on 16 rows as LeNet-300-100's layers have, more and less uniform."""
    rng, rows = np.random.default_rng(7), 16
    for n, spread in product((150, 80), (0.25, 0.5)):
        coarse, exact = [], []
        for _ in range(60):
            counts = np.rint(rng.lognormal(np.log(70) - spread**2 / 2, spread, n)).astype(np.int64)
            coarse.append(imbalance(row_loads(counts, balance(counts, rows, n, "lpt")[0], rows)))
            loads = [0] * rows
            for count in sorted(counts.tolist(), reverse=True):
                loads[loads.index(min(loads))] += count
            exact.append(imbalance(np.array(loads)))
        assert np.mean(coarse) < np.mean(exact) + 0.005


@pytest.mark.parametrize("policy", Policy)
def test_every_unit_has_a_place_of_its_own(policy: Policy) -> None:
    for counts, rows, cap in cases(1):
        row, slot = balance(counts, rows, cap, policy)
        assert row.shape == slot.shape == counts.shape
        assert len({*zip(row.tolist(), slot.tolist(), strict=True)}) == counts.size
        assert row.min() >= 0 and row.max() < rows and slot.min() >= 0 and slot.max() < cap
        assert row_loads(counts, row, rows).sum() == counts.sum()


def test_none_leaves_units_where_they_are() -> None:
    for counts, rows, cap in cases(2):
        row, slot = balance(counts, rows, cap, "none")
        h = -(-counts.size // rows)
        assert (row * h + slot).tolist() == list(range(counts.size))


def test_pair_joins_the_densest_with_the_sparsest() -> None:
    for counts, rows, cap in cases(3):
        row, slot = balance(counts, rows, cap, "pair")
        h = -(-counts.size // (2 * rows))
        tiles = [(key(counts[i : i + h].sum()), -i) for i in range(0, 2 * rows * h, h)]  # empty ones sum to 0
        ranked = [-first for _, first in sorted(tiles, reverse=True)]
        for i in range(rows):
            for first, base in ((ranked[i], 0), (ranked[2 * rows - 1 - i], h)):
                units = range(first, min(first + h, counts.size))
                assert all(row[u] == i and slot[u] == base + u - first for u in units)


def test_lpt_gives_the_largest_to_the_least_loaded_open_row() -> None:
    for counts, rows, cap in cases(4):
        row, slot = balance(counts, rows, cap, "lpt")
        loads, held = [0] * rows, [0] * rows
        for unit in sorted(range(counts.size), key=lambda u: (-key(counts[u]), u)):
            chosen = min((r for r in range(rows) if held[r] < cap), key=lambda r: (loads[r], r))
            assert (row[unit], slot[unit]) == (chosen, held[chosen])
            loads[chosen] += int(counts[unit])
            held[chosen] += 1
        assert row_loads(counts, row, rows).tolist() == loads


def test_lpt_is_within_a_third_of_the_optimum() -> None:
    """Graham's bound, 4/3 - 1/(3R) times the optimum, which is found by trying everything."""
    rng, worst = np.random.default_rng(5), 1.0
    for _ in range(40):
        rows, n = int(rng.integers(2, 4)), int(rng.integers(2, 8))
        counts = rng.integers(1, 12, n)
        best = min(max(row_loads(counts, np.array(p), rows)) for p in product(range(rows), repeat=n))
        row, _ = balance(counts, rows, n, "lpt")
        ratio = row_loads(counts, row, rows).max() / best
        assert ratio <= 4 / 3 - 1 / (3 * rows) + 1e-12
        worst = max(worst, ratio)
    assert worst > 1, "no case told LPT from the optimum"
    row, _ = balance(np.array([3, 3, 2, 2, 2]), 2, 5, "lpt")  # the bound is reached: 7 where 6 is possible
    assert row_loads(np.array([3, 3, 2, 2, 2]), row, 2).max() == 7


def test_lpt_is_a_list_schedule() -> None:
    for counts, rows, _ in cases(6):
        row, _ = balance(counts, rows, counts.size, "lpt")
        loads = row_loads(counts, row, rows)
        assert loads.max() <= counts.sum() / rows + (1 - 1 / rows) * counts.max() + 1e-6
        assert loads.max() - loads.min() <= counts.max()


def test_ties_go_by_index() -> None:
    assert balance(np.full(6, 7), 3, 2, "lpt")[0].tolist() == [0, 1, 2, 0, 1, 2]
    assert balance(np.zeros(4), 3, 3, "lpt")[0].tolist() == [0, 0, 0, 1]
    assert balance(np.full(6, 7), 3, 2, "pair")[0].tolist() == [0, 1, 2, 2, 1, 0]
    assert balance(np.full(6, 7), 3, 2, "pair")[1].tolist() == [0, 0, 0, 1, 1, 1]


def test_nothing_and_one() -> None:
    for policy in Policy:
        row, slot = balance(np.zeros(0, np.int64), 4, 0, policy)
        assert row.shape == slot.shape == (0,)
        assert [a.tolist() for a in balance([9], 4, 1, policy)] == [[0], [0]]


def test_loads_and_imbalance() -> None:
    assert row_loads([5, 6, 7], [2, 0, 2], 4).tolist() == [6, 0, 12, 0]
    assert imbalance(np.array([6, 0, 12, 0])) == pytest.approx(12 / 4.5 - 1)
    assert imbalance(np.array([3, 3])) == 0 and imbalance(np.zeros(5)) == 0


def test_cycles_are_those_of_the_docstring() -> None:
    for rows in (1, 2, 3, 4, 6, 8, 16):
        for n in range(1, 200):
            h = -(-n // (2 * rows))
            m = -(-n // h)
            assert balance_cycles(n, rows, "none") == n + 8
            assert balance_cycles(n, rows, "pair") == n + m * h + 16
            assert balance_cycles(n, rows, "lpt") == n + 8
        assert all(balance_cycles(0, rows, policy) == 2 for policy in Policy)


def test_policies_by_name_and_number() -> None:
    for policy in Policy:
        assert policy_of(policy) is policy_of(int(policy)) is policy_of(policy.name.lower()) is policy


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balance([1, 2, 3], 2, 1, "lpt"), "3 units do not fit 2 rows of at most 1"),
        (lambda: balance([1] * 5, 4, 2, "pair"), None),
        (lambda: balance([1] * 9, 4, 3, "pair"), "pairing 9 units on 4 rows needs 4 slots a row, the cap is 3"),
        (lambda: balance([1], 0, 1, "none"), "rows must be at least 1, not 0"),
        (lambda: balance([1], 1, -1, "none"), "cap must be at least 0, not -1"),
        (lambda: balance([1, -2], 1, 2, "none"), "counts must be between 0 and 65535, not -2 to 1"),
        (lambda: balance([1, 65536], 1, 2, "none"), "counts must be between 0 and 65535, not 1 to 65536"),
        (lambda: balance([[1]], 1, 2, "none"), "counts must have one dimension, not 2"),
        (lambda: balance([1], 1, 1, 3), "policy must be one of none, pair, lpt, not 3"),
        (lambda: policy_of("LPT"), "policy must be one of none, pair, lpt, not 'LPT'"),
        (lambda: balance_cycles(-1, 4, 0), "n must be at least 0, not -1"),
        (lambda: balance_cycles(1, 0, 0), "rows must be at least 1, not 0"),
        (lambda: RowQueue(1), "rows must be at least 2, not 1"),
        (lambda: load_bits(48), "units must be a power of two, not 48"),
    ],
)
def test_messages(call, message: str | None) -> None:
    if message is None:
        call()  # the second half of a row may be missing: two slots are enough
        return
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("rows", (2, 3, 6, 7, 16, 63, 64))
def test_reciprocal_divides_exactly(rows: int) -> None:
    multiplier, shift = reciprocal(rows, 4096)
    assert all((x * multiplier) >> shift == x // rows for x in range(4096))


@pytest.mark.parametrize("rows", (2, 3, 16, 64))
def test_queue_equals_a_sorted_list(rows: int) -> None:
    results = run_bench(lambda: RowQueue(rows), "row_queue", "tb.tb_row_queue", parameters={"rows": rows})
    assert results.tests == 3


@pytest.mark.parametrize("name", CONFIGS)
def test_unit_equals_golden(name: str) -> None:
    cfg = CONFIGS[name]
    assert run_bench(lambda: Balancer(cfg), "balancer", "tb.tb_balancer", parameters={"config": cfg}).tests == 7
