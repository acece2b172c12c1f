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
from golden.csb import Region, update_cycles
from golden.requantise import requantise
from golden.walk import Walk
from golden.weight_update import update

if TYPE_CHECKING:
    from golden.machine import Settings

Assignment = Sequence[np.ndarray]  # (row, slot) of every unit
WalkParts = tuple[list[np.ndarray], list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]


class LateWalk(Walk):
    """Row lists that are made when first asked for: training without timing never asks."""

    def __init__(self, cfg: Config, positions: int, make: Callable[[], WalkParts], passed: int = 0) -> None:
        """`make` gives, segment by segment, rows of words, words of visits and sources of visits."""
        self.cfg, self.positions, self.passed, self._make = cfg, positions, passed, make

    @cached_property
    def _parts(self) -> WalkParts:
        return self._make()

    @cached_property
    def word_row(self) -> np.ndarray:  # type: ignore[override]
        """Row of every word."""
        return np.concatenate(self._parts[0])

    @cached_property
    def visit_word(self) -> np.ndarray:  # type: ignore[override]
        """Word of every visited weight."""
        return np.concatenate(self._parts[1])

    @cached_property
    def visit_source(self) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        """(segment index, position) of every visited weight."""
        segments, positions = zip(*self._parts[2], strict=True)
        return np.concatenate(segments), np.concatenate(positions)


def read_weights(region: Region, scale: int, salt: int) -> np.ndarray:
    """Mantissas of every position of a region in stored order: W0 decayed plus the tracked update.

    Returns:
        int64 of shape (positions,), zero at invalid positions.
    """
    g, bits = region.geometry, region.geometry.cfg.operand_bits
    if scale:
        if salt not in g.normals:
            g.normals[salt] = np.where(g.valid, regenerate.normal(g.k_of, g.c_of, 0, salt), 0)
        weights = regenerate.scaled(g.normals[salt], scale, bits)
    else:
        weights = np.zeros(g.positions, np.int64)
    top = (1 << bits - 1) - 1
    rounded = requantise(region.delta, bits, bits + 1)[0]  # one bit more: only the sum saturates
    if len(region.stored) == g.positions:
        return np.clip(weights + rounded, -top - 1, top)
    weights[region.stored] = np.clip(weights[region.stored] + rounded, -top - 1, top)
    return weights


def as_matrix(region: Region, stored_order: np.ndarray) -> np.ndarray:
    """Stored order to a float64 matrix (records*Bk, words*Bc)."""
    return region.geometry.to_matrix(stored_order).astype(np.float64)


def weight_matrix(region: Region, scale: int, salt: int) -> np.ndarray:
    """`read_weights` as a matrix, made once for a region."""
    if (scale, salt) not in region.matrices:
        region.matrices[scale, salt] = as_matrix(region, read_weights(region, scale, salt))
    return region.matrices[scale, salt]


def _columns(x: np.ndarray, first: int, width: int) -> np.ndarray:
    """Operands of `width` channels from `first` on as (width, positions*columns), zero-padded."""
    part = x[:, :, first : first + width].reshape(-1, min(width, max(x.shape[2] - first, 0)))
    out = np.zeros((width, part.shape[0]))
    out[: part.shape[1]] = part.T
    return out


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
        tiles: their weights as matrices, see `as_matrix`.
        x: gathered operand (positions, columns, channels).
        assignment: (row, slot) of every block row.
        dense_visits: every valid position is visited (regenerated weights are not zero yet).
    """
    total = None
    for q, (region, tile) in enumerate(zip(regions, tiles, strict=True)):
        y = tile @ _columns(x, q * c["c_step"], region.geometry.words * cfg.block_c)
        total = y if total is None else total + y
    assert total is not None

    def walk() -> WalkParts:
        rows, visits, sources, base = [], [], [], 0
        for q, region in enumerate(regions):
            g = region.geometry
            visited = g.valid_positions if dense_visits else region.stored
            rows.append(np.repeat(assignment[0][: g.records], g.words))
            visits.append(base + visited // cfg.mask_bits)
            sources.append((np.full(len(visited), q), visited))
            base += g.records * g.words
        return rows, visits, sources

    passed = regions[0].geometry.words if cfg.sparse and not dense_visits else 0
    return total.reshape(total.shape[0], c["positions"], cfg.columns), LateWalk(cfg, c["positions"], walk, passed)


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

    Arguments as `forward`; `x` is the gradient, `assignment` that of the lane groups. Bias channels
    (at or beyond the command's c_end) are not visited.
    """
    products = []
    for region, tile in zip(regions, tiles, strict=True):
        products.append(tile.T @ _columns(x, 0, region.geometry.records * cfg.block_k))
    total = np.concatenate(products)

    def walk() -> WalkParts:
        rows, visits, sources, base = [], [], [], 0
        for q, region in enumerate(regions):
            g = region.geometry
            visited = g.valid_positions if dense_visits else region.stored
            visited = visited[g.c_of[visited] < c["c_end"]]
            record, group = np.divmod(g.group_of[visited], g.groups)
            word = group * g.records + record
            order = np.argsort(word, kind="stable")
            units = assignment[0][q * g.groups : (q + 1) * g.groups]
            rows.append(np.repeat(units, g.records))
            keep = group[order] < len(units)
            visits.append(base + word[order][keep])
            sources.append((np.full(int(keep.sum()), q), visited[order][keep]))
            base += len(units) * g.records
        return rows, visits, sources

    return total.reshape(total.shape[0], c["positions"], cfg.columns), LateWalk(cfg, c["positions"], walk)


@dataclass
class Updated:
    """Outcome of a weight update."""

    region: Region
    walk: Walk
    kept: int
    seen: int
    adopted: int
    evicted: int
    saturated: int


def weight_update(
    cfg: Config,
    c: dict[str, int],
    region: Region,
    x: np.ndarray,
    dy: np.ndarray,
    assignment: Assignment,
    step: int,
    s: Settings,
    shift: int,
    theta: int,
) -> Updated:
    """Gather-dot for every wanted position, then DropBack: keep what has moved more than theta.

    Args:
        cfg: configuration.
        c: command fields.
        region: present blocks.
        x: gathered operand (positions, columns, channels).
        dy: stationary operand (positions, columns, channels).
        assignment: (row, slot) of every block row.
        step: training step (exploration).
        s: settings.
        shift: right shift that brings g * learning to units of the accumulated update.
        theta: threshold.
    """
    g, mask = region.geometry, (1 << s.period_log2) - 1
    had = np.zeros(g.positions, bool)
    had[region.stored] = True
    if s.dense:
        visited = region.stored
    else:
        words = (g.explore_word & np.uint32(mask)) == (step & mask)
        wanted = (had.reshape(-1, cfg.mask_bits) | words[:, None]).reshape(-1) & g.valid
        visited = np.flatnonzero(wanted)
    before = had[visited]
    gradient = _columns(dy, 0, g.records * cfg.block_k) @ _columns(x, 0, g.words * cfg.block_c).T
    dot = g.to_stored_order(gradient)[visited].astype(np.int64)
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
        fresh.cycles_next = update_cycles(g, visits, c["log2_positions"])

    def walk() -> WalkParts:
        rows = np.repeat(assignment[0][: g.records], g.words)
        return [rows], [visited // cfg.mask_bits], [(np.zeros(len(visited), int), visited)]

    return Updated(
        fresh,
        LateWalk(cfg, c["positions"], walk),
        int(np.count_nonzero(kept)),
        len(visited),
        int(np.count_nonzero(kept & ~before)),
        int(np.count_nonzero(before & ~kept)),
        int(np.count_nonzero(saturated)),
    )
