"""Every job of the project, each in an environment of its own: `nox -l` lists them, `nox -s NAME -- OPTIONS` runs one.

An environment is made at the first run from a lock in `requirements/` and used again afterwards. `./run NAME OPTIONS`
does the same where nox is not installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

BUILD = Path("build")
# Neighbouring tests use the same design, so a process takes a stretch of them; one that is through helps the others.
PARALLEL = ("-n", "auto", "--dist", "worksteal")
# Test processes fill the cores already; a BLAS with threads of its own only gets in their way.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _install(session: nox.Session, lock: str) -> None:
    session.install("-r", f"requirements/{lock}.txt")


def _pytest(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    _install(session, "test")
    session.run("python", "-m", "pytest", *arguments, *session.posargs, env={**ONE_THREAD, **(env or {})})


@nox.session
def train(session: nox.Session) -> None:
    """The main job: train a sparse network on the RTL, in lock-step with the golden model (--help for options)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.train", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the slow ones, on all cores."""
    _pytest(session, *PARALLEL, "-m", "not soak")


@nox.session
def soak(session: nox.Session) -> None:
    """The slow tests: long runs over many configurations and seeds."""
    _pytest(session, *PARALLEL, "-m", "soak")


@nox.session
def cocotb(session: nox.Session) -> None:
    """The cocotb regression: every test that runs a bench; JUnit XML and logs in build/junit."""
    junit = BUILD / "junit"
    shutil.rmtree(junit, ignore_errors=True)
    report = f"--junitxml={junit / 'pytest.xml'}"
    _pytest(session, *PARALLEL, "-m", "cocotb and not soak", report, env={"PROCRUSTES_RESULTS": str(junit)})


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting and types."""
    _install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def verilog(session: nox.Session) -> None:
    """Write the accelerator as Verilog (--array 16x16, --out build/verilog, --dense, --trace)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.verilog", *session.posargs)


@nox.session
def wave(session: nox.Session) -> None:
    """Run one test with waveforms and say where they are: -- tests/test_pe.py, or a test's name."""
    _install(session, "test")
    session.run("python", "-m", "scripts.wave", *session.posargs, env=ONE_THREAD)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: cycles per step, speed-up, utilisation, simulation speed (--help for options)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.bench", *session.posargs)


@nox.session
def networks(session: nox.Session) -> None:
    """Layers, weights and work of networks: those by name, or one in a .toml or .onnx file (--help for options)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.networks", *session.posargs)


@nox.session
def predict(session: nox.Session) -> None:
    """Predict what a training step of any network costs, dense and sparse, in seconds (--help for options)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.predict", *session.posargs, env=ONE_THREAD)


@nox.session
def energy(session: nox.Session) -> None:
    """Estimate the energy of a training step, dense and sparse, and count its external traffic (--help for options)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.energy", *session.posargs, env=ONE_THREAD)


@nox.session
def synth(session: nox.Session) -> None:
    """Synthesise: area, FPGA resources and clock of every unit, sparse and dense (--help for options)."""
    _install(session, "synth")
    session.run("python", "-m", "scripts.synth", *session.posargs)


@nox.session
def accuracy(session: nox.Session) -> None:
    """Train on the golden model over several seeds and compare test errors (--help for options)."""
    _install(session, "run")
    session.run("python", "-m", "scripts.accuracy", *session.posargs)


@nox.session(reuse_venv=False)
@nox.parametrize("name", ["run", "test", "nox", "lint", "synth"])
def lock(session: nox.Session, name: str) -> None:
    """Write the locks requirements/NAME.txt again, with the newest versions that NAME.in allows."""
    folder = Path("requirements")
    # One version of a package in all locks, so those written before bind the others.
    earlier = {"test": ["run"], "nox": ["run"], "lint": ["run", "nox"], "synth": ["run", "nox"]}.get(name, [])
    constraints = [option for lock in earlier for option in ("-c", f"{folder / lock}.txt")]
    session.install("-r", f"{folder / name}.in", *constraints)
    frozen = session.run("python", "-m", "pip", "freeze", silent=True, log=False)
    header = f"# Made by `nox -s lock` from {name}.in: every package, with its version.\n"
    (folder / f"{name}.txt").write_text(header + str(frozen))
