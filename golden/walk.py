"""What every row does in one working set, in order: the words it walks and the weights it visits.

The order and the cost follow from the definition alone (docs/architecture.md, section 4): a mask word
with n visited bits takes n * U cycles, U the positions that its tap visits; a word with none takes one. Where words
without stored weights are passed over (FW), they take none, and a mask beat without any other takes one. In BW a row
looks at the words to come, one a cycle, while it is busy with one: those without visits take only the cycles by which
they outlast it. FW and BW do not visit where U is 0; in a weight update such a visit takes a cycle. Nothing here
depends on how a decoder is built.
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
    lane group, record, tap in BW. A row walks its words in ascending order.

    Attributes:
        cfg: configuration.
        passed: words of a record if words without visits are passed over, 0 if not.
        ahead: whether rows look ahead for words with visits.
        word_row: row of every word.
        word_positions: positions that its tap visits, of every word.
        word_stored: whether it holds a weight, of every word (looked at only where words are passed over).
        visit_word: word of every visited weight, ascending.
        visit_source: (segment index, position) of every visited weight, two arrays.
    """

    cfg: Config
    passed: int
    ahead: bool
    word_row: np.ndarray
    word_positions: np.ndarray
    word_stored: np.ndarray
    visit_word: np.ndarray
    visit_source: tuple[np.ndarray, np.ndarray]

    @cached_property
    def word_visits(self) -> np.ndarray:
        """Visited weights of every word."""
        return np.bincount(self.visit_word, minlength=len(self.word_row))

    @cached_property
    def visit_cycles(self) -> np.ndarray:
        """Cycles of one visit of every word: one without positions is seen, too."""
        return np.maximum(self.word_positions, 1)

    @cached_property
    def word_cycles(self) -> np.ndarray:
        """Cycles of every word."""
        if self.ahead:
            return looked_ahead(self.word_row, self.word_visits * self.visit_cycles)
        cycles = np.maximum(self.word_visits * self.visit_cycles, 1)
        if not self.passed:
            return cycles
        cycles = np.where(self.word_stored, cycles, 0)
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
        return int((self.word_visits * self.word_positions).sum())

    @cached_property
    def scan(self) -> int:
        """Row-cycles spent on words without visits, and on visits without positions."""
        return int(self.word_cycles.sum()) - self.busy

    @cached_property
    def words(self) -> int:
        """Mask words that the rows read: all but those passed over."""
        return int(np.count_nonzero(self.word_cycles)) if self.passed else len(self.word_row)

    @cached_property
    def visits(self) -> int:
        """Visited weights, those without positions included."""
        return len(self.visit_word)

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
        return self.word_start[self.visit_word] + rank * self.visit_cycles[self.visit_word]


def looked_ahead(row: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Cycles of every word where rows look ahead for the next one with visits.

    A word that follows k words without visits starts one cycle behind the last of them, or behind the word before
    them, whichever is later: those k are hidden behind a word of more than k cycles. The last word of a row is always
    walked.

    Args:
        row: row of every word, shape (words,); a row walks its words in ascending order.
        cycles: visits times positions of every word, 0 without visits.

    Returns:
        int64 (words,): of a word with visits, the cycles to the next one's start; of one without, 0, or 1 where no
        other word of the row came before it.
    """
    order = np.argsort(row, kind="stable")
    row, cycles = row[order], cycles[order]
    last = np.append(row[1:] != row[:-1], True)[: len(row)]
    walked = np.flatnonzero((cycles > 0) | last)
    after = np.append(walked[1:], len(row))[: len(walked)]  # next word that is walked
    to_next = np.where(last[walked], 1, after - walked)
    taken = np.zeros(len(row), np.int64)
    taken[walked] = np.maximum(cycles[walked], to_next)
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])[: int(last.sum())]  # of every row
    leading = walked[np.searchsorted(walked, first)] - first
    taken[np.arange(int(leading.sum())) + np.repeat(first - np.cumsum(leading) + leading, leading)] = 1
    out = np.empty(len(row), np.int64)
    out[order] = taken
    return out
