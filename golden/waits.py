"""Data dependence between the commands of a program: what must wait for a drain, and what is loaded ahead of it."""

from __future__ import annotations

from collections.abc import Sequence

from arch.command import Phase

Command = dict[str, int]
"""Fields of a command (`arch.command.FIELDS`); those left out are zero."""


def ahead(c: Command, later: Sequence[str] = ()) -> Command:
    """The command that plans and loads for `c`, but for the operands (x, aux) that come later."""
    return c | dict(ahead=1, drain=0, commit=0, relu=0, ones=0, gate=0, wait=0) | {f"load_{name}": 0 for name in later}


def with_waits(program: Sequence[Command]) -> list[Command]:
    """Where a load would overtake the drain it depends on, load what can be loaded ahead and set `wait`.

    Command j loads while j-2 drains, so only what the two commands before it write can be missed.
    """
    out: list[Command] = []
    written: list[list[tuple[int, int]]] = []
    for c in program:
        late = _late(c, written[-2:])
        loads = {name for name in ("x", "aux", "w") if c.get(f"load_{name}")}
        if late and (c.get("plan") or loads - set(late)):
            out.append(ahead(c, later=late))
            written.append([])
            c = c | dict(plan=0, load_w=0) | {f"load_{name}": 0 for name in ("x", "aux") if name not in late}
            late = _late(c, written[-2:])
        out.append(c | dict(wait=int(bool(late))))
        drains = c.get("drain") and c["phase"] in (Phase.FW, Phase.BW)
        written.append(_spans(c["out_addr"], c["out_run"], c["positions"], c["out_stride"]) if drains else [])
    return out


def _late(c: Command, written: list[list[tuple[int, int]]]) -> list[str]:
    """Operands of a command that overlap what is being written."""
    return [
        name
        for name in ("x", "aux")
        if c.get(f"load_{name}")
        for first, end in _spans(c[f"{name}_addr"], c[f"{name}_run"], c[f"{name}_runs"], c[f"{name}_stride"])
        if any(first < b and a < end for spans in written for a, b in spans)
    ]


def _spans(address: int, run: int, runs: int, stride: int) -> list[tuple[int, int]]:
    """Beats [first, end) of every run of a tile."""
    return [(address + r * stride, address + r * stride + run) for r in range(runs)]
