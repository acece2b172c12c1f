"""Run a cocotb bench on a design through Verilator: `run_bench`.

cocotb's own runner is used for what it knows (command lines, the environment of the simulator)
and corrected where it is too slow or too lenient: it makes every signal of the design public,
which costs a factor of two to seven in speed, and it reports success for a bench that failed, is
missing or holds no test.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import cocotb_tools.config
from amaranth.back import verilog
from amaranth.lib.wiring import Component
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator, VerilatorControlFile

from scripts.verilator import (
    ROOT,
    WAIVERS,
    ToolError,
    build_key,
    cached,
    environment,
    place_runtime,
    ports,
    public_ports,
)
from tb import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOG_TAIL_LINES = 60


class BenchFailure(AssertionError):
    """A bench failed, ended early, could not be imported, or ran no test; carries the log's tail."""


@dataclass(frozen=True)
class Results:
    """Outcome of a bench that passed.

    Attributes:
        tests: cocotb tests that ran.
        junit: JUnit XML file.
        log: the simulator's output.
        waves: VCD file, or None when none was asked for.
    """

    tests: int
    junit: Path
    log: Path
    waves: Path | None


class _Runner(Verilator):
    """cocotb's Verilator runner without `--public-flat-rw` and with our tool environment."""

    def __init__(self, tool_environment: Mapping[str, str]) -> None:
        super().__init__()
        self._tools = dict(tool_environment)
        self._bench: dict[str, str] = {}

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(Path(self._tools["VERILATOR_ROOT"]) / "bin" / "verilator")

    def _set_env_build(self) -> None:
        super()._set_env_build()
        self.env.update(self._tools)

    def _set_env_test(self) -> None:
        # Ours last: the base class lets the caller's shell override what it was given.
        super()._set_env_test()
        self.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), self.env["PYTHONPATH"]])
        self.env.update(self._bench)

    def _build_command(self) -> list[Any]:
        return [[arg for arg in command if arg != "--public-flat-rw"] for command in super()._build_command()]

    def _execute(self, cmds: Any, cwd: Any) -> None:
        # A build is two commands, Verilator and make; the shared objects go in between.
        for position, command in enumerate(cmds):
            if position == 1 and command[0] == "make":
                place_runtime(self.build_dir, self._tools)
            super()._execute([command], cwd)


def to_verilog(component: Component, top: str) -> str:
    """Verilog of an Amaranth component; the same text for the same design, on any machine.

    Args:
        component: ports are taken from its signature, `clk` and `rst` of domain sync are added.
        top: name of the module.
    """
    return verilog.convert(component, name=top, strip_internal_attrs=True, emit_src=False)


def build_bench(text: str, top: str, waves: bool = False) -> Path:
    """Compile Verilog `text` for cocotb, or find it compiled; the folder of the simulator binary."""
    names = list(ports(text, top))
    flags = [*WAIVERS, "-O3", "--x-assign", "fast", "--x-initial", "fast"]
    key = build_key("cocotb", text, top, " ".join(flags), str(waves), str(cocotb_tools.config.libs_dir))

    def build(folder: Path) -> None:
        source, control, log = folder / f"{top}.v", folder / "public.vlt", folder / "build.log"
        source.write_text(text)
        control.write_text(public_ports(top, names))
        runner = _Runner(environment())
        try:
            runner.build(
                sources=[VerilatorControlFile(control), source],
                hdl_toplevel=top,
                build_args=flags,
                build_dir=folder,
                timescale=("1ns", "1ps"),
                waves=waves,
                log_file=log,
            )
        except RuntimeError as error:
            raise ToolError(f"building {top} for cocotb failed: {error}\n{_tail(log)}") from None

    with _without_environment("WAVES"):
        return cached(key, build)


