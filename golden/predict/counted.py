"""Weights of which only the numbers are known: how many are stored in every mask word.

The timing law asks for nothing else, so whole networks can be timed without a weight's value. A `CountedRegion` answers
what `golden.csb.Region` answers about numbers.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from golden.csb import Geometry, update_cycles


class CountedRegion:
    """Stored weights of a region, counted.

    Args:
        geometry: its shape.
        mask: stored weights, bool (k_end - k0, c_end - c0, taps).
        inputs: input channels without the bias, which BW does not visit.
        explored: mask words of which the next weight update visits everything, bool (records * words,).
    """

    def __init__(self, geometry: Geometry, mask: np.ndarray, inputs: int, explored: np.ndarray) -> None:
        """Count the mask; it is not kept."""
        g, cfg = geometry, geometry.cfg
        self.geometry, self.explored = g, explored
        padded = np.zeros((g.taps, g.records * cfg.block_k, g.blocks * cfg.block_c), bool)
        padded[:, : mask.shape[0], : mask.shape[1]] = mask.transpose(2, 0, 1)
        lanes = (g.taps, g.records, cfg.block_k, g.groups, cfg.lane_group)
        counts = padded.reshape(lanes).sum((2, 4), dtype=np.int32)  # taps, records, lane groups
        words = counts.reshape(g.taps, g.records, g.blocks, -1).sum(3)
        self.words = words.transpose(1, 0, 2).reshape(g.records, g.words)
        self._groups = counts.sum((0, 1))
        padded[:, :, max(0, inputs - g.c0) :] = False
        visited = padded.reshape(lanes).sum((2, 4), dtype=np.int32)
        self.groups = visited.transpose(1, 0, 2)  #: visits in BW: records, taps, lane groups
        whole = np.zeros(padded.shape, bool)
        whole[:, : g.k_end - g.k0, : g.c_end - g.c0] = True
        if g.bias_tap >= 0:
            whole[np.arange(g.taps) != g.bias_tap, :, g.c_end - g.c0 - 1] = False
        valid = whole.reshape(lanes).sum((2, 4), dtype=np.int32).reshape(g.taps, g.records, g.blocks, -1).sum(3)
        self.valid = valid.transpose(1, 0, 2).reshape(g.records, g.words)

    @cached_property
    def seen(self) -> np.ndarray:
        """Visits of every word in the weight update, (records, words)."""
        return np.where(self.explored.reshape(self.words.shape), self.valid, self.words)

    @cached_property
    def cycles_next(self) -> np.ndarray:
        """See `golden.csb.update_cycles`; a dense build balances nothing and counts what it stores."""
        if not self.geometry.cfg.sparse:
            return self.nnz_per_record()
        return update_cycles(self.geometry, self.seen.ravel(), self.log2_cycles)

    log2_cycles = 0
    """log2 of the positions of a weight that `cycles_next` counts (see `golden.program`)."""

    def nnz_per_record(self) -> np.ndarray:
        """Stored positions of every record; in a dense build its values, zeros beyond the edges included."""
        g = self.geometry
        return self.words.sum(1) if g.cfg.sparse else np.full(g.records, g.record_bits)

    def nnz_per_group(self) -> np.ndarray:
        """Stored positions of every lane group; zeros in a dense build."""
        return self._groups if self.geometry.cfg.sparse else np.zeros_like(self._groups)

    def value_beats(self) -> np.ndarray:
        """Value beats of every record."""
        return self._value_beats

    @cached_property
    def _value_beats(self) -> np.ndarray:
        return -(-self.nnz_per_record() // self.geometry.cfg.values_per_beat)

    def beats(self, first: int, count: int) -> int:
        """Beats of the records first .. first + count - 1."""
        return count * self.geometry.mask_beats + int(self._value_beats[first : first + count].sum())
