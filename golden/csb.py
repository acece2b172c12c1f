"""Compressed sparse blocks: geometry of a region, encoding to memory, decoding, both directions.

A region holds the weights (k0.., c0..) of one tile of one layer, all taps of its filters. *Stored order* is: record
(block row), tap, block, output channel within the block, input channel within the block; a mask word is a block of
one tap. Inside the golden model a region is the sorted list of its stored positions with their accumulated updates;
bytes are made only when a memory image is wanted.

A dense build (`Config.sparse` false) stores no masks but all positions, those that are no weights as zeros: the value
of a position is found by its number. It counts nothing: its header says the same for every record, and zero for lane
groups.

After the format of Procrustes (MICRO 2020), with one mask word of fixed width per block and no stored
block pointers: a reader counts ones instead (see docs/csb.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from arch.config import Config
from golden import regenerate


@dataclass(frozen=True)
class Geometry:
    """Shape of one region.

    Attributes:
        cfg: configuration (block and beat shapes).
        k0, k_end: output channels held, k_end exclusive; k0 is a multiple of block_k.
        c0, c_end: input channels held (bias included), c0 a multiple of block_c.
        words: mask words of a record, a multiple of taps; enough blocks for c0..c_end.
        taps: of a filter, R * S, row by row; with several, the blocks of a tap are a power of two.
        bias_tap: the only tap in which the last input channel exists, where that is a bias; -1 if it is in all.

    Raises:
        ValueError: an empty or misaligned range, or too few words; names the numbers.
    """

    cfg: Config
    k0: int
    k_end: int
    c0: int
    c_end: int
    words: int
    taps: int = 1
    bias_tap: int = -1

    def __post_init__(self) -> None:
        """Check alignment and that the words cover the channels."""
        if self.taps < 1 or self.words % self.taps or (self.taps > 1 and self.blocks & (self.blocks - 1)):
            raise ValueError(f"{self.words} mask words are not a power of two for each of {self.taps} taps")
        if not 0 <= self.k0 < self.k_end or self.k0 % self.cfg.block_k:
            raise ValueError(
                f"output channels {self.k0} to {self.k_end}: empty, or not aligned to block_k = {self.cfg.block_k}"
            )
        if not 0 <= self.c0 < self.c_end or self.c0 % self.cfg.block_c:
            raise ValueError(
                f"input channels {self.c0} to {self.c_end}: empty, or not aligned to block_c = {self.cfg.block_c}"
            )
        if self.blocks * self.cfg.block_c < self.c_end - self.c0:
            raise ValueError(
                f"{self.blocks} blocks of {self.cfg.block_c} channels do not cover {self.c_end - self.c0} channels"
            )

    def rows(self, first: int, count: int) -> Geometry:
        """Geometry of the records first .. first+count-1; the same object for the same range."""
        key = (first, count)
        if key not in self._parts:
            k0 = self.k0 + first * self.cfg.block_k
            k_end = min(self.k_end, k0 + count * self.cfg.block_k)
            self._parts[key] = replace(self, k0=k0, k_end=k_end)
        return self._parts[key]

    @cached_property
    def normals(self) -> dict[int, np.ndarray]:
        """Gaussian integers of every position by salt: a cache of golden.phases, filled where wanted."""
        return {}

    @cached_property
    def _parts(self) -> dict[tuple[int, int], Geometry]:
        return {}

    @property
    def blocks(self) -> int:
        """Blocks of a tap."""
        return self.words // self.taps

    @cached_property
    def records(self) -> int:
        """Block rows."""
        return -(-(self.k_end - self.k0) // self.cfg.block_k)

    @cached_property
    def mask_beats(self) -> int:
        """Mask beats of a record; none in a dense build."""
        return -(-self.words // self.cfg.masks_per_beat) if self.cfg.sparse else 0

    @cached_property
    def groups(self) -> int:
        """Lane groups."""
        return self.blocks * self.cfg.groups_per_word

    @cached_property
    def header_beats(self) -> int:
        """Beats of the header."""
        return -(-(1 + self.records + self.groups) // self.cfg.words_per_beat)

    @cached_property
    def record_bits(self) -> int:
        """Mask bits of a record."""
        return self.words * self.cfg.mask_bits

    @cached_property
    def positions(self) -> int:
        """Positions in stored order, invalid ones (ragged edges) included."""
        return self.records * self.record_bits

    @cached_property
    def k_of(self) -> np.ndarray:
        """Absolute output channel of every position, shape (positions,)."""
        i, _, _, kl, _ = self._axes()
        return (self.k0 + i * self.cfg.block_k + kl).ravel()

    @cached_property
    def c_of(self) -> np.ndarray:
        """Absolute input channel of every position, shape (positions,)."""
        _, _, b, _, cl = self._axes()
        return (self.c0 + b * self.cfg.block_c + cl).ravel()

    @cached_property
    def tap_of(self) -> np.ndarray:
        """Tap of every position, shape (positions,)."""
        return self._axes()[1].ravel()

    def _axes(self) -> tuple[np.ndarray, ...]:
        cfg = self.cfg
        shape = (self.records, self.taps, self.blocks, cfg.block_k, cfg.block_c)
        return tuple(np.broadcast_to(a, shape) for a in np.ogrid[tuple(slice(n) for n in shape)])

    @cached_property
    def valid(self) -> np.ndarray:
        """True where a position is a weight, shape (positions,)."""
        inside = (self.k_of < self.k_end) & (self.c_of < self.c_end)
        if self.bias_tap >= 0:
            inside &= (self.c_of < self.c_end - 1) | (self.tap_of == self.bias_tap)
        return inside

    @cached_property
    def flat(self) -> np.ndarray:
        """Index of every position in the padded array (taps, records*Bk, blocks*Bc)."""
        rows, columns = self.records * self.cfg.block_k, self.blocks * self.cfg.block_c
        return (self.tap_of * rows + self.k_of - self.k0) * columns + (self.c_of - self.c0)

    @cached_property
    def word_of(self) -> np.ndarray:
        """Mask word (record-major) of every position."""
        return np.arange(self.positions) // self.cfg.mask_bits

    @cached_property
    def group_of(self) -> np.ndarray:
        """(record, lane group) index of every position: record * groups + group."""
        i, _, b, _, cl = self._axes()
        group = b * self.cfg.groups_per_word + cl // self.cfg.lane_group
        return (i * self.groups + group).ravel()

    @cached_property
    def kb(self) -> np.ndarray:
        """Absolute block row of every mask word, shape (records*words,)."""
        return np.repeat(self.k0 // self.cfg.block_k + np.arange(self.records), self.words)

    @cached_property
    def cb(self) -> np.ndarray:
        """Absolute block column of every mask word, shape (records*words,)."""
        return np.tile(self.c0 // self.cfg.block_c + np.arange(self.blocks), self.records * self.taps)

    @cached_property
    def tap_of_word(self) -> np.ndarray:
        """Tap of every mask word, shape (records*words,)."""
        return np.tile(np.repeat(np.arange(self.taps), self.blocks), self.records)

    @cached_property
    def explore_word(self) -> np.ndarray:
        """What decides the exploration of every mask word, uint32 (records*words,): see `regenerate.explored`."""
        return regenerate.explore_word(self.kb, self.cb, self.tap_of_word)

    @cached_property
    def valid_positions(self) -> np.ndarray:
        """The positions that are weights, in stored order."""
        return np.flatnonzero(self.valid)

    def to_matrices(self, stored_order: np.ndarray) -> np.ndarray:
        """Stored order to one padded matrix a tap, (taps, records*Bk, blocks*Bc)."""
        cfg = self.cfg
        shape = (self.records, self.taps, self.blocks, cfg.block_k, cfg.block_c)
        return stored_order.reshape(shape).transpose(1, 0, 3, 2, 4).reshape(self._padded)

    def to_stored_order(self, matrices: np.ndarray) -> np.ndarray:
        """The inverse of `to_matrices`."""
        cfg = self.cfg
        shape = (self.taps, self.records, cfg.block_k, self.blocks, cfg.block_c)
        return matrices.reshape(shape).transpose(1, 0, 3, 2, 4).reshape(self.positions)

    @property
    def _padded(self) -> tuple[int, int, int]:
        return self.taps, self.records * self.cfg.block_k, self.blocks * self.cfg.block_c

    @cached_property
    def valid_per_word(self) -> np.ndarray:
        """Valid positions of every mask word, shape (records*words,)."""
        return self.valid.reshape(-1, self.cfg.mask_bits).sum(1)


@dataclass
class Region:
    """The stored weights of one region; not to be changed once it has been read.

    In a dense build these are all its weights: with nothing given they are all zero.

    Attributes:
        geometry: its shape.
        stored: sorted positions (stored order) that have a mask bit, int64.
        delta: accumulated update of each, int64.
        cycles_next: cycles of each record in the next weight update, see `update_cycles`, int64 (records,).

    Raises:
        ValueError: a dense build, and not every weight is stored; names both numbers.
    """

    geometry: Geometry
    stored: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    delta: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    cycles_next: np.ndarray = None  # type: ignore[assignment]  # filled in where nobody gave it

    def __post_init__(self) -> None:
        """Fill in cycles_next where nobody gave it: the stored positions."""
        g = self.geometry
        if not g.cfg.sparse:
            if not len(self.stored) and not len(self.delta):
                self.stored, self.delta = g.valid_positions, np.zeros(len(g.valid_positions), np.int64)
            if not np.array_equal(self.stored, g.valid_positions):
                raise ValueError(
                    f"a dense build stores all {len(g.valid_positions)} weights of a region, not {len(self.stored)}"
                )
        if self.cycles_next is None:
            self.cycles_next = self.nnz_per_record()

    def rows(self, first: int, count: int) -> Region:
        """The records first .. first+count-1 as a region of their own (what one command loads)."""
        g = self.geometry
        if (first, count) == (0, g.records):
            return self
        if not 0 <= first < first + count <= g.records:
            raise ValueError(f"records {first} to {first + count} of a region of {g.records}")
        if (first, count) not in self._parts:
            part = g.rows(first, count)
            low, high = np.searchsorted(self.stored, [first * g.record_bits, (first + count) * g.record_bits])
            stored = self.stored[low:high] - first * g.record_bits if first else self.stored[low:high]
            nnz = self.nnz_per_record()[first : first + count]
            self._parts[first, count] = Region(part, stored, self.delta[low:high], nnz)
        return self._parts[first, count]

    @cached_property
    def _parts(self) -> dict[tuple[int, int], Region]:
        return {}

    @cached_property
    def matrices(self) -> dict[tuple[int, int], np.ndarray]:
        """Weights as a matrix by scale and salt: a cache of golden.phases, filled where wanted."""
        return {}

    def per_word(self) -> np.ndarray:
        """Stored positions of every mask word, shape (records*words,)."""
        g = self.geometry
        return np.bincount(self.stored // g.cfg.mask_bits, minlength=g.records * g.words)

    def nnz_per_record(self) -> np.ndarray:
        """Stored positions of every record; in a dense build its values, zeros beyond the edges included."""
        return self._nnz

    @cached_property
    def _nnz(self) -> np.ndarray:
        g = self.geometry
        if not g.cfg.sparse:
            return np.full(g.records, g.record_bits)
        ends = np.searchsorted(self.stored, np.arange(1, g.records + 1) * g.record_bits)
        return np.diff(ends, prepend=0)

    def nnz_per_group(self) -> np.ndarray:
        """Stored positions of every lane group (all records), shape (groups,); zeros in a dense build."""
        g = self.geometry
        if not g.cfg.sparse:
            return np.zeros(g.groups, np.int64)
        return np.bincount(g.group_of[self.stored] % g.groups, minlength=g.groups)

    def value_beats(self) -> np.ndarray:
        """Value beats of every record."""
        return -(-self.nnz_per_record() // self.geometry.cfg.values_per_beat)

    def record_beats(self) -> int:
        """Beats of all records, without the header."""
        return self.geometry.records * self.geometry.mask_beats + int(self.value_beats().sum())

    def header(self) -> np.ndarray:
        """Header words, uint32 (1 + records + groups,)."""
        nnz = self.nnz_per_record().astype(np.uint32)
        return np.concatenate(
            [
                [np.uint32(self.record_beats())],
                nnz | self.cycles_next.astype(np.uint32) << np.uint32(16),
                self.nnz_per_group().astype(np.uint32),
            ]
        ).astype(np.uint32)

    def encode(self) -> np.ndarray:
        """The region as memory: uint8 (header_beats + record beats, beat bytes)."""
        g, cfg = self.geometry, self.geometry.cfg
        nnz, beats = self.nnz_per_record(), self.value_beats()
        ends = np.cumsum(g.mask_beats + beats)
        starts = g.header_beats + np.concatenate([[0], ends[:-1]])
        image = np.zeros((g.header_beats + int(ends[-1]), cfg.beat_bits // 8), np.uint8)
        image.reshape(-1)[: 4 * len(self.header())] = self.header().astype("<u4").view(np.uint8)
        values = image.view("<i4" if cfg.delta_bits == 32 else "<i2")
        if not cfg.sparse:
            every = np.zeros((g.records, int(beats[0]) * cfg.values_per_beat), values.dtype)
            every[self.stored // g.record_bits, self.stored % g.record_bits] = self.delta
            values[g.header_beats :] = every.reshape(-1, cfg.values_per_beat)
            return image
        bits = np.zeros(g.positions, bool)
        bits[self.stored] = True
        packed = np.packbits(bits, bitorder="little").reshape(g.records, g.words, cfg.mask_bits // 8)
        word = np.arange(g.words)
        lanes = image.reshape(len(image), cfg.masks_per_beat, cfg.mask_bits // 8)
        lanes[starts[:, None] + word // cfg.masks_per_beat, word % cfg.masks_per_beat] = packed
        record = self.stored // g.record_bits
        rank = np.arange(len(self.stored)) - np.concatenate([[0], np.cumsum(nnz)[:-1]])[record]
        values[starts[record] + g.mask_beats + rank // cfg.values_per_beat, rank % cfg.values_per_beat] = self.delta
        return image

    def dense(self) -> np.ndarray:
        """Accumulated updates as a matrix (k_end-k0, c_end-c0), with several taps (k_end-k0, c_end-c0, taps).

        Zero where nothing is stored.
        """
        g = self.geometry
        full = np.zeros(g._padded, np.int64)
        full.reshape(-1)[g.flat[self.stored]] = self.delta
        matrix = full[:, : g.k_end - g.k0, : g.c_end - g.c0]
        return matrix[0] if g.taps == 1 else matrix.transpose(1, 2, 0)

    @classmethod
    def from_dense(cls, geometry: Geometry, matrix: np.ndarray, mask: np.ndarray | None = None) -> Region:
        """Store the nonzeros of `matrix`, shaped as by `dense` (or the positions where `mask` is true; in a dense
        build all).
        """
        g = geometry
        wanted = (g.k_end - g.k0, g.c_end - g.c0) + ((g.taps,) if g.taps > 1 else ())
        if matrix.shape != wanted:
            raise ValueError(f"matrix of shape {matrix.shape}, the region holds {wanted}")
        keep = (matrix != 0 if g.cfg.sparse else np.ones(matrix.shape, bool)) if mask is None else mask
        full, values = np.zeros(g._padded, bool), np.zeros(g._padded, np.int64)
        inside = (slice(None), slice(0, wanted[0]), slice(0, wanted[1]))
        full[inside] = np.moveaxis(keep.reshape(*wanted[:2], g.taps), 2, 0)
        values[inside] = np.moveaxis(matrix.reshape(*wanted[:2], g.taps), 2, 0)
        stored = np.flatnonzero(full.reshape(-1)[g.flat] & g.valid)
        return cls(g, stored, values.reshape(-1)[g.flat[stored]])


def decode(image: np.ndarray, geometry: Geometry) -> Region:
    """Read a region back from memory (uint8 (beats, beat bytes), header first).

    Raises:
        ValueError: header and masks contradict each other; names both counts. In a dense build: the header is not that
            of this geometry, or a position beyond the edges is not zero.
    """
    if not geometry.cfg.sparse:
        return _decode_dense(image, geometry)
    g, cfg = geometry, geometry.cfg
    header = image.reshape(-1)[: 4 * (1 + g.records + g.groups)].copy().view("<u4")
    nnz, visits = header[1 : 1 + g.records] & 0xFFFF, header[1 : 1 + g.records] >> 16
    stored, delta, at = [], [], g.header_beats
    for record in range(g.records):
        words = image[at : at + g.mask_beats].reshape(-1)[: g.record_bits // 8]
        bits = np.flatnonzero(np.unpackbits(words, bitorder="little"))
        if len(bits) != nnz[record]:
            raise ValueError(f"record {record}: {len(bits)} mask bits, the header says {nnz[record]}")
        beats = -(-len(bits) // cfg.values_per_beat)
        at += g.mask_beats
        values = image[at : at + beats].reshape(-1).copy().view("<i4" if cfg.delta_bits == 32 else "<i2")
        stored.append(record * g.record_bits + bits)
        delta.append(values[: len(bits)].astype(np.int64))
        at += beats
    if at - g.header_beats != header[0]:
        raise ValueError(f"records take {at - g.header_beats} beats, the header says {header[0]}")
    return Region(g, np.concatenate(stored), np.concatenate(delta), visits.astype(np.int64))


def _decode_dense(image: np.ndarray, g: Geometry) -> Region:
    wanted = Region(g).header()
    header = image.reshape(-1)[: 4 * len(wanted)].copy().view("<u4")
    if not np.array_equal(header, wanted):
        word = int(np.flatnonzero(header != wanted)[0])
        raise ValueError(f"header word {word} is {header[word]:#x}, a dense region of this shape has {wanted[word]:#x}")
    records = image[g.header_beats : g.header_beats + int(wanted[0])].copy()
    values = records.view("<i4" if g.cfg.delta_bits == 32 else "<i2").reshape(g.records, -1)[:, : g.record_bits]
    every = values.reshape(-1).astype(np.int64)
    if every[~g.valid].any():
        position = int(np.flatnonzero(every * ~g.valid)[0])
        raise ValueError(f"position {position} is no weight, but holds {every[position]}")
    return Region(g, g.valid_positions, every[g.valid])


def transposed(region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Positions of a region in backward order: lane group, then record, then stored order within.

    Returns:
        (positions, starts): stored positions sorted by (group, record), and the first index of each group
        (groups + 1 entries).
    """
    g = region.geometry
    group = g.group_of[region.stored] % g.groups
    order = np.argsort(group, kind="stable")
    return region.stored[order], np.concatenate([[0], np.cumsum(np.bincount(group, minlength=g.groups))])


def merged(groups: np.ndarray, c: dict[str, int]) -> np.ndarray:
    """Numbers of the units of a BW command, from those of the lane groups (last axis)."""
    if not c.get("wide"):
        return groups
    return groups.reshape(*groups.shape[:-1], -1, 2).sum(-1)


def update_cycles(geometry: Geometry, visits: np.ndarray, log2_positions: int) -> np.ndarray:
    """Cycles of every record in a weight update, from the visits of its words: what its balance goes by.

    A visit takes 2**log2_positions cycles, a word without visits one. The header has 16 bits for the sum.
    """
    cycles = np.maximum(visits.astype(np.int64) << log2_positions, 1).reshape(geometry.records, geometry.words)
    return np.minimum(cycles.sum(1), 0xFFFF)
