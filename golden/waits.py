"""Data dependence between the commands of a program: what must wait for a drain, and what is loaded ahead of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arch.command import Phase
from arch.vector import MAGIC as VECTOR
from arch.vector import Op
from golden.memory import runs

Command = dict[str, int]
"""Fields of a command (`arch.command.FIELDS`); those left out are zero."""


def ahead(c: Command, later: Sequence[str] = ()) -> Command:
    """The command that plans and loads for `c`, but for the operands (x, aux) that come later."""
    return c | dict(ahead=1, drain=0, commit=0, relu=0, ones=0, gate=0, wait=0) | {f"load_{name}": 0 for name in later}


def with_waits(program: Sequence[Command]) -> list[Command]:
    """Where a load would overtake the drain it depends on, load what can be loaded ahead and set `wait`.

    A command reads what vector commands wrote like what others drained. Command j loads while j-2 drains, so only
    what the two commands before it write can be missed.
    """
    out: list[Command] = []
    written: list[np.ndarray] = []
    for c in program:
        if is_vector(c):  # works in the drain stage, after all that was drained before
            out.append(c)
            written.append(_vector_spans(c))
            continue
        late = _late(c, written[-2:])
        loads = {name for name in ("x", "aux", "w") if c.get(f"load_{name}")}
        if late and (c.get("plan") or loads - set(late)):
            out.append(ahead(c, later=late))
            written.append(_NOTHING)
            c = c | dict(plan=0, load_w=0) | {f"load_{name}": 0 for name in ("x", "aux") if name not in late}
            late = _late(c, written[-2:])
        out.append(c | dict(wait=int(bool(late))))
        drains = c.get("drain") and c["phase"] in (Phase.FW, Phase.BW)
        written.append(_spans(c, "out") if drains else _NOTHING)
    return out


def is_vector(c: Command) -> bool:
    """Whether it is a vector command (`arch.vector`)."""
    return c.get("magic") == VECTOR


def _vector_spans(c: Command) -> np.ndarray:
    """Beats [first, end) that a vector command may write, all of a sub-batch together."""
    if c["op"] in (Op.REDUCE, Op.COEFFICIENTS):
        return _NOTHING  # records: only vector commands read them
    first = c["out_addr"] + c["out_batch"] * np.arange(c["batches"])
    return np.stack([first, first + max(c["out_batch"], 1)])


_NOTHING = np.zeros((2, 0), np.int64)


def _late(c: Command, written: list[np.ndarray]) -> list[str]:
    """Operands of a command that overlap what is being written."""
    return [
        name
        for name in ("x", "aux")
        if c.get(f"load_{name}") and any(_overlap(_spans(c, name), spans) for spans in written if spans.size)
    ]


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a span of one list meets one of the other."""
    if a[0, 0] >= b[1, -1] or b[0, 0] >= a[1, -1]:  # both ascend
        return False
    return bool(((a[0][:, None] < b[1]) & (b[0] < a[1][:, None])).any())


def _spans(c: Command, name: str) -> np.ndarray:
    """Beats [first, end) of every run of a tile, int64 (2, runs)."""
    first = c[f"{name}_addr"] + runs(c, name)
    return np.stack([first, first + c[f"{name}_run"]])
