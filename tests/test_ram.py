"""Memories declared by `rtl.ram.ram`: a read that collides with a write may answer anything, and nobody notices."""

import re

import pytest

from arch.command import Policy
from arch.config import PRESETS, Config
from rtl.top import verilog
from tests import programs
from tests.programs import Case, train
from tests.test_lockstep_graphs import GRAPHS, TINY

DECLARED = re.compile(r"\(\* no_rw_check = 32'd1 \*\)\n  reg \[\d+:0\] (\S+) \[\d+:0\];")
MEMORY = re.compile(r"^  reg \[\d+:0\] (\S+) \[\d+:0\];$", re.MULTILINE)


def treacherous(text: str, everywhere: bool = False) -> tuple[str, int]:
    """Verilog in which reads that collide answer the opposite, and how many ports do; `everywhere`: in all memories."""
    modules, ports = [], 0
    for module in re.split(r"(?<=endmodule)", text):
        for name in (MEMORY if everywhere else DECLARED).findall(module):
            memory = re.escape(name)
            writes = re.findall(rf"if \(([^\n]*)\)\n\s+{memory}\[([^\n]*?)\](?:\[\d+:\d+\])? <= ", module)
            writes = sorted(set(writes))
            if everywhere and not writes:
                continue  # a ROM

            def answer(read: re.Match, writes: list = writes, name: str = name) -> str:
                address = read[2]
                collides = " || ".join(f"(({enable}) && ({at}) == ({address}))" for enable, at in writes)
                return f"{read[1]} <= ({collides}) ? ~{name}[{address}] : {name}[{address}];"

            module, found = re.subn(rf"(\S+) <= {memory}\[([^\n]*)\];", answer, module)
            assert everywhere or (found and writes), f"{name} is not read or not written"
            ports += found
        modules.append(module)
    return "".join(modules), ports


SPARSE = TINY.with_(tensors=64)
RUNS = {
    "perceptron": Case(PRESETS["tiny"], (20, 30, 5), 9, 8, period=4, decay=0.5),
    "residual": Case(SPARSE, GRAPHS["residual"](), 5, 3, period=2, decay=0.5),
    "dense build": Case(SPARSE.with_(sparse=False), GRAPHS["lenet"](), 5, 2, budget=None, policy=Policy.NONE),
}


@pytest.mark.parametrize("name", RUNS)
def test_colliding_reads_may_answer_anything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(cfg: Config) -> str:
        broken, ports = treacherous(verilog(cfg))
        assert ports >= 7
        return broken

    monkeypatch.setattr(programs, "text", text)
    assert train(RUNS[name]).mismatches == 0


def test_memories_that_need_the_promise_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "text", lambda cfg: treacherous(verilog(cfg), everywhere=True)[0])
    with pytest.raises((AssertionError, TimeoutError)):
        assert train(RUNS["perceptron"]).mismatches == 0
