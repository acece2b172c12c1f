"""Write the accelerator as Verilog: `python -m scripts.verilog --array 16x16 --out build/verilog`.

One file, with row and PE as modules of their own; the same text for the same options, on any machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arch.config import PRESETS, Config, preset
from rtl.top import verilog
from scripts.verilator import ROOT, modules


def configuration(array: str, *, dense: bool = False, trace: bool = False) -> Config:
    """The configuration of a build: an array size or preset, without sparse hardware, with trace ports.

    Raises:
        ValueError: no such preset, or a size that cannot be built.
    """
    return preset(array).with_(sparse=not dense, trace=trace)


def write(cfg: Config, folder: Path) -> Path:
    """Write a build to `folder` under a name that says what it is; returns the file.

    Raises:
        ValueError: the configuration has no RTL.
    """
    name = f"procrustes_{cfg.rows}x{cfg.columns}" + "_dense" * (not cfg.sparse) + "_trace" * cfg.trace
    text = verilog(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.v"
    path.write_text(text)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="verilog", description="Write the accelerator as Verilog (top module: top).")
    parser.add_argument(
        "--array", default="16x16", metavar="RxC", help=f"rows x columns, or one of {', '.join(PRESETS)} (16x16)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "verilog", help="folder (build/verilog)")
    parser.add_argument("--dense", action="store_true", help="the baseline, without the sparse hardware")
    parser.add_argument("--trace", action="store_true", help="with the trace ports")
    options = parser.parse_args(arguments)
    try:
        path = write(configuration(options.array, dense=options.dense, trace=options.trace), options.out)
    except ValueError as error:
        parser.error(str(error))
    text = path.read_text()
    print(f"{path}: {text.count(chr(10))} lines, modules {', '.join(sorted(modules(text)))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
