"""How fast cocotb drives the whole accelerator: the programs of one training step, in `tb.tb_speed`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from arch.config import Config
from arch.status import Register
from golden import recipe, timing
from golden.dataset import Dataset
from golden.machine import Work
from golden.recipe import Recipe
from rtl.top import verilog
from scripts.lockstep import place, settings
from scripts.options import LATENCY
from scripts.simulate import run_bench


class _Recorder:
    """A follower that keeps what the first program started from and led to."""

    def __init__(self, trainer: recipe.Trainer, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder
        self.parameters: dict[str, object] = {}

    def wrote(self, address: int, beats: int) -> None:
        """Nothing to do: the image is taken whole."""

    def forgot(self) -> None:
        """Nothing to do."""

    def running(self, program: list[dict[str, int]]) -> None:
        """Keep the memory a program starts from."""
        if self.parameters:
            return
        address = place(self.trainer.memory, program)
        np.save(self.folder / "before.npy", self.trainer.memory.image[: self.trainer.memory.used])
        machine = self.trainer.machine
        registers = {
            Register.STEP: machine.step,
            Register.DECAY: machine.decay,
            Register.THRESHOLD: machine.log2_theta,
            **{Register.EXPONENT + tensor: exponent for tensor, exponent in enumerate(machine.exponent)},
            **settings(self.trainer.settings, address, len(program)),
        }
        self.parameters = {"registers": [[int(a), int(v)] for a, v in registers.items()], "address": address}

    def ran(self, program: list[dict[str, int]], works: list[Work]) -> None:  # noqa: ARG002
        """Keep what it led to, and in how many cycles."""
        if "cycles" in self.parameters:
            return
        used = len(np.load(self.folder / "before.npy", mmap_mode="r"))
        np.save(self.folder / "after.npy", self.trainer.memory.image[:used])
        schedule = timing.schedule(self.trainer.cfg, works, LATENCY, int(str(self.parameters["address"])))
        self.parameters["cycles"] = schedule.cycles


def cocotb_speed(cfg: Config, sizes: tuple[int, ...], plan: Recipe, data: Dataset) -> float:
    """Cycles a second of cocotb on the forward program of a first step, whose result is compared with the golden model.

    Raises:
        BenchFailure: the result or the number of cycles is wrong.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = recipe.make_trainer(cfg, sizes, plan, 1, tiling=recipe.tiling_for(plan, sizes), keep_image=True)
        recorder = _Recorder(trainer, folder)
        trainer.follower = recorder
        next(iter(recipe.follow(trainer, data, plan, 1)))
        files = {part: str(folder / f"{part}.npy") for part in ("before", "after")}
        result = folder / "result.json"
        parameters = {**recorder.parameters, **files, "config": cfg, "latency": LATENCY, "result": str(result)}
        run_bench(verilog(cfg), "top", "tb.tb_speed", parameters=parameters)
        figures = json.loads(result.read_text())
    return figures["cycles"] / figures["seconds"]
