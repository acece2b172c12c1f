"""Random working sets for the benches of a row: ragged, empty, dense, of one segment or several."""

from __future__ import annotations

from typing import Any

import numpy as np

from arch.command import Phase
from arch.config import Config
from golden.csb import Geometry, Region
from tb.box_jobs import Fields, anything, places, strided, sub_batches, taps_of, tile, unused
from tb.row_model import Job


class NoRoom(ValueError):
    """The job's operands, masks or partial sums do not fit the configuration."""


def random_job(
    cfg: Config,
    rng: np.random.Generator,
    phase: Phase,
    *,
    positions: int = 1,
    kernel: tuple[int, int] = (1, 1),
    boxes: str = "sub-batches",
    density: float = 0.3,
    segments: int = 1,
    words: int = 1,
    records: int = 3,
    rows: int = 2,
    missing: tuple[int, int] | None = None,
    bias: bool | None = None,
    depthwise: bool = False,
    dense_visits: bool = False,
    empty_row: int = -1,
    at: tuple[int, int] | None = None,
    wide: int | None = None,
    **more: int,
) -> Job:
    """A job that fits a row of `cfg`, its units dealt at random to `rows` rows, none of them to `empty_row`.

    Args:
        cfg: configuration.
        rng: generator.
        phase: FW, BW or WU (of one segment).
        positions: of the tile; at most so many where `boxes` chooses them.
        kernel: rows and columns of the filter.
        boxes: "sub-batches" (one tap), "tile" of a random map, or "any".
        density: share of the positions that are stored.
        segments: of channels.
        words: mask words of a tap; with several taps rounded up to a power of two.
        records: block rows; a row takes as many units as it has partial sums for.
        rows: that units are dealt to, from row 0 on.
        missing: channels (output, input) by which the last block row and the last segment are short, random if None.
        bias: whether the last input channel is one; random if None.
        depthwise: FW and WU with one input channel.
        dense_visits: the regenerated weights are not zero.
        empty_row: a row without units.
        at: block coordinates of the first block; otherwise at random.
        wide: BW: whether a unit is two lane groups; random if None.
        more: further attributes of `Job`.

    Raises:
        NoRoom: operands, masks or units do not fit.
    """
    taps = kernel[0] * kernel[1]
    blocks_of_tap = 1 << (words - 1).bit_length() if taps > 1 else words
    blocks = 8192 // cfg.block_k - records, 8192 // cfg.block_c - segments * blocks_of_tap  # coordinates have 13 bits
    kb, cb = at if at is not None else rng.integers(0, np.array(blocks) + 1).tolist()
    k0, c0, width = kb * cfg.block_k, cb * cfg.block_c, blocks_of_tap * cfg.block_c
    short = missing or (int(rng.integers(0, cfg.block_k)), int(rng.integers(0, width)))
    short = (short[0], width - 1) if depthwise else short
    k_end, last_end = k0 + records * cfg.block_k - short[0], c0 + segments * width - short[1]
    has_bias = last_end > c0 + 1 and (bool(rng.random() < 0.7) if bias is None else bias)
    bias_tap = int(rng.integers(taps)) if has_bias and taps > 1 else -1
    regions = []
    for q in range(segments):
        end = min(c0 + (q + 1) * width, last_end)
        only = bias_tap if q == segments - 1 else -1
        geometry = Geometry(cfg, k0, k_end, c0 + q * width, end, blocks_of_tap * taps, taps, only)
        shape = (k_end - k0, end - geometry.c0) + ((taps,) if taps > 1 else ())
        mask = rng.random(shape) < density if cfg.sparse else None
        regions.append(Region.from_dense(geometry, values(cfg, rng, shape), mask))
    g = regions[0].geometry
    channels = records * cfg.block_k if phase == Phase.BW or depthwise else segments * width
    if segments * records * g.mask_beats > cfg.mask_beats:
        raise NoRoom(f"{segments} x {records} x {g.mask_beats} mask beats, room for {cfg.mask_beats}")
    beats = sum(int(r.value_beats().sum()) for r in regions)
    if beats > cfg.value_beats and (taps > 1 or not cfg.sparse):
        raise NoRoom(f"{beats} value beats, room for {cfg.value_beats}")
    may_be_wide = phase == Phase.BW and cfg.groups_per_word > 1
    wide = int(may_be_wide and (rng.random() < 0.5 if wide is None else wide))
    units = segments * g.groups >> wide if phase == Phase.BW else records
    lanes, each = lanes_of(cfg, phase) << wide, -(-units // max(1, rows - (empty_row >= 0)))
    fields = _boxes(cfg, rng, phase, boxes, kernel, positions, channels, each, lanes)
    job = Job(
        cfg,
        phase,
        regions,
        deal(cfg, rng, lanes, units, fields["positions"], rows, empty_row),
        unused(rng, fields),
        last_end - (has_bias and phase == Phase.BW),
        scale=int(rng.integers(1, 1 << 16)) if dense_visits else 0,
        dense=not cfg.sparse,
        salt=int(rng.integers(1 << 31, 1 << 32)),
        step=int(rng.integers(0, 1 << 10)),
        command=int(rng.integers(0, 512)),
        depthwise=depthwise,
        wide=wide,
        log2_cycles=int(rng.integers(0, 8)),
    )
    for name, value in more.items():
        setattr(job, name, value)
    return job


def _boxes(
    cfg: Config,
    rng: np.random.Generator,
    phase: Phase,
    kind: str,
    kernel: tuple[int, int],
    positions: int,
    channels: int,
    units: int,
    lanes: int,
) -> Fields:
    """Boxes of a kind that fit the gather bank, and the partial sums of a row that has so many units."""
    most_patch = cfg.gather_depth // channels
    if kind == "sub-batches":
        if positions > most_patch:
            raise NoRoom(f"{positions} x {channels} gathered operands, room for {cfg.gather_depth}")
        fields, patch = sub_batches(positions, 1), positions
    else:
        most = min(positions, 1 << max(0, (cfg.psum_depth // (lanes * units)).bit_length() - 1))
        if most_patch < 1 or lanes * units > cfg.psum_depth:
            raise NoRoom(f"{channels} channels, {units} units of {lanes} lanes")
        room = most, most_patch
        fields = tile(rng, kernel, phase == Phase.BW, *room) if kind == "tile" else anything(rng, kernel, *room)
        patch = 1 + max((g for tap in range(taps_of(fields)) for g, _ in places(fields, tap)), default=0)
    return strided(fields, channels + int(rng.integers(0, cfg.gather_depth // patch - channels + 1)))


def lanes_of(cfg: Config, phase: Phase) -> int:
    """Partial sums (WU: stationary words) of a unit and a position."""
    return {Phase.FW: cfg.block_k, Phase.BW: cfg.lane_group, Phase.WU: cfg.block_k // cfg.stationary_pack}[phase]


def fitting(cfg: Config, rng: np.random.Generator, phase: Phase, **shape: Any) -> list[Job]:
    """A random job, or none if this shape does not fit."""
    try:
        return [random_job(cfg, rng, phase, **shape)]
    except NoRoom:
        return []


def deal(
    cfg: Config, rng: np.random.Generator, lanes: int, units: int, positions: int, rows: int, empty_row: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and slots of units, at random; a row has no more units than room."""
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
