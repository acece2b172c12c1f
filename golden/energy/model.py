"""Prices of events: from the table and the shapes of a build to picojoules by component.

Arithmetic is priced by width (`table`), memories by shape (`sram`), buses by the side of a square that holds all
memories twice (logic is taken to need as much room again). Registers are priced where an event clocks them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from arch.config import Config
from golden.energy import sram, table
from golden.energy.events import EVENTS, Events
from golden.energy.structure import memories, registers
from golden.writing import mask_group

COMPONENTS = (
    "MAC",
    "PE memories",
    "row buffers",
    "external memory",
    "decoders",
    "regeneration",
    "weight update",
    "drain and vector",
    "buses",
    "rest",
)
"""The machine has no global buffer: the rows' buffers of weights, updates and gradients take its place."""

CORNERS = ("value", "low", "high")

OF: dict[str, str] = {
    "mac": "MAC",
    "dot": "MAC",
    "gather_read": "PE memories",
    "gather_write": "PE memories",
    "stationary_read": "PE memories",
    "stationary_write": "PE memories",
    "psum_read": "PE memories",
    "psum_write": "PE memories",
    "psum_side": "PE memories",
    "row_operation": "buses",
    "mask_write": "row buffers",
    "rounded_beat": "row buffers",
    "value_write": "row buffers",
    "mask_read": "row buffers",
    "value_read": "row buffers",
    "tap_write": "row buffers",
    "tap_read": "row buffers",
    "word": "decoders",
    "visit": "decoders",
    "regeneration": "regeneration",
    "update": "weight update",
    "gradient_write": "row buffers",
    "gradient_read": "row buffers",
    "encoded_value": "row buffers",
    "encoded_mask": "row buffers",
    "encoded_read": "row buffers",
    "encoded_group": "row buffers",
    "requantised": "drain and vector",
    "gate_write": "drain and vector",
    "gate_read": "drain and vector",
    "header_write": "rest",
    "header_read": "rest",
    "balanced": "rest",
    "vector": "drain and vector",
    "softmax": "drain and vector",
    "record": "drain and vector",
    "loaded_beat": "buses",
    "drained_beat": "buses",
    "read_bits": "external memory",
    "written_bits": "external memory",
    "idle_central": "rest",
    "cycle": "rest",
}
"""Component of every event."""


@dataclass(frozen=True)
class Units:
    """Energies of building blocks at a corner, pJ."""

    entries: dict[str, float]
    memory: sram.Sram

    def multiply(self, a: int, b: int) -> float:
        """A product of a and b bits."""
        return self.entries["multiply"] * a * b / 1024

    def add(self, bits: int) -> float:
        """A sum, a difference, a comparison."""
        return self.entries["add"] * bits / 32

    def shift(self, bits: int) -> float:
        """By a variable distance."""
        return self.entries["shift"] * bits / 32

    def logic(self, bits: int) -> float:
        """One gate a bit."""
        return self.entries["logic"] * bits / 32

    def register(self, bits: int) -> float:
        """Clocked once."""
        return self.entries["register"] * bits


def units(corner: str = "value", path: Path = table.FILE, memory: Path = sram.FILE) -> Units:
    """Building blocks.

    Args:
        corner: one of `CORNERS`.
        path: the table.
        memory: the SRAM table.

    Raises:
        ValueError: see `table.read`, `sram.read`.
    """
    entries = {name: getattr(entry, corner) for name, entry in table.read(path).items()}
    found = sram.read(memory)
    points = dict(found["value"].points)  # area and leakage, whatever the corner
    if corner == "low":
        points |= {access: found["low"].points[access] for access in ("read", "write")}
    return Units(entries, sram.Sram(found["value"].widths, found["value"].depths, points, entries["sram"]))


def side(cfg: Config, u: Units) -> float:
    """Millimetres of a square with twice the area of all memories."""
    return math.sqrt(2 * sum(m.count * u.memory.area(m.bits, m.depth) for m in memories(cfg).values()))


def leakage(cfg: Config, u: Units) -> float:
    """Of all memories, pJ a cycle."""
    milliwatts = sum(m.count * u.memory.leakage(m.bits, m.depth) for m in memories(cfg).values())
    return milliwatts * 1e3 / u.entries["frequency"]


