"""The trace record: what one row issues in one cycle, 64 bits."""

from __future__ import annotations

from arch.command import Field

RECORD: dict[str, Field] = {
    "op": Field(0, 0, 2),  # 0 nothing, 1 MAC, 2 DOT
    "phase": Field(0, 2, 2),
    "command": Field(0, 4, 8),  # index of the command, low 8 bits
    "gather": Field(0, 12, 15),  # gather address (operand)
    "psum": Field(0, 27, 12),  # psum address; DOT: stationary address
    "value": Field(0, 39, 16),  # broadcast weight (MAC), two's complement
}
BITS = 64
