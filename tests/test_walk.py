"""The law of rows that look ahead, against a row that is stepped cycle by cycle."""

import numpy as np
import pytest

from arch.config import PRESETS
from golden.shape import LayerShape
from golden.tile_search import Room, choose, wide_units
from golden.walk import looked_ahead


def stepped(words: list[int]) -> list[int]:
    """Start of every word of a row, -1 of one passed over; then the row's end. A word waits while one is under way."""
    starts, waiting, left, now = [-1] * len(words), 0, 0, -1
    while left > 1 or waiting < len(words):
        if left <= 1:  # nothing is under way, or this is its last cycle
            starts[waiting], left = now + 1, max(words[waiting], 1)
            waiting += 1
        else:
            left -= 1
            waiting += words[waiting : waiting + 1] == [0] and waiting + 1 < len(words)
        now += 1
    return [*starts, now + left]


@pytest.mark.parametrize("density", (0.0, 0.1, 0.4, 0.7, 1.0))
def test_law_of_looking_ahead(density: float) -> None:
    rng = np.random.default_rng(int(10 * density))
    for _ in range(60):
        row = rng.integers(0, 4, int(rng.integers(1, 60)))
        cycles = np.where(rng.random(len(row)) < density, rng.integers(1, 6, len(row)), 0)
        taken = looked_ahead(row, cycles)
        for r in np.unique(row):
            *starts, end = stepped(cycles[row == r].tolist())
            mine = taken[row == r]
            walked = [n for n in range(len(mine)) if n + 1 == len(mine) or cycles[row == r][n]]
            assert mine.sum() == end
            assert [mine[:n].sum() for n in walked] == [starts[n] for n in walked]


def test_no_row_and_no_word() -> None:
    nothing = np.zeros(0, np.int64)
    assert looked_ahead(nothing, nothing).tolist() == []
    assert looked_ahead(np.array([7]), np.array([0])).tolist() == [1]


def test_units_are_chosen_by_price() -> None:
    cnn, room = PRESETS["cnn"], Room(0.19, 0.125, 1.0, 1)
    few, small = LayerShape(64, 64, 32, 32, (3, 3), 1, 1), LayerShape(512, 512, 2, 2, (3, 3), 1, 1)
    assert choose(cnn, few, room, True).backward.wide == 0  # 64 channels want many units
    assert choose(cnn, small, room, True).backward.wide == 1  # short words want large ones
    assert wide_units(cnn, 512, 64, 0.04, 1) == 1 and wide_units(cnn, 64, 64, 0.5, 4) == 0
    assert wide_units(cnn.with_(block_k=16, lane_group=2), 512, 64, 0.04, 1) == 0, (
        "a word of one lane group has no pairs"
    )
