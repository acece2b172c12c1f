"""Assignment table: which row owns a unit, and which of the row's slots.

The balancer fills a bank while a working set is planned; the loader and, two slots later, the drainer
look units up. Four banks, so that plan, load, compute and drain each may belong to a different plan.
"""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from arch.config import Config, log2_exact
from rtl.reader import BANK_BITS


def unit_bits(cfg: Config) -> int:
    """Width of a unit number, and of a slot."""
    return log2_exact(cfg.units, "units")


def row_bits(cfg: Config) -> int:
    """Width of a row number."""
    return ceil_log2(cfg.rows)


class AssignmentTable(wiring.Component):
    """4 banks x units x {row, slot}; one write port, two independent read ports.

    A read addressed in cycle t answers in t + READ_LATENCY (registered in the memory) and sees writes up to
    cycle t - 1. No reset: a bank holds what was last written.

    Ports:
        we, bank, unit, row, slot: write.
        load_bank, load_unit: address of the loader; load_row, load_slot: its answer.
        drain_bank, drain_unit, drain_row, drain_slot: the same for the drainer.
    """

    READ_LATENCY = 1

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        unit, row = unit_bits(cfg), row_bits(cfg)
        ports = {"we": In(1), "bank": In(BANK_BITS), "unit": In(unit), "row": In(row), "slot": In(unit)}
        for reader in ("load", "drain"):
            ports |= {
                f"{reader}_bank": In(BANK_BITS),
                f"{reader}_unit": In(unit),
                f"{reader}_row": Out(row),
                f"{reader}_slot": Out(unit),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        cfg = self._cfg
        m = Module()
        entry = data.StructLayout({"row": row_bits(cfg), "slot": unit_bits(cfg)})
        m.submodules.table = table = Memory(shape=entry, depth=cfg.units << BANK_BITS, init=[])
        write = table.write_port()
        m.d.comb += [
            write.en.eq(self.we),
            write.addr.eq((self.bank << unit_bits(cfg)) | self.unit),
            write.data.row.eq(self.row),
            write.data.slot.eq(self.slot),
        ]
        for reader in ("load", "drain"):
            read = table.read_port()
            bank, unit = getattr(self, f"{reader}_bank"), getattr(self, f"{reader}_unit")
            m.d.comb += [
                read.en.eq(1),
                read.addr.eq((bank << unit_bits(cfg)) | unit),
                getattr(self, f"{reader}_row").eq(read.data.row),
                getattr(self, f"{reader}_slot").eq(read.data.slot),
            ]
        return m
