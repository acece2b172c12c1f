"""Resets while a graph trains: wherever one falls, the host begins the program again and nothing is lost.

`tb.tb_top` resets fully connected programs under cocotb, stage by stage; here the harness resets whole graphs, so that
the vector engine's commands are interrupted too.
"""

from __future__ import annotations

import numpy as np
import pytest

from arch.status import Register
from golden import timing, trace
from golden.graph_network import tensors_for
from golden.machine import Work
from scripts.lockstep import START, Lockstep, settings
from tests.programs import Case, make, minibatch
from tests.test_lockstep_graphs import GRAPHS, TINY

STATE = (Register.STEP, Register.DECAY, Register.THRESHOLD)


class Interrupted(Lockstep):
    """Lock-step in which every program is begun several times before it may end.

    Attributes:
        resets, in_vector: how many there were, and how many of them fell into vector commands.
    """

    resets = in_vector = 0

    def ran(self, program: list[dict[str, int]], works: list[Work]) -> None:
        """Interrupt the program at the ends and in the middle of vector commands and anywhere, then let it run."""
        harness, machine = self.harness, self.trainer.machine
        address = self._programs[id(program)][0]
        schedule = timing.schedule(self.trainer.cfg, works, harness.latency, address)
        windows = trace.vector_windows(works, schedule)
        rng = np.random.default_rng(self.compared.programs)
        at = [cycle for first, end in windows for cycle in (first, int(rng.integers(first, end)), end - 1)]
        at += rng.integers(1, schedule.cycles, 5).tolist()
        memory = harness.memory.copy()
        registers = [*STATE, *(Register.EXPONENT + tensor for tensor in range(len(machine.exponent)))]
        state = {register: harness.read(register) for register in registers}
        for cycle in at:
            for register, value in settings(self.trainer.settings, address, len(program)).items():
                harness.write(register, value)
            harness.write(Register.CONTROL, START)
            with pytest.raises(TimeoutError, match="still busy"):
                harness.run(max(1, cycle))
            harness.reset()
            assert harness.read(Register.CONTROL) == 0
            harness.memory[:] = memory
            for register, value in state.items():
                harness.write(register, value)
            self.forgot()  # partial sums are in memories, which no reset clears
        self.resets += len(at)
        self.in_vector += sum(any(first <= cycle < end for first, end in windows) for cycle in at)
        super().ran(program, works)


@pytest.mark.parametrize("name", ("vgg", "residual", "mobile"))
def test_begun_again(name: str) -> None:
    graph = GRAPHS[name]()
    case = Case(TINY.with_(tensors=max(TINY.tensors, tensors_for(graph))), graph, 5, 2, period=2, decay=0.5, budget=0.3)
    trainer, harness = make(case)
    lockstep = Interrupted(trainer, harness)
    rng = np.random.default_rng(4)
    for _ in range(case.steps):
        trainer.step(*minibatch(case, rng))
    assert lockstep.compared.mismatches == 0 and lockstep.compared.programs >= case.steps
    assert lockstep.in_vector > 20 and lockstep.resets > lockstep.in_vector
