"""Which positions a filter tap meets: the geometry of a convolution, cut in tiles.

Along one axis, output position o meets input position i = o * stride - padding + tap. What a working set computes is a
tile of one of the two (outputs in FW and WU, inputs in BW); what it loads is the patch of the other that the tile's
positions meet. For each tap the positions that exist on both sides form a range, so a tap visits a *box* of images x
rows x columns, and what falls into the padding is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arch.command import MOST_KERNEL


@dataclass(frozen=True)
class Axis:
    """Rows or columns of a tile and of its patch.

    Attributes:
        first, count, step: positions of the patch: first, first + step, ...; at least one.
        gather_step, psum_step: positions of the patch, of the tile, from one visited position to the next.
        taps: of every tap: first position of the patch, first position of the tile, number of positions (0 for none).
    """

    first: int
    count: int
    step: int
    gather_step: int
    psum_step: int
    taps: tuple[tuple[int, int, int], ...]

    @property
    def visits(self) -> int:
        """Positions of all taps."""
        return sum(n for _, _, n in self.taps)


POINT = Axis(0, 1, 1, 1, 1, ((0, 0, 1),))
"""A single position and a single tap: what a fully connected layer has of either axis."""


def outputs_of(size: int, kernel: int, stride: int, padding: int) -> int:
    """Output positions along an axis of `size` inputs.

    Raises:
        ValueError: the kernel is larger than the padded input; names both.
    """
    if kernel > size + 2 * padding:
        raise ValueError(f"kernel of {kernel} on {size} positions padded to {size + 2 * padding}: it must fit")
    return (size + 2 * padding - kernel) // stride + 1


def forward_axis(
    size: int, kernel: int, stride: int, padding: int, first: int, count: int, whole: bool = False
) -> Axis:
    """A tile of outputs first .. first + count - 1 of an axis of `size` inputs.

    With `whole` the patch is the whole axis.
    """
    spans = []  # of every tap: first and last output whose input exists
    for tap in range(kernel):
        low = max(first, -(-(padding - tap) // stride))
        high = min(first + count - 1, (size - 1 + padding - tap) // stride)
        spans.append((low, high))
    inputs = [o * stride - padding + tap for tap, (a, b) in enumerate(spans) if a <= b for o in (a, b)]
    begin, end = (0, size - 1) if whole else (min(inputs), max(inputs)) if inputs else (0, 0)
    step = stride if kernel == 1 and not whole and (end - begin) % stride == 0 else 1
    taps = [
        ((a * stride - padding + tap - begin) // step, a - first, b - a + 1) if a <= b else (0, 0, 0)
        for tap, (a, b) in enumerate(spans)
    ]
    return Axis(begin, (end - begin) // step + 1, step, stride // step, 1, tuple(taps))


def backward_axis(
    outputs: int, kernel: int, stride: int, padding: int, first: int, count: int, whole: bool = False
) -> Axis:
    """A tile of inputs first .. first + count - 1 of an axis of `outputs` outputs, which are what is gathered.

    With `whole` the patch is the whole axis.
    """
    spans = []  # of every tap: first and last output that it brings into the tile
    for tap in range(kernel):
        low = max(0, -(-(first + padding - tap) // stride))
        high = min(outputs - 1, (first + count - 1 + padding - tap) // stride)
        spans.append((low, high))
    met = [u for a, b in spans if a <= b for u in (a, b)]
    begin, end = (0, outputs - 1) if whole else (min(met), max(met)) if met else (0, 0)
    taps = [
        (a - begin, a * stride - padding + tap - first, b - a + 1) if a <= b else (0, 0, 0)
        for tap, (a, b) in enumerate(spans)
    ]
    return Axis(begin, end - begin + 1, 1, 1, stride, tuple(taps))


def box_fields(rows: Axis, cols: Axis, images: int, tile: tuple[int, int], gather_stride: int) -> dict[str, int]:
    """The fields of a command that describe its boxes.

    Args:
        rows: of the tile.
        cols: likewise.
        images: sub-batches of the tile.
        tile: rows and columns of the tile.
        gather_stride: operands from position to position of the patch in the gather bank.
    """
    row = cols.count * gather_stride
    out = dict(
        kernel_rows=len(rows.taps),
        kernel_cols=len(cols.taps),
        images=images,
        gather_image=rows.count * row if images > 1 else 0,
        gather_row=rows.gather_step * row,
        gather_col=cols.gather_step * gather_stride,
        psum_image=tile[0] * tile[1],
        psum_row=rows.psum_step * tile[1],
        psum_col=cols.psum_step,
        gather_stride=gather_stride,
        positions=images * tile[0] * tile[1],
        log2_positions=(images * tile[0] * tile[1] - 1).bit_length(),
    )
    for name, axis, gather, psum in (("row", rows, row, tile[1]), ("col", cols, gather_stride, 1)):
        for tap, (g, p, n) in enumerate(axis.taps):
            out |= {f"{name}{tap}_gather": g * gather, f"{name}{tap}_psum": p * psum, f"{name}{tap}_count": n}
    return out


@dataclass(frozen=True)
class Boxes:
    """The boxes of a command, tap by tap (row of the filter, then column).

    Attributes:
        counts: positions of every tap, int64 (taps,).
        gather: of every tap, operands (of channel 0) it gathers, in the order of the visit.
        psum: likewise, positions of the tile it adds to.
        positions: of the tile. stride: operands from position to position of the patch.
    """

    counts: np.ndarray
    gather: tuple[np.ndarray, ...]
    psum: tuple[np.ndarray, ...]
    positions: int
    stride: int

    @cached_property
    def met(self) -> np.ndarray:
        """Position of the patch that every tap brings to every position of the tile, int64 (taps, positions).

        -1 where it brings none.
        """
        met = np.full((len(self.gather), self.positions), -1)
        for tap, (patch, place) in enumerate(zip(self.gather, self.psum, strict=True)):
            met[tap, place] = patch // self.stride
        return met


def boxes(c: dict[str, int]) -> Boxes:
    """The boxes that a command describes; those of a command are made once."""
    known = _KNOWN.get(id(c))
    if known is None or known[0] is not c:
        if len(_KNOWN) > MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[id(c)] = c, _boxes(c)
    return known[1]


_KNOWN: dict[int, tuple[dict[str, int], Boxes]] = {}  # by identity; the command is kept, so that it stays its own
MOST_KNOWN = 1 << 14


def _boxes(c: dict[str, int]) -> Boxes:
    gather, psum = [], []
    image = np.arange(c["images"])
    for row in range(c["kernel_rows"]):
        for col in range(c["kernel_cols"]):
            places = []
            for what in ("gather", "psum"):
                first = c.get(f"row{row}_{what}", 0) + c.get(f"col{col}_{what}", 0)
                rows = np.arange(c[f"row{row}_count"]) * c[f"{what}_row"]
                cols = np.arange(c[f"col{col}_count"]) * c[f"{what}_col"]
                places.append(first + np.add.outer(np.add.outer(image * c[f"{what}_image"], rows), cols).ravel())
            gather.append(places[0])
            psum.append(places[1])
    counts = np.array([len(g) for g in gather])
    return Boxes(counts, tuple(gather), tuple(psum), c["positions"], c["gather_stride"])


def check_kernel(rows: int, cols: int) -> None:
    """Refuse a filter that a command has no room for, naming the bound."""
    if not (1 <= rows <= MOST_KERNEL and 1 <= cols <= MOST_KERNEL):
        raise ValueError(f"a filter has 1x1 to {MOST_KERNEL}x{MOST_KERNEL} taps, not {rows}x{cols}")
