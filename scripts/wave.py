"""Waveforms of a test: `python -m scripts.wave tests/test_pe.py` runs it and says where its VCD files are.

Every bench that the test runs leaves one, whether it passes or fails. The batch harness writes none: it
is made for speed, its record of a run is the trace.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.verilator import ROOT

NO_TESTS = 5  # pytest's exit status


def record(test: str, folder: Path) -> tuple[int, list[Path]]:
    """Run tests with waveforms; returns pytest's exit status and the VCD files.

    Args:
        test: a test file, a node id (`tests/test_pe.py::test_name`), or a part of test names.
        folder: emptied, then holds one folder a bench with VCD, log and JUnit XML.
    """
    shutil.rmtree(folder, ignore_errors=True)
    chosen = [test] if (ROOT / test.partition("::")[0]).exists() else ["-k", test]
    environment = {**os.environ, "WAVES": "1", "PROCRUSTES_RESULTS": str(folder.resolve())}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *chosen], cwd=ROOT, env=environment, check=False)
    return done.returncode, sorted(folder.glob("*/dump.vcd"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: pytest's, or 1 if nothing was recorded."""
    parser = argparse.ArgumentParser(prog="wave", description="Run a test with waveforms (VCD).")
    parser.add_argument("test", help="test file, node id (tests/test_pe.py::test_name) or part of a test's name")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "waves", help="folder, emptied (build/waves)")
    options = parser.parse_args(arguments)
    status, found = record(options.test, options.out)
    if status == NO_TESTS:
        print(f"no test is called {options.test!r}: `python -m pytest --collect-only -q` lists them", file=sys.stderr)
    elif not found:
        print("no waveforms: the test runs no cocotb bench, or ended before one began", file=sys.stderr)
    for path in found:
        print(path)
    return status or int(not found)


if __name__ == "__main__":
    sys.exit(main())
