"""Waits: what must wait for a drain, what is loaded ahead of it, and what needs neither."""

from __future__ import annotations

import pytest

from arch.command import Phase
from golden.waits import Command, ahead, with_waits

WRITES: Command = {
    "phase": int(Phase.FW), "drain": 1, "out_addr": 100, "out_run": 4, "positions": 2, "out_stride": 10,
}  # fmt: skip
IDLE: Command = {"phase": int(Phase.NOP)}


def reads(first: int, **more: int) -> Command:
    """A command that reads one beat of x from `first` on."""
    return {"phase": int(Phase.WU), "load_x": 1, "x_addr": first, "x_run": 1, "x_runs": 1, "x_stride": 0} | more


@pytest.mark.parametrize(("first", "waits"), [(99, 0), (100, 1), (103, 1), (104, 0), (110, 1), (114, 0)])
def test_only_what_is_written_is_waited_for(first: int, waits: int) -> None:
    assert [c["wait"] for c in with_waits([WRITES, reads(first)])] == [0, waits]


@pytest.mark.parametrize(("between", "waits"), [(0, 1), (1, 1), (2, 0)])
def test_a_drain_is_over_three_commands_later(between: int, waits: int) -> None:
    program = with_waits([WRITES, *[IDLE] * between, reads(100)])
    assert [c["wait"] for c in program] == [0] * (between + 1) + [waits]


def test_updates_are_not_waited_for() -> None:
    assert not any(c["wait"] for c in with_waits([WRITES | {"phase": int(Phase.WU)}, reads(100)]))
    assert not any(c["wait"] for c in with_waits([WRITES | {"drain": 0}, reads(100)]))


def test_what_is_not_late_is_loaded_ahead() -> None:
    aux = {"load_aux": 1, "aux_addr": 500, "aux_run": 1, "aux_runs": 1, "aux_stride": 0}
    whole = reads(100, plan=1, load_w=1, drain=1, commit=1, **aux)
    _, early, late = with_waits([WRITES, whole])
    loads = ("plan", "load_w", "load_x", "load_aux")
    assert [early[name] for name in loads] == [1, 1, 0, 1]
    assert [late[name] for name in loads] == [0, 0, 1, 0]
    assert (early["ahead"], early["drain"], early["commit"], early["wait"]) == (1, 0, 0, 0)
    assert (late.get("ahead", 0), late["drain"], late["commit"], late["wait"]) == (0, 1, 1, 1)


def test_a_command_between_makes_the_wait_needless() -> None:
    """Two commands behind the writer, the part that loads ahead makes it three."""
    program = with_waits([WRITES, IDLE, reads(100, plan=1)])
    assert [c.get("ahead", 0) for c in program] == [0, 0, 1, 0]
    assert not any(c["wait"] for c in program)


def test_ahead_keeps_what_the_load_needs() -> None:
    c = reads(7, plan=1, load_w=1, relu=1, ones=1, gate=1)
    assert ahead(c) == c | {"ahead": 1, "drain": 0, "commit": 0, "relu": 0, "ones": 0, "gate": 0, "wait": 0}
    assert ahead(c, later=("x",))["load_x"] == 0
