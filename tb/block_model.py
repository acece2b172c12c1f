"""Model of the drain of new blocks: which beat of which record is read when, and what the header then says.

Contents are those of the golden encoder. Cycles of a run without pauses are those of the golden model (the bench
compares them); those with pauses follow from the rules: a mask group is taken when the lane tally has counted the one
before, values fill the cycles in which no beat of masks ends, without room all of that waits, and a begun beat of the
header never waits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arch.command import Phase
from arch.config import Config
from golden.csb import Geometry, Region
from golden.writing import BLOCK_HEADER, BLOCK_PUSH, BLOCK_START, HEADER_PUSH, hops, mask_group
from tb.command_rules import Command, good
from tb.pins import random_bits
from tb.script import Script

ASK = 1  # decision -> question to the row
DATA = 4  # decision -> answer
DONE = 2  # last word of the header -> done
LOOK_UP = 2  # unit looked up -> question to its row
INFO = 5  # unit looked up -> counts of its record
KNOWN = 7  # unit looked up -> known whether its record fits


@dataclass
class BlockJob:
    """One region to drain.

    Attributes:
        command: what the drain stage is told.
        owners: row of each record.
        infos: counts of each record as its row shows them.
        counts: word of each record in the header.
        masks, values: beats of each record in its row.
        stored: beats of each record in memory; others than those of the rows in a dense build.
        header: beats of the header.
    """

    command: Command
    owners: list[int]
    infos: list[int]
    counts: list[int]
    masks: list[list[int]]
    values: list[list[int]]
    stored: list[list[int]]
    header: list[int]

    def value_beats(self) -> list[int]:
        """Value beats of each record."""
        return [len(beats) for beats in self.values]

    def beats(self) -> list[int]:
        """Beats of each record."""
        return [len(masks) + values for masks, values in zip(self.masks, self.value_beats(), strict=True)]


def job_of(cfg: Config, rng: np.random.Generator, region: Region, **changes: int) -> BlockJob:
    """The drain of a region, its records anywhere; `changes` are fields of the command."""
    g = region.geometry
    c = good(
        cfg,
        Phase.WU,
        block_rows=g.records,
        records=g.records,
        words=g.words,
        mask_beats=g.mask_beats,
        bias=int(g.bias_tap >= 0),
        bias_tap=max(g.bias_tap, 0),
        log2_blocks=(g.blocks - 1).bit_length() if g.taps > 1 else 8,
        log2_cycles=int(rng.integers(0, 8)),
        groups=g.groups,
        header_beats=g.header_beats,
        out_addr=int(rng.integers(1 << 32)),
        limit=len(region.encode()) + int(rng.integers(0, 3)),
        k0=g.k0,
        k_end=g.k_end,
        c0=g.c0,
        c_end=g.c_end,
    )
    c |= changes
    infos, cycles = infos_of(cfg, rng, region, c["log2_cycles"])
    region = Region(g, region.stored, region.delta, cycles)
    image = [int.from_bytes(beat.tobytes(), "little") for beat in region.encode()]
    header, at = image[: g.header_beats], g.header_beats
    header += [0] * (c["header_beats"] - g.header_beats)
    masks, values, stored = [], [], []
    for beats in region.value_beats().tolist():
        masks.append(image[at : at + g.mask_beats])
        at += g.mask_beats
        stored.append(image[at : at + beats])
        at += beats
        values.append(list(stored[-1]))
    if not cfg.sparse:
        values = _beside_weights(cfg, rng, g, values)
    counts = (region.nnz_per_record() | region.cycles_next << 16).tolist()
    owners = rng.integers(0, cfg.rows, g.records).tolist()
    return BlockJob(c, owners, infos, counts, masks, values, stored, header[: c["header_beats"]])


def groups_of(cfg: Config, beats: list[int]) -> list[int]:
    """The mask groups of beats of masks."""
    bits = mask_group(cfg) * cfg.mask_bits
    return [beat >> at & (1 << bits) - 1 for beat in beats for at in range(0, cfg.beat_bits, bits)]


def info_bits(cfg: Config) -> tuple[int, int, int]:
    """Widths of what a row shows of a record: nnz, visits in the next update, words without any."""
    most = 255 * cfg.mask_bits
    return most.bit_length(), most.bit_length(), 8


def infos_of(
    cfg: Config, rng: np.random.Generator, region: Region, log2_cycles: int
) -> tuple[list[int], np.ndarray | None]:
    """Counts of each record in its row, and cycles_next made of them; a dense build has no such counts."""
    if not cfg.sparse:
        return [0] * region.geometry.records, None
    nnz, (nnz_bits, visits_bits, _) = region.nnz_per_record(), info_bits(cfg)
    few = rng.integers(0, 2, len(nnz), dtype=bool)  # cycles of many visits are beyond what a header can say
    visits = rng.integers(0, np.where(few, 300, 255 * cfg.mask_bits + 1))
    empty = rng.integers(0, 256, len(nnz))
    words = nnz | visits << nnz_bits | empty << nnz_bits + visits_bits
    return words.tolist(), np.minimum((visits << log2_cycles) + empty, (1 << 16) - 1)


def _beside_weights(cfg: Config, rng: np.random.Generator, g: Geometry, values: list[list[int]]) -> list[list[int]]:
    """What the rows of a dense build hold: anything where there is no weight."""
    lanes = len(values[0]) * cfg.values_per_beat
    one = (1 << cfg.delta_bits) - 1
    noisy = []
    for record, beats in enumerate(values):
        valid = np.zeros(lanes, bool)
        valid[: g.record_bits] = g.valid.reshape(g.records, -1)[record]
        weights = [
            sum(one << i * cfg.delta_bits for i in np.flatnonzero(v).tolist()) for v in valid.reshape(len(beats), -1)
        ]
        noisy.append([b | random_bits(rng, cfg.beat_bits) & ~w for b, w in zip(beats, weights, strict=True)])
    return noisy


def random_region(
    cfg: Config,
    rng: np.random.Generator,
    records: int,
    words: int,
    density: float,
    ragged: bool = True,
    taps: int = 1,
    bias_tap: int = -1,
) -> Region:
    """Each weight is stored with probability `density`; the last block row and column may have few channels.

    A record has `words` words of each tap.
    """
    k0, c0 = cfg.block_k * int(rng.integers(0, 40)), cfg.block_c * int(rng.integers(0, 40))
    lose_k, lose_c = (int(rng.integers(n)) if ragged else 0 for n in (cfg.block_k, cfg.block_c))
    ends = k0 + records * cfg.block_k - lose_k, c0 + words * cfg.block_c - lose_c
    g = Geometry(cfg, k0, ends[0], c0, ends[1], words * taps, taps, bias_tap)
    stored = np.flatnonzero(g.valid & (rng.random(g.positions) < density)) if cfg.sparse else g.valid_positions
    top = 1 << cfg.delta_bits - 1
    return Region(g, stored, rng.integers(-top, top, len(stored)))


def most_records(cfg: Config) -> int:
    """Records of a region, at most: there are so many units, and a header of 64 beats counts so many."""
    return min(cfg.units, 64 * cfg.words_per_beat - 1 - cfg.groups_per_word)


def records(cfg: Config) -> int:
    """Records that are looked up, and not yet begun: at least as many as cycles until a record is known."""
    return next(1 << n for n in range(4, 8) if 1 << n >= KNOWN + 2 + hops(cfg))


class BlockModel(Script):
    """One run, stepped cycle by cycle; `step` before the cycle's inputs are driven.

    `give` holds `info`, `data` and `mask`: counts, beat, mask group, for one cycle.

    Attributes:
        done_from: cycle from which the drainer is done; None until that is known.
        error: the region exceeded its limit.
    """

    def __init__(self, cfg: Config, job: BlockJob) -> None:
        super().__init__()
        self.cfg, self.job, self.hops = cfg, job, hops(cfg)
        self.record = self.used = self.word = 0
        self.done_from: int | None = None
        self.error = False
        c, beats = job.command, job.beats()
        too_many = np.cumsum(beats) + c["header_beats"] > c["limit"]
        self.last_fetched = int(np.argmax(too_many)) if too_many.any() else len(beats) - 1
        self.fetched, self.places, self.fetch_until = 0, records(cfg), -1
        self._begin(BLOCK_START + self.hops)

    def _fetch(self, t: int) -> None:
        """Cycle t: a unit is looked up if there is room for its record, and none before it is known to be the last."""
        n, job = self.fetched, self.job
        if t == 0 or n == len(job.owners) or not self.places or (self.error_known(n) and t >= self.fetch_until):
            return
        self.want[t]["assign_unit"] = n
        if self.cfg.sparse:
            self.want[t + LOOK_UP]["rows_info_next"] = 1 << job.owners[n]
            self.give[t + INFO + self.hops]["info"] = job.infos[n]
        if n == self.last_fetched:
            self.fetch_until = t + KNOWN + self.hops
        self.fetched, self.places = n + 1, self.places - 1

    def error_known(self, n: int) -> bool:
        """Whether record n comes behind one that does not fit."""
        return n > self.last_fetched

    def _begin(self, t: int) -> None:
        """The beats of a record, from cycle t on, if it fits."""
        job, c = self.job, self.job.command
        base = c["out_addr"] + c["header_beats"] + self.used
        masks, values = job.masks[self.record], job.values[self.record]
        stored = job.stored[self.record]
        self.masks = [(base + i, beat, beat) for i, beat in enumerate(masks)]
        self.values = [(base + len(masks) + i, *pair) for i, pair in enumerate(zip(values, stored, strict=True))]
        self.used += len(masks) + len(values)
        self.words_left, self.groups_taken = c["words"], 0
        self.tally_free, self.at = 0, t
        if self.used + c["header_beats"] > c["limit"]:
            self.error, self.done_from = True, t + BLOCK_HEADER + self.hops

    def step(self, t: int, room: bool) -> None:
        """Cycle t, with room for one more beat or without."""
        self._fetch(t)
        if t == BLOCK_START + self.hops - 1:
            self.places += 1  # the first record leaves the queue
        if self.done_from is not None or t < self.at:
            return
        if self.record == len(self.job.owners):
            self._header(t, room)
            return
        if not room:  # everything waits, the tally's turn too
            self.tally_free += self.tally_free > t
            return
        row = self.job.owners[self.record]
        pushed = False
        if self.masks and t >= self.tally_free:
            pushed = self._group(t, row)
        if self.values and not pushed:
            address, beat, stored = self.values.pop(0)
            self.want[t]["reserve"] = 1
            self.want[t + ASK]["rows_next"] = 1 << row
            self.give[t + DATA + self.hops]["data"] = beat
            self._push(t + BLOCK_PUSH + self.hops, address, stored)
        if self.masks or self.values or self.tally_free > t + 1:
            return
        self.record += 1
        if self.record < len(self.job.owners):
            self.places += 1
            self._begin(t + 1)
        else:
            self.at = t + BLOCK_HEADER + self.hops
            if not self.job.header:
                self.done_from = t + 1 + BLOCK_HEADER + self.hops

    def _group(self, t: int, row: int) -> bool:
        """A mask group in cycle t; whether it ends a beat."""
        most = mask_group(self.cfg)
        count, at_once = min(self.words_left, most), min(most, 1 << self.job.command["log2_blocks"])
        ends = (self.groups_taken + 1) * most == self.cfg.masks_per_beat or count == self.words_left
        address, beat, _ = self.masks[0]
        self.want[t + ASK] |= {"rows_mask_next": 1 << row, "rows_mask_last": int(count == self.words_left)}
        self.give[t + DATA + self.hops]["mask"] = groups_of(self.cfg, [beat])[self.groups_taken]
        self.words_left -= count
        self.tally_free = t + -(-count // at_once)
        self.groups_taken = 0 if ends else self.groups_taken + 1
        if ends:
            self.masks.pop(0)
            self.want[t]["reserve"] = 1
            self._push(t + BLOCK_PUSH + self.hops, address, beat)
        return ends

    def _push(self, t: int, address: int, beat: int) -> None:
        self.want[t] |= {"push": 1, "push_addr": address & (1 << 32) - 1, "push_data": beat}

    def _header(self, t: int, room: bool) -> None:
        beat, word = divmod(self.word, self.cfg.words_per_beat)
        if not (room or word):
            return
        if word == 0:
            self.want[t]["reserve"] = 1
        self.word += 1
        if word == self.cfg.words_per_beat - 1:
            self._push(t + HEADER_PUSH, self.job.command["out_addr"] + beat, self.job.header[beat])
            if beat + 1 == len(self.job.header):
                self.done_from = t + DONE
