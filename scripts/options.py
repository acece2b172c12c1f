"""Command line of the main job: what may be asked for, and what each wrong value is told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from arch.command import Policy
from arch.config import PRESETS, Config, preset
from golden.graph_network import tensors_for
from golden.networks.graph import Graph
from golden.networks.loading import load
from golden.recipe import Net, Recipe, budget_ends, name_of, weights_of

ENGINES = ("rtl", "golden")
DIGITS_NET = (64, 100, 10)
LENET = (784, 300, 100, 10)
LATENCY = 16
MOST_STEPS = 1 << 20


@dataclass(frozen=True)
class Options:
    """What the main job does; see `parse`.

    Attributes:
        data: data set by name or path.
        net: layer sizes, or a graph.
        array: preset or size.
        recipe: how to train.
        steps: stop after so many steps; 0 for all of the recipe's.
        test: test samples classified after every epoch; 0 for all.
        balance: load balancing.
        engine: `rtl` (in lock-step) or `golden`.
        seed: of weights and sample order.
        out: folder of report and plots.
    """

    data: str
    net: Net
    array: str
    recipe: Recipe
    steps: int
    test: int
    balance: Policy
    engine: str
    seed: int
    out: Path

    @property
    def config(self) -> Config:
        """The array; for a graph with as many exponents as it has tensors."""
        cfg = preset(self.array)
        if isinstance(self.net, Graph):
            cfg = cfg.with_(tensors=max(cfg.tensors, tensors_for(self.net)))
        return cfg

    def as_dict(self) -> dict[str, object]:
        """For the report."""
        return {
            "data": self.data,
            "net": name_of(self.net),
            "array": self.array,
            "steps": self.steps,
            "test": self.test,
            "balance": self.balance.name.lower(),
            "engine": self.engine,
            "seed": self.seed,
            "out": str(self.out),
            **asdict(self.recipe),
        }


def network(text: str) -> Net:
    """Layer sizes written like 784-300-100-10, or a network by name or file.

    Raises:
        ValueError: neither; the message says what there is.
    """
    if text.replace("-", "").isdecimal():
        return layer_sizes(text)
    return load(text)


def layer_sizes(text: str) -> tuple[int, ...]:
    """Layer sizes written like 784-300-100-10.

    Raises:
        ValueError: not of that form, fewer than two sizes, or one out of 1 to 8190.
    """
    parts = text.split("-")
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"net {text!r} must be layer sizes like 784-300-100-10, at least two")
    sizes = tuple(int(part) for part in parts)
    for size in sizes:
        if not 1 <= size <= 8190:
            raise ValueError(f"net {text!r}: a layer must have 1 to 8190 channels, not {size}")
    return sizes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="train",
        description="Train a sparse network on the Verilated accelerator, in lock-step with the golden model.",
        epilog="Writes report.json and plots to --out.",
    )
    p.add_argument(
        "--data", default="digits", metavar="digits|mnist|PATH", help="data set; PATH: a folder of IDX files"
    )
    p.add_argument(
        "--net",
        metavar="SIZES|NAME|FILE",
        help="layer sizes (64-100-10 for digits, else 784-300-100-10), a network's name, or a .toml or .onnx file",
    )
    p.add_argument(
        "--array",
        metavar="RxC",
        help=f"rows x columns or {', '.join(PRESETS)} (small, 8x8; for convolutions cnn, 16x16)",
    )
    p.add_argument("--batch", type=int, metavar="N", help="samples of a minibatch (32; 64 for other data than digits)")
    length = p.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the samples (20; 1 for other data than digits)"
    )
    length.add_argument("--steps", type=int, metavar="N", help="stop after N steps")
    p.add_argument("--test", type=int, default=0, metavar="N", help="test samples classified after an epoch (0: all)")
    p.add_argument(
        "--budget", default="10x", help="tracked weights: a number, a factor, or FIRST:LAST that anneals (10x)"
    )
    p.add_argument(
        "--lr", type=float, default=0.4, metavar="R", help="learning rate at the start of half a cosine (0.4)"
    )
    p.add_argument(
        "--decay", type=float, default=0.98, metavar="L", help="lambda of the initial weights (0.98; 1: DropBack)"
    )
    p.add_argument(
        "--explore", type=int, default=8, metavar="T", help="period of exploration, a power of two to 64 (8)"
    )
    p.add_argument("--balance", default="lpt", choices=[x.name.lower() for x in Policy], help="load balancing (lpt)")
    p.add_argument("--engine", default="rtl", choices=ENGINES, help="RTL beside the golden model, or that alone (rtl)")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="of weights and sample order (1)")
    p.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder of report and plots (out)")
    return p


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Options of the command line; ends the program with a message where one is wrong."""
    p = parser()
    given = p.parse_args(arguments)
    digits = given.data == "digits"
    try:
        net = network(given.net) if given.net else DIGITS_NET if digits else LENET
        if given.steps is not None and not 1 <= given.steps <= MOST_STEPS:
            raise ValueError(f"steps must be between 1 and {MOST_STEPS}, not {given.steps}")
        if not 0 <= given.test <= MOST_STEPS:
            raise ValueError(f"test must be between 0 and {MOST_STEPS}, not {given.test}")
        if not 0 <= given.seed < 1 << 32:
            raise ValueError(f"seed must be between 0 and {(1 << 32) - 1}, not {given.seed}")
        recipe = Recipe(
            epochs=given.epochs if given.epochs is not None else 20 if digits else 1,
            batch=given.batch if given.batch is not None else 32 if digits else 64,
            learning_rate=given.lr,
            budget=given.budget,
            period=given.explore,
            decay=given.decay,
        )
        if not recipe.dense:
            budget_ends(recipe.budget, weights_of(net))
        array = given.array or ("cnn" if isinstance(net, Graph) else "small")
        preset(array)
    except ValueError as error:
        p.error(str(error))
    return Options(
        data=given.data,
        net=net,
        array=array,
        recipe=recipe,
        steps=given.steps or 0,
        test=given.test,
        balance=Policy[given.balance.upper()],
        engine=given.engine,
        seed=given.seed,
        out=given.out,
    )
