"""External memory as the golden model sees it: tensors and regions at addresses, bytes on request.

Addresses count beats. Objects never overlap. When `image` is kept, every write also lands in it, so
that it can be compared with the memory of the RTL byte for byte, stale bytes included.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from arch.config import Config
from golden.csb import Geometry, Region


@dataclass
class Tensor:
    """An activation or gradient tensor.

    Attributes:
        address: first beat.
        data: mantissas, int32 of shape (positions, columns, run * bus_elements).
    """

    address: int
    data: np.ndarray

    def beats(self, cfg: Config) -> int:
        """Size in memory."""
        return self.data.shape[0] * self.data.shape[2] // cfg.bus_elements


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
        keep_image: keep the bytes as well.
    """

    def __init__(self, cfg: Config, beats: int, keep_image: bool = True) -> None:
        """Start empty."""
        self.cfg, self.beats, self.used = cfg, beats, 0
        self.image = np.zeros((beats if keep_image else 0, cfg.beat_bits // 8), np.uint8)
        self.keep_image = keep_image
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
        """Place 32-bit words (a program); returns their address."""
        data = np.frombuffer(words.astype("<u4").tobytes(), np.uint8)
        width = self.cfg.beat_bits // 8
        beats = -(-len(data) // width)
        address = self._place(beats)
        if self.keep_image:
            self.image[address : address + beats].reshape(-1)[: len(data)] = data
        return address

    def tensor(self, positions: int, channels: int) -> Tensor:
        """Place a zero tensor of `channels` (padded to whole beats) for `positions` positions."""
        e = self.cfg.bus_elements
        run = -(-channels // e)
        item = Tensor(self._place(positions * run), np.zeros((positions, self.cfg.columns, run * e), np.int32))
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
        """Write a tile (positions, columns, run*E) of a tensor, the run of each position at its first beat."""
        tensor, positions, channels = self._tile(beats, tile.shape[2])
        tensor.data[positions, :, channels] = tile
        if self.keep_image:
            width = np.arange(tile.shape[2] // self.cfg.bus_elements)
            self.image[beats[:, None] + width] = pack_tile(self.cfg, tile)

    def get_tile(self, address: int, run: int, starts: np.ndarray) -> np.ndarray:
        """Read a tile (runs, columns, run*E) of a tensor: `run` beats from `address` + each of `starts` on."""
        tensor, positions, channels = self._tile(address + starts, run * self.cfg.bus_elements)
        return tensor.data[positions, :, channels]

    def _tile(self, beats: np.ndarray, channels: int) -> tuple[Tensor, np.ndarray | slice, slice]:
        """The tensor in which all of `beats` lie, at which positions, and which channels begin there."""
        tensor = self.find(int(beats[0]))
        assert isinstance(tensor, Tensor)
        e = self.cfg.bus_elements
        places, beat = np.divmod(beats - tensor.address, tensor.data.shape[2] // e)
        assert (beat == beat[0]).all(), "runs of a tile begin at the same channel"
        at = places if len(places) < 2 or (np.diff(places) != 1).any() else slice(int(places[0]), int(places[-1]) + 1)
        return tensor, at, slice(int(beat[0]) * e, int(beat[0]) * e + channels)


def runs(c: dict[str, int], name: str) -> np.ndarray:
    """First beat of every run of a command's operand (x, aux) or of what it drains (out), from its address on."""
    count = c["positions"] if name == "out" else c[f"{name}_runs"]
    row, col = np.divmod(np.arange(count), c[f"{name}_cols"])
    return row * c.get(f"{name}_pitch", 0) + col * c.get(f"{name}_stride", 0)


def pack_tile(cfg: Config, tile: np.ndarray) -> np.ndarray:
    """Bytes of a tile: uint8 (positions, run, beat bytes)."""
    positions, columns, width = tile.shape
    e = cfg.bus_elements
    shaped = tile.reshape(positions, columns, width // e, e).transpose(0, 2, 1, 3)
    kind = "<i2" if cfg.operand_bits == 16 else "<i1"
    return np.ascontiguousarray(shaped.astype(kind)).view(np.uint8).reshape(positions, width // e, -1)