def prices(cfg: Config, u: Units) -> dict[str, float]:
    """Energy of every event, pJ."""
    shapes, regs = memories(cfg), registers(cfg)
    a, acc, delta = cfg.operand_bits, cfg.acc_bits, cfg.delta_bits

    def access(kind: str, name: str, bits: int | None = None) -> float:
        return u.memory.energy(kind, bits or shapes[name].bits, shapes[name].depth) if name in shapes else 0.0

    product = u.multiply(a, a)
    wire = u.entries["wire"] * side(cfg, u)
    tree = (cfg.columns - 1) * (u.add(delta + 4) + u.register(delta + 4)) + u.add(acc) + u.register(acc)
    alive = access("read", "alive") + access("write", "alive")
    mask = cfg.mask_bits
    requantise = u.shift(acc) + 2 * u.add(acc) + u.logic(2 * acc) + u.register(regs["requantiser"])
    mix = 6 * (u.add(32) + u.logic(32))
    out = {
        "mac": product + u.add(acc) + u.logic(4 * a + 3 * acc) + u.register(regs["PE, MAC"]),
        "dot": product + u.logic(6 * a) + u.register(regs["PE, DOT"]) + tree / cfg.columns,
        "gather_read": access("read", "gather"),
        "gather_write": access("write", "gather"),
        "stationary_read": access("read", "stationary"),
        "stationary_write": access("write", "stationary"),
        "psum_read": access("read", "psum"),
        "psum_write": access("write", "psum"),
        "psum_side": access("read", "psum") + alive / cfg.columns,  # one bit for all PEs of a row
        "row_operation": wire * regs["control word"] + alive,  # of a DOT, too, which has none
        "mask_write": access("write", "masks"),
        "rounded_beat": cfg.values_per_beat * (u.add(a) + u.logic(2 * a)),
        "value_write": access("write", "values"),
        "mask_read": access("read", "masks"),
        "value_read": access("read", "values"),
        "tap_write": u.memory.energy("write", regs["tap"], 128),
        "tap_read": u.memory.energy("read", regs["tap"], 128),
        "regeneration": mix
        + u.add(28)
        + u.multiply(acc, max(8, cfg.lr_bits))  # 10 x 16 bits, but in the multipliers of the update, whole
        + u.logic(acc)
        + 2 * u.add(27)
        + u.logic(a)
        + u.register(regs["regenerate"] + regs["products"]),
        "update": u.add(acc)
        + u.multiply(acc, cfg.lr_bits)
        + requantise
        + 2 * u.add(delta)
        + u.register(regs["update"]),
        "gradient_write": access("write", "gradients"),
        "gradient_read": access("read", "gradients"),
        "encoded_value": access("write", "updated values", delta)
        + access("write", "updated values") / cfg.values_per_beat,
        "encoded_mask": access("write", "updated masks", mask) + access("write", "updated masks") / mask_group(cfg),
        "encoded_read": access("read", "updated values"),
        "encoded_group": access("read", "updated masks"),
        "requantised": requantise,
        "gate_write": access("write", "gates"),
        "gate_read": access("read", "gates"),
        "header_write": access("write", "headers"),
        "header_read": access("read", "headers"),
        "balanced": 8 * (u.memory.energy("read", 32, 512) + u.memory.energy("write", 32, 512) + u.add(32)),
        "vector": 2 * u.multiply(16, a) + 2 * u.add(42) + u.shift(42) + u.add(42) + u.register(regs["vector"]),
        "softmax": 2 * u.multiply(32, 32) + 3 * u.add(48) + u.shift(48) + u.register(2 * regs["vector"]),
        "record": 16 * (u.memory.energy("read", 32, 256) + u.memory.energy("write", 32, 256)) + 30 * u.multiply(32, 32),
        "loaded_beat": wire * cfg.beat_bits,
        "drained_beat": wire * cfg.beat_bits,
        "read_bits": u.entries["dram"],
        "written_bits": u.entries["dram"],
        "idle_central": access("read", "gates"),
        "cycle": leakage(cfg, u) + u.entries["clock"] * u.register(regs["all"]),
    }
    if cfg.sparse:
        out["word"] = u.add(mask) + u.logic(4 * mask) + u.register(regs["word"])
        out["visit"] = 2 * u.add(mask) + u.logic(6 * mask) + 4 * u.add(16) + u.register(regs["visit"])
    else:
        out["word"] = 4 * u.add(16) + u.register(regs["word"])
        out["visit"] = 4 * u.add(16) + u.register(regs["visit"])
    assert out.keys() == EVENTS.keys() == OF.keys()
    return out


def energy(cfg: Config, events: Events, u: Units) -> dict[str, float]:
    """Picojoules by component."""
    price, out = prices(cfg, u), dict.fromkeys(COMPONENTS, 0.0)
    for name, count in events.items():
        out[OF[name]] += count * price[name]
    return out
