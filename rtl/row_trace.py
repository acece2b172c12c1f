"""Trace of a row: what its controller issues, packed as `arch.trace.RECORD` says."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Mux, Value
from amaranth.lib import wiring

from arch import trace
from rtl.row_control import Op


def trace_record(row: wiring.Component) -> Value:
    """What a controller issues in this cycle, as `arch.trace.RECORD`; zero without an operation."""
    fields = {
        "op": row.op,
        "phase": row.phase,
        "command": row.command,
        "gather": row.gather_addr,
        "psum": row.psum_addr,
        "value": row.value,
    }
    record, width = [], 0
    for name, field in sorted(trace.RECORD.items(), key=lambda item: item[1].low):
        record += [Const(0, field.low - width), _extend(fields[name], field.bits)]
        width = field.low + field.bits
    # One expression for all bits: bits that nothing drives would be a process without inputs in Verilog.
    return Mux(row.op == Op.NOP, 0, Cat(*record, Const(0, trace.BITS - width)))


def _extend(value: Value, bits: int) -> Value:
    """The low `bits` bits of a value, extended by its sign or zeros to that many."""
    fill = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, fill.replicate(max(0, bits - len(value))))[:bits]
