"""External memory as the golden model sees it: bytes, and the regions that were placed in it.

Addresses count beats. Objects never overlap. Tensors live in the bytes alone. Regions are kept as objects; their bytes
are written only on request, so that the image can be compared with the memory of the RTL, stale bytes included.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from arch.config import Config
from golden.csb import Geometry, Region


@dataclass
class Tensor:
    """An activation or gradient tensor: `run` beats at each of `positions` positions.

    Attributes:
        memory: where it lies.
        address: first beat.
        positions: of all sub-batches.
        run: beats of a position.
    """

    memory: Memory = field(repr=False)
    address: int
    positions: int
    run: int

    @property
    def beats(self) -> int:
        """Size in memory."""
        return self.positions * self.run

    @property
    def data(self) -> np.ndarray:
        """A copy of its mantissas, (positions, columns, run * bus_elements)."""
        return self.memory.get_tile(self.address, self.run, self.run * np.arange(self.positions))


@dataclass
class Store:
    """Room for a region: where it lies, how much it may take, what it holds now."""

    address: int
    limit: int
    region: Region


class Memory:
    """A bump allocator and the objects it placed.

    Args:
        cfg: configuration (beat width).
        beats: size; an allocation beyond it raises MemoryError naming both numbers.
        keep_image: write the bytes of regions as well.
    """

    def __init__(self, cfg: Config, beats: int, keep_image: bool = True) -> None:
        """Start empty."""
        self.cfg, self.beats, self.used = cfg, beats, 0
        self.image = np.zeros((beats, cfg.beat_bits // 8), np.uint8)  # pages that nobody touches take no room
        self.keep_image = keep_image
        kind = "<i2" if cfg.operand_bits == 16 else "i1"
        self.elements = self.image.view(kind).reshape(beats, cfg.columns, cfg.bus_elements)
        self._addresses: list[int] = []
        self._objects: list[Tensor | Store] = []

    def _place(self, beats: int) -> int:
        if self.used + beats > self.beats:
            raise MemoryError(f"memory of {self.beats} beats is full: {self.used} used, {beats} wanted")
        address = self.used
        self.used += beats
        return address

    def _enter(self, item: Tensor | Store) -> None:
        self._addresses.append(item.address)
        self._objects.append(item)

    def raw(self, words: np.ndarray) -> int:
        """Place 32-bit words (a program, records); returns their address."""
        data = np.frombuffer(words.astype("<u4").tobytes(), np.uint8)
        width = self.cfg.beat_bits // 8
        beats = -(-len(data) // width)
        address = self._place(beats)
        self.image[address : address + beats].reshape(-1)[: len(data)] = data
        return address

    def tensor(self, positions: int, channels: int) -> Tensor:
        """Place a zero tensor of `channels` (padded to whole beats) for `positions` positions."""
        run = -(-channels // self.cfg.bus_elements)
        item = Tensor(self, self._place(positions * run), positions, run)
        self._enter(item)
        return item

    def store(self, geometry: Geometry, limit: int, region: Region | None = None) -> Store:
        """Place a region with room for `limit` beats, header included."""
        least = geometry.header_beats + geometry.records * geometry.mask_beats
        if limit < least:
            raise ValueError(f"a region limit of {limit} beats, header and masks alone take {least}")
        item = Store(self._place(limit), limit, region or Region(geometry))
        self._enter(item)
        self.put_region(item, item.region)
        return item

    def find(self, address: int) -> Tensor | Store:
        """The object that holds a beat."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            raise KeyError(f"nothing was placed at beat {address}")
        return self._objects[index]

    def put_region(self, store: Store, region: Region) -> None:
        """Replace what a store holds; only the beats of the new region are written."""
        store.region = region
        if self.keep_image:
            encoded = region.encode()
            self.image[store.address : store.address + len(encoded)] = encoded

    def put_tile(self, beats: np.ndarray, tile: np.ndarray) -> None:
        """Write a tile (positions, columns, run*E), the run of each position at its first beat."""
        e = self.cfg.bus_elements
        places = beats[:, None] + np.arange(tile.shape[2] // e)
        self.elements[places] = tile.reshape(*tile.shape[:2], -1, e).swapaxes(1, 2)

    def get_tile(self, address: int, run: int, starts: np.ndarray) -> np.ndarray:
        """Read a tile (runs, columns, run*E): `run` beats from `address` + each of `starts` on."""
        beats = self.elements[(address + starts)[:, None] + np.arange(run)]
        return beats.swapaxes(1, 2).reshape(len(starts), self.cfg.columns, -1)


def runs(c: dict[str, int], name: str) -> np.ndarray:
    """First beat of every run of a command's operand (x, aux) or of what it drains (out), from its address on."""
    count = c["positions"] if name == "out" else c[f"{name}_runs"]
    row, col = np.divmod(np.arange(count), c.get(f"{name}_cols", count))
    return row * c.get(f"{name}_pitch", 0) + col * c.get(f"{name}_stride", 0)
