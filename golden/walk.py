"""What every row does in one working set, in order: the words it walks and the weights it visits.

The order and the cost follow from the definition alone (docs/architecture.md, section 4): a mask word
with n visited bits takes n * U cycles, a word with none takes one; where words without stored weights are passed
over, that is true of mask beats instead of words. Nothing here depends on how a
decoder is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arch.config import Config


@dataclass
class Walk:
    """The row lists of a working set.

    Words are numbered in the order of the whole list (all rows): segment, record, word in FW and WU;
    lane group, record in BW. A row walks its words in ascending order.

    Attributes:
        cfg: configuration.
        positions: U, cycles of one visit.
        passed: words of a record if words without visits are passed over, 0 if not.
        word_row: row of every word.
        visit_word: word of every visited weight, ascending.
        visit_source: (segment index, position) of every visited weight, two arrays.
    """

    cfg: Config
    positions: int
    passed: int
    word_row: np.ndarray
    visit_word: np.ndarray
    visit_source: tuple[np.ndarray, np.ndarray]

    @cached_property
    def word_visits(self) -> np.ndarray:
        """Visited weights of every word."""
        return np.bincount(self.visit_word, minlength=len(self.word_row))

    @cached_property
    def word_cycles(self) -> np.ndarray:
        """Cycles of every word."""
        cycles = self.word_visits * self.positions
        if not self.passed:
            return np.maximum(cycles, 1)
        word = np.arange(len(cycles)) % self.passed
        first = np.flatnonzero(word % self.cfg.masks_per_beat == 0)
        cycles[first] += np.add.reduceat(cycles, first) == 0  # a beat to pass over shows its first word
        return cycles

    @cached_property
    def row_cycles(self) -> np.ndarray:
        """Cycles of every row, shape (rows,)."""
        return np.bincount(self.word_row, self.word_cycles, self.cfg.rows).astype(np.int64)

    @cached_property
    def busy(self) -> int:
        """Row-cycles in which an operation is issued."""
        return int(self.word_visits.sum()) * self.positions

    @cached_property
    def scan(self) -> int:
        """Row-cycles spent on words without visits."""
        return int(self.word_cycles.sum()) - self.busy

    @cached_property
    def word_start(self) -> np.ndarray:
        """Cycle, within its row, in which every word begins."""
        order = np.argsort(self.word_row, kind="stable")
        cycles = self.word_cycles[order]
        ends = np.cumsum(cycles)
        row_base = np.concatenate([[0], np.cumsum(self.row_cycles)[:-1]])
        start = np.empty(len(order), np.int64)
        start[order] = ends - cycles - row_base[self.word_row[order]]
        return start

    @cached_property
    def visit_start(self) -> np.ndarray:
        """Cycle, within its row, in which every visit begins."""
        first = np.concatenate([[0], np.cumsum(self.word_visits)[:-1]])
        rank = np.arange(len(self.visit_word)) - first[self.visit_word]
        return self.word_start[self.visit_word] + rank * self.positions
