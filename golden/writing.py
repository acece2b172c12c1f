"""Timing of the drain: in which cycle of a slot each beat is written, and where.

Partial sums leave one element of all columns a cycle, so a beat of E elements takes E cycles. New blocks leave record
by record, a beat a cycle: masks are taken in groups of up to four words, each when the lane tally has counted the one
before, and a mask beat goes with its last group; value beats go in all other cycles. The header comes last, a word a
cycle. All cycles count from the slot's start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arch.config import Config
from golden.memory import runs

QUEUE = 2  # push to write
FLOW_PUSH = 10  # first element to push of its beat, beyond E
FLOW_DONE = 13  # last element to drained
BLOCK_START = 10  # the size of the first record is known
BLOCK_PUSH = 5  # beat asked of its row to push
BLOCK_HEADER = 5  # last beat asked to first word of the header
HEADER_PUSH = 2  # last word of a beat of the header to push
BLOCK_DONE = 3
TALLY_WORDS = 4  # mask words counted a cycle and taken at once, if a beat has as many


@dataclass(frozen=True)
class Writes:
    """Beats written in one slot, in order: cycle and address of each."""

    cycle: np.ndarray
    address: np.ndarray


def hops(cfg: Config) -> int:
    """Cycles that an answer takes through the other rows of its chain, whichever row gives it."""
    return cfg.chain_rows - 1


def flow_done(cfg: Config, c: dict[str, int]) -> int:
    """Cycles until all partial sums of FW or BW are drained."""
    return c["positions"] * c["out_run"] * cfg.bus_elements + FLOW_DONE + hops(cfg)


def flow_writes(cfg: Config, c: dict[str, int]) -> Writes:
    """Partial sums of FW and BW: positions * out_run beats, E cycles each."""
    address = c["out_addr"] + np.add.outer(runs(c, "out"), np.arange(c["out_run"])).ravel()
    beat = np.arange(len(address)) + 1
    return Writes(beat * cfg.bus_elements + FLOW_PUSH + hops(cfg) + QUEUE, address)


def mask_group(cfg: Config) -> int:
    """Mask words that leave a row at once."""
    return min(TALLY_WORDS, cfg.masks_per_beat)


def _tally_words(cfg: Config, c: dict[str, int]) -> int:
    """Words a cycle: those of one tap, since each block has one place to be counted."""
    return min(mask_group(cfg), 1 << c["log2_blocks"])


def _record_cycles(cfg: Config, c: dict[str, int], value_beats: list[int]) -> np.ndarray:
    tally = -(-c["words"] // _tally_words(cfg, c)) if c["mask_beats"] else 1
    return np.maximum(c["mask_beats"] + np.asarray(value_beats, np.int64), tally)


def block_done(cfg: Config, c: dict[str, int], value_beats: list[int]) -> int:
    """Cycles until the new blocks of WU are drained, `value_beats` of every record."""
    header = BLOCK_HEADER + cfg.words_per_beat * c["header_beats"]
    begin, records = BLOCK_START + hops(cfg), int(_record_cycles(cfg, c, value_beats).sum())
    return begin + records + hops(cfg) + header + BLOCK_DONE


def block_writes(cfg: Config, c: dict[str, int], value_beats: list[int]) -> Writes:
    """New blocks of WU: the beats of every record, then the header."""
    masks, values = c["mask_beats"], np.asarray(value_beats, np.int64)
    begins = BLOCK_START + hops(cfg) + np.concatenate([[0], np.cumsum(_record_cycles(cfg, c, value_beats))])
    firsts = c["out_addr"] + c["header_beats"] + np.concatenate([[0], np.cumsum(masks + values)[:-1]])
    group = mask_group(cfg)
    # The last mask group of each beat; those behind the last word of a record are not taken.
    last = np.minimum(np.arange(1, masks + 1) * (cfg.masks_per_beat // group), -(-c["words"] // group)) - 1
    mask = last * (group // _tally_words(cfg, c))
    cycles, addresses = [], []
    for begin, first, count in zip(begins[:-1].tolist(), firsts.tolist(), value_beats, strict=True):
        between = np.setdiff1d(np.arange(masks * cfg.masks_per_beat + count), mask)[:count]
        cycle = begin + np.concatenate([mask, between])
        order = np.argsort(cycle, kind="stable")
        cycles.append(cycle[order])
        addresses.append((first + np.arange(masks + count))[order])
    # The tally settles; then the header, a word a cycle.
    beats = np.arange(c["header_beats"])
    header = int(begins[-1]) + hops(cfg) + BLOCK_HEADER + (beats + 1) * cfg.words_per_beat - 2
    pushes = [cycle + BLOCK_PUSH + hops(cfg) for cycle in cycles] + [header + HEADER_PUSH]
    return Writes(np.concatenate(pushes) + QUEUE, np.concatenate([*addresses, c["out_addr"] + beats]))
