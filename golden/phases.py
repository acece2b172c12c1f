"""Forward, backward and weight update of one working set: matrices in, sums and row lists out.

The three products are written as what they mean (matrix products over dense tiles); the row lists
say which positions the machine visits and in which order. Sparse terms that are not visited are zero
in the matrices, so both views agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from arch.config import Config
from golden import regenerate
from golden.boxes import boxes
from golden.csb import Region, update_cycles
from golden.requantise import requantise
from golden.walk import Walk
from golden.weight_update import update

if TYPE_CHECKING:
    from golden.machine import Settings

Assignment = Sequence[np.ndarray]  # (row, slot) of every unit
WalkParts = dict[str, list[np.ndarray]]


class LateWalk(Walk):
    """Row lists that are made when first asked for: training without timing never asks."""

    def __init__(self, cfg: Config, make: Callable[[], WalkParts], passed: int = 0, ahead: bool = False) -> None:
        """`make` gives the arrays of `Walk`, segment by segment (visit_source as `segment` and `position`)."""
        self.cfg, self.passed, self.ahead, self._make = cfg, passed, ahead, make

    @cached_property
    def _parts(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate(parts) for name, parts in self._make().items()}

    word_row = property(lambda self: self._parts["word_row"])
    word_positions = property(lambda self: self._parts["word_positions"])
    word_stored = property(lambda self: self._parts["word_stored"])
    visit_word = property(lambda self: self._parts["visit_word"])

    @property
    def visit_source(self) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        """(segment index, position) of every visited weight."""
        return self._parts["segment"], self._parts["position"]


def read_weights(region: Region, scale: int, salt: int) -> np.ndarray:
    """Mantissas of every position of a region in stored order: W0 decayed plus the tracked update.

    Returns:
        int64 of shape (positions,), zero at invalid positions.
    """
    g, bits = region.geometry, region.geometry.cfg.operand_bits
    if scale:
        if salt not in g.normals:
            g.normals[salt] = np.where(g.valid, regenerate.normal(g.k_of, g.c_of, g.tap_of, salt), 0)
        weights = regenerate.scaled(g.normals[salt], scale, bits)
    else:
        weights = np.zeros(g.positions, np.int64)
    top = (1 << bits - 1) - 1
    rounded = requantise(region.delta, bits, bits)[0]
    if len(region.stored) == g.positions:
        return np.clip(weights + rounded, -top - 1, top)
    weights[region.stored] = np.clip(weights[region.stored] + rounded, -top - 1, top)
    return weights


def as_matrices(region: Region, stored_order: np.ndarray) -> np.ndarray:
    """Stored order to float64 matrices (taps, records*Bk, blocks*Bc)."""
    return region.geometry.to_matrices(stored_order).astype(np.float64)


def weight_matrices(region: Region, scale: int, salt: int) -> np.ndarray:
    """`read_weights` as matrices, made once for a region."""
    if (scale, salt) not in region.matrices:
        region.matrices[scale, salt] = as_matrices(region, read_weights(region, scale, salt))
    return region.matrices[scale, salt]


def _channels(x: np.ndarray, first: int, width: int) -> np.ndarray:
    """Operands of `width` channels from `first` on as float64 (width, positions, columns), zero-padded."""
    part = x[:, :, first : first + width]
    out = np.zeros((width, *x.shape[:2]))
    out[: part.shape[2]] = part.transpose(2, 0, 1)
    return out


def _unfolded(c: dict[str, int], x: np.ndarray, first: int, width: int) -> np.ndarray:
    """What every tap brings to every position of the tile, float64 (width, taps, positions, columns).

    Zero where it meets padding: so all taps together are one matrix product.
    """
    part = x[:, :, first : first + width]
    padded = np.zeros((width, x.shape[0] + 1, x.shape[1]))
    padded[: part.shape[2], :-1] = part.transpose(2, 0, 1)
    return np.take(padded, boxes(c).met, axis=1)  # -1, for none, is the last one: zero


def forward(
    cfg: Config,
    c: dict[str, int],
    regions: list[Region],
    tiles: list[np.ndarray],
    x: np.ndarray,
    assignment: Assignment,
    dense_visits: bool,
) -> tuple[np.ndarray, Walk]:
    """Gather-MAC over the stored blocks: y[k, u, n] of the working set, and its row lists.

    Args:
        cfg: configuration.
        c: command fields.
        regions: segments loaded.
        tiles: their weights as matrices, see `as_matrices`.
        x: gathered operand (positions, columns, channels).
        assignment: (row, slot) of every block row.
        dense_visits: every valid position is visited (regenerated weights are not zero yet).
    """
    shape = (tiles[0].shape[1], c["positions"], cfg.columns)
    total = np.zeros(shape)
    for q, (region, tile) in enumerate(zip(regions, tiles, strict=True)):
        if c.get("depthwise"):
            total += (tile[:, :, 0].T[:, :, None, None] * _unfolded(c, x, 0, shape[0])).sum(1)
            continue
        channels = region.geometry.c_end - region.geometry.c0
        operand = _unfolded(c, x, q * c["c_step"], channels)
        weights = tile[:, :, :channels].transpose(1, 2, 0).reshape(shape[0], -1)
        total += (weights @ operand.reshape(weights.shape[1], -1)).reshape(shape)
    counts = boxes(c).counts

    def walk() -> WalkParts:
        parts: WalkParts = {name: [] for name in _PARTS}
        base = 0
        for q, region in enumerate(regions):
            g = region.geometry
            visited = g.valid_positions if dense_visits else region.stored
            visited = visited[counts[g.tap_of[visited]] > 0]
            parts["word_row"].append(np.repeat(assignment[0][: g.records], g.words))
            parts["word_positions"].append(counts[g.tap_of_word])
            parts["word_stored"].append(region.per_word() > 0)
            parts["visit_word"].append(base + visited // cfg.mask_bits)
            parts["segment"].append(np.full(len(visited), q))
            parts["position"].append(visited)
            base += g.records * g.words
        return parts

    passed = regions[0].geometry.words if cfg.sparse and not dense_visits else 0
    return total, LateWalk(cfg, walk, passed)


_PARTS = ("word_row", "word_positions", "word_stored", "visit_word", "segment", "position")


def backward(
    cfg: Config,
    c: dict[str, int],
    regions: list[Region],
    tiles: list[np.ndarray],
    x: np.ndarray,
    assignment: Assignment,
    dense_visits: bool,
) -> tuple[np.ndarray, Walk]:
    """Gather-MAC over the transposed blocks: dx[c, u, n] of the working set, and its row lists.

    Arguments as `forward`; `x` is the gradient, `assignment` that of the units (lane groups, `wide` pairs of
    them). Bias channels (at or beyond the command's c_end) are not visited.
    """
    products = []
    for region, tile in zip(regions, tiles, strict=True):
        channels = region.geometry.k_end - region.geometry.k0
        operand = _unfolded(c, x, 0, channels)
        weights = tile[:, :channels].transpose(2, 1, 0).reshape(tile.shape[2], -1)
        product = weights @ operand.reshape(weights.shape[1], -1)
        products.append(product.reshape(-1, c["positions"], cfg.columns))
    counts, wide = boxes(c).counts, c.get("wide", 0)

    def walk() -> WalkParts:
        parts: WalkParts = {name: [] for name in _PARTS}
        base = 0
        for q, region in enumerate(regions):
            g = region.geometry
            each = g.groups >> wide
            visited = g.valid_positions if dense_visits else region.stored
            visited = visited[(g.c_of[visited] < c["c_end"]) & (counts[g.tap_of[visited]] > 0)]
            record, group = np.divmod(g.group_of[visited], g.groups)
            unit = group >> wide
            word = (unit * g.records + record) * g.taps + g.tap_of[visited]
            order = np.argsort(word, kind="stable")
            units = assignment[0][q * each : (q + 1) * each]
            words = len(units) * g.records * g.taps
            keep = unit[order] < len(units)
            parts["word_row"].append(np.repeat(units, g.records * g.taps))
            parts["word_positions"].append(np.tile(counts, len(units) * g.records))
            parts["word_stored"].append(np.ones(words, bool))
            parts["visit_word"].append(base + word[order][keep])
            parts["segment"].append(np.full(int(keep.sum()), q))
            parts["position"].append(visited[order][keep])
            base += words
        return parts

    return np.concatenate(products), LateWalk(cfg, walk, ahead=cfg.sparse)


@dataclass
class Updated:
    """Outcome of a weight update."""

    region: Region
    kept: int
    seen: int
    adopted: int
    evicted: int
    saturated: int


def wanted(cfg: Config, region: Region, step: int, s: Settings) -> np.ndarray:
    """Positions of which a weight update computes the gradient: stored ones, and all of explored words."""
    g, mask = region.geometry, (1 << s.period_log2) - 1
    if s.dense:
        return region.stored
    had = np.zeros(g.positions, bool)
    had[region.stored] = True
    words = (g.explore_word & np.uint32(mask)) == (step & mask)
    return np.flatnonzero((had.reshape(-1, cfg.mask_bits) | words[:, None]).reshape(-1) & g.valid)


def gradient(
    cfg: Config, c: dict[str, int], region: Region, x: np.ndarray, dy: np.ndarray, visited: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, Walk]:
    """Gather-dot of a tile: the exact gradient of every visited position, and the row lists.

    Args:
        cfg: configuration.
        c: command fields.
        region: present blocks.
        x: gathered operand (positions, columns, channels).
        dy: stationary operand (positions, columns, channels).
        visited: see `wanted`.
        rows: row of every block row.
    """
    g, counts = region.geometry, boxes(c).counts
    outputs, inputs = g.k_end - g.k0, g.c_end - g.c0
    ys, out = _channels(dy, 0, outputs), np.zeros(g._padded)
    if c.get("depthwise"):
        out[:, :outputs, 0] = (ys[:, None] * _unfolded(c, x, 0, outputs)).sum((2, 3)).T
    else:
        xs = _unfolded(c, x, 0, inputs).reshape(inputs * g.taps, -1)
        products = (ys.reshape(outputs, -1) @ xs.T).reshape(outputs, inputs, g.taps)
        out[:, :outputs, :inputs] = products.transpose(2, 0, 1)

    def walk() -> WalkParts:
        words = g.records * g.words
        return {
            "word_row": [np.repeat(rows[: g.records], g.words)],
            "word_positions": [counts[g.tap_of_word]],
            "word_stored": [np.ones(words, bool)],
            "visit_word": [visited // cfg.mask_bits],
            "segment": [np.zeros(len(visited), int)],
            "position": [visited],
        }

    return g.to_stored_order(out)[visited].astype(np.int64), LateWalk(cfg, walk)


def weight_update(
    cfg: Config,
    c: dict[str, int],
    region: Region,
    visited: np.ndarray,
    dot: np.ndarray,
    step: int,
    s: Settings,
    shift: int,
    theta: int,
) -> Updated:
    """DropBack: of what was visited keep what has moved more than theta.

    Args:
        cfg: configuration.
        c: command fields.
        region: present blocks.
        visited: positions, see `wanted`.
        dot: exact gradient of each.
        step: training step (exploration).
        s: settings.
        shift: right shift that brings g * learning to units of the accumulated update.
        theta: threshold.
    """
    g, mask = region.geometry, (1 << s.period_log2) - 1
    before = np.zeros(g.positions, bool)
    before[region.stored] = True
    before = before[visited]
    if len(visited) == len(region.stored):
        old = region.delta
    else:
        old = np.zeros(len(visited), np.int64)
        old[before] = region.delta
    new, kept, saturated = update(old, dot, s.learning, shift, theta, cfg.delta_bits, s.dense)
    fresh = Region(g, visited, new) if s.dense else Region(g, visited[kept], new[kept])
    if cfg.sparse:
        visits = fresh.per_word()
        if not s.dense:
            following = (g.explore_word & np.uint32(mask)) == (step + 1 & mask)
            visits = np.where(following, g.valid_per_word, visits)
        fresh.cycles_next = update_cycles(g, visits, c["log2_cycles"])
    return Updated(
        fresh,
        int(np.count_nonzero(kept)),
        len(visited),
        int(np.count_nonzero(kept & ~before)),
        int(np.count_nonzero(before & ~kept)),
        int(np.count_nonzero(saturated)),
    )
