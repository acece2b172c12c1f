"""Forward, backward and weight update of one working set: matrices in, sums and row lists out.

The three products are written as what they mean (matrix products over dense tiles); the row lists
say which positions the machine visits and in which order. Sparse terms that are not visited are zero
in the matrices, so both views agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arch.config import Config
from golden import regenerate
from golden.csb import Region
from golden.requantise import requantise
from golden.walk import Walk
from golden.weight_update import update

if TYPE_CHECKING:
    from golden.machine import Settings

Assignment = tuple[np.ndarray, np.ndarray]


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
    weights[region.stored] = np.clip(weights[region.stored] + rounded, -top - 1, top)
    return weights


def as_matrix(region: Region, stored_order: np.ndarray) -> np.ndarray:
    """Stored order to a float64 matrix (records*Bk, words*Bc)."""
    g = region.geometry
    full = np.empty(g.positions, np.float64)
    full[g.flat] = stored_order
    return full.reshape(g.records * g.cfg.block_k, g.words * g.cfg.block_c)


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
    rows, visits, sources, base = [], [], [], 0
    for q, (region, tile) in enumerate(zip(regions, tiles, strict=True)):
        g = region.geometry
        y = tile @ _columns(x, q * c["c_step"], g.words * cfg.block_c)
        total = y if total is None else total + y
        visited = np.flatnonzero(g.valid) if dense_visits else region.stored
        rows.append(np.repeat(assignment[0][: g.records], g.words))
        visits.append(base + visited // cfg.mask_bits)
        sources.append((np.full(len(visited), q), visited))
        base += g.records * g.words
    assert total is not None
    walk = _walk(cfg, c, rows, visits, sources)
    return total.reshape(total.shape[0], c["positions"], cfg.columns), walk


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
    products, rows, visits, sources, base = [], [], [], [], 0
    for q, (region, tile) in enumerate(zip(regions, tiles, strict=True)):
        g = region.geometry
        products.append(tile.T @ _columns(x, 0, g.records * cfg.block_k))
        inside = g.c_of < c["c_end"]
        if dense_visits:
            visited = np.flatnonzero(g.valid & inside)
        else:
            visited = region.stored[inside[region.stored]]
        record, group = np.divmod(g.group_of[visited], g.groups)
        word = group * g.records + record
        order = np.argsort(word, kind="stable")
        units = assignment[0][q * g.groups : (q + 1) * g.groups]
        rows.append(np.repeat(units, g.records))
        keep = group[order] < len(units)
        visits.append(base + word[order][keep])
        sources.append((np.full(int(keep.sum()), q), visited[order][keep]))
        base += len(units) * g.records
    walk = _walk(cfg, c, rows, visits, sources)
    total = np.concatenate(products)
    return total.reshape(total.shape[0], c["positions"], cfg.columns), walk


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
    g, period = region.geometry, 1 << s.period_log2
    had = np.zeros(g.positions, bool)
    had[region.stored] = True
    if s.dense:
        visited = region.stored
    else:
        words = regenerate.explored(g.kb, g.cb, 0, step, period)
        wanted = (had.reshape(-1, cfg.mask_bits) | words[:, None]).reshape(-1) & g.valid
        visited = np.flatnonzero(wanted)
    gradient = _columns(dy, 0, g.records * cfg.block_k) @ _columns(x, 0, g.words * cfg.block_c).T
    old = np.zeros(g.positions, np.int64)
    old[region.stored] = region.delta
    dot = gradient.reshape(-1)[g.flat[visited]].astype(np.int64)
    new, kept, saturated = update(old[visited], dot, s.learning, shift, theta, cfg.delta_bits, s.dense)
    stored = visited[kept]
    before = had[visited]
    fresh = Region(g, stored, new[kept])
    ones = fresh.per_word()
    if not s.dense:
        following = regenerate.explored(g.kb, g.cb, 0, step + 1, period)
        ones = np.where(following, g.valid_per_word, ones)
    fresh.visits_next = ones.reshape(g.records, g.words).sum(1)
    walk = _walk(
        cfg,
        c,
        [np.repeat(assignment[0][: g.records], g.words)],
        [visited // cfg.mask_bits],
        [(np.zeros(len(visited), int), visited)],
    )
    return Updated(
        fresh,
        walk,
        int(kept.sum()),
        len(visited),
        int((kept & ~before).sum()),
        int((before & ~kept).sum()),
        int(np.sum(saturated)),
    )


def _walk(
    cfg: Config,
    c: dict[str, int],
    rows: list[np.ndarray],
    visits: list[np.ndarray],
    sources: list[tuple[np.ndarray, np.ndarray]],
) -> Walk:
    return Walk(
        cfg,
        c["positions"],
        np.concatenate(rows),
        np.concatenate(visits),
        (np.concatenate([s[0] for s in sources]), np.concatenate([s[1] for s in sources])),
    )
