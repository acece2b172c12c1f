"""How fast cocotb drives the whole accelerator: the programs of one training step, in `tb.tb_speed`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from arch.config import Config
from golden import training
from golden.dataset import Dataset
from golden.recipe import Recipe
from rtl.top import verilog
from scripts.options import LATENCY
from scripts.recording import Recorder
from scripts.simulate import run_bench


def cocotb_speed(cfg: Config, sizes: tuple[int, ...], plan: Recipe, data: Dataset) -> float:
    """Cycles a second of cocotb on the forward program of a first step, whose result is compared with the golden model.

    Raises:
        BenchFailure: the result or the number of cycles is wrong.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trainer = training.make_trainer(cfg, sizes, plan, 1, tiling=training.tiling_for(plan, sizes), keep_image=True)
        recorder = Recorder(trainer, folder, cfg, LATENCY, most=1)
        next(iter(training.follow(trainer, data, plan, 1)))
        result = folder / "result.json"
        parameters = {"config": cfg, "latency": LATENCY, "program": recorder.events[0], "result": str(result)}
        run_bench(verilog(cfg), "top", "tb.tb_speed", parameters=parameters)
        figures = json.loads(result.read_text())
    return figures["cycles"] / figures["seconds"]