def run_bench(
    design: Callable[[], Component] | Component | str,
    top: str,
    bench_module: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    waves: bool = False,
    seed: int = 1,
    extra_env: Mapping[str, str] | None = None,
    testcase: str | Sequence[str] | None = None,
) -> Results:
    """Build a design, run every cocotb test of a module on it, and insist that they passed.

    Args:
        design: a component, a function without arguments that makes one, or Verilog text.
        top: name of the top module.
        bench_module: dotted name of the bench, for example `tb.tb_pe`.
        parameters: what the bench needs to know; JSON values and dataclasses (a `Config`). The bench
            reads them with `tb.parameters()`, a `Config` under the name `config` with `tb.config()`.
        waves: write a VCD of all signals (also asked for by the environment variable WAVES=1).
        seed: of Python's `random` in the bench and of `tb.seed()`.
        extra_env: further environment variables of the bench.
        testcase: run only the test or tests of this name.

    Returns:
        Where the results are: under `build/results`, or the folder named by PROCRUSTES_RESULTS.

    Raises:
        BenchFailure: fewer than one test ran, or one of them failed.
        ToolError: the design could not be built.
    """
    if isinstance(design, str):
        text = design
    else:
        text = to_verilog(design if isinstance(design, Component) else design(), top)
    waves = waves or os.environ.get("WAVES", "0") not in ("", "0")
    folder = build_bench(text, top, waves)

    results = Path(os.environ.get("PROCRUSTES_RESULTS") or ROOT / "build" / "results").resolve()
    results.mkdir(parents=True, exist_ok=True)
    run = Path(tempfile.mkdtemp(prefix=f"{_label(bench_module)}-", dir=results))
    junit, log = run / "results.xml", run / "bench.log"
    runner = _Runner(environment())
    runner._bench = {
        "COCOTB_TEST_MODULES": bench_module,
        "COCOTB_ANSI_OUTPUT": "0",
        PARAMETERS: json.dumps(dict(parameters or {}), default=_plain),
        **(extra_env or {}),
    }
    code: object = 0
    with _without_environment("PYTEST_CURRENT_TEST", "WAVES", "GUI", "COCOTB_TEST_FILTER"):
        try:
            runner.test(
                test_module=bench_module,
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                build_dir=folder,
                test_dir=run,
                seed=seed,
                testcase=testcase,
                results_xml=str(junit),
                waves=waves,
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            code = error
    return _check(bench_module, run, junit, log, code, waves)


def _check(bench: str, run: Path, junit: Path, log: Path, code: object, waves: bool) -> Results:
    where = f"log: {log}\n{_tail(log)}"
    try:
        tests, failures = get_results(junit)
    except (RuntimeError, ElementTree.ParseError) as error:
        raise BenchFailure(f"{bench} ended without results ({code or error})\n{where}") from None
    # One file per bench, named for what ran, where a reader (or a CI system) looks for it.
    kept = run.parent / f"{run.name}.xml"
    shutil.copyfile(junit, kept)
    skipped = len(ElementTree.parse(junit).getroot().findall(".//skipped"))
    if failures:
        raise BenchFailure(f"{bench}: {failures} of {tests} tests failed\n{where}")
    if tests - skipped <= 0:
        raise BenchFailure(f"{bench}: no test ran\n{where}")
    if code:
        raise BenchFailure(f"{bench}: the simulator ended abnormally ({code})\n{where}")
    return Results(tests - skipped, kept, log, run / "dump.vcd" if waves else None)


def _label(bench: str) -> str:
    test = re.sub(r" \(.*\)$", "", os.environ.get("PYTEST_CURRENT_TEST", "")).rpartition("::")[2]
    return re.sub(r"\W+", "_", "-".join(filter(None, (bench.rpartition(".")[2], test))))[:80]


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"a bench parameter must be JSON or a dataclass, not {type(value).__name__}")


def _tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    if not log.is_file():
        return "(no log was written)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def _without_environment(*names: str) -> Iterator[None]:
    """Hide variables from cocotb's runner, which would read them instead of our arguments."""
    saved = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def main(arguments: list[str]) -> int:
    """Run one bench of a Verilog file: `python -m scripts.simulate FILE.v TOP BENCH`."""
    if len(arguments) != 3:
        print("usage: python -m scripts.simulate FILE.v TOP BENCH_MODULE", file=sys.stderr)
        return 2
    results = run_bench(Path(arguments[0]).read_text(), arguments[1], arguments[2])
    print(f"{results.tests} tests passed; {results.junit}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
