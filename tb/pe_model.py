"""Model of a row of PEs, without a pipeline.

`RowModel` computes each operation at once and delays only what the interface promises to delay:
a MAC is seen by reads from T0 + 5 on, a word of the side port one cycle after its address, a loaded
operand by operations of the next cycle on (in the other bank), a sum of products 4 + log2 C cycles after its
last DOT.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from arch.config import Config

NOP, MAC, DOT = 0, 1, 2
WRITE_AFTER = 5
DEFAULTS = dict.fromkeys(
    [
        "op",
        "value",
        "gather_addr",
        "psum_addr",
        "half",
        "bypass",
        "gather_bank",
        "psum_bank",
        "dot_first",
        "dot_last",
        "load_we",
        "load_addr",
        "load_data",
        "side_addr",
        "side_read",
        "side_clear",
        "stat_bank",
        "stat_we",
        "stat_addr",
        "stat_data",
        "rst",
    ],
    0,
)
Cycle = dict[str, int]


def pack(values: Iterable[int], bits: int) -> int:
    """Signed numbers side by side, the first in the lowest bits."""
    word = 0
    for index, value in enumerate(values):
        word |= (int(value) & ((1 << bits) - 1)) << (index * bits)
    return word


def unpack(word: int, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack`."""
    fields = ((word >> (index * bits)) & ((1 << bits) - 1) for index in range(count))
    return np.array([f - (1 << bits) if f >> (bits - 1) else f for f in fields], dtype=np.int64)


class RowModel:
    """What a row of PEs does, operation by operation."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.gather = np.zeros((2, cfg.gather_depth, cfg.columns), dtype=np.int64)
        self.stationary = np.zeros((2, cfg.psum_depth, cfg.columns, 2), dtype=np.int64)  # both halves
        self.exact = np.zeros((2, cfg.psum_depth, cfg.columns), dtype=np.int64)  # all MACs so far
        self.seen = self.exact.copy()  # what a read in this cycle returns
        self.writes: list[tuple[int, int, int, np.ndarray]] = []  # (first cycle seen, bank, address, word)
        self.sums: dict[int, int] = {}
        self.running = 0
        self.last_mac = [-WRITE_AFTER, -WRITE_AFTER]
        self.cleared: tuple[int, int] | None = None  # bank and address that the side port clears in this cycle
        self.now = 0

    def step(self, i: Cycle) -> np.ndarray | None:
        """One cycle. Returns the side port's words of the next cycle, None where they may be anything."""
        cfg, now = self.cfg, self.now
        while self.writes and self.writes[0][0] <= now:
            _, bank, address, word = self.writes.pop(0)
            self.seen[bank, address] = word
        bank, side = i["psum_bank"], 1 - i["psum_bank"]
        collides = (
            self.last_mac[side] == now - 1  # its read comes first
            or self.cleared == (side, i["side_addr"])
            or any(w[:3] == (now + 1, side, i["side_addr"]) for w in self.writes)
        )
        side_q = None
        if not i["side_read"]:
            side_q = np.zeros(cfg.columns, dtype=np.int64)
        elif not collides:
            side_q = self.seen[side, i["side_addr"]].copy()

        gathered = self.gather[i["gather_bank"], i["gather_addr"]]
        if i["op"] == MAC:
            self.exact[bank, i["psum_addr"]] += gathered * i["value"]
            word = self.exact[bank, i["psum_addr"]].copy()
            self.writes.append((now + WRITE_AFTER, bank, i["psum_addr"], word))
            self.last_mac[bank] = now
        elif i["op"] == DOT:
            stationary = self.stationary[i["stat_bank"], i["psum_addr"], :, i["half"]]
            dot = int((gathered * stationary).sum())
            self.running = dot if i["dot_first"] else self.running + dot
            if i["dot_last"]:
                self.sums[now + 4 + cfg.columns.bit_length() - 1] = self.running

        if i["load_we"]:
            beat = unpack(i["load_data"], cfg.operand_bits, cfg.columns * cfg.bus_elements)
            rows = slice(i["load_addr"] * cfg.bus_elements, (i["load_addr"] + 1) * cfg.bus_elements)
            self.gather[1 - i["gather_bank"], rows] = beat.reshape(cfg.columns, cfg.bus_elements).T
        if i["stat_we"]:
            words = unpack(i["stat_data"], cfg.operand_bits, 2 * cfg.columns)
            self.stationary[1 - i["stat_bank"], i["stat_addr"]] = words.reshape(cfg.columns, 2)
        self.cleared = (side, i["side_addr"]) if i["side_clear"] else None
        if i["side_clear"] and not i["rst"]:
            assert self.last_mac[side] <= now - WRITE_AFTER, "the stimulus writes a bank still in use"
            self.exact[side, i["side_addr"]] = self.seen[side, i["side_addr"]] = 0
            # The zero is not in this cycle's answer, which was copied above.
        if i["rst"]:
            # What has not reached the write stage by this cycle is lost.
            self.writes = [w for w in self.writes if w[0] <= now + 1]
            self.exact = self.seen.copy()
            for _, bank, address, word in self.writes:
                self.exact[bank, address] = word
            self.sums = {cycle: s for cycle, s in self.sums.items() if cycle <= now}
            self.running = 0
        self.now += 1
        return side_q
