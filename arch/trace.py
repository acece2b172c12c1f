"""Trace records of 64 bits: what one row issues in one cycle, and what the central units do in it."""

from __future__ import annotations

from arch.command import Field

#: The record of a row.
RECORD: dict[str, Field] = {
    "op": Field(0, 0, 2),  # 0 nothing, 1 MAC, 2 DOT
    "phase": Field(0, 2, 2),
    "command": Field(0, 4, 8),  # index of the command, low 8 bits
    "gather": Field(0, 12, 15),  # gather address (operand)
    "psum": Field(0, 27, 12),  # psum address; DOT: stationary address
    "value": Field(0, 39, 16),  # broadcast weight (MAC), two's complement
}
BITS = 64

#: The central record.
CENTRAL: dict[str, Field] = {
    "busy": Field(0, 0, 1),
    "slot_start": Field(0, 1, 1),
    "valid": Field(0, 2, 4),  # plan, load, compute, drain hold a command
    "request": Field(0, 6, 1),  # a read request is taken
    "request_kind": Field(0, 7, 3),  # fetch, plan, x, aux, w; 5 when all is requested
    "response": Field(0, 10, 1),  # a response is taken
    "response_kind": Field(0, 11, 3),
    "write": Field(0, 14, 1),  # a beat is written
    "done": Field(0, 15, 5),  # plan, load, compute, drain, reader
    "compute_start": Field(0, 20, 1),
    "observe": Field(0, 21, 1),
    "commit": Field(0, 22, 1),
    "finish": Field(0, 23, 1),
    "scrub": Field(0, 24, 1),
    "plan_index": Field(0, 28, 9),
    "load_index": Field(0, 37, 9),
    "compute_index": Field(0, 46, 9),
    "drain_index": Field(0, 55, 9),
}
