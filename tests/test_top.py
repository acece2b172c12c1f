"""The whole accelerator under cocotb: training, stalls, resets and the control port against the golden model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.trainer import Trainer
from scripts.recording import Recorder
from scripts.simulate import run_bench
from tests.programs import TINY, Case, make_trainer, minibatch, text

# Learning rates so high that weights come, go and saturate in a handful of steps.
WILD = {"decay": 0.8, "theta": 12, "options": {"learning_rate": 200.0}}
CASES = {
    "tiny": Case(TINY, (24, 14, 5), 9, 4, **WILD),
    "three rows, 8 bit": Case(TINY.with_(rows=3, operand_bits=8, bus_elements=4), (19, 13, 4), 6, 4, latency=3, **WILD),
}
DIMMER = 3  # inputs of the step that the benches repeat are so many bits smaller

Parameters = Callable[[str], dict[str, Any]]


def record(case: Case, folder: Path) -> dict[str, Any]:
    """Train in a folder, a test set classified half way; parameters of the benches."""
    rng = np.random.default_rng(2)
    trainer, traced = make_trainer(case), case.config.with_(trace=True)
    recorder = Recorder(trainer, folder, traced, case.latency)
    x, y = minibatch(case, rng)
    for step in range(case.steps):
        following = minibatch(case, rng)
        if step == case.steps // 2 - 1:
            trainer.step(x, y)
            trainer.predict(following[0])
            following = following[0] >> DIMMER, following[1]
        elif step == case.steps // 2:
            eventful_step(trainer, x, y, following[0])
        else:
            trainer.step(x, y, following[0])
        x, y = following
    return {"config": traced, "latency": case.latency, "events": recorder.events, "beats": trainer.memory.used}


def eventful_step(trainer: Trainer, x: np.ndarray, y: np.ndarray, following: np.ndarray) -> None:
    """A step in which every register that programs change does change."""
    machine, outputs = trainer.machine, [layer.y_id for layer in trainer.network.layers]
    exponents, threshold = [machine.exponent[tensor] for tensor in outputs], machine.log2_theta
    works = trainer.step(x, y, following).backward
    assert all(machine.exponent[tensor] != before for tensor, before in zip(outputs, exponents, strict=True))
    assert machine.log2_theta != threshold
    for event in ("kept", "seen", "adopted", "evicted", "saturated"):
        assert sum(getattr(work, event) for work in works) > 0, event


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Parameters:
    made: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in made:
            made[name] = record(CASES[name], tmp_path_factory.mktemp("programs"))
        return made[name]

    return of


@pytest.mark.parametrize("name", CASES)
def test_programs_equal_golden(name: str, parameters: Parameters) -> None:
    given = parameters(name)
    results = run_bench(text(given["config"]), "top", "tb.tb_top", parameters=given)
    assert results.tests == 7


@pytest.mark.parametrize("name", CASES)
def test_control_port(name: str, parameters: Parameters) -> None:
    given = parameters(name)
    results = run_bench(text(given["config"]), "top", "tb.tb_top_control", parameters=given)
    assert results.tests == 8
