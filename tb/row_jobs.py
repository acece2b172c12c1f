"""Random working sets for the benches of a row: ragged, empty, dense, of one segment or several."""

from __future__ import annotations

from typing import Any

import numpy as np

from arch.command import Phase
from arch.config import Config
from golden.csb import Geometry, Region
from tb.row_model import Job


class NoRoom(ValueError):
    """The job's operands, masks or partial sums do not fit the configuration."""


def random_job(
    cfg: Config,
    rng: np.random.Generator,
    phase: Phase,
    *,
    positions: int = 1,
    density: float = 0.3,
    segments: int = 1,
    words: int = 1,
    records: int = 3,
    rows: int = 2,
    missing: tuple[int, int] | None = None,
    dense_visits: bool = False,
    empty_row: int = -1,
    at: tuple[int, int] | None = None,
    **more: int,
) -> Job:
    """A job that fits a row of `cfg`, its units dealt at random to `rows` rows, none of them to `empty_row`.

    Args:
        cfg: configuration.
        rng: generator.
        phase: FW, BW or WU (of one segment).
        positions: U.
        density: share of the positions that are stored.
        segments: of channels.
        words: mask words of a record.
        records: block rows; a row takes as many units as it has partial sums for.
        rows: that units are dealt to, from row 0 on.
        missing: channels (output, input) by which the last block row and the last segment are short, random if None.
        dense_visits: the regenerated weights are not zero.
        empty_row: a row without units.
        at: block coordinates of the first block; otherwise at random.
        more: further attributes of `Job`.

    Raises:
        NoRoom: operands, masks or units do not fit.
    """
    blocks = 8192 // cfg.block_k - records, 8192 // cfg.block_c - segments * words  # coordinates have 13 bits
    kb, cb = at if at is not None else rng.integers(0, np.array(blocks) + 1).tolist()
    k0, c0, width = kb * cfg.block_k, cb * cfg.block_c, words * cfg.block_c
    short = missing or (int(rng.integers(0, cfg.block_k)), int(rng.integers(0, width)))
    k_end, last_end = k0 + records * cfg.block_k - short[0], c0 + segments * width - short[1]
    regions = []
    for q in range(segments):
        end = min(c0 + (q + 1) * width, last_end)
        geometry = Geometry(cfg, k0, k_end, c0 + q * width, end, words)
        shape = (k_end - k0, end - geometry.c0)
        mask = rng.random(shape) < density if cfg.sparse else None
        regions.append(Region.from_dense(geometry, values(cfg, rng, shape), mask))
    bias = int(phase == Phase.BW and last_end > c0 + 1 and rng.random() < 0.7)
    g = regions[0].geometry
    channels = records * cfg.block_k if phase == Phase.BW else segments * width
    if positions * channels > cfg.gather_depth:
        raise NoRoom(f"{positions} x {channels} gathered operands, room for {cfg.gather_depth}")
    if segments * records * g.mask_beats > cfg.mask_beats:
        raise NoRoom(f"{segments} x {records} x {g.mask_beats} mask beats, room for {cfg.mask_beats}")
    if not cfg.sparse and segments * records * (beats := int(regions[0].value_beats()[0])) > cfg.value_beats:
        raise NoRoom(f"{segments} x {records} x {beats} value beats, room for {cfg.value_beats}")
    stride = channels + int(rng.integers(0, max(1, cfg.gather_depth // positions - channels + 1)))
    job = Job(
        cfg,
        phase,
        regions,
        deal(cfg, rng, phase, segments * g.groups if phase == Phase.BW else records, positions, rows, empty_row),
        positions,
        stride if positions > 1 else int(rng.integers(0, 1 << 16)),
        last_end - bias,
        scale=int(rng.integers(1, 1 << 16)) if dense_visits else 0,
        dense=not cfg.sparse,
        salt=int(rng.integers(1 << 31, 1 << 32)),
        step=int(rng.integers(0, 1 << 10)),
        command=int(rng.integers(0, 512)),
    )
    for name, value in more.items():
        setattr(job, name, value)
    return job


def fitting(cfg: Config, rng: np.random.Generator, phase: Phase, **shape: Any) -> list[Job]:
    """A random job, or none if this shape does not fit."""
    try:
        return [random_job(cfg, rng, phase, **shape)]
    except NoRoom:
        return []


def deal(
    cfg: Config, rng: np.random.Generator, phase: Phase, units: int, positions: int, rows: int, empty_row: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and slots of units, at random; a row has no more units than room."""
    lanes = {Phase.FW: cfg.block_k, Phase.BW: cfg.lane_group, Phase.WU: cfg.block_k // cfg.stationary_pack}[phase]
    room = cfg.psum_depth // (lanes << (positions - 1).bit_length())
    places = [(row, slot) for row in range(rows) if row != empty_row for slot in range(room)]
    if units > len(places):
        raise NoRoom(f"{units} units, {len(places)} places")
    chosen = rng.permutation(len(places))[:units] if rng.random() < 0.5 else np.arange(units) * len(places) // units
    owner = np.array([places[n] for n in chosen], np.int64).reshape(units, 2)
    return owner[:, 0], owner[:, 1]


def values(cfg: Config, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Accumulated updates of every size; the ends of the range, zero and exact halves of an operand unit among them."""
    bits, half = cfg.delta_bits, 1 << cfg.operand_bits - 1
    top = 1 << bits - 1
    sized = rng.integers(-top, top, shape) >> rng.integers(0, bits, shape)
    tie = (2 * rng.integers(-half // 2, half // 2, shape) + 1) * half
    special = rng.choice([-top, top - 1, 0, -1, half, -half], shape)
    return np.choose(rng.choice(3, shape, p=[0.6, 0.3, 0.1]), [sized, tie, special])
