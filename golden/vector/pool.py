"""Pooling over windows, forward and backward, as sums that `emit` rounds.

The gradient is in gather form: an input position adds up, over the windows that contain it, what each
sends it. Max sends its gradient to the first maximum of the window in row-major order, found again from
the input, so no indices are stored; average sends everybody the same. Padding takes part in neither:
a window is what of it lies inside; the factor of an average is a constant of the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from golden.vector.real import Integers


@dataclass(frozen=True)
class Windows:
    """Geometry of a pool: sizes of input, output and window, step, padding."""

    in_height: int
    in_width: int
    out_height: int
    out_width: int
    window_height: int
    window_width: int
    step: int
    padding: int

    @classmethod
    def of(cls, command: dict[str, int]) -> Windows:
        """That of a command."""
        return cls(**{name: command[name] for name in cls.__annotations__})

    def inside(self, y: int, x: int) -> list[tuple[int, int]]:
        """Input positions of a window, row by row."""
        top, left = y * self.step - self.padding, x * self.step - self.padding
        rows = range(max(0, top), min(self.in_height, top + self.window_height))
        columns = range(max(0, left), min(self.in_width, left + self.window_width))
        return [(r, c) for r in rows for c in columns]

    def outputs(self) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """All windows, row by row."""
        for y in range(self.out_height):
            for x in range(self.out_width):
                yield y, x, self.inside(y, x)

    def members(self) -> int:
        """Input positions of all windows together."""
        return sum(len(inside) for _, _, inside in self.outputs())

    def covered(self) -> int:
        """Input positions in at least one window."""
        return len({place for _, _, inside in self.outputs() for place in inside})


def pool(x: Integers, windows: Windows, factor: int, average: bool) -> Integers:
    """Sums of a pool: factor times the largest element, or times each of them.

    Args:
        x: (batches, in_height, in_width, ...).
        windows: geometry.
        factor: coefficient a.
        average: average, else max.

    Returns:
        (batches, out_height, out_width, ...).
    """
    out = np.zeros((len(x), windows.out_height, windows.out_width, *x.shape[3:]), np.int64)
    for row, column, inside in windows.outputs():
        elements = np.stack([x[:, r, c] for r, c in inside])
        out[:, row, column] = factor * (elements.sum(axis=0) if average else elements.max(axis=0))
    return out


def unpool(x: Integers | None, g: Integers, windows: Windows, factor: int) -> Integers:
    """Sums of the gradient of a pool.

    Args:
        x: input of a max pool, (batches, in_height, in_width, ...); None for an average.
        g: gradient of its output, (batches, out_height, out_width, ...).
        windows: geometry.
        factor: coefficient a.

    Returns:
        (batches, in_height, in_width, ...).
    """
    out = np.zeros((len(g), windows.in_height, windows.in_width, *g.shape[3:]), np.int64)
    for row, column, inside in windows.outputs():
        if x is not None:
            first = np.stack([x[:, r, c] for r, c in inside]).argmax(axis=0)
        for place, (r, c) in enumerate(inside):
            sent = g[:, row, column] if x is None else np.where(first == place, g[:, row, column], 0)
            out[:, r, c] += factor * sent
    return out
