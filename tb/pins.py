"""Ports of a design under test as two dictionaries, and a command as the RTL's structure of bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from cocotb.triggers import RisingEdge

from arch.command import FIELDS, MAGIC


def command_bits(fields: Mapping[str, int]) -> int:
    """A command in the order in which the RTL keeps it: the fields of `arch.command.FIELDS` one above the other.

    The magic number is filled in where it is not given.
    """
    assert fields.keys() <= FIELDS.keys(), f"unknown fields {fields.keys() - FIELDS.keys()}"
    word, at = 0, 0
    for name, field in FIELDS.items():
        value = fields.get(name, MAGIC if name == "magic" else 0)
        assert 0 <= value < 1 << field.bits, f"{name} = {value}"
        word |= value << at
        at += field.bits
    return word


def random_bits(rng: np.random.Generator, width: int) -> int:
    """A random word of `width` bits."""
    return int.from_bytes(rng.bytes(-(-width // 8)), "little") & (1 << width) - 1


class Pins:
    """Drives inputs and reads outputs; an input that keeps its value is not written again.

    Args:
        dut: the design.
        outputs: names that `cycle` reads.
    """

    def __init__(self, dut: Any, outputs: Iterable[str]) -> None:
        self.dut = dut
        self._outputs = {name: getattr(dut, name) for name in outputs}
        self._driven: dict[str, tuple[Any, int | None]] = {}

    def drive(self, **inputs: int) -> None:
        """Give inputs their values of the coming cycle; they stay until driven again."""
        for name, value in inputs.items():
            handle, before = self._driven.get(name, (None, None))
            if value != before:
                handle = handle if handle is not None else getattr(self.dut, name)
                handle.value = value
                self._driven[name] = (handle, value)

    async def cycle(self, **inputs: int) -> dict[str, int]:
        """One cycle with these inputs; what the outputs showed in it."""
        self.drive(**inputs)
        await RisingEdge(self.dut.clk)
        return {name: int(handle.value) for name, handle in self._outputs.items()}


def compare(cycle: object, got: Mapping[str, int], want: Mapping[str, int | None]) -> None:
    """Every value wanted was there; None: not specified in this cycle."""
    for name, value in want.items():
        assert value is None or got[name] == value, f"{name} in cycle {cycle}: {got[name]:#x}, not {int(value):#x}"
